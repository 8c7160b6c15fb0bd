"""A scene that moves in the page: a time slider, scrubbing, playing, and the server's pictures at each time."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import neuralfields
from neuralfields.evaluation.render import render
from neuralfields.fields.gaussians import GaussianField
from neuralfields.models.model import Model
from neuralfields.motion import CENTRE, DURATION, PATH, TURN, motionless
from neuralfields.pictures.panels import to_uint8
from neuralfields.serving.messages import camera_of
from neuralfields.splatting.initial import gaussians_at
from tests.support.browser import Screen, needs_chromium
from tests.support.moving import TIMES, ball_model

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def model() -> Model:
    return ball_model()


@pytest.fixture(scope="module")
def page(browser: Any, model: Model) -> Iterator[Screen]:
    """One page for most tests, of pictures with a quarter of the pixels a side."""
    with neuralfields.view(model, port=0, threads=1) as viewer:
        made = Screen(browser, viewer.url, (740, 160))
        made.until("Boolean(window.neuralfields && window.neuralfields.state.stage)")
        made.page.evaluate("resolution.value = '0.25'; resolution.onchange()")
        made.rest()
        made.remember()
        yield made
        made.context.close()
        assert made.errors == []


@pytest.fixture
def screen(page: Screen) -> Iterator[Screen]:
    yield page
    page.restore()


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


# ---------------------------------------------------------------- Gaussians in time, which the page draws itself


def a_passing_gaussian() -> Model:
    """One wide Gaussian that goes to the right all the time, and one above it that is there about the middle."""
    points = torch.tensor([[0.1, 0.5, 0.4], [0.5, 0.5, 0.75]])
    made = gaussians_at(points, torch.tensor([[0.9, 0.2, 0.1], [0.1, 0.3, 0.9]]), torch.tensor([0.08, 0.08]), 0.95, 0)
    motion = motionless(2, points)
    motion[0, CENTRE], motion[0, PATH.start] = 0.0, 0.8
    motion[0, TURN.start + 1] = 0.5
    motion[1, DURATION] = math.log(0.2)
    field = GaussianField.of(replace(made, motion=motion))
    return replace(ball_model(), field=field, occupancy=None, background=(1.0, 1.0, 1.0))


def test_gaussians_of_a_time_are_drawn_by_the_page(browser: Any) -> None:
    model = a_passing_gaussian()
    with neuralfields.view(model, port=0, threads=1) as viewer:
        screen = Screen(browser, viewer.url, (740, 160))
        screen.until("Boolean(window.neuralfields && window.neuralfields.state.stage)")
        screen.page.evaluate("drawn.value = 'page'; drawn.onchange()")
        screen.until("window.neuralfields.local.draws", 60)
        early, middle = scrub(screen, 0.0), scrub(screen, 0.5)
        for shown, time, other in ((early, TIMES[0], 20.0), (middle, 20.0, TIMES[0])):
            right, wrong = (apart(shown, whole(model, screen, shown.shape, t)) for t in (time, other))
            assert right < 2 and wrong > 2 * right, (right, wrong)
        number = screen.page.evaluate("window.neuralfields.number")
        screen.page.select_option("#time-speed", "4")
        screen.page.click("#time-play")
        screen.until("window.neuralfields.state.time > 22", 60)
        screen.page.click("#time-play")
        assert screen.page.evaluate("window.neuralfields.number") == number  # no picture was asked for
        screen.context.close()
        assert screen.errors == []


def whole(model: Model, screen: Screen, shape: tuple[int, ...], time: float) -> np.ndarray:
    camera = replace(camera_of(screen.eye(), shape[1], shape[0]), time=time)
    return to_uint8(render(model, camera).rgb).astype(int)
