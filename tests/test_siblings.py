"""The captures of scenes/make_siblings.py, in small: read, with their content where their truth says."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuralfields.cameras import project
from neuralfields.captures.mask_folder import cut_by_masks
from neuralfields.captures.readers import boxed, read_scene
from neuralfields.scene import Scene
from tests.test_scenes import SCENES, load


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All captures with photos of 32x24 of a ball in place of the still life, which takes half a minute to prepare."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCENES))
        script = load("make_siblings")
        patch.setattr(script, "WIDTH", 32)
        patch.setattr(script, "HEIGHT", 24)
        patch.setattr(script, "SUPER", 1)
        patch.setattr(script, "VIEWS", 16)
        patch.setattr(script, "trace", ball)
        patch.setattr(script, "shade_hits", lambda origin, d, *_: np.full(d.shape, 0.7))
        folder = tmp_path_factory.mktemp("siblings")
        for name, write in script.CAPTURES.items():
            (folder / name).mkdir()
            write(folder / name, ((), None))
    return folder


def ball(origin: np.ndarray, d: np.ndarray, *_: object) -> tuple[np.ndarray, np.ndarray]:
    """A ball of radius 0.9 about the world's origin, as `make_sample.trace` answers."""
    along = (origin * d).sum(0)
    square = along * along - (origin * origin).sum(0) + 0.81
    hit = (square > 0) & (along < 0)
    return np.where(hit, -along - np.sqrt(np.maximum(square, 0)), np.inf), np.where(hit, 0, -1)


def truth(folder: Path) -> tuple[np.ndarray, float]:
    known = json.loads((folder / "truth.json").read_text())
    return np.array(known["centre"]), known["side"]


def share_inside(scene: Scene, centre: np.ndarray, side: float) -> float:
    """Share of the true cube's middle part that lies in the scene's cube."""
    half = 0.36 * side  # the ball
    low, high = (np.clip(centre + sign * half, *cube(scene)) for sign in (-1, 1))
    return float(np.prod((high - low) / (2 * half)))


def cube(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.array(scene.bounds.centre) + sign * scene.bounds.side / 2 for sign in (-1, 1))


@pytest.mark.parametrize("name, limit", [("ring_on_black", 1.3), ("masked_llff", 1.4), ("far_background", 4.5)])
def test_the_box_of_an_object_holds_it_and_is_near_the_truth(made: Path, name: str, limit: float) -> None:
    scene = read_scene(made / name)
    scene = boxed(cut_by_masks(scene) if name == "masked_llff" else scene, None)
    centre, side = truth(made / name)
    assert share_inside(scene, centre, side) > 0.99
    assert scene.bounds.side < limit * side
    assert (scene.bounds.contraction == "cube") == (name == "far_background")
    assert scene.backdrop == ((0.0, 0.0, 0.0) if name == "ring_on_black" else None)
    for frame in scene.frames:  # the poses are those of the pictures
        pixel, depth = project(frame.camera, centre)
        shown = np.asarray(Image.open(frame.path))[int(pixel[1]), int(pixel[0])]
        assert depth > 0 and np.abs(shown - 178.5).max() < 2


def test_a_room_is_unbounded_in_blender_s_dialect(made: Path) -> None:
    scene = boxed(read_scene(made / "room"), None)
    assert (scene.bounds.contraction, scene.backdrop) == ("cube", None)
    assert (len(scene.train), len(scene.test)) == (14, 2)
    centre, side = truth(made / "room")
    assert np.abs(np.array(scene.bounds.centre) - centre).max() < 0.3 * side
    assert 0.4 * side < scene.bounds.side < 2 * side
