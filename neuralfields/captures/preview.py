"""Previews of a capture's photos, and measures of them: sharpness, contrast, alpha, masks."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from neuralfields.captures.images import WORKERS, downscale, read_image, read_mask
from neuralfields.errors import InputError
from neuralfields.scene import Frame, Scene

SHORT_SIDE = 400
MOST_PHOTOS = 200
BACKDROPS, PLAIN_SHARE, PLAIN_SPAN = 3, 0.9, 8


@dataclass(frozen=True)
class Preview:
    """Measures of one photo's preview, about 400 pixels high.

    `sharpness`: variance of the Laplacian over the variance of grey; `contrast`: standard deviation of grey, 0 to 255;
    `transparent`: share of pixels with alpha below half, None without alpha; `kept`: share that the mask keeps, None
    without a mask; `error`: why it cannot be decoded, else None.
    """

    name: str
    sharpness: float = 0.0
    contrast: float = 0.0
    transparent: float | None = None
    kept: float | None = None
    error: str | None = None


def previews(scene: Scene, most: int = MOST_PHOTOS) -> list[Preview]:
    """Measures at most `most` photos, evenly chosen; raises InputError for a mask that does not fit its photo."""
    chosen: Sequence[Frame] = scene.frames[:: max(1, -(-len(scene.frames) // most))]
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(preview, chosen))


def preview(frame: Frame) -> Preview:
    """Measures one photo."""
    size = (frame.camera.width, frame.camera.height)
    try:
        pixels = read_image(frame.path, size, at_least=SHORT_SIDE)
    except InputError as error:
        return Preview(frame.name, error=str(error))
    pixels = downscale(pixels, max(1, min(pixels.shape[:2]) // SHORT_SIDE))
    colour = pixels[..., :3].astype(np.float32)
    transparent = None
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:].astype(np.float32) / 255
        colour = colour * alpha + 255 * (1 - alpha)
        transparent = float(np.mean(pixels[..., 3] < 128))
    kept = None if frame.mask_path is None else float(read_mask(frame.mask_path, size, frame.mask_ignores).mean())
    return Preview(frame.name, *sharpness_and_contrast(colour), transparent, kept)


def before_plain_backdrop(frames: Sequence[Frame]) -> bool:
    """Whether photos show an object that is cut out, or one before a single colour; three are decoded.

    Opaque photos whose borders show many colours are of a room, or of an object before a far background. Photos that
    cannot be read say nothing.
    """
    cut, seen = 0, 0
    for index in np.linspace(0, len(frames) - 1, min(BACKDROPS, len(frames))).astype(int):
        try:
            pixels = read_image(frames[index].path, at_least=SHORT_SIDE)
        except InputError:
            continue
        seen += 1
        if pixels.shape[2] == 4 and np.mean(pixels[..., 3] < 128) > 0.01:
            cut += 1
            continue
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])[:, :3].astype(np.int16)
        cut += float(np.mean(np.abs(border - np.median(border, axis=0)).max(axis=1) <= PLAIN_SPAN)) >= PLAIN_SHARE
    return 2 * cut >= seen


def sharpness_and_contrast(colour: np.ndarray) -> tuple[float, float]:
    """Variance of the Laplacian over the variance of grey, and the standard deviation of grey, of [H, W, 3]."""
    grey = colour.astype(np.float32, copy=False).mean(axis=2)
    variance = float(grey.var())
    return laplacian_variance(grey) / max(variance, 1e-6), variance**0.5


def laplacian_variance(grey: np.ndarray) -> float:
    """Variance of the five-point Laplacian of [H, W]; small where nothing is sharp, 0 below 3x3 pixels."""
    if min(grey.shape) < 3:
        return 0.0
    inner = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * inner).var())
