"""The page in a real browser: Debian's chromium, WebGL2 drawn by its software renderer."""

import io
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import neuralfields
from neuralfields.cameras import fitted
from neuralfields.captures.images import read_image
from neuralfields.captures.readers import read_scene
from neuralfields.evaluation.evaluate import photo_over
from neuralfields.evaluation.render import render
from neuralfields.models.model import Model
from neuralfields.pictures.camera_paths import read_keyframes
from neuralfields.pictures.panels import to_uint8
from neuralfields.serving.messages import camera_of
from neuralfields.serving.viewer import Viewer
from tests.support.browser import Screen, needs_chromium
from tests.support.make_captures import colmap
from tests.support.small_fit import fitted_model, small_capture_folder

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    model = fitted_model()
    rough = replace(model, background=(0.0, 0.0, 0.0))
    with neuralfields.view([model, rough], small_capture_folder(), port=0, threads=1) as made:
        made.server.stage.subjects[1].name = "other"
        yield made


@pytest.fixture(scope="module")
def page(browser: Any, viewer: Viewer) -> Iterator[Screen]:
    """One page for most tests; it complained of nothing at the end and stayed at home."""
    made = Screen(browser, viewer.url, (740, 160))
    made.until("Boolean(window.neuralfields && window.neuralfields.state.stage)")
    made.page.select_option("#right", "")
    made.rest()
    made.remember()
    yield made
    made.context.close()
    assert made.errors == []
    host = viewer.url.removeprefix("http://")
    assert all(url.split("://", 1)[1].startswith(host) for url in made.asked if not url.startswith("blob:")), made.asked


@pytest.fixture
def screen(page: Screen) -> Iterator[Screen]:
    """One subject alone, seen from home."""
    yield page
    page.restore()


def test_the_canvas_shows_our_own_render(screen: Screen, small_model: Model) -> None:
    """Of the camera that the page stands in: at most 3 of 255 apart on average, which is JPEG's doing."""
    shown = screen.picture()
    camera = camera_of(screen.eye(), shown.shape[1], shown.shape[0])
    own = fitted(small_model.cameras[0], (shown.shape[1], shown.shape[0]))
    assert np.allclose(camera.world_from_camera, own.world_from_camera, atol=1e-9)
    assert camera.fy == pytest.approx(own.fy, rel=1e-3)
    exact = to_uint8(render(small_model, camera).rgb).astype(int)
    assert np.abs(shown - exact).mean() < 3
    assert exact.std() > 30  # there is something to see


def halve(screen: Screen) -> None:
    """A quarter of the pixels: for tests that need no sharp picture."""
    screen.page.evaluate("resolution.value = '0.5'; resolution.onchange()")
    screen.rest()


def test_drag_wheel_and_keys_change_the_picture(screen: Screen) -> None:
    halve(screen)
    seen = [screen.picture()]
    moves = [
        lambda: screen.drag(60, 10), lambda: screen.drag(40, 30, "right"), lambda: screen.page.mouse.wheel(0, -300),
        lambda: screen.page.keyboard.press("ArrowLeft", delay=150), lambda: screen.page.keyboard.press("w", delay=150),
    ]  # fmt: skip
    for move in moves:
        move()
        screen.rest()
        seen.append(screen.picture())
        assert np.abs(seen[-1] - seen[-2]).mean() > 1
    screen.page.keyboard.press("r")
    screen.rest()
    assert np.abs(screen.picture() - seen[0]).mean() < 1


def test_orbit_keeps_the_pivot_and_the_horizon(screen: Screen) -> None:
    halve(screen)
    before, pivot = screen.eye(), screen.page.evaluate("window.neuralfields.state.pivot")
    up = np.array(screen.page.evaluate("window.neuralfields.state.up"))
    screen.drag(100, 40)
    screen.rest()
    poses = [np.array(eye.pose).reshape(3, 4) for eye in (before, screen.eye())]
    away = [np.linalg.norm(pose[:, 3] - pivot) for pose in poses]
    assert away[0] == pytest.approx(away[1], rel=1e-6) and not np.allclose(poses[0], poses[1], atol=0.05)
    tilt = [pose[:, 0] @ up for pose in poses]
    assert tilt[0] == pytest.approx(tilt[1], abs=1e-6)
    turn = poses[1][:, :3]
    assert np.allclose(turn.T @ turn, np.eye(3), atol=1e-9) and np.linalg.det(turn) > 0


def test_every_mode(screen: Screen) -> None:
    halve(screen)
    seen = {}
    for key, what in enumerate(("rgb", "depth", "opacity", "normals", "error"), start=1):
        screen.page.keyboard.press(str(key))
        screen.rest()
        assert screen.page.get_attribute(f"[data-what={what}]", "aria-checked") == "true"
        seen[what] = screen.picture()
    names = list(seen)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert np.abs(seen[a] - seen[b]).mean() > 5, (a, b)
    assert np.abs(seen["opacity"] - seen["opacity"].mean(2, keepdims=True)).max() <= 3  # grey


def test_resolution_background_and_cut(screen: Screen) -> None:
    whole = screen.picture()
    for part in ("Picture", "Cut"):
        screen.page.click(f"summary:text-is('{part}')")
    screen.page.select_option("#resolution", "0.25")
    screen.rest()
    assert screen.page.evaluate("window.neuralfields.picture.sides[0].header.width") == round(whole.shape[1] / 4)
    screen.page.select_option("#resolution", "1")
    screen.page.select_option("#background", "black")
    screen.rest()
    assert whole[3, 3].min() > 240 and screen.picture()[3, 3].max() < 15
    screen.page.select_option("#background", "auto")
    screen.page.select_option("#slice", "2")
    screen.rest()
    sliced = screen.picture()
    screen.page.click("#slice-flip")
    screen.rest()
    flipped = screen.picture()
    assert min(np.abs(sliced - whole).mean(), np.abs(flipped - whole).mean(), np.abs(flipped - sliced).mean()) > 1
    screen.page.select_option("#slice", "")
    screen.page.check("#crop")
    screen.page.evaluate("x1.value = 0.02; x1.oninput()")
    screen.rest()
    empty = screen.picture()
    assert (empty.min(2) > 240).mean() > 0.95 and (empty.min(2) < 240).any()  # all but the lines of the box


def test_lines_hide_behind_the_picture(screen: Screen) -> None:
    """The bounds' edges are seen over nothing and hidden where the scene stands before them."""
    plain = screen.picture()
    screen.page.keyboard.press("b")
    screen.page.keyboard.press("x")
    screen.page.wait_for_timeout(150)
    lines = np.abs(screen.picture() - plain).max(2) > 12
    assert 50 < lines.sum() < 0.05 * lines.size
    screen.page.evaluate("window.kept = window.neuralfields.lines.draw;"
                         " window.neuralfields.lines.draw = ((draw) => function (f) {"
                         " f.gl.disable(f.gl.DEPTH_TEST); draw.call(this, f); f.gl.enable(f.gl.DEPTH_TEST); })"
                         "(window.neuralfields.lines.draw); window.neuralfields.wake()")  # fmt: skip
    screen.page.wait_for_timeout(150)
    through = np.abs(screen.picture() - plain).max(2) > 12
    screen.page.evaluate("window.neuralfields.lines.draw = window.kept; null")
    assert (lines & ~through).sum() < 0.02 * lines.sum() and (through & ~lines).sum() > 20


def test_a_photo_lies_exactly_over_the_picture(screen: Screen, small_capture: Path) -> None:
    for _ in range(2):
        screen.page.keyboard.press("]")
    screen.rest()
    rendered = screen.picture()
    screen.until("window.neuralfields.photo.camera === window.neuralfields.state.stage.cameras[2]")
    screen.page.keyboard.press("v")
    screen.page.wait_for_timeout(150)
    shown = screen.picture()
    scene = read_scene(small_capture)
    name = screen.page.evaluate("window.neuralfields.state.stage.cameras[2].name")
    frame = next(frame for frame in scene.frames if frame.name == name)
    photo = photo_over(read_image(frame.path), (1.0, 1.0, 1.0)) * 255
    side = min(shown.shape[:2])
    left = (shown.shape[1] - side) // 2
    large = np.asarray(Image.fromarray(photo.astype(np.uint8)).resize((side, side), Image.BILINEAR)).astype(int)
    middle = shown[:side, left : left + side]
    solid = np.abs(large - 255).max(2) > 60
    shifts = itertools.product((-3, 0, 3), repeat=2)
    away = {by: np.abs(middle - np.roll(large, by, (0, 1)))[solid].mean() for by in shifts}
    assert min(away, key=away.get) == (0, 0) and away[0, 0] < 12
    screen.page.evaluate("opacity.value = 0.5; opacity.oninput()")
    screen.page.wait_for_timeout(150)
    half = screen.picture()
    assert np.abs(half - (shown + rendered) / 2).mean() < 3


def test_the_slider_compares_two(screen: Screen) -> None:
    screen.page.select_option("#right", "1")
    screen.rest()
    screen.until("window.neuralfields.picture.sides.every((side) => side.header && side.header.last)")
    screen.page.wait_for_timeout(150)
    both = screen.picture()
    width = both.shape[1]
    assert both[5, width // 4].min() > 240 and both[5, 3 * width // 4].max() < 15  # white behind one, black the other
    assert screen.page.inner_text("#label-right") == "other"
    box = screen.page.locator("#divider").bounding_box()
    screen.page.mouse.move(box["x"] + 14, 100)
    screen.page.mouse.down()
    screen.page.mouse.move(0.9 * width, 100, steps=3)
    screen.page.mouse.up()
    screen.page.wait_for_timeout(150)
    assert screen.picture()[5, 3 * width // 4].min() > 240


def test_downloads(screen: Screen, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    page = screen.page
    page.click("summary:text-is('Picture')")
    page.fill("#width", "96")
    page.fill("#height", "64")
    name, data = screen.save(lambda: page.click("#still"))
    assert name == "hash.png" and Image.open(io.BytesIO(data)).size == (96, 64)
    page.click("summary:text-is('Film')")
    page.click("#key")
    screen.drag(80, 0)
    page.click("#key")
    page.fill("#seconds", "0.5")
    page.fill("#fps", "10")
    name, data = screen.save(lambda: page.click("#path"))
    assert name == "hash.path.json"
    (tmp_path / name).write_bytes(data)
    assert len(read_keyframes(tmp_path / name)) == 2
    name, data = screen.save(lambda: page.click("#film"))
    assert name == "hash.mp4"
    (tmp_path / name).write_bytes(data)
    with av.open(str(tmp_path / name)) as film:
        assert sum(1 for _ in film.decode(video=0)) == 5
    before = screen.eye()
    page.click("#play")
    screen.until("window.neuralfields.films.playing === null && !document.getElementById('play').disabled")
    page.wait_for_timeout(900)
    screen.rest()
    assert screen.eye().pose == pytest.approx(before.pose, abs=1e-6)  # the last keyframe is where it stood


def test_a_capture_without_a_field(browser: Any, tmp_path: Path) -> None:
    colmap(tmp_path)
    with neuralfields.view(tmp_path, port=0, threads=1) as viewer:
        screen = Screen(browser, viewer.url)
        screen.until("Boolean(window.neuralfields && window.neuralfields.state.stage)")
        screen.until("window.neuralfields.points.count > 0")
        screen.page.wait_for_timeout(200)
        assert len(np.unique(screen.picture().reshape(-1, 3), axis=0)) > 5
        assert screen.page.is_disabled("[data-what=rgb]") and screen.errors == []
        screen.context.close()


def test_phone_size(browser: Any, viewer: Viewer) -> None:
    screen = Screen(browser, viewer.url, (360, 640), has_touch=True, is_mobile=True)
    screen.until("Boolean(window.neuralfields && window.neuralfields.picture.sides[0].header)")
    wide = screen.page.evaluate("document.documentElement.scrollWidth")
    canvas, panel = (screen.page.locator(name).bounding_box() for name in ("#canvas", "#panel"))
    assert wide <= 360 and canvas["height"] > 380 and panel["y"] > 380
    screen.page.click("#handle")
    screen.page.wait_for_timeout(100)
    assert 0.4 * 640 < screen.page.locator("#panel").bounding_box()["height"] <= 0.47 * 640
    before = screen.eye()
    screen.page.touchscreen.tap(100, 100)
    assert screen.eye().pose == before.pose and screen.errors == []
    screen.context.close()


def test_a_foreign_page_cannot_use_the_viewer(browser: Any, viewer: Viewer) -> None:
    """Neither its WebSocket nor its files, from a page that lives elsewhere."""
    context = browser.new_context()
    page = context.new_page()
    page.goto("data:text/html,<p>elsewhere")
    address = viewer.url.replace("http", "ws") + "socket"
    assert page.evaluate(
        "(url) => new Promise((done) => { const s = new WebSocket(url); s.onopen = () => done('open');"
        " s.onerror = () => done('refused'); })", address
    ) == "refused"  # fmt: skip
    assert page.evaluate("(url) => fetch(url).then(() => 'read', () => 'refused')", viewer.url) == "refused"
    context.close()
