"""Photos on the cameras of a capture, points in their colours, cameras to click."""

from pathlib import Path
from typing import Any

import numpy as np

import neuralfields
from neuralfields.captures.readers import read_scene
from neuralfields.serving.stage import stage_of
from neuralfields.serving.thumbs import SIDE, UNSEEN, point_colours, thumbs
from tests.support.browser import Screen, needs_chromium


def test_points_have_the_colours_of_the_photos(small_capture: Path) -> None:
    """A point on the ray through a pixel, close before its camera, has that pixel's colour; one behind all has none."""
    stage = stage_of([small_capture])
    index, photo = next(thumbs(stage))
    assert index == 0 and max(photo.image.shape[:2]) <= SIDE
    camera, (row, column) = photo.camera, (photo.image.shape[0] // 2, photo.image.shape[1] // 3)
    ray = np.array([(column + 0.5 - camera.cx) / camera.fx, (row + 0.5 - camera.cy) / camera.fy, 1.0])
    pose = camera.world_from_camera
    near, behind = (pose[:3, :3] @ (ray * z) + pose[:3, 3] for z in (0.01, -0.01))
    found = point_colours(np.stack([near, behind]), [photo])
    assert found[0].tolist() == photo.image[row, column, :3].tolist() and found[1].tolist() == list(UNSEEN)
    assert point_colours(np.zeros((2, 3)), []).tolist() == [list(UNSEEN)] * 2


@needs_chromium
def test_a_capture_opens_with_its_photos_and_a_click_stands_in_a_camera(browser: Any, small_capture: Path) -> None:
    count = len(read_scene(small_capture).frames)
    with neuralfields.view(small_capture, port=0, threads=1) as viewer:
        screen = Screen(browser, viewer.url, (740, 300))
        screen.until(f"Boolean(window.neuralfields && window.neuralfields.thumbs.have.length === {count})")
        screen.page.wait_for_timeout(100)
        shown = screen.picture()
        there = (np.abs(shown - shown[0, 0]).max(2) > 20).nonzero()
        assert len(there[0]) > 400  # photos, not lines alone
        margins = [there[0].min(), shown.shape[0] - there[0].max(), there[1].min(), shown.shape[1] - there[1].max()]
        assert min(margins) > 3  # all cameras are within the window
        x, y = screen.page.evaluate("""(() => {
            const app = window.neuralfields;
            for (let y = 0.05; y < 1; y += 0.02)
                for (let x = 0.05; x < 1; x += 0.02) if (app.cameraAt(x, y) !== null) { window.found = app.cameraAt(x, y); return [x, y]; }
        })()""")  # fmt: skip # noqa: E501
        box = screen.page.locator("#canvas").bounding_box()
        screen.page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        state = screen.page.evaluate("[window.neuralfields.state.camera, window.found, cameras.value]")
        assert state[0] == state[1] and state[2] == str(state[0])
        assert screen.page.is_hidden("#modes-part") and screen.errors == []
        screen.context.close()
