"""Gaussians selected, deleted and saved in the page: by brush, by box, by keys; and who may save."""

import re
from collections.abc import Iterator
from typing import Any

import aiohttp
import numpy as np
import pytest
import torch

import neuralfields
from neuralfields.codecs.splats import read_gaussians
from neuralfields.errors import InputError
from neuralfields.fields.gaussians import GaussianField
from neuralfields.models.model import Model
from neuralfields.rendering.splat import Splats
from neuralfields.scene import Bounds
from neuralfields.serving.removal import removed_of, written
from neuralfields.serving.server import Server
from neuralfields.serving.viewer import Viewer
from tests.serving.test_server import talk
from tests.support.browser import Screen, needs_chromium
from tests.support.splats import lopsided as scene
from tests.support.view_ball import ball_stage

BOUNDS = Bounds((0.0, 0.0, 0.0), 2.0)
SIZE = (740, 240)


# ---------------------------------------------------------------- the server's side


def test_bits_say_what_is_deleted() -> None:
    assert removed_of(b"\x05\x01", 9).tolist() == [True, False, True, *[False] * 5, True]
    for bits in (b"\x05", b"\x05\x01\x00", b"\x05\x02"):  # too few, too many, one beyond the last
        with pytest.raises(InputError, match="for 9 Gaussians; reload"):
            removed_of(bits, 9)
    with pytest.raises(InputError, match="nothing to save"):
        written(scene(count=4), torch.ones(4, dtype=torch.bool), "ply")


def test_who_may_save(tmp_path: Any) -> None:
    """The page's own request alone, of the version that is there, with a bit for each Gaussian and no byte more."""
    stage, gaussians = ball_stage(), scene(count=20)
    stage.subjects[0].splats, stage.subjects[0].version = (lambda: Splats(gaussians, BOUNDS)), (lambda: 3)
    server = Server(stage, port=0, threads=1)

    async def work(web: aiohttp.ClientSession, base: str) -> list[int]:
        own, found = re.match(r"http://[^/]+", base)[0], []

        async def ask(query: str, body: bytes, origin: str = own, name: str = "0") -> bytes:
            url = f"{base}splats/{name}/file?{query}"
            async with web.post(url, data=body, headers={"Origin": origin}) as answer:
                found.append(answer.status)
                return await answer.read()

        (tmp_path / "a.ply").write_bytes(await ask("as=ply&version=3", b"\x01\x00\x00"))
        await ask("as=ply&version=2", b"\x01\x00\x00")
        await ask("as=exe&version=3", b"\x01\x00\x00")
        await ask("as=ply&version=3", b"\x01\x00\x00", name="7")
        await ask("as=ply&version=3", b"\x01\x00")
        await ask("as=ply&version=3", b"\x00" * 5000)
        await ask("as=ply&version=3", b"\xff\xff\x0f")
        await ask("as=ply&version=3", b"\x01\x00\x00", origin="http://evil.example")
        return found

    try:
        assert talk(server, work) == [200, 409, 404, 404, 400, 400, 400, 403]
    finally:
        server.close()
    assert torch.equal(read_gaussians(tmp_path / "a.ply").means, gaussians.means[1:])


# ---------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    with neuralfields.view(Model(GaussianField.of(scene()), BOUNDS), port=0, threads=1) as made:
        yield made


@pytest.fixture(scope="module")
def screen(browser: Any, viewer: Viewer) -> Iterator[Screen]:
    made = Screen(browser, viewer.url, SIZE)
    made.until("Boolean(window.neuralfields && window.neuralfields.state.stage)")
    made.page.keyboard.press("l")  # the brush makes the page draw itself, although there is no GPU here
    made.until("window.neuralfields.local.draws && window.neuralfields.editor.choice")
    made.page.keyboard.press("l")
    made.rest()
    yield made
    made.context.close()
    assert made.errors == []


def counts(screen: Screen) -> tuple[int, int]:
    """Selected and left, as the page says it."""
    found = re.match(r"([\d,]+) selected of ([\d,]+)", screen.page.text_content("#select-count"))
    return int(found[1].replace(",", "")), int(found[2].replace(",", ""))


def stroke(screen: Screen, *places: tuple[int, int], alt: bool = False) -> None:
    mouse = screen.page.mouse
    if alt:
        screen.page.keyboard.down("Alt")
    mouse.move(*places[0])
    mouse.down()
    for place in places:
        mouse.move(*place)
    mouse.up()
    if alt:
        screen.page.keyboard.up("Alt")


def projected(screen: Screen) -> np.ndarray:
    """Centres in pixels of the canvas, by Python."""
    eye = screen.eye()
    pose = np.array(eye.pose).reshape(3, 4)
    local = (scene().means.double().numpy() - pose[:, 3]) @ pose[:, :3]
    focal = 0.5 * SIZE[1] / np.tan(np.radians(eye.fov / 2))
    return local[:, :2] / local[:, 2:] * focal + np.array([(SIZE[0] - 320) / 2, SIZE[1] / 2])


def tinted(picture: np.ndarray) -> int:
    """Pixels in the colour of what is selected: much red and green, little blue."""
    return int(((picture[..., :2].min(-1) - picture[..., 2]) > 90).sum())


@needs_chromium
def test_brush_delete_undo_redo_save(screen: Screen, tmp_path: Any) -> None:
    page, eye = screen.page, screen.eye()
    page.wait_for_timeout(500)  # the page may draw once more after it rested first, and not the same to the last bit
    screen.rest()
    plain = screen.picture()
    page.keyboard.press("l")
    path = [(100, 110), (150, 110), (200, 100)]
    stroke(screen, *path)
    at = projected(screen)
    inside = np.zeros(len(at), bool)
    for a, b in zip(np.array(path, float), np.array(path[1:], float), strict=False):
        along = np.clip((at - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)[:, None]
        inside |= np.linalg.norm(at - a - along * (b - a), axis=1) <= 24
    assert 20 < inside.sum() < 380 and counts(screen) == (inside.sum(), 400)
    assert screen.eye() == eye  # the brush does not turn the camera
    screen.rest()
    shown = screen.picture()
    assert tinted(shown) > tinted(plain) + 300
    stroke(screen, (100, 110), (120, 110), alt=True)
    fewer = counts(screen)[0]
    assert 0 < fewer < inside.sum()
    page.keyboard.press("Control+z")
    assert counts(screen) == (inside.sum(), 400)
    page.keyboard.press("Delete")
    assert counts(screen) == (0, 400 - inside.sum())
    screen.rest()
    gone = screen.picture()
    assert np.abs(gone - plain).mean() > 2 and tinted(gone) <= tinted(plain) + 20
    name, data = screen.save(lambda: page.evaluate("document.getElementById('select-save').click()"))
    assert name == "gaussians-edited.ply"
    (tmp_path / name).write_bytes(data)
    assert torch.equal(read_gaussians(tmp_path / name).means, scene().means[~torch.from_numpy(inside)])
    for keys, left in (("z", 400), ("Shift+Z", 400 - inside.sum()), ("z", 400), ("z", 400)):
        page.keyboard.press(f"Control+{keys}")
        assert counts(screen)[1] == left
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    screen.rest()
    assert counts(screen) == (0, 400) and np.array_equal(screen.picture(), plain)


@needs_chromium
def test_visible_only_takes_fewer_than_all(screen: Screen) -> None:
    page, found = screen.page, []
    for visible in (False, True):
        page.evaluate(f"brush_ => 0 || (document.getElementById('brush-visible').checked !== {str(visible).lower()}"
                      " && document.getElementById('brush-visible').click())", None)  # fmt: skip
        page.keyboard.press("l")
        stroke(screen, (60, 110), (260, 110))
        found.append(counts(screen)[0])
        page.keyboard.press("l")
        page.keyboard.press("Escape")
    page.evaluate("document.getElementById('brush-visible').click()")
    assert 0 < found[1] < found[0]


@needs_chromium
def test_the_box_selects_what_is_inside(screen: Screen) -> None:
    page = screen.page
    page.evaluate("document.getElementById('select-box').click()")
    assert "first cut to a box" in page.inner_text("#message") and counts(screen) == (0, 400)
    page.evaluate("crop.checked = true; x0.value = '0.3'; x1.value = '0.5'; crop.onchange()")
    page.evaluate("document.getElementById('select-box').click()")
    low, high = (torch.tensor(corner) for corner in page.evaluate("window.neuralfields.box()"))
    means = scene().means
    inside = int(((means >= low) & (means <= high)).all(1).sum())
    assert 0 < inside < 400 and counts(screen) == (inside, 400)
    page.evaluate("document.getElementById('select-invert').click()")
    assert counts(screen) == (400 - inside, 400)
    page.evaluate("crop.checked = false; crop.onchange(); document.getElementById('select-none').click()")
    assert counts(screen) == (0, 400)


@needs_chromium
def test_the_right_button_turns_under_the_brush(screen: Screen) -> None:
    before, pivot = screen.eye(), screen.page.evaluate("window.neuralfields.state.pivot")
    screen.page.keyboard.press("l")
    screen.drag(60, 5, "right")
    screen.page.keyboard.press("l")
    assert screen.eye() != before and screen.page.evaluate("window.neuralfields.state.pivot") == pivot
    screen.page.keyboard.press("r")
