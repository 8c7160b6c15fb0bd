"""Renders shapes by sphere tracing (Hart 1996): a ray steps as far as the distance to the surface allows.

Vocabulary
  u        a point of the unit cube, in which the field lives; t along a ray in its units
  level    [S]: the field's value, below 0 inside
  crossing where the level changes its sign along a ray; it is located by bisection

A fitted distance is approximate, so a step is a little shorter than it, and never shorter than a floor that still
cannot jump over what the field resolves. An occupancy holds no distance: its steps are all the floor.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.fields.field import Field, values_at
from neuralfields.layers.differences import gradient_of
from neuralfields.rays import Rays, Render, through_box
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.volume import RENDER_CHUNK, by_parts
from neuralfields.scene import Bounds

CAUTION = 0.9
FLOOR = 1 / 512
HALVINGS = 8
SLOPE = 1 / 512  # half the baseline of a normal's differences
CLAY = (0.80, 0.78, 0.74)
AMBIENT = 0.25


@dataclass(frozen=True)
class Surface:
    """A renderable field of signed distance (`distance`) or occupancy, and its unit cube's place in the world."""

    field: Field
    bounds: Bounds
    distance: bool = True

    def level(self, u: Tensor) -> Tensor:
        """The field's level: u [S, 3] -> [S]."""
        return values_at(self.field, u)[:, 0]

    def normals(self, u: Tensor) -> Tensor:
        """Unit normals [S, 3], outwards."""
        return torch.nn.functional.normalize(self.slopes(u)[0], dim=1)

    def slopes(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The level's gradients [S, 3], by finite differences, and its mean around the points [S]."""
        return gradient_of(self.level, u, SLOPE)

    def colours(self, u: Tensor) -> Tensor:
        """Colours [S, 3] in [0, 1]: the field's, or clay."""
        if self.field.domain.channels < 4:
            return u.new_tensor(CLAY).expand(len(u), 3)
        return values_at(self.field, u)[:, 1:4].clamp(0, 1)

    @property
    def device(self) -> torch.device:
        """The CPU: spheres are traced there, wherever the field is."""
        return torch.device("cpu")

    @torch.no_grad()
    def render_rays(self, rays: Rays, background: Colour) -> Render:
        """Renders rays [R] with normals, lit from the camera: colour * (ambient + (1 - ambient) |cos|)."""
        starts = range(0, max(1, len(rays)), RENDER_CHUNK)
        return Render.concatenate([self._shaded(rays[i : i + RENDER_CHUNK], background) for i in starts])

    @torch.no_grad()
    def render(self, camera: Camera, background: Colour) -> Render:
        """Renders a camera's view: rgb and normal [H, W, 3], opacity and depth [H, W]."""
        return by_parts(camera, RENDER_CHUNK, "cpu", lambda rays: self._shaded(rays, background))

    def _shaded(self, rays: Rays, background: Colour) -> Render:
        bounds = self.bounds
        origins = (rays.origins - rays.origins.new_tensor(bounds.centre)) / bounds.side + 0.5
        t, hit = trace(self, origins, rays.directions)
        u = origins[hit] + t[hit, None] * rays.directions[hit]
        normal, rgb = torch.zeros_like(origins), torch.tensor(background).expand(len(rays), 3).clone()
        normal[hit] = self.normals(u)
        facing = (normal[hit] * rays.directions[hit]).sum(1).abs()
        rgb[hit] = self.colours(u) * (AMBIENT + (1 - AMBIENT) * facing)[:, None]
        return Render(rgb, hit.float(), torch.where(hit, t, 0) * bounds.side, normal)


class Leveled(Protocol):
    """What can be traced: a level in the unit cube, below 0 inside; `distance`: whether it bounds the way to 0."""

    @property
    def distance(self) -> bool:
        """Whether a step may be as long as the level."""
        ...

    def level(self, u: Tensor) -> Tensor:
        """Levels [S] at points u [S, 3]."""
        ...


@torch.no_grad()
def trace(surface: Leveled, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Sphere-traces rays in the unit cube to their first crossings: origins, unit directions [R, 3] -> t, hit [R]."""
    near, far = through_box(origins, directions, origins.new_zeros(3), origins.new_ones(3))
    near = near.clamp(min=0)  # nothing behind the origin
    t, hit = near.clone(), torch.zeros_like(near, dtype=torch.bool)
    ray = torch.nonzero(far > near).flatten()
    before = near[ray]
    level = surface.level(origins[ray] + before[:, None] * directions[ray])
    first = level < 0  # a camera inside the shape hits it at once
    hit[ray[first]] = True
    ray, before, level = ray[~first], before[~first], level[~first]
    while len(ray):
        step = (CAUTION * level).clamp(min=FLOOR) if surface.distance else torch.full_like(level, FLOOR)
        now = torch.minimum(before + step, far[ray])
        level = surface.level(origins[ray] + now[:, None] * directions[ray])
        crossed = level < 0
        if bool(crossed.any()):
            found = ray[crossed]
            t[found] = _bisect(surface, origins[found], directions[found], before[crossed], now[crossed])
            hit[found] = True
        on = ~crossed & (now < far[ray])
        ray, before, level = ray[on], now[on], level[on]
    return t, hit


def _bisect(surface: Leveled, origins: Tensor, directions: Tensor, outside: Tensor, inside: Tensor) -> Tensor:
    """Bisects between two t [R] to where the level is 0."""
    for _ in range(HALVINGS):
        middle = (outside + inside) / 2
        within = surface.level(origins + middle[:, None] * directions) < 0
        outside, inside = torch.where(within, outside, middle), torch.where(within, middle, inside)
    return (outside + inside) / 2
