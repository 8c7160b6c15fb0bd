"""The training photos of Gaussians: what of them lies in memory, and that the estimate of a fit knows of it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields import memory
from neuralfields.cameras import Camera
from neuralfields.captures import images
from neuralfields.captures.images import LoadedFrames
from neuralfields.captures.photo_store import PhotoStore, bytes_needed
from neuralfields.captures.readers import read_scene
from neuralfields.errors import ResourceError
from neuralfields.options.fit import FitOptions
from neuralfields.scene import Bounds
from neuralfields.splatting.photos import copied_bytes, training_photos
from neuralfields.training.fit import fit_scene

SIZE = (120, 100)  # width, height
COUNT = 5


def loaded(channels: int, bent: bool) -> LoadedFrames:
    """Photos in a store, as `load_frames` leaves them."""
    distortion = (0.05, *[0.0] * 7) if bent else (0.0,) * 8
    camera = Camera(np.eye(4), *SIZE, 90.0, 90.0, 60.0, 50.0, distortion=distortion)
    store, rng = PhotoStore([camera] * COUNT, 1, channels), np.random.default_rng(0)
    kept = [store.keep(rng.integers(0, 255, (SIZE[1], SIZE[0], channels), dtype=np.uint8)) for _ in range(COUNT)]
    return LoadedFrames(kept, [camera] * COUNT, [None] * COUNT, list(range(COUNT)), [])


@pytest.mark.parametrize("bent", [False, True])
@pytest.mark.parametrize("channels", [3, 4])
def test_the_bytes_of_all_copies_are_known(channels: int, bent: bool) -> None:
    frames = loaded(channels, bent)
    photos, given = training_photos(frames, Bounds((0.0, 0.0, 0.0), 1.0), False)
    tensors = [tensor for photo in photos for tensor in photo.images.values()] + list(given.images)
    kept = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    store = frames.images[0].base
    copies = sum(size for place, size in kept.items() if not 0 <= place - store.ctypes.data < store.nbytes)
    assert copies == pytest.approx(COUNT * SIZE[0] * SIZE[1] * copied_bytes(channels == 4, bent), rel=0.01)


def test_what_does_not_fit_with_its_copies_is_refused_before_it_is_decoded(
    tiny_capture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = read_scene(tiny_capture)
    cameras = [scene.frames[index].camera for index in scene.train]
    monkeypatch.setattr(memory, "KEPT_FREE", 0)
    monkeypatch.setattr(images, "read_image", lambda *_: pytest.fail("it was decoded"))
    needed = bytes_needed(cameras, 1, 4 + copied_bytes(True, False), 0, images.WORKERS)
    monkeypatch.setattr(memory, "available", lambda: needed - 1)
    assert needed - 1 > bytes_needed(cameras, 1, 4, 0, images.WORKERS)
    with pytest.raises(ResourceError, match="12 photos of up to 32x32, 1 times smaller: needs about"):
        fit_scene(scene, FitOptions(scene=tiny_capture, field="gaussians", steps=2, threads=1, quiet=True))


def test_one_bent_lens_among_straight_ones_leaves_the_others_as_they_are() -> None:
    """All in one place in memory, in their order, with the pixels that the bent one does not see masked."""
    straight, bent = loaded(3, False), loaded(3, True)
    mixed = LoadedFrames(straight.images, [*straight.cameras[:2], *bent.cameras[2:]], straight.masks, [0] * COUNT, [])
    photos, given = training_photos(mixed, Bounds((0.0, 0.0, 0.0), 1.0), False)
    alone, _ = training_photos(straight, Bounds((0.0, 0.0, 0.0), 1.0), False)
    assert all(torch.equal(photos[i].images[1], alone[i].images[1]) for i in (0, 1))
    assert not any(torch.equal(photos[i].images[1], alone[i].images[1]) for i in (2, 3, 4))
    seen = [photo.masks[1] for photo in photos]
    assert seen[0] is None and seen[2] is not None and torch.equal(seen[2], seen[4])
    assert [camera.distortion for camera in given.cameras] == [straight.cameras[0].distortion] * COUNT
