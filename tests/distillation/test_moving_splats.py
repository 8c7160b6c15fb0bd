"""Gaussians in time among other models: made of a moving field and of a folder of splat files, cut, and held still."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.codecs import describe_any, load_any
from neuralfields.codecs.splats import write_gaussians
from neuralfields.distillation.boxes import Edit
from neuralfields.distillation.convert import convert_model
from neuralfields.errors import UsageError
from neuralfields.fields.gaussians import GaussianField
from neuralfields.gaussians import Gaussians
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load, save
from neuralfields.motion import PATH, motionless
from neuralfields.options.models import ConvertOptions
from neuralfields.rendering.splat_sequence import SequenceField
from neuralfields.splatting.initial import gaussians_at
from tests.support.moving import ball_model, moving_model

SMALL = ("most=1000", "degree=0")


def passing(count: int = 60) -> Gaussians:
    """A ball of Gaussians that goes along x by 0.6 in the scene's time."""
    chance = torch.Generator().manual_seed(0)
    points = torch.tensor([0.2, 0.5, 0.5]) + 0.05 * torch.randn(count, 3, generator=chance)
    made = gaussians_at(points, torch.full((count, 3), 0.9), torch.full((count,), 0.03), 0.9, 0)
    motion = motionless(count, points)
    motion[:, 0], motion[:, PATH.start] = 0.0, 0.6
    return replace(made, motion=motion)


def passing_model() -> Model:
    return replace(ball_model(), field=GaussianField.of(passing()), occupancy=None)


def centre_of(model: Model, time: float) -> float:
    """Where the middle of what is seen stands along x."""
    return float(model.at(time).field.gaussians().means[:, 0].mean())


@pytest.mark.slow
def test_a_moving_field_becomes_gaussians_in_time(tmp_path: Path) -> None:
    teacher = moving_model()
    options = ConvertOptions(tmp_path / "a.nf", to="gaussians", steps=80, set=SMALL, quiet=True, threads=1)
    student = convert_model(options, teacher)
    assert student.field.motion.shape[1] == 15 and student.bounds.times == teacher.bounds.times
    assert student.metrics["psnr_against_teacher"] > 18
    camera = student.cameras[0]
    early, late = (student.renderable().render(replace(camera, time=t), (0, 0, 0)).rgb for t in teacher.bounds.times)
    assert (early - late).abs().max() > 0.2


def test_one_time_of_them_stands_still(tmp_path: Path) -> None:
    save(passing_model(), tmp_path / "a.nf")
    options = ConvertOptions(tmp_path / "a.nf", to="gaussians", time=20.0, quiet=True, threads=1, out=tmp_path / "b.nf")
    still = convert_model(options)
    assert still.bounds.times is None and still.field.domain.dimensions == 3
    assert float(load(tmp_path / "b.nf").field.gaussians().means[:, 0].mean()) == pytest.approx(0.5, abs=0.02)
    with pytest.raises(UsageError, match="stands still"):
        write_gaussians(passing(), tmp_path / "a.ply")


def test_a_box_cuts_them_with_their_paths() -> None:
    given = passing()
    left = Edit(keep=((0.0, 0.0, 0.0, 0.2, 1.0, 1.0),)).gaussians(given)
    assert 0 < len(left) < len(given)
    assert torch.equal(left.motion, given.motion[given.means[:, 0] <= 0.2])


def test_a_folder_of_splat_files_is_a_scene_that_moves(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(4):  # by their numbers, not by their letters
        write_gaussians(passing().at(index / 3), folder / f"dance-{7 + index}.ply")
    model = load_any(folder)
    assert isinstance(model.field, SequenceField) and model.bounds.times == (0.0, 3.0)
    assert [centre_of(model, t) for t in (0.0, 1.4, 3.0)] == pytest.approx([0.2, 0.4, 0.8], abs=0.03)
    assert describe_any(folder)["kind"] == "sequence of 4 files of splats"
    assert np.allclose(model.bounds.centre[0], 0.5, atol=0.2) and model.bounds.side < 2
    options = ConvertOptions(folder, to="gaussians", steps=60, set=SMALL, quiet=True, threads=1)
    seen = tuple(replace(c, time=0.6 * i) for i, c in enumerate(ball_model().cameras))
    student = convert_model(options, replace(model, cameras=seen))
    assert student.field.motion.shape[1] == 15 and student.metrics["psnr_against_teacher"] > 15
    with pytest.raises(UsageError, match="has no boxes"):
        convert_model(options, model, Edit(keep=((0.0, 0.0, 0.0, 0.2, 1.0, 1.0),)))
