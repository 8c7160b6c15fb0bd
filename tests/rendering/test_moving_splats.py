"""Gaussians that move: the pass of a moment against still ones, its gradient against autograd, and motion."""

from dataclasses import replace

import pytest
import torch

from neuralfields.gaussians import Gaussians
from neuralfields.motion import CENTRE, DURATION, MOTION
from neuralfields.ops.project import View
from neuralfields.ops.splat_pass import Adam
from neuralfields.rendering.moving_splats import CORE, MovingPass, packed
from neuralfields.rendering.splat import render_gaussians

VIEW = View((1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), (0.0, 0.0, -4.0), (40.0, 40.0), (16.0, 16.0), (32, 32))


def some(count: int = 40, seed: int = 0, degree: int = 1) -> Gaussians:
    """Gaussians before the camera, with paths, turns and lifetimes of all kinds."""
    chance = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=chance)

    motion = 0.3 * draw(count, MOTION)
    motion[:, CENTRE], motion[:, DURATION] = torch.rand(count, generator=chance), draw(count)
    harmonics = 0.3 * draw(count, (degree + 1) ** 2, 3)
    parts = draw(count, 3) * 0.6, draw(count, 3) * 0.3 - 2, draw(count, 4), draw(count), harmonics
    return Gaussians(*parts, motion=motion)


def gradient_of(gaussians: Gaussians, moment: float, d_rgb: torch.Tensor) -> torch.Tensor:
    """The gradient of a picture as the pass leads it back, [N, 32]."""
    run = MovingPass(packed(gaussians))
    run.moment = moment
    run.render(VIEW, (0.2, 0.3, 0.4), 1)
    run.backward(d_rgb)
    moments = (run.values.zeros_like(), run.values.zeros_like())
    return run.gradient(moments, Adam(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1))


@pytest.mark.parametrize("moment", [0.0, 0.3, 1.0])
def test_the_gradient_is_that_of_the_still_ones_of_a_moment(moment: float) -> None:
    gaussians = some()
    d_rgb = torch.randn(32, 32, 3, generator=torch.Generator().manual_seed(1))
    found = gradient_of(gaussians, moment, d_rgb)
    names = ("means", "scales", "rotations", "opacities", "harmonics", "motion")
    leaves = {name: getattr(gaussians, name).clone().requires_grad_() for name in names}
    picture = render_gaussians(replace(gaussians, **leaves).at(moment), VIEW, (0.2, 0.3, 0.4))
    (picture.rgb * d_rgb).sum().backward()
    wanted = packed(Gaussians(*(leaves[name].grad for name in names[:5]), motion=leaves["motion"].grad)).core
    assert wanted[:, CORE:].abs().amax() > 0.01
    torch.testing.assert_close(found, wanted, rtol=2e-3, atol=2e-4 * float(wanted.abs().max()))
