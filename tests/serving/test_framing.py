"""The home view of Gaussians: all of them seen, strays and haze not counted, from the side that shows most."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from neuralfields.cameras import Camera, look_at
from neuralfields.gaussians import Gaussians
from neuralfields.rays import Render
from neuralfields.rendering.splat import Splats
from neuralfields.scene import Bounds
from neuralfields.serving.framing import camera_of, framed, home_view, same_place

UP, AWAY = np.array([0.0, -1.0, 0.0]), np.array([0.7, -0.5, -1.1])
BOUNDS = Bounds((0.0, 0.0, 0.0), 2.0)


def pole(count: int = 600) -> Gaussians:
    """Long and thin, y along it: a neck that nine tenths of a cube would cut."""
    chance = torch.Generator().manual_seed(1)
    means = torch.randn(count, 3, generator=chance) * torch.tensor([0.1, 0.0, 0.1])
    means[:, 1] = torch.linspace(-2, 1, count) ** 3 / 4
    return plain(means)


def plain(means: torch.Tensor, size: float = 0.02) -> Gaussians:
    count = len(means)
    turns = torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1)
    colour = torch.ones(count, 1, 3)
    return Gaussians(means, torch.full((count, 3), size).log(), turns, torch.full((count,), 4.0), colour)


def places(gaussians: Gaussians, home: tuple) -> np.ndarray:
    """x / z and y / z of the means, in halves of what is seen."""
    pose, (_, right, _, bottom), _ = home
    local = (gaussians.means.double().numpy() - pose[:3, 3]) @ pose[:3, :3]
    assert (local[:, 2] > 0).all()
    return np.abs(local[:, :2] / local[:, 2:]) / [right, bottom]


def test_all_is_seen_and_fills_the_picture() -> None:
    given = pole()
    home = framed(given, AWAY, UP)
    found = places(given, home)
    assert found.max() < 1 and (found.max(0) > 0.8).all()
    assert home[1][3] > 3 * home[1][1]  # as tall as it is
    assert home[0][:3, 1] @ UP < 0 and abs(home[0][:3, 0] @ UP) < 1e-9  # upright


@pytest.mark.parametrize("kind", ["strays", "haze", "sky"])
def test_what_is_not_the_scene_does_not_count(kind: str) -> None:
    given = pole()
    far = plain(torch.tensor([[90.0, 3.0, -60.0]] * 6))
    if kind == "haze":
        far = replace(plain(torch.randn(300, 3) * 8), opacities=torch.full((300,), -4.0))
    if kind == "sky":
        far = plain(50 * torch.nn.functional.normalize(torch.randn(40, 3), dim=1), size=20.0)
    (pose, seen, pivot), (pose_, seen_, pivot_) = framed(given, AWAY, UP), framed(Gaussians.cat([given, far]), AWAY, UP)
    assert np.allclose(pivot, pivot_, atol=0.3) and np.allclose(pose[:3, 3], pose_[:3, 3], atol=1.0)
    assert np.allclose(seen, seen_, atol=0.1)


def test_a_wall_is_seen_from_its_front() -> None:
    """Stripes behind a white sheet, as seen from the usual side: another is taken."""
    grid = torch.cartesian_prod(torch.linspace(-1, 1, 24), torch.linspace(-1, 1, 24), torch.tensor([0.0, -0.2]))
    given = plain(grid, 0.05)
    dark = (given.means[:, 2] == 0) & ((given.means[:, 0] * 6).round() % 2 == 0)
    given.harmonics[dark] = -1.5
    home = home_view(Splats(given, BOUNDS), AWAY, UP)
    assert home[0][2, 3] > 0 and AWAY[2] < 0
    ball = plain(torch.nn.functional.normalize(torch.randn(500, 3), dim=1), 0.05)  # no side has more to show
    assert np.allclose(home_view(Splats(ball, BOUNDS), AWAY, UP)[0], framed(ball, AWAY, UP)[0])


def test_one_gaussian_and_the_picture_of_a_view() -> None:
    one = plain(torch.tensor([[3.0, 4.0, 5.0]]))
    pose, seen, pivot = framed(one, AWAY, UP)
    assert np.isfinite(pose).all() and min(seen[1], seen[3]) > 0 and np.allclose(pivot, [3, 4, 5])
    camera = camera_of((pose, (-0.2, 0.4, -0.1, 0.1), pivot), 96)
    assert (camera.width, camera.height) == (96, 24) and camera.width / 2 / camera.fx == pytest.approx(0.4)


def test_a_scene_of_another_world_is_seen_in_the_box_of_the_first() -> None:
    """The same scene, ten times as large and elsewhere, makes the same picture; depth in the page's units."""
    page, seen = Bounds((0.0, 0.0, 0.0), 2.0), []
    own = Bounds((50.0, -20.0, 3.0), 20.0, origin=(1.0, 2.0, 3.0))

    def render(camera: Camera, background: Any, box: Any) -> Render:
        seen.append((camera.world_from_camera[:3, 3].tolist(), box))
        return Render(torch.zeros(1, 1, 3), torch.ones(1, 1), torch.full((1, 1), 30.0))

    brought, apart = same_place(render, own, page)
    camera = Camera(look_at(np.array([0.0, -3.0, 0.5]), np.zeros(3), np.array([0.0, 0.0, 1.0])), 4, 4, 4, 4, 2, 2)
    found = brought(camera, (0.0, 0.0, 0.0), ((-1.0, -1.0, -1.0), (1.0, 1.0, 0.0)))
    assert apart and float(found.depth) == pytest.approx(3.0)
    assert seen[-1][0] == pytest.approx([50.0, -50.0, 8.0])
    assert np.allclose(seen[-1][1], [[40, -30, -7], [60, -10, 3]])
    moved, apart = same_place(render, replace(page, origin=(0.5, 0.0, 0.0)), page)
    moved(camera, (0.0, 0.0, 0.0), None)
    assert not apart and seen[-1] == (pytest.approx([-0.5, -3.0, 0.5]), None)
    assert same_place(render, page, page) is None
