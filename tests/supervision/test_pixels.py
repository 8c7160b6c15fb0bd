"""The store of pixels against the photos it was made of and against cameras.project."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralfields.cameras import Camera, project
from neuralfields.supervision.pixels import Pixels

LENS = (0.05, -0.01, 0.002, -0.001, 0.0, 0.0, 0.0, 0.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def camera(width: int, height: int, turn: float, fisheye: bool = False) -> Camera:
    """A camera of that size, turned about its y axis, with a lens and an off-centre principal point."""
    pose = np.eye(4)
    pose[:3, :3] = [[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]
    pose[:3, 3] = [turn, -1.0, 2.0]
    model = "fisheye" if fisheye else "perspective"
    return Camera(pose, width, height, 0.9 * width, 0.8 * height, 0.45 * width, 0.55 * height, model, LENS)


def photo(width: int, height: int, channels: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


SIZES = ((7, 5, 3), (3, 9, 4), (1, 1, 3), (6, 6, 4))
CAMERAS = [camera(width, height, 0.3 * i, fisheye=i == 1) for i, (width, height, _) in enumerate(SIZES)]
PHOTOS = [photo(*size, seed=i) for i, size in enumerate(SIZES)]


def test_every_pixel_has_its_ray_its_colour_and_its_photo() -> None:
    pixels = Pixels(PHOTOS, CAMERAS)
    assert len(pixels) == sum(width * height for width, height, _ in SIZES)
    batch = pixels.at(torch.arange(len(pixels)))
    torch.testing.assert_close(batch.rays.directions.norm(dim=1), torch.ones(len(pixels)))
    points = (batch.rays.origins + 2 * batch.rays.directions).double().numpy()
    start = 0
    for index, (cam, image) in enumerate(zip(CAMERAS, PHOTOS, strict=True)):
        here = slice(start, start + cam.width * cam.height)
        start = here.stop
        assert batch.camera[here].tolist() == [index] * (cam.width * cam.height)
        v, u = np.mgrid[: cam.height, : cam.width]
        found, depth = project(cam, points[here])
        assert (depth > 0).all()
        np.testing.assert_allclose(found, np.stack([u, v], -1).reshape(-1, 2) + 0.5, atol=1e-4)
        flat = torch.from_numpy(image.reshape(-1, image.shape[2]).astype(np.float32) / 255)
        torch.testing.assert_close(batch.rgb[here], flat[:, :3], rtol=0, atol=0)
        alpha = flat[:, 3] if image.shape[2] == 4 else torch.ones(len(flat))
        torch.testing.assert_close(batch.alpha[here], alpha, rtol=0, atol=0)


def test_photos_without_alpha_have_none() -> None:
    batch = Pixels(PHOTOS[::2], CAMERAS[::2]).batch(10, seeded())
    assert batch.alpha is None
    assert batch.over(torch.rand(3)) is batch.rgb


def test_masked_pixels_are_never_drawn_and_all_others_are() -> None:
    rng = np.random.default_rng(5)
    masks = [rng.random((5, 7)) < 0.5, None, np.zeros((1, 1), bool), rng.random((6, 6)) < 0.2]
    pixels = Pixels(PHOTOS, CAMERAS, masks)
    kept = [np.ones(image.shape[:2], bool) if mask is None else mask for image, mask in zip(PHOTOS, masks, strict=True)]
    assert len(pixels) == sum(int(mask.sum()) for mask in kept)
    for batch in (pixels.batch(4000, seeded()), pixels.every(10_000)):
        points = (batch.rays.origins + 2 * batch.rays.directions).double().numpy()
        drawn = [np.zeros_like(mask) for mask in kept]
        for index in np.unique(batch.camera):
            found, _ = project(CAMERAS[index], points[batch.camera == index])
            u, v = np.floor(found).astype(int).T
            drawn[index][v, u] = True
        for mask, got in zip(kept, drawn, strict=True):
            np.testing.assert_array_equal(got, mask)


def test_masks_of_none_are_no_masks_and_masks_of_nothing_leave_nothing() -> None:
    assert len(Pixels(PHOTOS, CAMERAS, [None] * 4)) == len(Pixels(PHOTOS, CAMERAS))
    assert len(Pixels(PHOTOS, CAMERAS, [np.zeros(image.shape[:2], bool) for image in PHOTOS])) == 0


@pytest.mark.parametrize("background", [(1.0, 0.5, 0.0), None])
def test_over_is_straight_alpha_composition(background: tuple[float, ...] | None) -> None:
    batch = Pixels(PHOTOS, CAMERAS).batch(200, seeded())
    under = torch.rand(200, 3, generator=seeded(1)) if background is None else torch.tensor(background)
    wide = under.expand(200, 3)
    want = [[c * a + b * (1 - a) for c, b in zip(*row, strict=True)] for row, a in _rows(batch.rgb, wide, batch.alpha)]
    torch.testing.assert_close(batch.over(under), torch.tensor(want), rtol=0, atol=1e-6)


def _rows(rgb: torch.Tensor, under: torch.Tensor, alpha: torch.Tensor) -> list[tuple[tuple[list, list], float]]:
    return [((c, b), a) for c, b, a in zip(rgb.tolist(), under.tolist(), alpha.tolist(), strict=True)]


def test_draws_are_a_function_of_the_generator() -> None:
    pixels = Pixels(PHOTOS, CAMERAS)
    one, two, other = (pixels.batch(100, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(one.rgb, two.rgb) and torch.equal(one.rays.directions, two.rays.directions)
    assert not torch.equal(one.rgb, other.rgb)


def test_draws_are_uniform_over_pixels_not_photos() -> None:
    pixels = Pixels(PHOTOS, CAMERAS)
    batch = pixels.batch(40_000, seeded())
    share = torch.bincount(batch.camera, minlength=4) / 40_000
    want = torch.tensor([width * height for width, height, _ in SIZES]) / len(pixels)
    # Five standard deviations of a binomial share.
    assert bool(((share - want).abs() < 5 * (want * (1 - want) / 40_000).sqrt()).all())


def test_every_is_the_same_each_time_and_spread_over_all_photos() -> None:
    pixels = Pixels(PHOTOS, CAMERAS)
    one, two = pixels.every(30), pixels.every(30)
    assert torch.equal(one.rgb, two.rgb) and len(one.rays) == 30
    assert set(pixels.every(60).camera.tolist()) >= {0, 1, 3}  # photo 2 is a single pixel
    whole = pixels.every(10**6)
    assert torch.equal(whole.rays.directions, pixels.at(torch.arange(len(pixels))).rays.directions)


def test_every_stays_inside_a_store_beyond_what_float32_counts() -> None:
    wide = camera(4097, 4096, 0.1)
    pixels = Pixels([np.zeros((4096, 4097, 1), np.uint8).repeat(3, axis=2)], [wide])
    batch = pixels.every(1000)
    assert len(batch.rays) == 1000 and bool((batch.camera == 0).all())


def test_large_photos_keep_their_pixel_centres() -> None:
    wide = replace(camera(4000, 2, 0.1), distortion=(0.0,) * 8)
    pixels = Pixels([np.zeros((2, 4000, 3), np.uint8)], [wide])
    batch = pixels.at(torch.tensor([0, 3999, 4000, 7999]))
    found, _ = project(wide, (batch.rays.origins + batch.rays.directions).double().numpy())
    np.testing.assert_allclose(found, [[0.5, 0.5], [3999.5, 0.5], [0.5, 1.5], [3999.5, 1.5]], atol=2e-3)
