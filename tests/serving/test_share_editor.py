"""Gaussians selected, deleted and saved in a shared file: by brush, box, keys and fingers, without a request."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuralfields.codecs.splats import read_gaussians, write_gaussians
from tests.serving.test_share import Shared, shared
from tests.support.browser import needs_chromium
from tests.support.page_files import NODE, VIEWER
from tests.support.splats import lopsided, random_gaussians

SIZE = (800, 500)
PLY = """
import { readFileSync, writeFileSync } from "node:fs";
import { decode } from "./nfz.js";
import { plyOf } from "./ply.js";
for (const [path, indices] of JSON.parse(readFileSync("list.json", "utf8")))
  writeFileSync(path + ".ply", plyOf(decode(new Uint8Array(readFileSync(path))), indices));
"""


@pytest.mark.skipif(NODE is None, reason="no Node on this machine")
def test_the_pages_ply_is_ours(tmp_path: Path) -> None:
    """Byte for byte, of every degree, antialiased and not, of all and of some."""
    listed, some = [], [0, 3, 4, 9]
    for degree in range(4):
        given = replace(random_gaussians(12, degree), antialiased=degree == 2)
        path = tmp_path / f"{degree}.nfz"
        write_gaussians(given, path)
        listed.append([str(path), some if degree else list(range(12))])
    for source in VIEWER.glob("*.js"):
        shutil.copy(source, tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "list.json").write_text(json.dumps(listed))
    (tmp_path / "make.js").write_text(PLY)
    subprocess.run([NODE, "make.js"], cwd=tmp_path, check=True, timeout=60)
    for path, indices in listed:
        write_gaussians(read_gaussians(Path(path)).take(torch.tensor(indices)), tmp_path / "ours.ply")
        assert Path(path + ".ply").read_bytes() == (tmp_path / "ours.ply").read_bytes(), path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("edited") / "a.nfz"
    write_gaussians(lopsided(), path)
    return path


@pytest.fixture(scope="module")
def page(scene: Path) -> Path:
    return shared(scene.parent, scene)


@pytest.fixture(scope="module")
def screen(browser: Any, page: Path) -> Iterator[Shared]:
    made = Shared(browser, page, SIZE)
    made.page.evaluate("neuralfields.state.resolution = 0.25; neuralfields.moved(true)")
    made.rest()
    yield made
    made.close()


def counts(screen: Shared) -> tuple[int, int]:
    """Selected and left."""
    words = screen.page.inner_text("#select-count").replace(",", "").split()
    return int(words[0]), int(words[3])


def projected(screen: Shared, scene: Path) -> np.ndarray:
    """Where the centres stand in the picture, in pixels of the page."""
    means, eye = read_gaussians(scene).means.double().numpy(), screen.eye()
    pose = np.array(eye.pose).reshape(3, 4)
    local = (means - pose[:, 3]) @ pose[:, :3]
    width, height = screen.page.evaluate("[neuralfields.canvas.clientWidth, neuralfields.canvas.clientHeight]")
    focal = 0.5 * height / np.tan(np.radians(eye.fov) / 2)
    return local[:, :2] / local[:, 2:] * focal + [width / 2, height / 2]


def drag(screen: Shared, *path: Sequence[float]) -> None:
    screen.page.mouse.move(*path[0])
    screen.page.mouse.down()
    for place in path[1:]:
        screen.page.mouse.move(*place, steps=3)
    screen.page.mouse.up()


@needs_chromium
def test_box_brush_delete_undo_save(screen: Shared, scene: Path, tmp_path: Path) -> None:
    page, plain, eye = screen.page, screen.picture(), screen.eye()
    assert page.is_hidden("#editing")
    page.click("#edit")
    assert page.is_visible("#editing") and page.get_attribute("#brush-on", "aria-pressed") == "true"
    page.click("#box-on")
    at = projected(screen, scene)
    low, high = (np.percentile(at, share, axis=0).round().tolist() for share in (30, 70))
    drag(screen, low, (low[0] + 9, high[1] + 9), high)
    inside = ((at > low) & (at < high)).all(1)
    assert 20 < inside.sum() < 380 and counts(screen) == (inside.sum(), 400)
    assert screen.eye() == eye and page.is_hidden("#brush")
    page.click("#brush-on")
    spot = at[~inside & (at[:, 1] < 300)][0].round().tolist()
    drag(screen, spot, spot)
    more = inside | (np.linalg.norm(at - spot, axis=1) < 24)
    assert inside.sum() < more.sum() and abs(counts(screen)[0] - more.sum()) <= 1
    page.keyboard.press("Control+z")
    page.click("#select-delete")
    assert counts(screen) == (0, 400 - inside.sum())
    screen.rest()
    assert np.abs(screen.picture() - plain).mean() > 0.5
    name, data = screen.save(lambda: page.click("#select-save"))
    assert name == "a.ply"
    (tmp_path / name).write_bytes(data)
    saved, whole = read_gaussians(tmp_path / name), read_gaussians(scene).take(~torch.from_numpy(inside))
    for field in ("means", "scales", "rotations", "opacities", "harmonics"):
        assert torch.equal(getattr(saved, field), getattr(whole, field)), field
    assert saved.harmonics.shape[1] == 16
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.keyboard.press("l")
    assert counts(screen) == (0, 400)
    page.click("#edit")  # lays the brush aside, which the key has taken up again
    screen.rest()
    assert page.is_hidden("#editing") and np.array_equal(screen.picture(), plain)


@needs_chromium
def test_on_a_wall_of_pixels_the_tools_grow(browser: Any, page: Path) -> None:
    """2400 pixels wide without scaling by the system: larger tools and bar, within the window, beside one another."""
    screen = Shared(browser, page, (2400, 1350), whole=False)
    screen.until("Boolean(neuralfields.state.stage)")
    screen.page.evaluate("neuralfields.state.resolution = 0.02")
    screen.page.click("#edit")
    tools, bar, card = (screen.page.locator(name).bounding_box() for name in ("#tools", "#editing", "#card"))
    assert tools["height"] > 55 and bar["y"] + bar["height"] <= tools["y"]
    for box in (tools, bar, card):
        assert box["x"] >= 0 and box["x"] + box["width"] <= 2400 and box["y"] + box["height"] <= 1350
    screen.close()


@needs_chromium
def test_a_finger_selects_two_turn_back(browser: Any, page: Path) -> None:
    """On a phone: the bar fits, one finger brushes, a second takes the stroke back and moves the camera."""
    screen = Shared(browser, page, (360, 640), whole=False, has_touch=True, is_mobile=True)
    screen.until("Boolean(neuralfields.layers[0].begun)")
    screen.page.evaluate("neuralfields.state.resolution = 0.1")
    screen.page.tap("#edit")
    for part in screen.page.locator("#editing > *").all():
        box = part.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360 and box["y"] > 300
    line, eye = screen.context.new_cdp_session(screen.page), screen.eye()

    def touch(kind: str, *points: tuple[int, int]) -> None:
        spots = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        line.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": spots})

    x, y = projected(screen, page.parent / "a.nfz").mean(0).round().astype(int).tolist()
    touch("touchStart", (x - 20, y))
    touch("touchMove", (x + 20, y))
    touch("touchEnd")
    chosen = counts(screen)[0]
    assert chosen > 5 and screen.eye() == eye and screen.page.is_hidden("#brush")
    touch("touchStart", (x, y - 60))
    touch("touchStart", (x, y - 60), (x + 60, y - 60))
    touch("touchMove", (x, y - 20), (x + 60, y - 20))
    touch("touchEnd")
    assert counts(screen)[0] == chosen and screen.eye() != eye
    screen.close()
