"""Previews of a capture's photos, and measures of them: sharpness, contrast, alpha, masks."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from neuralfields.captures.images import WORKERS, downscale, read_image, read_mask
from neuralfields.errors import InputError
from neuralfields.scene import Frame, Scene

SHORT_SIDE = 400
MOST_PHOTOS = 200
OBJECT_ONLY = 0.6
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
    seen = preview_of(frame.name, downscale(pixels, max(1, min(pixels.shape[:2]) // SHORT_SIDE)))
    kept = None if frame.mask_path is None else float(read_mask(frame.mask_path, size, frame.mask_ignores).mean())
    return replace(seen, kept=kept)


def preview_of(name: str, pixels: np.ndarray, mask: np.ndarray | None = None) -> Preview:
    """Measures a decoded photo [H, W, 3 or 4] and its mask [H, W], True where a pixel is kept."""
    colour = pixels[..., :3].astype(np.float32)
    transparent = None
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:].astype(np.float32) / 255
        colour = colour * alpha + 255 * (1 - alpha)
        transparent = float(np.mean(pixels[..., 3] < 128))
    kept = None if mask is None else float(mask.mean())
    return Preview(name, *sharpness_and_contrast(colour), transparent, kept)


def before_plain_backdrop(frames: Sequence[Frame]) -> bool:
    """Whether photos show an object that is cut out, or one before a single colour; three are decoded.

    Opaque photos whose borders show many colours are of a room, or of an object before a far background. Photos that
    cannot be read say nothing.
    """
    cut, seen = 0, 0
    for pixels in _some_photos(frames):
        seen += 1
        cut += (pixels.shape[2] == 4 and np.mean(pixels[..., 3] < 128) > 0.01) or border_colour(pixels) is not None
    return 2 * cut >= seen


def backdrop(frames: Sequence[Frame]) -> tuple[float, float, float] | None:
    """The one colour of all borders of opaque photos, in [0, 1]; three are decoded. None if there is none.

    Black and white are taken as such where a photo's are not quite.
    """
    found = []
    for pixels in _some_photos(frames):
        found.append(None if pixels.shape[2] == 4 and pixels[..., 3].min() < 255 else border_colour(pixels))
    if len(found) < BACKDROPS or any(colour is None for colour in found):
        return None
    colours = np.array(found)
    middle = np.median(colours, axis=0)
    if np.abs(colours - middle).max() > PLAIN_SPAN:
        return None
    for plain in (0, 255):
        if np.abs(middle - plain).max() <= PLAIN_SPAN:
            middle = np.full(3, plain)
    return tuple(float(v) for v in middle / 255)


def border_colour(pixels: np.ndarray) -> np.ndarray | None:
    """The colour [3] of nearly all border pixels of a photo [H, W, C], None where they have several."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])[:, :3].astype(np.int16)
    colour = np.median(border, axis=0)
    return colour if np.mean(np.abs(border - colour).max(axis=1) <= PLAIN_SPAN) >= PLAIN_SHARE else None


def _some_photos(frames: Sequence[Frame]) -> Iterator[np.ndarray]:
    for index in np.linspace(0, len(frames) - 1, min(BACKDROPS, len(frames))).astype(int):
        try:
            yield read_image(frames[index].path, at_least=SHORT_SIDE)
        except InputError:
            continue


def leaves_object(mask: np.ndarray) -> bool:
    """Whether a mask [H, W], True where a pixel is kept, leaves an object alone: little of the photo and its border."""
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    kept = float(mask.mean())
    return 0 < kept < OBJECT_ONLY and float(border.mean()) < kept / 2


def silhouette(image: np.ndarray, colour: tuple[float, float, float] | None) -> np.ndarray | None:
    """Where a photo [H, W, C] may show an object, bool [H, W]: where it is not transparent, or, of an opaque one before
    a single colour, not of this colour in one piece with the border. None if all of it may.
    """
    if image.shape[2] == 4:
        return image[..., 3] > 0 if image[..., 3].min() < 255 else None
    if colour is None:
        return None
    plain = np.abs(image.astype(np.int16) - np.round(255 * np.array(colour))).max(axis=2) <= PLAIN_SPAN
    return ~_from_border(plain)


def _from_border(plain: np.ndarray) -> np.ndarray:
    """Those True pixels of [H, W] that are connected with the border through others (flood fill)."""
    reached = np.zeros_like(plain)
    reached[[0, -1]], reached[:, [0, -1]] = plain[[0, -1]], plain[:, [0, -1]]
    while True:
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown &= plain
        if (grown == reached).all():
            return reached
        reached = grown


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
