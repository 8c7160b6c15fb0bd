"""A slow field learns from a fast one that learns from photos: sooner, to the same bits, and broken off anywhere."""

import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from neuralfields.errors import InterruptedFit
from neuralfields.fields.mlp import Config, Mlp
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load
from neuralfields.options.fit import FitOptions
from neuralfields.options.training import DEFAULT
from neuralfields.supervision.pixels import Pixels
from neuralfields.trainers.radiance import RadianceTrainer
from neuralfields.trainers.taught import TaughtTrainer
from neuralfields.training import teaching
from neuralfields.training.checkpoint import Checkpoint
from neuralfields.training.fit import fit_scene, fit_to_file
from neuralfields.training.loop import Budget, Loop
from neuralfields.training.plan import plan_fit
from tests.support.fit_runs import Interrupting, nf, same_model
from tests.support.settings import set_training
from tests.support.small_fit import tiny_capture_folder
from tests.support.small_training import WHITE, Background, held_out_psnr, same_bits, small_scene, small_training, steps

pytestmark = pytest.mark.usefixtures("one_thread", "small_steps")
SMALL = Config(count=16, layers=2, width=32, hidden=16)
SET = ("count=16", "layers=2", "width=16", "hidden=16")
LEARNT, ALL = 24, 60  # steps of the teacher, with the usual share, and of all


def network() -> Mlp:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Mlp(SMALL)


def taught() -> TaughtTrainer:
    return TaughtTrainer(network(), small_training(), small_scene()[1].cameras, 0)


def state(field: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in field.state_dict().items()}


def moved(field: torch.nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(tensor, before[name]) for name, tensor in field.state_dict().items())


def test_the_teacher_learns_first_and_then_the_field() -> None:
    what = taught()
    first, teacher = state(what.field), state(what.teacher.field)
    reports = steps(what, LEARNT, ALL)
    assert not moved(what.field, first) and moved(what.teacher.field, teacher)
    assert what.volume.field is what.teacher.field and {report.stage for report in reports} == {"teacher"}
    steps(what, 1, ALL)
    learnt = state(what.teacher.field)
    reports = steps(what, ALL - LEARNT - 1, ALL)
    assert moved(what.field, first) and not moved(what.teacher.field, learnt)
    assert what.volume.field is what.field and [report.stage for report in reports][-1] == "pictures"
    assert what.step_count == ALL


def test_it_sees_more_than_one_that_learns_from_the_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    """In as many steps, which take half the time; an empty picture has 11 dB."""
    set_training(monkeypatch, samples=1 << 11)
    scene, loaded, _ = small_scene()
    pixels = Pixels(loaded.images, loaded.cameras, loaded.masks)
    alone = RadianceTrainer(network(), scene.bounds, pixels, Background(WHITE, random=True), 0)
    what = taught()
    for one in (alone, what):
        steps(one, 300, 300)
        one.advance(1.0)
    assert held_out_psnr(what, 2000) > held_out_psnr(alone, 2000) + 2


@pytest.mark.parametrize("breaks", [(10, 40), (24, 55)])
def test_a_broken_run_ends_in_the_bits_of_an_unbroken_one(tmp_path: Path, breaks: tuple[int, ...]) -> None:
    whole = taught()
    reports = steps(whole, ALL, ALL)
    before, done = taught(), []
    checkpoint = Checkpoint.beside(tmp_path / "a.nf", {})
    for step in breaks:
        done += steps(before, step - len(done), ALL)
        checkpoint.save(before, 1.0)
        after = taught()
        with torch.no_grad():  # nothing of a fresh start may shine through
            for p in (*after.field.parameters(), *after.teacher.field.parameters()):
                p.fill_(7)
        checkpoint.load(after)
        same_bits(before, after)
        before = after
    assert done + steps(after, ALL - len(done), ALL) == reports
    same_bits(whole, after)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits of 30 steps have a teacher."""
    monkeypatch.setattr(teaching, "SHORTEST_FIT", Budget(30, 1.0))
    set_training(monkeypatch, samples=1 << 11)


def options(folder: Path, steps: int, **more: object) -> FitOptions:
    folder.mkdir(exist_ok=True)
    return FitOptions(
        scene=tiny_capture_folder(), steps=steps, threads=1, field="mlp", set=SET, quiet=True, out=folder / "a.nf",
        **more,
    )  # fmt: skip


def test_a_fit_says_who_taught(tmp_path: Path, soon: None, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("fit", tiny_capture_folder(), "-o", tmp_path / "a.nf", "--field", "mlp", "--threads", 1)
    settings = [word for key in SET for word in ("--set", key)]
    assert DEFAULT.teacher_share == 0.4
    code, _, err = nf(capsys, *words, "--steps", 40, *settings)
    assert code == 0 and "a hash field learns from the photos in the first 40%" in err
    model = load(tmp_path / "a.nf")
    assert model.made["field"] == "mlp" and model.made["taught_by"] == "hash" and model.made["steps"] == 40
    code, _, err = nf(capsys, *words, "--steps", 40, *settings, "--recipe", "teacher_share=0", "--overwrite")
    assert code == 0 and "hash" not in err
    assert "taught_by" not in load(tmp_path / "a.nf").made


def test_a_short_fit_has_none(tmp_path: Path, soon: None) -> None:
    assert "taught_by" not in fit_scene(None, options(tmp_path, 20)).made


@pytest.mark.parametrize("after", [8, 33])
def test_an_interrupted_fit_goes_on_to_the_same_model(tmp_path: Path, soon: None, after: int) -> None:
    whole = fit_to_file(plan_fit(options(tmp_path / "whole", 40)))
    with pytest.raises(InterruptedFit):
        fit_to_file(plan_fit(options(tmp_path / "broken", 40)), Interrupting(after))
    gone_on = fit_to_file(plan_fit(options(tmp_path / "broken", 40, resume=True)))
    same_model(whole, gone_on)


def test_one_that_ends_early_is_its_teacher_or_what_was_taught(tmp_path: Path, soon: None) -> None:
    def ended_at(step: int) -> Model:
        def watch(scene, options, loop, model):
            def end(loop: Loop) -> None:
                loop.finish = loop.training.step_count >= step

            loop.watch = end
            return nullcontext()

        return fit_to_file(plan_fit(options(tmp_path / str(step), 40)), watch=watch)

    early, late = ended_at(8), ended_at(30)
    assert early.made["field"] == "hash" and "taught_by" not in early.made
    assert any("ended before mlp was taught" in line for line in early.made["warnings"]), early.made
    assert late.made["field"] == "mlp" and late.made["taught_by"] == "hash"


def test_a_finished_field_goes_on_with_a_new_teacher(tmp_path: Path, soon: None) -> None:
    """Also where that fit is interrupted in turn."""
    done = fit_to_file(plan_fit(options(tmp_path / "a", 40)))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    more = fit_to_file(plan_fit(options(tmp_path / "a", 80, resume=True)))
    assert more.made["steps"] == 80 and more.made["taught_by"] == "hash" and moved(more.field, state(done.field))
    for after in (5, 25):  # while the teacher learns, and while it teaches
        with pytest.raises(InterruptedFit):
            fit_to_file(plan_fit(options(tmp_path / "b", 80, resume=True)), Interrupting(after))
    same_model(more, fit_to_file(plan_fit(options(tmp_path / "b", 80, resume=True))))
