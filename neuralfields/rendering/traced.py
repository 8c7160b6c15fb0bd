"""Renders a surface field: colours by volume rendering as it was fitted, depth and normals by sphere tracing.

Sphere tracing finds where the distance is 0; the mean depth of volume rendering lies in front of a surface that
is still a little blurred. Rays that meet no surface of the inner cube keep the depth of volume rendering.
"""

import torch
from torch import Tensor

from neuralfields.fields.surface import SurfaceField
from neuralfields.layers.differences import gradient_of
from neuralfields.rays import Rays, Render
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.surface import SLOPE, trace
from neuralfields.rendering.volume import PIECE, OfVolume

OPAQUE = 0.5  # opacity from which a ray has a surface


class Traced(OfVolume):
    """A renderable surface field: `volume`, of a `SurfaceField`."""

    distance = True  # steps may be as long as the level (rendering/surface.py)

    @torch.no_grad()
    def level(self, u: Tensor) -> Tensor:
        """Signed distances at points of the inner cube's frame, u [S, 3] -> [S], in inner cubes."""
        field = self.volume.field
        assert isinstance(field, SurfaceField)
        parts = [field.distance(field.features(self.volume.contraction(part))) for part in u.split(PIECE)]
        return torch.cat(parts) if parts else u.new_empty(0)

    @torch.no_grad()
    def render_rays(self, rays: Rays, background: Colour) -> Render:
        """Renders rays [R] of the world's frame: rgb [R, 3], opacity and depth [R], normal [R, 3]."""
        seen = self.volume.render_rays(rays, background)
        origins, directions = self.volume.normalise(rays)
        t, hit = trace(self, origins, directions)
        hit &= seen.opacity > OPAQUE
        normal = torch.zeros_like(origins)
        at = origins[hit] + t[hit, None] * directions[hit]
        normal[hit] = torch.nn.functional.normalize(gradient_of(self.level, at, SLOPE)[0], dim=1)
        return Render(seen.rgb, seen.opacity, torch.where(hit, t * self.bounds.side, seen.depth), normal)
