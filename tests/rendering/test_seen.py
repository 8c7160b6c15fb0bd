"""The grid of what cameras saw: where it is 1 and 0, what of Gaussians and cells it leaves, and its bytes."""

import base64
from dataclasses import replace

import numpy as np
import torch

from neuralfields.cameras import Camera, look_at
from neuralfields.captures.bounds import points_in_view
from neuralfields.ops.occupancy_bits import cells_of
from neuralfields.rendering.seen import SIDE, Fader, can_fade, seen_by
from neuralfields.rendering.splat import Splats
from neuralfields.scene import Bounds
from tests.support.splats import random_gaussians

BOUNDS = Bounds((0.3, -0.2, 0.1), 2.0, 3, "cube")


def looking(angle: float) -> Camera:
    place = np.array([0.3 + 2 * np.cos(angle), -0.2 + 2 * np.sin(angle), 0.3])
    return Camera(look_at(place, np.array(BOUNDS.centre), np.array([0.0, 0.0, 1.0])), 40, 30, 50.0, 50.0, 20.0, 15.0)


def test_one_where_two_looked_and_nothing_behind_them() -> None:
    cameras = [looking(0.0), looking(0.2), looking(2.0)]
    seen = seen_by(cameras, BOUNDS)
    points = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)) * 3
    count = sum(points_in_view(camera, points.double().numpy()).astype(int) for camera in cameras)
    wider = [replace(one, fx=0.7 * one.fx, fy=0.7 * one.fy) for one in cameras]
    around = sum(points_in_view(camera, points.double().numpy()).astype(int) for camera in wider)
    near = np.abs(points.numpy()).max(1) < 2  # cells grow outwards
    factor = seen.factor(points).numpy()
    assert factor[count >= 2].mean() > 0.95 and (near & (count >= 2)).sum() > 40
    assert factor[near & (around == 0)].max() == 0 and factor[around == 0].mean() < 0.03
    assert ((factor > 0) & (factor < 1)).sum() > 20


def test_gaussians_lose_opacity_and_keep_the_rest() -> None:
    given = random_gaussians(500, degree=0)
    given = replace(given, means=given.means * torch.tensor([0.5, 0.5, 0.1]))
    seen = seen_by([looking(0.0), looking(0.3)], BOUNDS)
    factor = seen.factor(given.means)
    left = seen.faded(given)
    kept = factor >= 1e-3
    assert 20 < len(left) < 480 and len(left) == int(kept.sum())
    assert torch.allclose(left.opacity(), (given.opacity() * factor)[kept], atol=1e-5)
    assert torch.equal(left.means, given.means[kept]) and torch.equal(left.scales, given.scales[kept])
    whole = factor[kept] == 1
    assert torch.equal(left.opacities[whole], given.opacities[kept][whole])
    fader, splats = Fader(), Splats(given, BOUNDS)
    assert fader.faded(splats, None) is splats and fader.faded(splats, seen) is fader.faded(splats, seen)


def test_cells_of_the_occupancy() -> None:
    """Those of both cascades whose middles have a factor of one half, up to a cell."""
    seen = seen_by([looking(0.0), looking(0.3)], BOUNDS)
    cells = cells_of(seen.occupied(replace(BOUNDS, cascades=2)))
    chance = np.random.default_rng(1).integers(0, 128, (2, 3000, 3))
    for cascade, where in enumerate(chance):
        points = ((where + 0.5) / 128 - 0.5) * BOUNDS.side * 2**cascade + BOUNDS.centre
        factor = seen.factor(torch.from_numpy(points).float())
        kept = cells[cascade][tuple(where[:, ::-1].T)]
        assert kept[factor > 0.8].all() and not kept[factor < 0.2].any()
        assert 100 < kept.sum() < 2900


def test_runs_give_the_cells_back() -> None:
    seen = seen_by([looking(0.0), looking(0.3)], BOUNDS)
    for cells in (seen.cells, ~seen.cells, torch.zeros_like(seen.cells)):
        counts = base64.b64decode(replace(seen, cells=cells).describe()["runs"])
        flat = np.concatenate([np.full(count, i & 1) for i, count in enumerate(counts)])
        assert np.array_equal(flat, cells.flatten().numpy()) and len(flat) == SIDE**3


def test_what_has_none() -> None:
    """No cameras and what moves."""
    assert seen_by([], BOUNDS) is None
    assert seen_by([looking(0.0)], replace(BOUNDS, times=(0.0, 1.0))) is None
    assert not can_fade(object()) and can_fade(Splats(random_gaussians(3), BOUNDS))
    assert not can_fade(Splats(random_gaussians(3), replace(BOUNDS, times=(0.0, 1.0))))
