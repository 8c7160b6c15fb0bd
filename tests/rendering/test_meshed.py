"""Shapes seen often, by triangles that the field corrects: against a ball, and against tracing."""

from typing import Any

import numpy as np
import pytest
import torch

from neuralfields import cameras
from neuralfields.cameras import Camera
from neuralfields.rendering import meshed
from neuralfields.rendering.meshed import FINER, MANY, MeshedSurface, for_many, visible
from neuralfields.rendering.surface import Surface
from neuralfields.rendering.volume import camera_rays
from neuralfields.scene import Bounds
from tests.support.balls import Ball, exact

UNIT = Bounds((0.5, 0.5, 0.5), 1.0)
WORLD = Bounds((1.0, 2.0, 3.0), 4.0)
NODES = 16  # of the first lattice along a side, in place of COARSE: quicker
CELL = 1 / (NODES * FINER)


@pytest.fixture(autouse=True)
def coarse_lattice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meshed, "COARSE", NODES)


class Counting(Ball):
    """A ball that counts the points at which it is asked."""

    asked = 0

    def features(self, x: torch.Tensor) -> torch.Tensor:
        self.asked += len(x)
        return x


def camera(eye: tuple[float, float, float], bounds: Bounds = UNIT, **lens: Any) -> Camera:
    centre = np.array(bounds.centre)
    place = centre + bounds.side * np.array(eye)
    pose = cameras.look_at(place, centre, np.array([0.0, 1.0, 0.0]))
    return Camera(pose, **{"width": 80, "height": 60, "fx": 75.0, "fy": 75.0, "cx": 40.0, "cy": 30.5} | lens)


@pytest.mark.parametrize(("distance", "bend"), [(True, False), (False, False), (False, True)])
def test_a_ball_is_where_it_is(distance: bool, bend: bool) -> None:
    """Of distance, and of a score of being inside: depth, normal and outline are those of the ball."""
    view = camera((0.7, 0.4, 1.3), WORLD)
    seen = MeshedSurface(Surface(Ball(bend=bend), WORLD, distance)).render(view, (0.0, 0.5, 1.0))
    rays = camera_rays(view)
    origins = (rays.origins - torch.tensor(WORLD.centre)) / WORLD.side + 0.5
    depth, meets = (part.reshape(60, 80) for part in exact(origins, rays.directions))
    hit = seen.opacity > 0
    assert int((hit != meets).sum()) <= 0.02 * int(hit.sum()) and int(hit.sum()) > 500
    inner = hit & meets
    inner[1:-1, 1:-1] &= hit[2:, 1:-1] & hit[:-2, 1:-1] & hit[1:-1, 2:] & hit[1:-1, :-2]
    assert float((seen.depth / WORLD.side - depth)[inner].abs().max()) < 0.1 * CELL
    place = origins.reshape(60, 80, 3) + depth[..., None] * rays.directions.reshape(60, 80, 3)
    radial = torch.nn.functional.normalize(place - 0.5, dim=-1)
    assert float((seen.normal * radial).sum(-1)[inner].min()) > 0.995
    assert torch.equal(seen.rgb[~hit][0], torch.tensor([0.0, 0.5, 1.0])) and bool((seen.depth[~hit] == 0).all())


def test_colours_are_the_fields() -> None:
    view = camera((0.0, 0.3, 1.6))
    shape = Surface(Ball(4), UNIT)
    seen, traced = MeshedSurface(shape).render(view, (1.0, 1.0, 1.0)), shape.render(view, (1.0, 1.0, 1.0))
    hit = (seen.opacity > 0) & (traced.opacity > 0)
    assert float((seen.rgb - traced.rgb)[hit].abs().mean()) < 3e-3


def test_the_nearer_of_two_is_seen() -> None:
    """Two triangles on one pixel, the far one first and last in the list; one that looks away is never seen."""
    view = camera((0.0, 0.0, 2.0), width=8, height=8, cx=4.0, cy=4.0)
    near = [[-9.0, -9.0, 0.5], [40.0, -9.0, 0.5], [-9.0, 40.0, 0.5]]
    far = [[u, v, 0.25] for u, v, _ in near]
    corners = torch.tensor([*far, *near, *far])
    forth = torch.tensor([[0, 2, 1], [3, 5, 4], [6, 8, 7]])
    pixel, face, weights = visible(view, forth, corners)
    assert len(pixel) == 64 and bool((face == 1).all()) and torch.allclose(weights.sum(0), torch.ones(64))
    pixel, face, _ = visible(view, torch.cat([forth[:1], forth[1:2].flip(1)]), corners)
    assert len(pixel) == 64 and bool((face == 0).all())
    assert len(visible(view, forth.flip(1), corners)[0]) == 0


def test_what_triangles_cannot_show_is_traced() -> None:
    """From within, through a bent lens, a fisheye, a shape that leaves the cube, and nothing at all."""

    class Half(Ball):
        def values(self, f: torch.Tensor) -> torch.Tensor:
            return f[:, :1] - 0.5

    class Nothing(Ball):
        def values(self, f: torch.Tensor) -> torch.Tensor:
            return 1 + 0 * f[:, :1]

    small = {"width": 12, "height": 9, "fx": 9.0, "fy": 9.0, "cx": 6.0, "cy": 4.0}
    bent = camera((0.0, 0.0, 1.5), **small, distortion=(0.1, *[0.0] * 7))
    fish = camera((0.0, 0.0, 1.5), **small, model="fisheye")
    cases = [(Ball(), camera((0.0, 0.1, 0.2), **small)), (Ball(), bent), (Ball(), fish)]
    cases += [(field, camera((0.3, 0.0, 1.5), **small)) for field in (Half(), Nothing())]
    for field, view in cases:
        shape = Surface(field, UNIT)
        seen, traced = MeshedSurface(shape).render(view, (0.0, 0.0, 0.0)), shape.render(view, (0.0, 0.0, 0.0))
        assert torch.equal(seen.rgb, traced.rgb) and torch.equal(seen.depth, traced.depth)


def test_views_ask_the_field_four_times_a_pixel() -> None:
    """And the first asks no more than near the surface; tracing asks several times as often."""
    field, view = Counting(), camera((0.0, 0.3, 1.6))
    shape = MeshedSurface(Surface(field, UNIT))
    shape.render(view, (0.0, 0.0, 0.0))
    assert field.asked < 0.75 * (NODES * FINER) ** 3
    field.asked = 0
    seen = shape.render(view, (0.0, 0.0, 0.0))
    assert field.asked == 4 * int(seen.opacity.sum())
    field.asked = 0
    shape.surface.render(view, (0.0, 0.0, 0.0))
    assert field.asked > 10 * int(seen.opacity.sum())


def test_only_shapes_seen_often_are_prepared() -> None:
    shape = Surface(Ball(), UNIT)
    assert for_many(shape, MANY - 1) is shape and isinstance(for_many(shape, MANY), MeshedSurface)
    other: Any = object()
    assert for_many(other, 100) is other
