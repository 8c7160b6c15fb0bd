"""Captures whose frames have times: whether anything moves in them is found out by photos that are left out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuralfields.captures.readers import read_scene
from neuralfields.errors import UsageError
from neuralfields.options.fit import FitOptions
from neuralfields.progress import Progress
from neuralfields.scene import Scene, time_range
from neuralfields.training import stillness
from neuralfields.training.loop import Budget
from neuralfields.training.plan import FitPlan, plan_fit
from tests.support.moving import moving_scene
from tests.support.side_by_side import made_once


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stillness, "STEPS", 60)
    monkeypatch.setattr(stillness, "GAUSSIANS", 1500)


def planned(scene: Scene, **more: object) -> FitPlan:
    chosen = {"field": "gaussians", "steps": 1200} | more
    return plan_fit(FitOptions(scene.root, threads=1, quiet=True, **chosen), scene)


def in_any_order(scene: Scene) -> Scene:
    """The photos of the first instant alone, with times in a random order."""
    frames = [frame for frame in scene.frames if frame.camera.time == 0]
    times = np.random.default_rng(0).permutation(len(frames)) / (len(frames) - 1)
    frames = [
        replace(frame, camera=replace(frame.camera, time=float(time)))
        for frame, time in zip(frames, times, strict=True)
    ]
    every = tuple(range(len(frames)))
    return replace(
        scene, frames=tuple(frames), train=every, test=(), bounds=replace(scene.bounds, times=time_range(frames))
    )


@pytest.fixture(scope="module")
def many() -> Path:
    """Two instants seen by many cameras."""
    return made_once("two-instants", lambda folder: moving_scene().write(folder, cameras=24, frames=2, size=40))


@pytest.fixture(scope="module")
def film() -> Path:
    """One camera after the other sees an instant of its own."""
    return made_once("a-film", lambda folder: moving_scene().write(folder, cameras=8, frames=40, size=40, one=True))


def test_what_stands_still_is_fitted_as_such(many: Path) -> None:
    plan = planned(in_any_order(read_scene(many)))
    notes = []
    progress = Progress(1200, None, quiet=True)
    progress.note = notes.append
    settled = stillness.settled(plan, progress)
    assert settled.source.bounds.times is None and settled.options.still
    assert any("nothing moves" in line and "--moving" in line for line in notes)


def test_what_moves_stays_as_it_is(film: Path) -> None:
    plan = planned(read_scene(film), steps=None, minutes=3.0)
    settled = stillness.settled(plan, Progress(None, None, quiet=True))
    assert settled.source is plan.source
    assert 1 <= settled.budget.seconds < plan.budget.seconds  # what it took is taken from the fit's time


@pytest.mark.parametrize("more", [{"moving": True}, {"steps": 900}, {"still": True}])
def test_it_is_not_asked(many: Path, monkeypatch: pytest.MonkeyPatch, more: dict) -> None:
    monkeypatch.delattr(stillness, "nothing_moves")
    plan = planned(in_any_order(read_scene(many)), **more)
    assert stillness.settled(plan, Progress(None, None, quiet=True)) is plan


def test_short_fits_by_time_are_not_asked(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(stillness, "nothing_moves")
    plan = replace(planned(in_any_order(read_scene(many))), budget=Budget(None, 90.0))
    assert stillness.settled(plan, Progress(None, None, quiet=True)) is plan


def test_a_fisheye_is_not_asked(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(stillness, "nothing_moves")
    scene = in_any_order(read_scene(many))
    bent = tuple(replace(frame, camera=replace(frame.camera, model="fisheye")) for frame in scene.frames)
    plan = planned(replace(scene, frames=bent), field="hash")
    assert stillness.settled(plan, Progress(None, None, quiet=True)) is plan


def test_still_and_moving_contradict() -> None:
    with pytest.raises(UsageError, match="--still and --moving contradict"):
        FitOptions(Path("x"), still=True, moving=True)
