"""Affine maps of colours by what photos show of the same points: known ones are found, on the patterned ball."""

import numpy as np
import pytest
import torch
from torch import Tensor

from neuralfields.splatting.initial import Photos
from neuralfields.splatting.photo_maps import begin_exposure, photo_maps
from neuralfields.supervision.appearance import Appearance
from neuralfields.supervision.colour_maps import about_mean, identity_maps
from neuralfields.supervision.exposure import Exposure
from tests.splatting.test_depth_maps import BOUNDS, ball, cameras


def shown(maps: Tensor) -> Photos:
    """Photos of the ball after affine maps [N, 3, 4] of their colours, clipped."""
    lenses = cameras()
    plain = [ball(camera) for camera in lenses]
    images = [
        (255 * (0.1 + 0.8 * rgb.double() / 255) @ m[:, :3].T + 255 * m[:, 3]).round().clamp(0, 255).byte()
        for (rgb, _), m in zip(plain, maps.double(), strict=True)
    ]
    return Photos(images, lenses, BOUNDS, [depth > 0 for _, depth in plain])


@pytest.fixture
def true(generator: torch.Generator) -> Tensor:
    maps = 0.2 * torch.rand(8, 3, 4, generator=generator) - 0.1
    maps[..., 3] *= 0.3
    maps[:, range(3), range(3)] = 0.8 + 0.4 * torch.rand(8, 3, generator=generator)
    return about_mean(maps)


def off(found: Tensor, true: Tensor, photos: Photos) -> float:
    """Mean difference of the photos' colours by two sets of maps, in levels of 255."""
    parts = []
    for image, inside, one, other in zip(photos.images, photos.inside, found, true, strict=False):
        colours = image[inside].float()
        parts.append(float((colours @ (one - other)[:, :3].T + 255 * (one - other)[:, 3]).abs().mean()))
    return float(np.mean(parts))


def test_known_maps_are_found(true: Tensor) -> None:
    photos = shown(true)
    found = photo_maps(photos)
    assert off(found, true, photos) < 0.1 * off(identity_maps(8, true), true, photos)
    torch.testing.assert_close(found.mean(0), torch.eye(3, 4), atol=1e-5, rtol=0)


def test_photos_of_one_appearance_have_none() -> None:
    nothing = identity_maps(8, torch.zeros(()))
    photos = shown(nothing)
    assert off(photo_maps(photos), nothing, photos) < 1.0


def test_what_nothing_is_known_of_begins_with_the_identity(true: Tensor) -> None:
    """Two photos of eight are black, and share nothing; two photos alone are too few."""
    photos = shown(true)
    images = [*photos.images[:6], *(torch.zeros_like(image) for image in photos.images[6:])]
    found = photo_maps(Photos(images, photos.cameras, BOUNDS, photos.inside))
    torch.testing.assert_close(found[6], found[7], atol=1e-5, rtol=0)
    assert off(about_mean(found[:6]), about_mean(true[:6]), photos) < 3.0
    assert float((found[6] - torch.eye(3, 4)).abs().max()) < 0.1
    few = Photos(photos.images[:2], photos.cameras[:2], BOUNDS, photos.inside[:2])
    assert torch.equal(photo_maps(few), identity_maps(2, found))


def test_a_fit_begins_with_them(true: Tensor) -> None:
    photos = shown(true)
    one, two = Appearance(8), Exposure(8)
    begin_exposure(one, photos)
    begin_exposure(two, photos)
    torch.testing.assert_close(one.maps, photo_maps(photos), atol=0.03, rtol=0)
    assert bool(two.gain.any())
