"""Rendering a scene that moves: closed forms in time, and the bits of each segment against the truth."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralfields.cameras import Camera, look_at
from neuralfields.ops.occupancy_bits import CELLS, occupied
from neuralfields.rays import Rays
from neuralfields.rendering import occupancy
from neuralfields.rendering.in_time import segment_of
from neuralfields.rendering.occupancy import Occupancy
from neuralfields.rendering.volume import camera_rays
from tests.support.moving import RADIUS, SIGMA, TIMES, MovingBall, ThickeningFog, volume


def through_the_middle(count: int = 64) -> Rays:
    """Rays along z through the unit cube, each at its own time, some outside the scene's."""
    x = torch.rand(count, 2, generator=torch.Generator().manual_seed(0))
    origins = torch.cat([x, torch.full((count, 1), -1.0)], 1)
    times = torch.linspace(TIMES[0] - 2, TIMES[1] + 2, count, dtype=torch.float64)
    return Rays(origins, torch.tensor([[0.0, 0.0, 1.0]]).expand(count, 3), times)


def moments(times: torch.Tensor) -> torch.Tensor:
    return ((times - TIMES[0]) / (TIMES[1] - TIMES[0])).clamp(0, 1).float()


@pytest.mark.parametrize("segments", [1, 8])
def test_each_ray_sees_its_own_moment(segments):
    rays = through_the_middle()
    seen = volume(ThickeningFog(), segments).render_rays(rays, (0.0, 0.0, 0.0))
    moment = moments(rays.times)
    opacity = -torch.expm1(-SIGMA * moment)
    assert float((seen.opacity - opacity).abs().max()) < 0.02
    assert float((seen.rgb - (opacity * moment)[:, None]).abs().max()) < 0.02
    assert float(seen.opacity.std()) > 0.2


def test_a_training_batch_has_the_same_sums_with_gradients():
    rays, scene = through_the_middle(), volume(ThickeningFog(), 8)
    assert torch.allclose(scene.sums(rays, capacity=1 << 16).values, scene.sums(rays).values, atol=1e-5)


def test_rays_without_times_see_the_first_moment():
    rays = replace(through_the_middle(), times=None)
    assert float(volume(ThickeningFog()).render_rays(rays, (0.0, 0.0, 0.0)).opacity.max()) < 1e-6


def test_samples_stay_in_the_order_of_their_rays():
    """Rays of all segments in one batch, whose bits differ, march as each does alone."""
    scene, rays = volume(ThickeningFog(), 8), through_the_middle(40)
    grid = torch.zeros_like(scene.occupancy)
    for segment in range(8):
        grid[segment, segment::8] = -1
    scene = replace(scene, occupancy=grid)
    together = scene.sums(rays).values
    alone = torch.cat([scene.sums(rays[i : i + 1]).values for i in range(len(rays))])
    assert torch.allclose(together, alone, atol=1e-6) and float(together[:, 3].max()) > 0.1


def test_held_still_it_is_the_scene_at_that_time():
    camera = Camera(
        look_at(np.array([0.5, -1.5, 0.5]), np.full(3, 0.5), np.eye(3)[2]), 24, 16, 20, 20, 12, 8, time=25.0
    )
    scene = volume(MovingBall(), 8)
    seen, still = scene.render(camera, (0, 0, 0)), scene.at(0.75)
    assert not still.moves and still.occupancy.shape == (1, 32768)
    assert torch.equal(seen.rgb, still.render(replace(camera, time=None), (0, 0, 0)).rgb)
    assert 3 < int((seen.opacity > 0.9).sum()) < 12  # a disc of radius 1.2 pixels
    assert len(camera_rays(camera).times) == 24 * 16


def grid_of_the_ball(looks: int) -> Occupancy:
    """Only a rod along the ball's way is looked at: the rest is known to be empty."""
    grid, scene = Occupancy(1, moves=True), volume(MovingBall())
    grid.hide_empty(torch.tensor([[0.0, 0.45, 0.45]]), torch.tensor([[1.0, 0.55, 0.55]]))
    generator = torch.Generator().manual_seed(0)
    for _ in range(looks):
        grid.update(scene.density, generator, 1.0, coarse=True)
    return grid


def test_a_cell_is_occupied_if_it_is_at_any_moment():
    grid = grid_of_the_ball(16)
    x = (torch.arange(CELLS) + 0.5) / CELLS
    row = torch.stack([x, torch.full_like(x, 0.5), torch.full_like(x, 0.5)], 1)
    hit = occupied(row, torch.zeros(CELLS, dtype=torch.int64), grid.bits)
    assert bool(hit[(x > 0.25) & (x < 0.75)].all()) and not bool(hit[(x < 0.05) | (x > 0.95)].any())


def test_a_segment_keeps_what_it_sees_alone(monkeypatch):
    monkeypatch.setattr(occupancy, "DECAY_IN_TIME", 0.3)  # what is empty is known to be after a few looks
    grid, scene = grid_of_the_ball(3), volume(MovingBall())
    grid.split()
    assert grid.segments == 8 and grid.bits.shape == (8, 32768)
    generator = torch.Generator().manual_seed(1)
    for _ in range(7):
        grid.update(scene.density, generator, 1.0, coarse=True)
    x = (torch.arange(CELLS) + 0.5) / CELLS
    row = torch.stack([x, torch.full_like(x, 0.5), torch.full_like(x, 0.5)], 1)
    for segment in range(8):
        first, last = 0.2 + 0.6 * segment / 8, 0.2 + 0.6 * (segment + 1) / 8
        hit = occupied(row, torch.zeros(CELLS, dtype=torch.int64), grid.bits[segment : segment + 1])
        always = (x > last - RADIUS + 0.02) & (x < first + RADIUS - 0.02)
        never = (x < first - RADIUS - 0.03) | (x > last + RADIUS + 0.03)
        assert bool(hit[always].all()) and not bool(hit[never].any())


def test_many_cascades_have_fewer_segments():
    grid = Occupancy(5, moves=True)
    grid.split()
    assert grid.segments == 2
    grid.adopt(torch.ones(8 * 5, 32768, dtype=torch.int64))
    assert grid.bits.shape == (2 * 5, 32768)


def test_the_last_moment_is_of_the_last_segment():
    assert segment_of(torch.tensor([0.0, 0.124, 0.125, 1.0]), 8).tolist() == [0, 0, 1, 7]
