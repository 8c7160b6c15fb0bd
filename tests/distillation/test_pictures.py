"""Conversion to and from Gaussians, by renders: the student shows what the teacher shows; cuts are exact."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from neuralfields.distillation.convert import compare, convert
from neuralfields.distillation.edit import edit_model
from neuralfields.distillation.pictures import FEWEST_PICTURES, LEAST_PICTURES, picture_cameras, render_photos
from neuralfields.errors import UsageError
from neuralfields.fields.gaussians import GaussianField
from neuralfields.gaussians import PARAMETERS, Gaussians
from neuralfields.models.model import Model
from neuralfields.ops.pixel_rays import camera_table, pixel_rays
from neuralfields.options.models import ConvertOptions, EditOptions
from neuralfields.trainers.sampled_cameras import Viewpoints
from tests.support.small_fit import fitted_model

GAUSSIANS = ("most=2000", "degree=1")


def options(to: str, steps: int, *settings: str, **more: object) -> ConvertOptions:
    return ConvertOptions(Path("x.nf"), to=to, steps=steps, threads=1, quiet=True, set=settings, **more)


@pytest.fixture(scope="module")
def teacher() -> Iterator[Model]:
    before = torch.get_num_threads()
    yield fitted_model()
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def splats(teacher: Model) -> Model:
    student, _ = convert(teacher, options("gaussians", 60, *GAUSSIANS))
    return student


def test_a_field_becomes_gaussians(teacher: Model, splats: Model):
    assert isinstance(splats.field, GaussianField) and splats.occupancy is None
    assert 1000 <= len(splats.field.means) <= 2000
    assert splats.lineage[0]["field"] == "hash" and splats.made["field"] == "gaussians"
    assert compare(teacher, splats)["psnr_against_teacher"] > 20


def test_gaussians_become_a_field(splats: Model):
    words = ("levels=6", "table=12", "finest=128", "hidden=16")
    student, _ = convert(splats, options("hash", 60, *words))
    assert student.lineage[0]["field"] == "gaussians" and student.occupancy is not None
    assert compare(splats, student)["psnr_against_teacher"] > 15


def test_what_gaussians_leave_open_is_not_taught_as_black(splats: Model):
    """Before a background other than black, in a scene that goes on beyond its inner cube."""
    far = replace(splats, bounds=replace(splats.bounds, cascades=2), background=(1.0, 1.0, 1.0))
    student, _ = convert(far, options("hash", 60, "levels=6", "table=12", "finest=128", "hidden=16"))
    assert compare(far, student)["psnr_against_teacher"] > 15


def test_a_renders_depth_is_along_the_axis(splats: Model):
    """A pixel's point, from depth and pose, projects back with that depth: the same by rays in the world."""
    camera = splats.cameras[0]
    loaded, depths = render_photos(splats.renderable(), [camera], None)
    assert loaded.images[0].shape == (camera.height, camera.width, 4)
    pixel = torch.tensor([[3.5, 5.5], [camera.width - 2.5, camera.height / 2]])
    _, directions = pixel_rays(camera_table([camera]), torch.zeros(2, dtype=torch.int64), pixel)
    render = splats.renderable().render(camera, (0.0, 0.0, 0.0))
    for (column, row), direction in zip(pixel.long().tolist(), directions, strict=True):
        axis = torch.from_numpy(camera.forward).float()
        want = render.depth[row, column] * (direction @ axis) if render.opacity[row, column] > 0.5 else 0.0
        assert float(depths[0][row, column]) == pytest.approx(float(want), rel=1e-4)


def test_a_slow_teacher_shows_less(splats: Model):
    cameras = [splats.cameras[0].resized(16, 16)] * 40
    loaded, depths = render_photos(splats.renderable(), cameras, (0.0, 0.0, 0.0), seconds=0.0)
    assert len(loaded.images) == len(loaded.cameras) == len(depths) == FEWEST_PICTURES


def test_held_out_views_are_not_taught(teacher: Model):
    model = teacher
    cameras = picture_cameras(model, Viewpoints(list(model.cameras), model.bounds), [], 0)
    assert len(cameras) >= LEAST_PICTURES
    held = [model.cameras[index].world_from_camera for index in model.held_out]
    assert not any((camera.world_from_camera == pose).all() for camera in cameras for pose in held)


def test_a_cut_is_exact_and_trains_nothing(splats: Model):
    words = {"model": Path("x.nf"), "threads": 1, "quiet": True}
    means = splats.field.means.detach()
    half = float(means[:, 0].median())
    box = f"{half},-99,-99,99,99,99"
    cut = edit_model(EditOptions(erase_box=(box,), **words), splats)
    kept = Gaussians(*(getattr(splats.field, name) for name in PARAMETERS)).take(means[:, 0] < half)
    assert cut.made["steps"] == 0 and 0 < len(kept) < len(means)
    assert all(torch.equal(getattr(cut.field, name), getattr(kept, name)) for name in PARAMETERS)
    with pytest.raises(UsageError, match="leave none"):
        edit_model(EditOptions(keep_box=("98,98,98,99,99,99",), **words), splats)


def test_the_same_gaussians_stay_as_they_are(splats: Model):
    again, _ = convert(replace(splats), options("gaussians", 60))
    assert torch.equal(again.field.means, splats.field.means)
