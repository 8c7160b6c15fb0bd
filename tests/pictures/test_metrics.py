"""Metrics: numbers of scikit-image 0.26, hand-computed values, and refusals."""

import math

import numpy as np
import pytest
import torch

from neuralfields.errors import InputError
from neuralfields.pictures.metrics import eight_bit, psnr, psnr_from_mse, ssim

# Made once with skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5,
# use_sample_covariance=False, data_range=1) and peak_signal_noise_ratio on the 8-bit values of `pattern()`.
SKIMAGE_SSIM, SKIMAGE_PSNR, SKIMAGE_MASKED_SSIM = 0.7879816772619673, 25.461385563876263, 0.7565918178803922


def pattern() -> tuple[np.ndarray, np.ndarray]:
    v, u = np.mgrid[0:40, 0:52] / 40.0
    red, green = 0.5 + 0.5 * np.sin(9 * u + 4 * v), 0.5 + 0.5 * np.cos(7 * v * v - 3 * u)
    a = np.stack([red, green, np.clip(u * v * 1.3, 0, 1)], axis=-1)
    noise = 0.08 * np.sin(40 * u[..., None] + np.array([0, 1, 2.0])) * np.cos(31 * v[..., None])
    return a, np.clip(a * 0.9 + 0.05 + noise, 0, 1)


def block() -> np.ndarray:
    mask = np.zeros((40, 52), dtype=bool)
    mask[8:30, 3:25] = True
    return mask


def test_agrees_with_scikit_image() -> None:
    a, b = pattern()
    assert ssim(a, b) == pytest.approx(SKIMAGE_SSIM, abs=1e-9)
    assert psnr(a, b) == pytest.approx(SKIMAGE_PSNR, abs=1e-9)
    assert ssim(a, b, block()) == pytest.approx(SKIMAGE_MASKED_SSIM, abs=1e-9)


def test_torch_and_numpy_give_the_same() -> None:
    a, b = pattern()
    ta, tb = torch.from_numpy(a).requires_grad_(), torch.from_numpy(b)
    assert psnr(ta, tb) == psnr(a, b)
    assert ssim(ta, tb, torch.from_numpy(block())) == ssim(a, b, block())


def test_pools_the_error_before_the_logarithm() -> None:
    a = np.zeros((4, 4, 3))
    b = a.copy()
    b[..., 0] = 1.0  # per-channel PSNRs would be 0 and twice infinity
    assert psnr(a, b) == pytest.approx(10 * math.log10(3))


def test_eight_bit_round_trip_and_clamp() -> None:
    a = np.full((4, 4, 3), 100 / 255)
    assert psnr(a, a + 0.3 / 255) == math.inf
    assert psnr(a, a + 0.7 / 255) == pytest.approx(20 * math.log10(255))
    assert psnr(np.full((4, 4, 3), 1.7), np.ones((4, 4, 3))) == math.inf
    assert eight_bit(np.array([0.5, -1, 2])).tolist() == [128 / 255, 0.0, 1.0]
    assert psnr(np.full((2, 2, 3), 51, np.uint8), np.full((2, 2, 3), 0.2)) == math.inf


def test_identical_pictures() -> None:
    a, _ = pattern()
    assert psnr(a, a) == math.inf
    assert ssim(a, a) == pytest.approx(1.0)
    assert psnr_from_mse(0.01) == pytest.approx(20.0)


def test_mask_counts_only_its_pixels() -> None:
    a, b = pattern()
    c = b.copy()
    c[~block()] = 0.0
    assert psnr(a, b, block()) == psnr(a, c, block()) != psnr(a, b)


@pytest.mark.parametrize(
    ("image", "reference", "mask", "says"),
    [
        (np.zeros((4, 4, 3)), np.zeros((4, 5, 3)), None, "one size"),
        (np.zeros((4, 4)), np.zeros((4, 4)), None, r"\[H, W, 3\]"),
        (np.full((4, 4, 3), np.nan), np.zeros((4, 4, 3)), None, "48 of 48 values are not finite"),
        (np.zeros((4, 4, 3)), np.zeros((4, 4, 3)), np.zeros((4, 4)), "no pixel counts"),
        (np.zeros((4, 4, 3)), np.zeros((4, 4, 3)), np.zeros((2, 4)), r"must be \[H, W\]"),
    ],
)
def test_refusals(image: np.ndarray, reference: np.ndarray, mask: np.ndarray | None, says: str) -> None:
    with pytest.raises(InputError, match=says):
        psnr(image, reference, mask)


def test_ssim_refuses_small_pictures() -> None:
    with pytest.raises(InputError, match="at least 11x11"):
        ssim(np.zeros((10, 40, 3)), np.zeros((10, 40, 3)))
