"""Sphere tracing against what is known of a ball."""

import numpy as np
import pytest
import torch

from neuralfields import cameras
from neuralfields.cameras import Camera
from neuralfields.rays import Rays
from neuralfields.rendering.surface import AMBIENT, CLAY, Surface, trace
from neuralfields.scene import Bounds
from tests.support.balls import RADIUS, Ball, exact


def rays(count: int = 500) -> tuple[torch.Tensor, torch.Tensor]:
    """Rays from around the cube towards points inside it."""
    generator = torch.Generator().manual_seed(3)
    origins = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1) * 2 + 0.5
    return origins, torch.nn.functional.normalize(torch.rand(count, 3, generator=generator) - origins, dim=1)


@pytest.mark.parametrize(("bend", "distance"), [(False, True), (False, False), (True, False)])
def test_rays_meet_a_ball_where_it_is(bend, distance):
    """Also by a score that is no distance: then every step is the shortest."""
    origins, directions = rays()
    t, hit = trace(Surface(Ball(bend=bend), Bounds((0.5, 0.5, 0.5), 1.0), distance), origins, directions)
    truth, meets = exact(origins, directions)
    grazing = (origins + truth[:, None] * directions - 0.5).norm(dim=1).sub(RADIUS).abs() > 1e-4
    clear = ~grazing & meets
    edge = ((0.5 - origins).square().sum(1) - ((0.5 - origins) * directions).sum(1) ** 2).sqrt() > RADIUS - 1e-3
    assert bool((hit == meets)[~edge].all()) and 50 < int(hit.sum()) < 450
    assert float((t - truth)[clear & ~edge].abs().max()) < 1e-4


def test_normals_are_radial_and_depth_is_of_the_world():
    bounds = Bounds((1.0, 2.0, 3.0), 4.0)
    origins, directions = rays()
    world = Rays((origins - 0.5) * 4 + torch.tensor([1.0, 2.0, 3.0]), directions)
    seen = Surface(Ball(), bounds).render_rays(world, (0.0, 0.5, 1.0))
    hit = seen.opacity > 0
    place = world.origins + seen.depth[:, None] * directions
    radial = torch.nn.functional.normalize(place - torch.tensor([1.0, 2.0, 3.0]), dim=1)
    assert float((radial * seen.normal).sum(1)[hit].min()) > 0.9999
    assert float((seen.depth[hit] - 4 * exact(origins, directions)[0][hit]).abs().max()) < 4e-3
    assert torch.equal(seen.rgb[~hit], torch.tensor([0.0, 0.5, 1.0]).expand(int((~hit).sum()), 3))
    assert bool((seen.normal[~hit] == 0).all()) and bool((seen.depth[~hit] == 0).all())


def test_a_camera_sees_a_disc_brightest_in_its_middle():
    pose = cameras.look_at(np.array([0.5, 0.5, 2.5]), np.array([0.5, 0.5, 0.5]), np.array([0.0, 1.0, 0.0]))
    camera = Camera(pose, 65, 49, 60.0, 60.0, 32.5, 24.5)
    seen = Surface(Ball(), Bounds((0.5, 0.5, 0.5), 1.0)).render(camera, (0.0, 0.0, 0.0))
    assert seen.rgb.shape == (49, 65, 3) and seen.normal.shape == (49, 65, 3)
    silhouette = 60 * RADIUS / (2.0**2 - RADIUS**2) ** 0.5  # pixels: the cone that touches the ball
    assert float(seen.opacity.sum()) == pytest.approx(np.pi * silhouette**2, rel=0.05)
    assert float(seen.depth[24, 32]) == pytest.approx(1.7, abs=1e-3)
    torch.testing.assert_close(seen.rgb[24, 32], torch.tensor(CLAY), atol=2e-3, rtol=0)
    assert float(seen.rgb[..., 0][seen.opacity > 0].min()) >= AMBIENT * CLAY[0]
    torch.testing.assert_close(seen.normal[24, 32], torch.tensor([0.0, 0.0, 1.0]), atol=0.02, rtol=0)


def test_colours_of_the_field_are_used():
    origins, directions = torch.tensor([[0.5, 0.5, 2.0]]), torch.tensor([[0.0, 0.0, -1.0]])
    seen = Surface(Ball(4), Bounds((0.5, 0.5, 0.5), 1.0)).render_rays(Rays(origins, directions), (1.0, 1.0, 1.0))
    torch.testing.assert_close(seen.rgb, torch.tensor([[0.5, 0.5, 0.8]]), atol=2e-3, rtol=0)


def test_a_field_of_nan_ends():
    class Lost(Ball):
        def values(self, f):
            return f[:, :1] * float("nan")

    seen = Surface(Lost(), Bounds((0.5, 0.5, 0.5), 1.0)).render_rays(Rays(*rays(20)), (1.0, 1.0, 1.0))
    assert float(seen.opacity.sum()) == 0
