"""What follows the size of pictures: larger ones get larger students and more steps, small ones what they had."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from neuralfields.cameras import Camera
from neuralfields.distillation.convert import new_distillation
from neuralfields.domain import RADIANCE
from neuralfields.fields import field_class, field_names
from neuralfields.models.model import Model
from neuralfields.models.nf_file import save
from neuralfields.options.models import ConvertOptions
from neuralfields.trainers.distil import Recipe
from neuralfields.trainers.picture_size import USUAL_STEPS, picture_side, settings_for, steps_for


def seen_at(model: Model, *sizes: tuple[int, int]) -> list[Camera]:
    """The model's first cameras, with pictures of these widths and heights."""
    return [camera.resized(*size) for camera, size in zip(model.cameras, sizes, strict=False)]


def numbers(name: str, settings: dict) -> int:
    """Parameters of an architecture with these settings."""
    kind = field_class(name)
    with torch.device("meta"):
        return sum(p.numel() for p in kind(kind.Config(**settings), RADIANCE).parameters())


def test_the_side_is_that_of_a_square_and_their_median(small_model: Model):
    assert picture_side(seen_at(small_model, (40, 90), (100, 100), (4000, 4000))) == pytest.approx(100)
    assert picture_side([]) == 0


def test_small_pictures_have_the_usual_student_and_larger_ones_more_of_both():
    sides = (0, 64, 100, 128, 200, 400, 800)
    for name in (name for name in field_names() if "radiance" in field_class(name).DOMAINS):
        kind = field_class(name)
        if kind.PHOTOS or not kind.FINER:
            continue
        sizes = [numbers(name, settings_for(kind, side)) for side in sides]
        assert sizes[:4] == [numbers(name, {})] * 4 and sizes == sorted(sizes) and sizes[5] > sizes[0], name
        steps = [steps_for(kind, side) for side in sides]
        assert steps[:4] == [USUAL_STEPS] * 4 and steps == sorted(steps) and steps[5] > steps[0], name


def test_a_students_size_follows_the_teachers_cameras_and_what_is_set_comes_first(small_model: Model):
    kind = field_class("voxels")
    wanted = settings_for(kind, 400)
    large = replace(small_model, cameras=tuple(camera.resized(400, 400) for camera in small_model.cameras))

    def config(model: Model, *given: str) -> object:
        options = ConvertOptions(Path("x.nf"), to="voxels", set=("doublings=0", *given))
        return new_distillation(model, options, Recipe(read_nodes=False))[0].field.config

    found = config(large, "colour_resolution=9")
    assert found.resolution == wanted["resolution"] > kind.Config().resolution and found.colour_resolution == 9
    assert config(small_model, "colour_resolution=9").resolution == kind.Config().resolution
    assert config(large, "colour_resolution=9", "resolution=17").resolution == 17


@pytest.mark.parametrize("name", ["cam", "mlp"])
def test_coordinate_networks_of_large_pictures_stay_under_a_megabyte(small_model: Model, tmp_path: Path, name: str):
    """Grids in half precision, unless the caller asks for other bytes; occupancy and cameras are in the file too."""
    large = replace(small_model, cameras=tuple(camera.resized(400, 400) for camera in small_model.cameras))
    distillation, precision, _ = new_distillation(large, ConvertOptions(Path("x.nf"), to=name), Recipe())
    path = tmp_path / "a.nf"
    save(replace(large, field=distillation.field), path, half=precision.half, bits=precision.bits)
    assert path.stat().st_size < 1_000_000 - 30_000  # a capture of a hundred photos has as many cameras more
    assert new_distillation(large, ConvertOptions(Path("x.nf"), to=name, bits=8), Recipe())[1].bits == 8


def test_large_pictures_are_compared_in_the_last_tenth_alone_unless_told(small_model: Model):
    large = replace(small_model, cameras=tuple(camera.resized(400, 400) for camera in small_model.cameras))

    def stages(model: Model, recipe: Recipe) -> list[int]:
        options = ConvertOptions(Path("x.nf"), to="mlp", set=("width=8", "layers=1", "frequencies=1"))
        distillation = new_distillation(model, options, recipe)[0]
        return [distillation.stage_of(share) for share in (0.74, 0.76, 0.89, 0.91)]

    assert stages(small_model, Recipe()) == [2, 3, 3, 3] and stages(large, Recipe()) == [2, 2, 2, 3]
    assert stages(large, Recipe(points=0.4)) == [3, 3, 3, 3]
