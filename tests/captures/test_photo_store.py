"""Photos of a fit lie in memory once, and what does not fit is refused before a pixel is decoded."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuralfields import cli, memory
from neuralfields.cameras import Camera
from neuralfields.captures import images
from neuralfields.captures.capture import Capture, split
from neuralfields.captures.images import load_frames
from neuralfields.captures.photo_store import PhotoStore, bytes_needed, joined
from neuralfields.captures.readers import read_scene
from neuralfields.errors import ResourceError
from neuralfields.scene import Frame, Scene
from neuralfields.supervision.pixels import Pixels
from tests.support import make_captures
from tests.support.peak import at_most

CAMERA = Camera(np.eye(4), 8, 6, 9.0, 9.0, 4.0, 3.0)


def scene_of(folder: Path, side: int, count: int = 8) -> Scene:
    """A ring of photos of noise, side x side."""
    make_captures.transforms(folder, make_captures.ring(count))
    scene = read_scene(folder)
    chance = np.random.default_rng(0)
    for frame in scene.frames:
        noise = chance.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(noise).save(frame.path, compress_level=0)
    cameras = [replace(f.camera, width=side, height=side, cx=side / 2, cy=side / 2) for f in scene.frames]
    return replace(scene, frames=tuple(replace(f, camera=c) for f, c in zip(scene.frames, cameras, strict=True)))


def test_what_trains_shares_the_decoded_bytes(tmp_path: Path) -> None:
    loaded = load_frames(scene_of(tmp_path, 40), range(8))
    pixels = Pixels(loaded.images, loaded.cameras, loaded.masks)
    assert np.shares_memory(pixels.values.numpy(), loaded.images[0])
    for index, image in enumerate(loaded.images):
        assert (pixels.photo(index).numpy() == image).all()
    part = Pixels(loaded.images[2:4], loaded.cameras[2:4])
    assert (part.photo(1).numpy() == loaded.images[3]).all()


def test_photos_that_lie_elsewhere_are_joined_by_a_copy() -> None:
    chance = np.random.default_rng(0)
    one, two = (chance.integers(0, 256, (3, 4, c), dtype=np.uint8) for c in (3, 4))
    assert (joined([one, two])[:12] == np.dstack([one, np.full((3, 4), 255)]).reshape(-1, 4)).all()
    assert (joined([two, one])[:12] == two.reshape(-1, 4)).all()
    store = np.arange(72, dtype=np.uint8).reshape(24, 3)
    swapped = [store[12:].reshape(3, 4, 3), store[:12].reshape(3, 4, 3)]
    assert (joined(swapped) == np.concatenate([store[12:], store[:12]])).all()


def test_a_store_takes_what_is_not_as_announced() -> None:
    camera = replace(CAMERA, width=4, height=3)
    store = PhotoStore([camera, camera], 1, 4)
    opaque = store.keep(np.full((3, 4, 3), 7, np.uint8))
    assert opaque.shape == (3, 4, 4) and (opaque[..., 3] == 255).all() and (opaque[..., :3] == 7).all()
    large = np.zeros((30, 40, 3), np.uint8)
    assert store.keep(large) is large
    deep = np.zeros((3, 4, 4), np.uint8)
    assert PhotoStore([camera], 1, 3).keep(deep) is deep


@pytest.mark.serial
def test_the_estimate_bounds_what_loading_takes(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, 1500)
    cameras = [frame.camera for frame in scene.frames]
    needed = bytes_needed(cameras, 1, 3, 0, images.WORKERS)
    assert 8 * 1500 * 1500 * 3 < needed
    with at_most(needed + 30e6):  # decoders are loaded with the first photo
        loaded = load_frames(scene, range(8), 1)
        Pixels(loaded.images, loaded.cameras, loaded.masks)


def test_a_common_capture_fits_into_three_gibibytes() -> None:
    """300 photos of 4000 x 3000, at the factor that is chosen for them (4), with masks."""
    cameras = [replace(CAMERA, width=4000, height=3000)] * 300
    factor = images.automatic_downscale(4000, 3000)
    assert factor == 4 and bytes_needed(cameras, factor, 4, 300, images.WORKERS) < 1.5 * 2**30
    assert bytes_needed(cameras, 1, 3, 0, images.WORKERS) > 10 * 2**30


def test_too_many_photos_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_captures.transforms(tmp_path / "c", make_captures.ring(8))
    scene = read_scene(tmp_path / "c")
    monkeypatch.setattr(memory, "KEPT_FREE", 0)
    needed = bytes_needed([f.camera for f in scene.frames], 2, 3, 0, images.WORKERS)
    monkeypatch.setattr(memory, "available", lambda: needed + 10)
    monkeypatch.setattr(images, "read_image", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ResourceError, match=r"8 photos of up to \d+x\d+, 1 times smaller: needs about .* of memory"):
        load_frames(scene, range(8), 1)
    code = cli.main(
        ["fit", str(tmp_path / "c"), "--out", str(tmp_path / "a.nf"), "--downscale", "1", "--quiet", "--field", "hash"]
    )
    assert code == 6 and "give --downscale 2, or fewer photos" in capsys.readouterr().err


def test_the_split_of_many_photos_takes_no_time() -> None:
    frames = tuple(Frame(f"{i:06d}", Path("a"), CAMERA) for i in range(20_000))
    begun = time.process_time()
    train, test, _ = split(Capture("transforms/blender", frames, len(frames)))
    assert len(train) + len(test) == 20_000 and test[:2] == (0, 8)
    assert time.process_time() - begun < 3


def test_what_is_free_is_the_least_of_all_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_machine", lambda: [100])
    monkeypatch.setattr(memory, "_control_group", lambda: [30])
    monkeypatch.setattr(memory, "_own_limit", list)
    assert memory.available() == 30
    monkeypatch.setattr(memory, "KEPT_FREE", 5)
    memory.require(25, "it", "do less")
    with pytest.raises(ResourceError, match="it: needs about 26 B of memory and 30 B are free; do less"):
        memory.require(26, "it", "do less")
    for name in ("_machine", "_control_group", "_own_limit"):
        monkeypatch.setattr(memory, name, list)
    assert memory.available() is None
    memory.require(10**15, "it", "do less")  # where nothing is known, nothing is refused
    monkeypatch.undo()
    assert memory.available() is None or memory.available() > 0
