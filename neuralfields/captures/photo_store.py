"""One store for the decoded photos of a fit: uint8, one after the other, in memory once.

Every photo is a view of the store. What draws pixels from all photos (supervision/pixels.py) takes the store itself,
`joined`, and makes no copy. The size is known from the cameras before anything is decoded.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from neuralfields import memory
from neuralfields.cameras import Camera

S, T = TypeVar("S"), TypeVar("T")

DECODING = 12  # bytes of a pixel at full size while a photo is decoded and made smaller


@dataclass(frozen=True)
class LoadedFrames:
    """Photos in memory, entry by entry: `images` uint8 [H, W, 3 or 4] (straight alpha), `cameras` at the images'
    size, `masks` bool [H, W] (True: keep) or None, `indices` into `scene.frames`; `warnings` names what was skipped.
    """

    images: list[np.ndarray]
    cameras: list[Camera]
    masks: list[np.ndarray | None]
    indices: list[int]
    warnings: list[str]

    def some(self, places: Sequence[int]) -> "LoadedFrames":
        """The entries at some places, in their order; no image is copied, no warning repeated."""
        parts = (self.images, self.cameras, self.masks, self.indices)
        return LoadedFrames(*([part[place] for place in places] for part in parts), [])


def smaller(camera: Camera, factor: int) -> tuple[int, int]:
    """Width and height of a camera's photo at an integer downscale factor."""
    return max(1, camera.width // factor), max(1, camera.height // factor)


def bytes_needed(cameras: Sequence[Camera], factor: int, channels: float, masks: int, workers: int) -> int:
    """Bytes that photos need at their most: the store, a byte a pixel of masks, and what is being decoded.

    `channels`: bytes a pixel, copies that a fit keeps included.
    """
    sizes = [width * height for width, height in (smaller(camera, factor) for camera in cameras)]
    largest = max((camera.width * camera.height for camera in cameras), default=0)
    masked = round(sum(sizes) * masks / max(len(sizes), 1))
    return round(sum(sizes) * channels) + masked + (workers + 1) * DECODING * largest


def require_memory(
    cameras: Sequence[Camera], factor: int, channels: float, masks: int, workers: int, source: str
) -> None:
    """Raises ResourceError before anything is decoded where the photos do not fit, naming a factor that does."""
    free = memory.available()
    if free is None or not cameras:
        return
    fits = factor
    while bytes_needed(cameras, fits, channels, masks, workers) + memory.KEPT_FREE > free and fits < 64:
        fits += 1
    needed = bytes_needed(cameras, factor, channels, masks, workers)
    largest = max(cameras, key=lambda camera: camera.width * camera.height)
    what = f"{source}: {len(cameras)} photos of up to {largest.width}x{largest.height}, {factor} times smaller"
    memory.require(needed, what, f"give --downscale {fits}, or fewer photos")


def in_order(work: Callable[[S], T], frames: Sequence[S], workers: int) -> Iterator[T]:
    """Results of `work` in order, made by some threads that run no further ahead than one frame each."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[T]] = deque()
        for frame in frames:
            waiting.append(pool.submit(work, frame))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class PhotoStore:
    """Memory for photos of known cameras, filled in order."""

    def __init__(self, cameras: Sequence[Camera], factor: int, channels: int) -> None:
        pixels = sum(width * height for width, height in (smaller(camera, factor) for camera in cameras))
        self.values = np.empty((pixels, channels), dtype=np.uint8)
        self.used = 0

    def keep(self, image: np.ndarray) -> np.ndarray:
        """Copies a photo [H, W, C] behind the last one and returns it as a view; opaque where it has no alpha.

        A photo that does not fit, since its file is not what its header said, comes back as it is.
        """
        height, width, channels = image.shape
        end = self.used + height * width
        if channels > self.values.shape[1] or end > len(self.values):
            return image
        view = self.values[self.used : end].reshape(height, width, -1)
        view[..., :channels] = image
        view[..., channels:] = 255
        self.used = end
        return view


def joined(images: Sequence[np.ndarray]) -> np.ndarray:
    """All pixels [P, C] of photos [H, W, C], one after the other; without a copy where they lie so in one store."""
    channels = max(image.shape[2] for image in images)
    store = images[0].base
    if isinstance(store, np.ndarray) and store.ndim == 2 and store.flags.c_contiguous and store.shape[1] == channels:
        begin = images[0].ctypes.data - store.ctypes.data
        at = images[0].ctypes.data
        for image in images:
            if image.base is not store or image.ctypes.data != at or not image.flags.c_contiguous:
                break
            at += image.nbytes
        else:
            return store[begin // channels : begin // channels + sum(i.shape[0] * i.shape[1] for i in images)]
    return np.concatenate([_with_channels(image, channels).reshape(-1, channels) for image in images])


def _with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    if image.shape[2] == channels:
        return image
    return np.concatenate([image, np.full_like(image[..., :1], 255)], axis=2)
