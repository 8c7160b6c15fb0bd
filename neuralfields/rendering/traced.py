"""Renders a surface field: colours by volume rendering as it was fitted, depth and normals by sphere tracing.

Sphere tracing finds where the distance is 0; the mean depth of volume rendering lies in front of a surface that
is still a little blurred. Rays that meet no surface of the inner cube keep the depth of volume rendering.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.fields.field import Field
from neuralfields.fields.surface import SurfaceField
from neuralfields.rays import Rays, Render
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.surface import SLOPE, trace
from neuralfields.rendering.volume import PIECE, RENDER_CHUNK, RENDER_CHUNK_GPU, Volume, by_parts
from neuralfields.scene import Bounds

OPAQUE = 0.5  # opacity from which a ray has a surface


@dataclass(frozen=True)
class Traced:
    """A renderable surface field: `volume`, of a `SurfaceField`."""

    volume: Volume

    @property
    def distance(self) -> bool:
        """Steps may be as long as the level (rendering/surface.py)."""
        return True

    @property
    def field(self) -> Field:
        """The field."""
        return self.volume.field

    @property
    def bounds(self) -> Bounds:
        """The scene's bounds."""
        return self.volume.bounds

    @property
    def occupancy(self) -> Tensor:
        """The occupancy grid."""
        return self.volume.occupancy

    @property
    def device(self) -> torch.device:
        """The field's device."""
        return self.volume.device

    @torch.no_grad()
    def level(self, u: Tensor) -> Tensor:
        """Signed distances at points of the inner cube's frame, u [S, 3] -> [S], in inner cubes."""
        field = self.volume.field
        assert isinstance(field, SurfaceField)
        parts = [field.distance(field.features(self.volume.contraction(part))) for part in u.split(PIECE)]
        return torch.cat(parts) if parts else u.new_empty(0)

    def normals(self, u: Tensor) -> Tensor:
        """Unit normals [S, 3] at points of the inner cube's frame, outwards, by differences."""
        corners = u.new_tensor([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]])
        slope = (self.level((u[:, None] + SLOPE * corners).reshape(-1, 3)).reshape(-1, 4, 1) * corners).sum(1)
        return torch.nn.functional.normalize(slope, dim=1)

    @torch.no_grad()
    def render_rays(self, rays: Rays, background: Colour) -> Render:
        """Renders rays [R] of the world's frame: rgb [R, 3], opacity and depth [R], normal [R, 3]."""
        seen = self.volume.render_rays(rays, background)
        origins, directions = self.volume.normalise(rays)
        t, hit = trace(self, origins, directions)
        hit &= seen.opacity > OPAQUE
        normal = torch.zeros_like(origins)
        normal[hit] = self.normals(origins[hit] + t[hit, None] * directions[hit])
        return Render(seen.rgb, seen.opacity, torch.where(hit, t * self.bounds.side, seen.depth), normal)

    def render(self, camera: Camera, background: Colour) -> Render:
        """Renders a camera's view: rgb and normal [H, W, 3], opacity and depth [H, W]."""
        chunk = RENDER_CHUNK if self.device.type == "cpu" else RENDER_CHUNK_GPU
        return by_parts(camera, chunk, self.device, lambda rays: self.render_rays(rays, background))
