"""Images of more than 8 bits a channel as signals: 16-bit integers and floating-point light, kept as deep as they are.

Vocabulary
  coded  sRGB values in [0, 1], as a field learns them: of integers as stored, of light  srgb(light / peak)
  peak   the largest light of the image, at least 1, so that nothing is clipped; 1 for integers
  bits   16 for integers, 32 for light
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuralfields.captures import images
from neuralfields.captures.deep_images import (
    deep_header,
    linear_from_srgb,
    read_samples,
    require_plausible_png,
    srgb_from_linear,
    straight,
)
from neuralfields.errors import InputError

LARGEST_LIGHT = 65504.0  # of a 16-bit float; what is beyond is taken for it


@dataclass(frozen=True)
class DeepPixels:
    """`values` [H, W, C] float32, coded; C is 1 or 3, or 2 or 4 with straight alpha; `warnings`: what was changed."""

    values: np.ndarray
    bits: int
    peak: float = 1.0
    warnings: tuple[str, ...] = ()


def read_deep_pixels(path: Path) -> DeepPixels | None:
    """Decodes an image upright; None for one of 8 bits a channel. Raises as `images.read_image` does."""
    format = images.format_of(path)
    if format == "PNG":
        require_plausible_png(path)
    image = images.open_image(path, format)
    try:
        if image is None:
            turn = deep_header(path, format).orientation
            samples, premultiplied = read_samples(path, format)
        else:
            with image:
                if not image.mode.startswith("I"):
                    return None
                turn = images.orientation_of(image)
                samples, premultiplied = np.asarray(image).astype(np.int64)[..., None], False
            if samples.min(initial=0) < 0 or samples.max(initial=0) > 65535:
                raise InputError(f"{path}: 32-bit integer pixels are not read; convert it to 8 or 16 bits")
            samples = samples.astype(np.uint16)
        if samples.dtype == np.uint8:
            return None
        return _coded(path, images.turned(samples, turn), premultiplied)
    except (InputError, MemoryError):
        raise
    except Exception:  # a decoder may raise anything on bad bytes
        raise InputError(f"{path}: the image data is damaged or cut short; copy it again or remove it") from None


def _coded(path: Path, samples: np.ndarray, premultiplied: bool) -> DeepPixels:
    colour, alpha = straight(samples, premultiplied)
    rest = [] if alpha is None else [alpha]
    if samples.dtype.kind != "f":
        return DeepPixels(np.concatenate([np.clip(colour, 0, 1), *rest], 2).astype(np.float32), 16)
    known = np.where(np.isfinite(colour), np.minimum(colour, LARGEST_LIGHT), 0)
    peak = max(1.0, float(known.max(initial=0)))
    light = np.minimum(colour, peak)  # what is infinite is as light as the lightest that is not
    warnings = [f"{path.name}: light up to {peak:.4g}, kept; a .png or .jpg of it ends at 1"] if peak > 1 else []
    lost = int(np.count_nonzero(~((samples >= 0) & (samples <= LARGEST_LIGHT))))
    if lost:
        warnings.append(f"{path.name}: {lost} values are negative, not numbers or above {LARGEST_LIGHT:.0f}; changed")
    values = np.concatenate([srgb_from_linear(light / peak), *rest], 2).astype(np.float32)
    return DeepPixels(values, 32, peak, tuple(warnings))


def smaller(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Area averages of coded pixels [H, W, C] at (width, height), colour weighted by alpha, as images.downscale."""
    if (values.shape[1], values.shape[0]) == size:
        return values
    if values.shape[2] % 2:
        return images.area_average(values, *size)
    colour, alpha = values[..., :-1], values[..., -1:]
    mean = images.area_average(np.concatenate([colour * alpha, alpha], 2), *size)
    return np.concatenate([mean[..., :-1] / np.maximum(mean[..., -1:], 1e-6), mean[..., -1:]], 2)


def light_of(values: np.ndarray, peak: float) -> np.ndarray:
    """Light [H, W, C] float32 of coded pixels, alpha straight beside it."""
    if values.shape[2] % 2:
        return (peak * linear_from_srgb(values)).astype(np.float32)
    return np.concatenate([light_of(values[..., :-1], peak), values[..., -1:]], 2).astype(np.float32)


def display(values: np.ndarray, peak: float) -> np.ndarray:
    """Coded pixels of light up to `peak` as sRGB of light up to 1: what a .png holds."""
    if peak == 1:
        return values
    if values.shape[2] % 2:
        return srgb_from_linear(np.minimum(light_of(values, peak), 1)).astype(np.float32)
    return np.concatenate([display(values[..., :-1], peak), values[..., -1:]], 2)
