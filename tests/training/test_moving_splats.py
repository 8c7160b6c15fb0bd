"""Gaussians in time follow what moves, resume in the same bits, keep their file, and go out and in as splat files."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from neuralfields.captures.readers import read_scene
from neuralfields.codecs import load_any
from neuralfields.errors import InterruptedFit, UsageError
from neuralfields.files import companion
from neuralfields.gaussians import PARAMETERS
from neuralfields.models.checkpoint_file import load_checkpoint
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load, save
from neuralfields.ops.project import View
from neuralfields.options.fit import FitOptions
from neuralfields.options.models import ExportOptions
from neuralfields.rendering.splat_sequence import SplatSequence
from neuralfields.trainers.moving_splats import BLUR, MovingSplatTrainer
from neuralfields.training.fit import fit_scene
from neuralfields.verbs import export
from tests.support.fit_runs import Interrupting
from tests.support.moving import moving_scene
from tests.support.side_by_side import made_once

STEPS = 160
ALL = (*PARAMETERS, "motion")


def options_for(capture: Path, **more: object) -> FitOptions:
    chosen = {"steps": STEPS, "threads": 1, "quiet": True, "eval_every": 0, "set": ("most=3000", "degree=0")}
    return FitOptions(capture, field="gaussians", **chosen | more)


@pytest.fixture(scope="module")
def capture() -> Path:
    return made_once("moving-seen-by-many", lambda folder: moving_scene().write(folder, frames=8, size=40))


@pytest.fixture(scope="module")
def fitted(capture: Path) -> Model:
    return fit_scene(read_scene(capture), options_for(capture))


def same(a: Model, b: Model) -> None:
    for name in ALL:
        assert torch.equal(getattr(a.field, name), getattr(b.field, name)), name


def test_they_follow_what_moves(capture: Path, fitted: Model) -> None:
    still = fit_scene(read_scene(capture), options_for(capture, still=True))
    assert "motion" not in dict(still.field.named_parameters())
    assert fitted.metrics["psnr"] > still.metrics["psnr"] + 1


def test_a_photo_is_drawn_a_little_before_or_after_it_was_taken(capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spied(self: MovingSplatTrainer, turn: int, smaller: int) -> View:
        view = view_of(self, turn, smaller)
        seen.append(((self.run.moment - self.photos[turn].moment) * len(self.photos), self.run.moment))
        return view

    view_of = MovingSplatTrainer._view
    monkeypatch.setattr(MovingSplatTrainer, "_view", spied)
    fit_scene(read_scene(capture), options_for(capture, steps=60))
    aside, moment = torch.tensor(seen).unbind(1)
    assert aside.abs().max() <= BLUR and aside.min() < -BLUR / 2 and aside.max() > BLUR / 2
    assert moment.min() >= 0 and moment.max() <= 1


def test_a_resumed_fit_ends_in_the_bits_of_an_unbroken_one(capture: Path, fitted: Model, tmp_path: Path) -> None:
    scene, out = read_scene(capture), tmp_path / "a.nf"
    with pytest.raises(InterruptedFit):
        fit_scene(scene, options_for(capture, out=out), Interrupting(152))
    stood, line = load_checkpoint(companion(out, ".checkpoint"))
    assert "at step 15" in line and stood.field.motion.shape == (len(stood.field.means), 15)
    same(fit_scene(scene, options_for(capture, out=out, resume=True)), fitted)


def test_their_file_gives_them_and_their_times_back(fitted: Model, tmp_path: Path) -> None:
    save(fitted, tmp_path / "a.nf")
    again = load(tmp_path / "a.nf")
    same(again, fitted)
    assert again.bounds.times == fitted.bounds.times == (0.0, 1.0)
    camera, pictures = fitted.cameras[0], []
    for time in (0.0, 0.5):
        seen = replace(camera, time=time)
        pictures.append(again.renderable().render(seen, (1, 1, 1)).rgb)
        held = fitted.at(time).renderable().render(seen, (1, 1, 1)).rgb
        torch.testing.assert_close(pictures[-1], held, atol=0.02, rtol=0)
    assert (pictures[0] - pictures[1]).abs().max() > 0.1


def test_a_sequence_of_splat_files_goes_out_and_comes_in(fitted: Model, tmp_path: Path) -> None:
    path, folder = tmp_path / "a.nf", tmp_path / "frames"
    save(fitted, path)
    found = export.run(ExportOptions(path, folder, frames=5))
    assert sorted(p.name for p in folder.iterdir()) == [f"{i:04d}.ply" for i in range(5)]
    assert found["times"] == [0.0, 1.0] and "5 files" in export.text(found)
    sequence = load_any(folder)
    shown = sequence.renderable()
    assert isinstance(shown, SplatSequence) and sequence.bounds.times == (0.0, 4.0)
    camera = fitted.cameras[0]
    for index in (0, 3):
        mine = shown.render(replace(camera, time=float(index)), (1, 1, 1)).rgb
        wanted = fitted.renderable().render(replace(camera, time=index / 4), (1, 1, 1)).rgb
        torch.testing.assert_close(mine, wanted, atol=0.02, rtol=0)
    with pytest.raises(UsageError, match="leave one of them out"):
        export.run(ExportOptions(path, folder, frames=5, time=0.5, overwrite=True))
