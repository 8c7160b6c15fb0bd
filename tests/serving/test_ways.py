"""Ways through the page: addresses, keyframes that are edited and loaded, keys among choices, edges while moving."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neuralfields
from neuralfields.models.model import Model
from neuralfields.serving.server import Server
from neuralfields.serving.stage import stage_of
from tests.support.browser import Screen, needs_chromium
from tests.support.view_ball import ball_stage

READY = "Boolean(window.neuralfields && window.neuralfields.state.stage)"


@pytest.fixture(scope="module")
def screen(browser: Any) -> Iterator[Screen]:
    server = Server(ball_stage(), port=0, threads=1)
    made = Screen(browser, server.url, (740, 240))
    made.rest()
    yield made
    assert made.errors == []
    made.context.close()
    server.close()


@needs_chromium
def test_the_address_says_where_the_eye_is(screen: Screen) -> None:
    """Written when the eye rests, looked from by a page that is loaded anew; home has none, wrong ones do nothing."""
    page = screen.page
    page.keyboard.press("3")
    screen.drag(60, 30)
    here = "neuralfields.state.eye.position.map((v) => Number(v.toPrecision(6))).join(',')"
    screen.until(f"decodeURIComponent(location.hash).includes({here})")
    eye, address = screen.eye(), page.url
    assert "&show=opacity" in address and len(address) < 300
    page.reload()
    screen.until(READY)
    assert screen.eye().pose == pytest.approx(eye.pose, abs=1e-4) and screen.eye().fov == pytest.approx(eye.fov)
    assert page.get_attribute("[data-what=opacity]", "aria-checked") == "true"
    for wrong in ("at=1,2", "at=1,2,NaN&to=0,0,1&right=1,0,0&fov=40&pivot=0,0,0", "<b>", "show=depth"):
        page.evaluate(f"location.hash = {json.dumps(wrong)}")
        page.wait_for_timeout(50)
        assert screen.eye().pose == pytest.approx(eye.pose, abs=1e-4), wrong
    page.evaluate("location.hash = 'at=2,0,0&to=-1,0,0&right=0,1,0&fov=30&pivot=0,0,0&show=<img>'")
    screen.until("window.neuralfields.state.eye.fov === 30")
    assert np.allclose(np.array(screen.eye().pose).reshape(3, 4)[:, 2:].T, [[-1, 0, 0], [2, 0, 0]])
    page.keyboard.press("1")
    page.keyboard.press("r")
    screen.until("location.hash === ''")


@needs_chromium
def test_keyframes_are_replaced_moved_undone_and_loaded(screen: Screen, tmp_path: Path) -> None:
    page = screen.page

    def keys() -> list[list[float]]:
        return [key["pose"] for key in page.evaluate("window.neuralfields.films.keys")]

    def press(name: str, child: int | None = None) -> None:
        part = f"document.getElementById('{name}')" if child is None else (
            f"document.querySelectorAll('#keys li')[{child}].children[0]")  # fmt: skip
        page.evaluate(f"{part}.click()")

    press("orbit")
    first = keys()
    press("", 2)
    page.evaluate("neuralfields.controls.turn(0.3, 0); neuralfields.moved()")
    press("key-replace")
    assert keys()[2] == pytest.approx(screen.eye().pose) and keys()[:2] == first[:2] and keys()[3:] == first[3:]
    replaced = keys()
    press("key-earlier")
    assert keys()[1] == replaced[2] and keys()[2] == replaced[1]
    press("key-later")
    press("key-later")
    assert keys()[3] == replaced[2]
    page.evaluate("document.getElementById('key').click()")  # behind the chosen one
    assert len(keys()) == 10 and keys()[4] == pytest.approx(screen.eye().pose)
    for _ in range(5):
        press("key-undo")
    assert keys() == first and page.is_disabled("#key-replace")
    name, data = screen.save(lambda: press("path"))
    (tmp_path / name).write_bytes(data)
    press("key-undo")
    assert keys() == [] and page.is_disabled("#key-undo")
    page.set_input_files("#path-file", tmp_path / name)
    screen.until("window.neuralfields.films.keys.length === 9")
    assert np.allclose(keys(), first, atol=1e-6)
    (tmp_path / "wrong.json").write_text('{"camera_path": [{"camera_to_world": [1, 2], "fov": 1}]}')
    page.set_input_files("#path-file", tmp_path / "wrong.json")
    screen.until("message.textContent.includes('no path of keyframes')")
    assert len(keys()) == 9
    page.evaluate("sessionStorage.clear()")


@needs_chromium
def test_a_film_says_how_far_it_is(screen: Screen) -> None:
    words = screen.page.evaluate("""(() => {
        const { films } = window.neuralfields;
        films.progress(0, 40);
        films.begun -= 10000;
        films.progress(10, 40);
        const said = document.getElementById("job-words").textContent;
        films.done();
        return said;
    })()""")
    assert words.startswith("frame 11 of 40, 30.") and words.endswith(" s left")


@needs_chromium
def test_arrows_go_through_choices(screen: Screen) -> None:
    """Only the chosen one is reached by Tab; arrows choose the next that is there, and do not turn the camera."""
    page, before = screen.page, screen.eye()
    page.focus("[data-what=rgb]")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("[document.activeElement.dataset.what, neuralfields.state.what]") == ["depth", "depth"]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")  # round to the last that can be chosen
    assert page.evaluate("document.activeElement.dataset.what") == "normals"
    assert page.evaluate("[...modes.children].map((one) => one.tabIndex)") == [-1, -1, -1, 0, -1, -1]
    page.keyboard.press("Home")
    page.keyboard.press("1")
    assert screen.eye() == before and page.evaluate("neuralfields.state.what") == "rgb"


@needs_chromium
def test_the_panel_is_hidden_and_comes_back(screen: Screen) -> None:
    page = screen.page
    page.click("#hide")
    assert page.is_hidden("#panel") and page.evaluate("document.activeElement.id") == "unhide"
    page.keyboard.press("Enter")
    assert page.is_visible("#panel") and page.is_hidden("#unhide")


@needs_chromium
def test_beside_a_picture_that_is_carried_along_there_is_its_background(screen: Screen) -> None:
    """The ball stands before white: no dark wedge comes up at the side before the next picture is there."""
    page = screen.page
    page.keyboard.press("r")
    screen.rest()
    page.evaluate(
        "neuralfields.connection.kept = neuralfields.connection.send; neuralfields.connection.send = () => false"
    )
    page.evaluate("neuralfields.controls.hand = 'fly'; neuralfields.controls.turn(0.4, 0); neuralfields.moved()")
    page.wait_for_timeout(200)
    shown = screen.picture()
    page.evaluate("neuralfields.connection.send = neuralfields.connection.kept; neuralfields.controls.hand = 'orbit'")
    page.keyboard.press("r")
    assert shown[:, [2, -3]].min() > 250


@needs_chromium
def test_the_crop_box_is_dragged_by_its_faces(screen: Screen) -> None:
    """By the pixels between the face's middle and where it is dropped; not past the other face; the camera stays."""
    page = screen.page
    page.keyboard.press("r")
    page.evaluate("cut.open = crop.checked = true; crop.onchange()")
    screen.rest()
    before = screen.eye()
    faces = page.evaluate("neuralfields.handles.faces.map((f) => neuralfields.handles.seen(f.point))")
    assert page.evaluate("neuralfields.grips.count") == 6
    (x, y), (beyond_x, beyond_y) = faces[5], faces[4]  # the top, z to; the bottom
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(0.75 * x + 0.25 * beyond_x, 0.75 * y + 0.25 * beyond_y, steps=6)
    page.mouse.up()
    assert float(page.input_value("#z1")) == pytest.approx(0.75, abs=0.04) and float(page.input_value("#z0")) == 0
    x, y = page.evaluate("neuralfields.handles.seen(neuralfields.handles.faces[5].point)")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(beyond_x, beyond_y + 60, steps=6)
    page.mouse.up()
    assert 0 < float(page.input_value("#z1")) <= 0.02 and screen.eye() == before
    page.evaluate("z1.value = '1'; crop.checked = cut.open = false; crop.onchange()")
    assert page.evaluate("neuralfields.grips.count") == 0


@needs_chromium
def test_a_photo_is_seen_where_there_is_no_field(browser: Any, tiny_capture: Path) -> None:
    with neuralfields.view(tiny_capture, port=0, threads=1) as viewer:
        screen = Screen(browser, viewer.url, (740, 300))
        screen.until(READY)
        screen.page.keyboard.press("]")
        screen.until("Boolean(window.neuralfields.photo.camera)")
        screen.page.wait_for_timeout(150)
        assert screen.page.input_value("#opacity") == "1" and screen.picture().std() > 15
        screen.context.close()


def test_files_of_one_name_are_told_apart(small_file: Path, small_model: Model, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.nf").write_bytes(small_file.read_bytes())
    things = [tmp_path / "one" / "a.nf", tmp_path / "two" / "a.nf", small_model, small_model]
    names = [subject.name for subject in stage_of(things).subjects]
    assert names[:2] == ["one/a.nf", "two/a.nf"] and names[3] == f"{names[2]} (2)"
