"""Undistortion: places in the photo against the projection of points, values against a ramp and against by hand."""

from dataclasses import replace

import numpy as np
import pytest

from neuralfields.cameras import Camera, project
from neuralfields.pictures.undistort import lookup, sample

PINHOLE = Camera(np.eye(4), 152, 112, 150.0, 140.0, 76.0, 50.0)
BENT = {
    "perspective": (-0.08, 0.02, 0.001, -0.002, 0.0, 0.0, 0.0, 0.0),
    "fisheye": (0.05, -0.01, 0.003, 0.0, 0.0, 0.0, 0.0, 0.0),
}


@pytest.mark.parametrize("model", BENT)
def test_a_place_is_where_the_photo_shows_what_the_pixel_sees(model: str) -> None:
    before = replace(PINHOLE, width=160, height=120, cx=80.0, cy=60.0, model=model, distortion=BENT[model])
    places = lookup(before, PINHOLE)
    assert places.shape == (112, 152, 2)
    for column, row in ((0, 0), (151, 111), (76, 3), (20, 90)):
        point = np.array([(column + 0.5 - 76) / 150, (row + 0.5 - 50) / 140, 1.0])
        pixel, _ = project(before, 3 * point)
        np.testing.assert_allclose(places[row, column], pixel, atol=1e-6)


def test_the_same_lens_changes_nothing() -> None:
    u, v = np.meshgrid(np.arange(152) + 0.5, np.arange(112) + 0.5)
    np.testing.assert_allclose(lookup(PINHOLE, PINHOLE), np.stack([u, v], -1), atol=1e-9)
    image = np.random.default_rng(0).integers(0, 256, (112, 152, 3), dtype=np.uint8)
    for how in ("bilinear", "bicubic"):
        assert np.abs(sample(image, lookup(PINHOLE, PINHOLE), how) - image).max() < 0.02


def test_bilinear_values_by_hand() -> None:
    image = np.arange(12, dtype=np.float32).reshape(3, 4, 1)
    uv = np.array([[0.5, 0.5], [1.0, 0.5], [0.5, 1.0], [3.5, 2.5], [-9, -9], [99, 99], [np.nan, 1.5]])
    assert sample(image, uv)[:, 0].tolist() == pytest.approx([0, 0.5, 2, 11, 0, 11, 4], abs=1e-5)


@pytest.mark.parametrize(("how", "off"), [("bilinear", 1e-3), ("bicubic", 0.1)])
def test_a_ramp_is_sampled(how: str, off: float) -> None:
    """torch's bicubic kernel (a = -0.75) sharpens, and misses a ramp by up to a twentieth of its step."""
    v, u = np.mgrid[:40, :50] + 0.5
    ramp = np.stack([u, 2 * v], -1).astype(np.float32)
    places = np.random.default_rng(1).uniform([3, 3], [47, 37], (6, 7, 2))
    np.testing.assert_allclose(sample(ramp, places, how), places * [1, 2], atol=off)
