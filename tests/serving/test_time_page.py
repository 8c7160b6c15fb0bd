"""A scene that moves in the page: a time slider, scrubbing, playing, and the server's pictures at each time."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neuralfields
from neuralfields.evaluation.render import render
from neuralfields.models.model import Model
from neuralfields.pictures.panels import to_uint8
from neuralfields.serving.messages import camera_of
from neuralfields.serving.viewer import Viewer
from tests.support.browser import Screen, needs_chromium
from tests.support.moving import TIMES, ball_model

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def model() -> Model:
    return ball_model()


@pytest.fixture
def viewer(model: Model, tmp_path: Path) -> Iterator[Viewer]:
    with neuralfields.view(model, port=0, threads=1) as made:
        yield made


@pytest.fixture
def screen(browser: Any, viewer: Viewer) -> Iterator[Screen]:
    made = Screen(browser, viewer.url)
    made.until("Boolean(window.neuralfields && window.neuralfields.state.stage)")
    made.page.evaluate("resolution.value = '0.25'; resolution.onchange()")
    made.rest()
    yield made
    made.context.close()
    assert made.errors == []


def exact(model: Model, screen: Screen, shape: tuple[int, ...], time: float) -> np.ndarray:
    camera = replace(camera_of(screen.eye(), shape[1] // 4, shape[0] // 4), time=time)
    seen = to_uint8(render(model, camera).rgb).astype(int)
    return seen.repeat(4, 0).repeat(4, 1)


def apart(one: np.ndarray, two: np.ndarray) -> float:
    rows, columns = (min(a, b) for a, b in zip(one.shape[:2], two.shape[:2], strict=True))
    return float(np.abs(one[:rows, :columns] - two[:rows, :columns]).mean())


def scrub(screen: Screen, share: float) -> np.ndarray:
    screen.page.evaluate(f"(t => {{ t.value = {share}; t.oninput(); }})(document.getElementById('time'))")
    screen.rest()
    return screen.picture()


def test_the_slider_shows_each_time(screen: Screen, model: Model) -> None:
    assert screen.page.is_visible("#time-part")
    early, late = scrub(screen, 0.25), scrub(screen, 0.75)
    for shown, time, other in ((early, 15.0, 25.0), (late, 25.0, 15.0)):
        right, wrong = (apart(shown, exact(model, screen, shown.shape, t)) for t in (time, other))
        assert right < 3 and wrong > 2 * right, (right, wrong)
    assert screen.page.inner_text("#time-now") == "25"


def test_it_plays_loops_and_stops(screen: Screen) -> None:
    """Pictures come ahead of the film; after one round all of them are there, and none is asked for again."""
    scrub(screen, 0.0)
    screen.page.select_option("#time-speed", "4")
    screen.page.evaluate("window.neuralfields.time.steps = 5")
    screen.page.click("#time-play")
    screen.until("window.neuralfields.time.missing() === null", 240)
    number = screen.page.evaluate("window.neuralfields.number")
    before = screen.page.evaluate("window.neuralfields.state.time")
    screen.until(f"window.neuralfields.state.time !== {before}")
    assert screen.page.evaluate("window.neuralfields.number") == number
    screen.page.click("#time-play")
    screen.rest()
    still = screen.page.evaluate("window.neuralfields.state.time")
    screen.page.wait_for_timeout(200)
    assert screen.page.evaluate("window.neuralfields.state.time") == still


def test_without_loop_it_ends(screen: Screen) -> None:
    scrub(screen, 0.5)
    screen.page.evaluate("window.neuralfields.time.steps = 5")
    screen.page.uncheck("#time-loop")
    screen.page.select_option("#time-speed", "4")
    screen.page.focus("#canvas")
    screen.page.keyboard.press(" ")
    screen.until(f"!window.neuralfields.time.playing && window.neuralfields.state.time === {TIMES[1]}", 120)


def test_a_camera_is_seen_at_its_time(screen: Screen, model: Model) -> None:
    screen.page.evaluate("window.neuralfields.jump(3)")
    screen.rest()
    assert screen.page.evaluate("window.neuralfields.state.time") == model.cameras[3].time
