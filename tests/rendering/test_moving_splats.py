"""Gaussians that move: the pass of a moment against still ones, its gradient against autograd, and motion."""

import math
from dataclasses import replace

import pytest
import torch

from neuralfields.gaussians import Gaussians, flipped, moved
from neuralfields.motion import CENTRE, DURATION, MOTION, briefest, motionless
from neuralfields.ops.project import View
from neuralfields.ops.splat_pass import Adam
from neuralfields.rendering.moving_splats import CORE, LONGEST, MotionRates, MovingPass, packed, unpacked
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


def test_what_moves_turns_and_fades_as_it_says() -> None:
    """One Gaussian's place, rotation and opacity by hand; one that stands still is the same at any moment."""
    given = some(1)
    motion = torch.tensor([[0.25, math.log(0.5), 1.0, 0, 0, 0, 2.0, 0, 0, 0, 4.0, 0.1, 0.2, 0.3, 0.4]])
    at = replace(given, motion=motion).at(0.75)
    assert torch.allclose(at.means - given.means, torch.tensor([[0.5, 0.5, 0.5]]), atol=1e-6)
    assert torch.allclose(at.rotations - given.rotations, torch.tensor([[0.05, 0.1, 0.15, 0.2]]), atol=1e-6)
    assert torch.allclose(at.opacity(), given.opacity() * math.exp(-1), atol=1e-6) and at.motion is None
    resting = replace(given, motion=motionless(1, given.means)).at(0.0)
    assert torch.equal(resting.means, given.means) and torch.allclose(resting.opacity(), given.opacity(), rtol=1e-3)


@pytest.mark.parametrize("change", ["mirrored", "moved"])
def test_another_frame_takes_paths_and_turns_with_it(change: str) -> None:
    """The still ones of a moment in the other frame are those of the moment, changed."""
    given, turn = some(), torch.eye(4)
    turn[:3, :3] = 2 * torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    turn[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    to = (lambda one: flipped(one, "yz")) if change == "mirrored" else (lambda one: moved(one, turn))
    first, second = to(given).at(0.7), to(given.at(0.7))
    for name in ("means", "scales", "opacities", "harmonics"):
        torch.testing.assert_close(getattr(first, name), getattr(second, name), atol=1e-4, rtol=1e-4)
    units = [torch.nn.functional.normalize(one.rotations, dim=1) for one in (first, second)]
    assert ((units[0] * units[1]).sum(1).abs() > 1 - 1e-4).all()


def test_sets_that_rest_and_move_are_joined_and_taken() -> None:
    moving = some(3)
    both = Gaussians.cat([replace(some(2, 1), motion=None), moving])
    assert both.motion.shape == (5, MOTION) and torch.equal(both.take(slice(2, 5)).motion, moving.motion)
    assert both.take(slice(0, 2)).at(1.0).opacities.sub(both.opacities[:2]).abs().max() < 0.01


def test_no_life_is_briefer_than_the_gap_between_photos() -> None:
    moments = torch.cat([torch.linspace(0, 0.1, 50), torch.linspace(0.5, 0.6, 50)])  # a hole of 0.4
    assert briefest(moments) == pytest.approx(math.log(0.3))
    assert briefest(torch.zeros(3)) == pytest.approx(math.log(1e-3))


def test_a_life_is_not_briefer_than_eleven_photos_of_a_film() -> None:
    film = torch.linspace(0, 1, 101)
    assert briefest(film) == pytest.approx(math.log(11 / 101))
    together = film.repeat(20)  # twenty cameras: a moment is seen by twenty photos
    assert briefest(together) == pytest.approx(math.log(0.75 * 0.01), abs=1e-4)
    assert briefest(torch.linspace(0, 1, 3)) == 0


def test_a_pass_gives_its_values_back_after_steps() -> None:
    given = some()
    values = packed(given)
    run, moments = MovingPass(values), (values.zeros_like(), values.zeros_like())
    run.rates = MotionRates(0.1, 0.0, (0.01, 0.01, 0.01), 0.0)
    run.moment = 0.4
    run.render(VIEW, (0.0, 0.0, 0.0), 1)
    run.backward(torch.ones(32, 32, 3))
    run.adam(moments, Adam(0.01, 0.0, 0.0, 0.05, 0.0, 0.0, 1))
    assert torch.equal(unpacked(values, False).motion, given.motion)
    run.sync()
    after = unpacked(values, False)
    seen = (after.opacities - given.opacities).abs() > 1e-3
    assert 5 < int(seen.sum()) <= len(given) and torch.equal(after.scales, given.scales)
    assert torch.allclose((after.opacities - given.opacities).abs()[seen], torch.tensor(0.05), atol=1e-4)
    assert torch.equal(after.motion[:, DURATION], given.motion[:, DURATION].clamp(max=LONGEST))
    assert int((moments[0].core != 0).any(1).sum()) == int(seen.sum())
