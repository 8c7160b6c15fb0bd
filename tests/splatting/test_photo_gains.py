"""Gains by what photos show of the same points: known ones are found, on the patterned ball whose depth is known."""

from dataclasses import replace

import pytest
import torch

from neuralfields.scene import Bounds
from neuralfields.splatting.initial import Photos
from neuralfields.splatting.photo_gains import photo_gains
from tests.splatting.test_depth_maps import BOUNDS, ball, cameras


def exposed(gain: torch.Tensor, bounds: Bounds = BOUNDS) -> Photos:
    """Photos of the ball in exposures exp(gain) [N, 3], clipped at white."""
    lenses = cameras()
    plain = [ball(camera)[0].float() for camera in lenses]
    images = [(p * torch.exp(g)).round().clamp(max=255).byte() for p, g in zip(plain, gain, strict=True)]
    return Photos(images, lenses, bounds, [ball(camera)[1] > 0 for camera in lenses])


@pytest.fixture
def true(generator: torch.Generator) -> torch.Tensor:
    gain = torch.rand(8, 1, generator=generator) * 0.8 - 0.4 + torch.rand(8, 3, generator=generator) * 0.2 - 0.1
    return gain - gain.mean(0)


def test_known_gains_are_found(true: torch.Tensor) -> None:
    """A factor of 0.6 to 1.6, by up to a tenth another one in each channel; some pixels are white."""
    photos = exposed(true)
    assert any(bool((image == 255).any()) for image in photos.images)
    found = photo_gains(photos)
    assert float((found - true).abs().mean()) < 0.01 < 0.1 * float(true.abs().mean())
    assert float((found - true).abs().max()) < 0.03 and float(found.mean(0).abs().max()) < 1e-6


def test_photos_in_one_exposure_have_no_gains() -> None:
    assert float(photo_gains(exposed(torch.zeros(8, 3))).abs().max()) < 0.01


def test_photos_apart_keep_to_themselves(true: torch.Tensor) -> None:
    """Two that look away share nothing: their gains stay, and the others' are right among themselves."""
    photos = exposed(true)
    shown = [*photos.images[:6], *(torch.zeros_like(image) for image in photos.images[6:])]
    found = photo_gains(Photos(shown, photos.cameras, BOUNDS, photos.inside))
    apart = found[:6] - found[:6].mean(0) - (true[:6] - true[:6].mean(0))
    assert float(apart.abs().max()) < 0.03
    assert float((found[6] - found[7]).abs().max()) < 1e-5


def test_nothing_is_said_of_two_photos_or_of_what_moves(true: torch.Tensor) -> None:
    photos = exposed(true)
    few = Photos(photos.images[:2], photos.cameras[:2], BOUNDS, photos.inside[:2])
    assert torch.equal(photo_gains(few), torch.zeros(2, 3))
    moving = exposed(true, replace(BOUNDS, times=(0.0, 1.0)))
    assert torch.equal(photo_gains(moving), torch.zeros(8, 3))
