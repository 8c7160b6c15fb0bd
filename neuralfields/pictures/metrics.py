"""Image metrics: PSNR and SSIM of a render against its reference photo.

Vocabulary
  image, reference  [H, W, 3] in [0, 1], sRGB, numpy or torch; clamped and rounded to 8 bits before they are compared,
                    because that is what a saved picture holds
  mask              [H, W], True where pixels count; None counts all
  mse               mean squared error, pooled over pixels and channels
  dB                10 log10(1 / mse): the peak of an image is 1

The value of a scene is the mean of the values of its images. The mean of per-channel PSNRs is another (larger) number.
"""

import math
from typing import Any

import numpy as np

from neuralfields.errors import InputError

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def eight_bit(image: Any) -> np.ndarray:
    """Clamps to [0, 1] and rounds to steps of 1 / 255; float64 of the same shape. Raises InputError for NaN."""
    values = image.detach().cpu().numpy() if hasattr(image, "detach") else np.asarray(image)
    if values.dtype == np.uint8:
        return values / 255.0
    bad = values.size - np.count_nonzero(np.isfinite(values))
    if bad:
        raise InputError(f"image: {bad} of {values.size} values are not finite; a metric needs numbers in [0, 1]")
    return np.round(np.clip(values.astype(np.float64), 0.0, 1.0) * 255.0) / 255.0


def _pair(image: Any, reference: Any, mask: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    a, b = eight_bit(image), eight_bit(reference)
    if a.shape != b.shape or a.ndim != 3 or a.shape[2] != 3:
        raise InputError(f"image {list(a.shape)} and reference {list(b.shape)}: both must be [H, W, 3] of one size")
    if mask is None:
        return a, b, None
    chosen = np.asarray(mask.detach().cpu().numpy() if hasattr(mask, "detach") else mask).astype(bool)
    if chosen.shape != a.shape[:2]:
        raise InputError(f"mask {list(chosen.shape)}: must be [H, W] = {list(a.shape[:2])} like the image")
    if not chosen.any():
        raise InputError("mask: no pixel counts; give one that is true somewhere")
    return a, b, chosen


def psnr_from_mse(mse: float) -> float:
    """-10 log10(mse) in dB; infinite for 0."""
    return math.inf if mse <= 0 else -10.0 * math.log10(mse)


def psnr(image: Any, reference: Any, mask: Any = None) -> float:
    """Peak signal-to-noise ratio in dB from the pooled mean squared error; infinite for equal images.

    Raises InputError for shapes that differ, values that are not finite, or an empty mask.
    """
    a, b, chosen = _pair(image, reference, mask)
    error = (a - b) ** 2
    return psnr_from_mse(float(np.mean(error if chosen is None else error[chosen])))


def _blur(image: np.ndarray) -> np.ndarray:
    """Gaussian window over the first two axes where it fits: [H, W, C] to [H - 10, W - 10, C]."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    kernel = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    kernel /= kernel.sum()
    height, width = image.shape[0] - WINDOW + 1, image.shape[1] - WINDOW + 1
    rows = sum(weight * image[i : i + height] for i, weight in enumerate(kernel))
    return sum(weight * rows[:, i : i + width] for i, weight in enumerate(kernel))


def ssim(image: Any, reference: Any, mask: Any = None) -> float:
    """Structural similarity (Wang et al. 2004): Gaussian window of 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03.

    The mean over channels and over pixels whose window lies inside the image (and whose mask is True).
    ssim = (2 ma mb + C1)(2 sab + C2) / ((ma^2 + mb^2 + C1)(sa + sb + C2)) with means m, (co)variances s of a window.
    Raises InputError as `psnr` does, and for images below 11 x 11.
    """
    a, b, chosen = _pair(image, reference, mask)
    if min(a.shape[:2]) < WINDOW:
        raise InputError(f"image {a.shape[1]}x{a.shape[0]}: ssim needs at least {WINDOW}x{WINDOW} pixels")
    mean_a, mean_b = _blur(a), _blur(b)
    both, squares = mean_a * mean_b, mean_a**2 + mean_b**2
    covariance = _blur(a * b) - both
    variances = _blur(a * a) + _blur(b * b) - squares
    values = (2 * both + C1) * (2 * covariance + C2) / ((squares + C1) * (variances + C2))
    if chosen is None:
        return float(values.mean())
    border = WINDOW // 2
    inner = chosen[border:-border, border:-border]
    if not inner.any():
        raise InputError(f"mask: no pixel counts further than {border} pixels from the border; ssim needs one there")
    return float(values[inner].mean())
