"""The page in a person's hands: reading and measuring by clicks, views, framing, keys, lost connections."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from neuralfields.serving.server import Server
from tests.support.browser import Screen, needs_chromium
from tests.support.view_ball import RADIUS, ball_stage

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def screen(browser: Any) -> Iterator[Screen]:
    server = Server(ball_stage(), port=0, threads=1)
    made = Screen(browser, server.url, (740, 240))
    made.rest()
    yield made
    assert made.errors == []
    made.context.close()
    server.close()


@pytest.fixture(autouse=True)
def home(screen: Screen) -> None:
    screen.page.keyboard.press("Escape")
    screen.page.evaluate("document.activeElement.blur()")
    screen.page.keyboard.press("r")
    screen.rest()


def away(screen: Screen) -> float:
    return float(np.linalg.norm(np.array(screen.eye().pose).reshape(3, 4)[:, 3]))


def click(screen: Screen, x: float, y: float, **more: Any) -> str:
    box = screen.page.locator("#canvas").bounding_box()
    screen.page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"], **more)
    return screen.page.text_content("#probe")


def test_a_click_reads_place_depth_and_colour(screen: Screen) -> None:
    """On the ball the place has its radius, the depth is that along the eye's axis, the colour the picture's."""
    words = click(screen, 0.5, 0.5)
    place, depth, colour = words.split("   ")
    point = np.array([float(value) for value in place.split(",")])
    assert np.linalg.norm(point) == pytest.approx(RADIUS, abs=0.01)
    assert float(depth.removeprefix("depth ")) == pytest.approx(away(screen) - RADIUS, abs=0.03)
    expected = (point / RADIUS / 2 + 0.5) * 255
    found = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    assert np.abs(found - expected).max() < 12
    assert screen.page.evaluate("window.neuralfields.read.count") == 6  # a cross
    click(screen, 0.02, 0.03)
    assert screen.page.is_hidden("#probe") and screen.page.evaluate("window.neuralfields.read.count") == 0


def test_a_second_click_with_shift_measures(screen: Screen) -> None:
    points = []
    for x in (0.46, 0.54):
        if points:
            screen.page.keyboard.down("Shift")
        words = click(screen, x, 0.5)
        screen.page.keyboard.up("Shift")
        points.append(screen.page.evaluate("window.neuralfields.probe.points.at(-1)"))
    exact = np.linalg.norm(np.subtract(*points))
    assert 0.05 < exact < 2 * RADIUS
    assert float(words.split("   ")[0].removeprefix("distance ")) == pytest.approx(exact, rel=1e-3)
    assert screen.page.evaluate("window.neuralfields.read.count") == 14  # two crosses and a line


def test_a_drag_reads_nothing(screen: Screen) -> None:
    screen.drag(30, 4)
    assert screen.page.is_hidden("#probe")


def test_views_back_and_forward(screen: Screen) -> None:
    screen.page.wait_for_timeout(450)
    eyes = [screen.eye()]
    for _ in range(2):
        screen.drag(50, 10)
        eyes.append(screen.eye())
        screen.until("(({ list, at }, { eye }) => list[at].eye === eye)(neuralfields.views, neuralfields.state)")
    seen = []
    for key in (",", ",", ".", "."):
        screen.page.keyboard.press(key)
        seen.append(screen.eye())
    assert seen == [eyes[1], eyes[0], eyes[1], eyes[2]]


def test_all_is_framed_from_anywhere(screen: Screen) -> None:
    """By key Z, keeping the side, and by a double-click on nothing; one on the ball looks at it."""
    home = away(screen)
    screen.page.evaluate("(({ controls }) => { controls.shift([40, 9, 3]); controls.moved(); })(window.neuralfields)")
    screen.page.keyboard.press("z")
    assert away(screen) == pytest.approx(home, rel=0.05)
    screen.page.evaluate("(({ controls }) => { controls.shift([400, 9, 3]); controls.moved(); })(window.neuralfields)")
    screen.rest()
    screen.page.mouse.dblclick(30, 30)
    assert away(screen) == pytest.approx(home, rel=0.05)
    screen.rest()
    box = screen.page.locator("#canvas").bounding_box()
    screen.page.mouse.dblclick(0.53 * box["width"], 0.5 * box["height"])
    pivot = screen.page.evaluate("window.neuralfields.state.pivot")
    pose = np.array(screen.eye().pose).reshape(3, 4)
    towards = (pivot - pose[:, 3]) / np.linalg.norm(pivot - pose[:, 3])
    assert np.linalg.norm(pivot) == pytest.approx(RADIUS, abs=0.02) and pose[:, 2] @ towards > 0.9999


def test_up_levels_the_picture_at_once(screen: Screen) -> None:
    screen.page.evaluate("up.value = '+x'; up.onchange()")
    pose = np.array(screen.eye().pose).reshape(3, 4)
    assert abs(pose[0, 0]) < 1e-9 and pose[0, 1] < 0  # right is level to x, down points away from it
    screen.page.evaluate("up.value = 'auto'; up.onchange()")


def test_keys_work_whatever_was_touched(screen: Screen) -> None:
    page = screen.page
    for focus in ("fov", "divider", "handle"):
        page.evaluate(f"document.getElementById('divider').hidden = false; document.getElementById('{focus}').focus()")
        page.keyboard.press("2")
        assert page.get_attribute("[data-what=depth]", "aria-checked") == "true", focus
        page.keyboard.press("1")
    page.evaluate("document.getElementById('divider').hidden = true; document.getElementById('fov').focus()")
    before, fov = screen.eye().pose, float(page.input_value("#fov"))
    page.keyboard.press("ArrowLeft")  # belongs to the slider
    assert screen.eye().pose == before and float(page.input_value("#fov")) == fov - 0.5


def test_help_over_the_page(screen: Screen) -> None:
    screen.page.keyboard.press("?")
    assert screen.page.is_visible("#help-text") and "measure" in screen.page.inner_text("#help-text")
    screen.page.keyboard.press("2")  # not the page's now
    screen.page.keyboard.press("Escape")
    assert screen.page.is_hidden("#help-text")
    assert screen.page.get_attribute("[data-what=rgb]", "aria-checked") == "true"


def test_sizes_are_held_within_what_the_viewer_takes(screen: Screen) -> None:
    sizes = screen.page.evaluate("""[[-3, 5], [1e9, 20.6], ["", 64]].map(([w, h]) => {
        document.getElementById("width").value = w; document.getElementById("height").value = h;
        const { width, height } = window.neuralfields.films.size(); return [width, height]; })""")
    assert sizes == [[16, 16], [16384, 21], [1280, 64]]


def test_roles_and_names(screen: Screen) -> None:
    """Choices are radios, every control has a name, no id is there twice."""
    found = screen.page.evaluate("""(() => {
        const label = (one) => one.getAttribute("aria-label") || one.labels?.[0]?.textContent;
        const named = (one) => (label(one) || one.textContent || one.title || "").trim();
        const all = [...document.querySelectorAll("button, select, canvas, input, [role=slider]")];
        const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
        const chosen = [...document.querySelectorAll("[aria-checked]")];
        const loose = chosen.filter((one) => !one.closest("[role=radiogroup]") || one.role !== "radio");
        const nameless = all.filter((one) => !named(one)).map((one) => one.id);
        return { nameless, doubles: ids.length - new Set(ids).size, loose: loose.length };
    })()""")
    assert found == {"nameless": [], "doubles": 0, "loose": 0}


def test_what_is_said_when_the_viewer_is_gone(browser: Any) -> None:
    server = Server(ball_stage(), port=0, threads=1)
    screen = Screen(browser, server.url, (740, 240))
    screen.rest()
    assert screen.page.is_hidden("#lost")
    server.close()
    screen.until("!document.getElementById('lost').hidden")
    assert screen.page.get_attribute("#dot", "class") == "off"
    assert screen.page.inner_text("#message") == "the viewer was stopped"
    screen.page.keyboard.press("g")
    assert screen.page.inner_text("#message").startswith("not connected")
    screen.context.close()


LATE = """
const decode = window.createImageBitmap;
window.late = 0;
window.createImageBitmap = async (blob, options) => {
    const bitmap = await decode(blob, options);
    if (bitmap.width > 200 && bitmap.width < 300) await new Promise((done) => setTimeout(done, 2000, ++late));
    return bitmap;
};
"""


def test_a_coarse_picture_that_is_decoded_last_does_not_stay(browser: Any) -> None:
    """Frames are decoded beside each other, and a fine one may be ready before the coarse one sent first."""
    stage = ball_stage()
    server = Server(stage, port=0, threads=1)
    screen = Screen(browser, server.url, (740, 240))
    screen.rest()
    screen.context.add_init_script(LATE)
    stage.subjects[0].speed = 1e4  # as on a slow machine: a coarse picture comes first
    screen.page.reload()
    screen.rest()
    time.sleep(2.2)  # in which the late one has come
    assert screen.page.evaluate("late > 0 && neuralfields.rests") and screen.errors == []
    screen.context.close()
    server.close()


def test_the_crop_box_has_numbers(screen: Screen) -> None:
    """In units of the scene: its box is that of the stage, cut on one side by a fifth."""
    page = screen.page
    page.evaluate("cut.open = crop.checked = true; x0.value = '0.2'; crop.onchange()")
    assert page.inner_text("#box-now").split("\n")[0] == "x -0.4500 … 0.7500"
    page.click("#box-copy")
    assert page.inner_text("#message") == "--keep-box=-0.4500,-0.7500,-0.7500,0.7500,0.7500,0.7500"
    page.evaluate("crop.checked = false; x0.value = '0'; crop.onchange()")


def test_the_legend_of_depth_has_numbers(screen: Screen) -> None:
    """From the nearest of the ball to nearly the farthest of it that is seen."""
    screen.page.keyboard.press("2")
    screen.rest()
    near, far = screen.page.inner_text("#legend").split()[1:3]
    screen.page.keyboard.press("1")
    nearest, tangent = away(screen) - RADIUS, (away(screen) ** 2 - RADIUS**2) ** 0.5
    assert nearest <= float(near) < nearest + 0.05 < float(far) <= tangent


def test_keyframes_are_looked_from_removed_and_kept(screen: Screen) -> None:
    """An orbit is closed and at the eye's distance; one press looks, another removes; loading anew keeps the rest."""
    page = screen.page
    page.evaluate("document.getElementById('orbit').click()")
    keys = page.evaluate("window.neuralfields.films.keys")
    pivot = np.array(page.evaluate("window.neuralfields.state.pivot"))
    places = np.array([key["pose"] for key in keys]).reshape(-1, 3, 4)[:, :, 3]
    distances = np.linalg.norm(places - pivot, axis=1)
    assert len(keys) == 9 and np.ptp(distances) < 1e-9 and np.allclose(places[0], places[8])
    assert np.allclose(places[:8].mean(0)[:2], pivot[:2], atol=1e-6)  # up is z
    page.evaluate("document.querySelectorAll('#keys li')[3].children[0].click()")
    assert screen.eye().pose == keys[3]["pose"]
    page.evaluate("document.querySelectorAll('#keys li')[3].children[1].click()")
    page.reload()
    screen.until("Boolean(window.neuralfields && window.neuralfields.state.stage)")
    assert page.evaluate("window.neuralfields.films.keys") == keys[:3] + keys[4:]
    page.evaluate("sessionStorage.clear()")


def test_the_axes_in_the_corner(screen: Screen) -> None:
    """A ball stands where its axis points; a click on it, or a key, looks from there, as far away as before."""
    far = away(screen)
    for name, axis, sign in (("x", 0, 1), ("y.far", 1, -1), ("z", 2, 1)):
        screen.page.click(f"#gizmo .{name}[title]", force=True)
        screen.rest()
        pose = np.array(screen.eye().pose).reshape(3, 4)
        assert pose[:, 3] == pytest.approx(far * sign * np.eye(3)[axis], abs=1e-6)
        assert pose[:, 2] == pytest.approx(-sign * np.eye(3)[axis], abs=1e-6)
    for _ in range(2):
        screen.page.keyboard.press("7")
    assert np.array(screen.eye().pose).reshape(3, 4)[0, 2] == pytest.approx(1)
    screen.page.evaluate("(({ controls }) => { controls.turn(0.4, 0.3); controls.moved(); })(neuralfields)")
    screen.rest()
    pose = np.array(screen.eye().pose).reshape(3, 4)
    middle = np.array(list(centre(screen, "#gizmo").values()))
    for axis, name in enumerate("xyz"):
        off = np.array(list(centre(screen, f"#gizmo button.{name}:not(.far)").values())) - middle
        assert off == pytest.approx(27 * pose[axis, :2], abs=0.2)
    assert screen.page.evaluate("neuralfields.picture.sides[0].header !== null")


def centre(screen: Screen, selector: str) -> dict[str, float]:
    box = screen.page.locator(selector).bounding_box()
    return {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}


LET_GO = """((age) => {
    const { controls } = neuralfields, last = controls.moves.at(-1) ?? { at: 0, dx: 12, dy: 0, pans: false };
    controls.moves = [0, 10, 20, 30].map((before) => ({ ...last, at: 1000 - before - age, dx: 12, dy: 0 }));
    controls.letGo(1000);
    return [controls.swing !== null, neuralfields.rests];
})"""


def test_the_view_swings_out_when_the_hand_lets_go(screen: Screen) -> None:
    """A little, about the same pivot; not where the hand held still before, nor where less motion is asked for."""
    before = np.array(screen.eye().pose).reshape(3, 4)
    assert screen.page.evaluate(f"{LET_GO}(0)") == [False, True]
    screen.page.emulate_media(reduced_motion="no-preference")
    assert screen.page.evaluate(f"{LET_GO}(80)") == [False, True]
    assert screen.page.evaluate(f"{LET_GO}(0)") == [True, False]
    screen.rest()
    after = np.array(screen.eye().pose).reshape(3, 4)
    assert np.linalg.norm(after[:, 3]) == pytest.approx(np.linalg.norm(before[:, 3]), rel=1e-6)
    angle = float(np.arccos(np.clip((before[:, 2] * after[:, 2]).sum(), -1, 1)))
    assert 0.1 < angle / (0.0055 * 0.8 * 80) < 1.01  # pixels of 48 in 60 ms, for 80 ms
    screen.page.evaluate(f"{LET_GO}(0)")
    screen.page.keyboard.press("r")
    screen.rest()
    assert screen.page.evaluate("[neuralfields.controls.swing, neuralfields.state.camera]") == [None, 0]
    assert screen.eye().pose == pytest.approx(before.ravel().tolist())
    screen.drag(40, 0)
    screen.rest()
    assert screen.page.evaluate("neuralfields.controls.swing") is None
    screen.page.emulate_media(reduced_motion="reduce")
