"""Neighbours in space and time are found side by side, and their paths led together; what that does to a fit."""

from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.captures.readers import read_scene
from neuralfields.motion import CENTRE, PATH
from neuralfields.options.fit import FitOptions
from neuralfields.splatting.coherent_motion import TOGETHER, beside_each_other, lead_together
from neuralfields.training.fit import fit_scene
from tests.support.moving import moving_scene
from tests.support.side_by_side import made_once


def test_neighbours_are_of_one_place_and_one_time() -> None:
    """Sixteen clumps, of eight each: four places at four times."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.tensor([[-1.0, -1, -1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]])
    clump = torch.arange(16).repeat_interleave(TOGETHER)[torch.randperm(16 * TOGETHER, generator=generator)]
    places = corners[clump % 4] + 0.01 * torch.randn(len(clump), 3, generator=generator)
    moments = torch.tensor([0.1, 0.35, 0.6, 0.85])[clump // 4] + 0.001 * torch.rand(len(clump), generator=generator)
    order = beside_each_other(places.t(), moments)
    assert torch.equal(order.sort().values, torch.arange(len(clump)))
    together = clump[order].reshape(16, TOGETHER)
    assert bool((together == together[:, :1]).all())


@pytest.mark.parametrize("count", [0, 1, 7, 8, 20])
def test_means_stay_and_differences_shrink(count: int) -> None:
    paths = torch.randn(9, count, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    order, led = torch.randperm(count), paths.clone()
    lead_together(led, order, 0.25)
    whole = count // TOGETHER * TOGETHER
    before, after = (p[:, order[:whole]].unflatten(1, (-1, TOGETHER)) if whole else p for p in (paths, led))
    if whole:
        torch.testing.assert_close(after.mean(2), before.mean(2))
        torch.testing.assert_close(after - after.mean(2, keepdim=True), 0.75 * (before - before.mean(2, keepdim=True)))
    assert torch.equal(led[:, order[whole:]], paths[:, order[whole:]])


def test_those_on_a_ball_that_one_camera_films_go_its_way_sooner() -> None:
    script = moving_scene()
    capture = made_once("moving-seen-by-one", lambda f: script.write(f, cameras=6, frames=16, size=40, one=True))
    none, led = (cosine(script, capture, share) for share in (0.0, 0.3))
    assert led > none + 0.1


def cosine(script: object, capture: Path, together: float) -> float:
    """Of the angle between velocities of fitted Gaussians on the ball and its own, the mean."""
    options = FitOptions(
        capture, field="gaussians", steps=160, threads=1, quiet=True, eval_every=0, set=("most=3000", "degree=0"),
        recipe=(f"together={together}",),
    )  # fmt: skip
    gaussians = fit_scene(read_scene(capture), options).field.gaussians()
    moments = gaussians.motion[:, CENTRE].tolist()
    centres, later = (np.stack([script.balls(t + more)[0].centre for t in moments]) for more in (0.0, 1e-3))
    on = (gaussians.means - torch.from_numpy(centres)).norm(dim=1) < 1.1 * script.RADIUS
    on &= gaussians.opacity() > 0.3
    velocity = gaussians.motion[on, PATH.start : PATH.start + 3].double()
    return float(torch.nn.functional.cosine_similarity(velocity, torch.from_numpy(later - centres)[on], dim=1).mean())
