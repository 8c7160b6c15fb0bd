"""Renders Gaussian splats: tiles of depth-sorted Gaussians, blended front to back (ops/project.py, ops/blend.py).

A camera with distortion is rendered as the pinhole of its focal lengths, and the picture is bent afterwards: see
pictures/undistort.py. Rays by themselves are not rendered, since Gaussians are drawn by the pixels of a camera.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from neuralfields.cameras import NO_DISTORTION, Camera
from neuralfields.errors import UsageError
from neuralfields.gaussians import Gaussians
from neuralfields.ops.blend import WITH_NORMAL, blend
from neuralfields.ops.project import View, project
from neuralfields.ops.tile_lists import tile_lists
from neuralfields.rays import Rays, Render
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.volume import camera_rays
from neuralfields.scene import Bounds

NEAR_SHARE = 0.002  # of the inner cube's side: nothing is drawn before it


@dataclass(frozen=True)
class Splats:
    """Gaussians and where in the world they are; implements `Renderable`."""

    gaussians: Gaussians
    bounds: Bounds

    @property
    def device(self) -> torch.device:
        """Where the Gaussians are."""
        return self.gaussians.device

    @torch.no_grad()
    def render(self, camera: Camera, background: Colour) -> Render:
        """Renders a camera's picture: rgb and unit normal [H, W, 3], opacity and depth [H, W], depth along the ray."""
        if camera.distortion != NO_DISTORTION and any(camera.distortion):
            return self._through_lens(camera, background)
        g = self.gaussians
        view = View.of(pinhole(camera), self.near, antialiased=g.antialiased)
        parameters = (g.means, g.scales, g.rotations, g.opacities, g.harmonics)
        rows = project(*parameters, view, g.degree)
        found = blend(rows, tile_lists(rows, view.size), background, WITH_NORMAL)
        seen = found.opacity > 1e-3
        along = found.depth / found.opacity.clamp(min=1e-3) * ray_lengths(camera, self.device)
        normal = torch.nn.functional.normalize(found.normal, dim=-1)
        return Render(found.rgb, found.opacity, torch.where(seen, along, 0), normal)

    def _through_lens(self, camera: Camera, background: Colour) -> Render:
        """The picture of a camera with distortion: that of a pinhole that sees all of it, bent."""
        wide, places = surrounding_pinhole(camera)
        seen = self.render(wide, background)
        grid = places / places.new_tensor([wide.width, wide.height]) * 2 - 1
        parts = [seen.rgb, seen.opacity[..., None], seen.depth[..., None], seen.normal]
        stacked = torch.cat(parts, 2).permute(2, 0, 1)[None]
        bent = grid_sample(stacked, grid[None], mode="bicubic", padding_mode="border", align_corners=False)
        rgb, opacity, depth, normal = bent[0].permute(1, 2, 0).split([3, 1, 1, 3], 2)
        normal = torch.nn.functional.normalize(normal, dim=-1)
        return Render(rgb.clamp(0, 1), opacity[..., 0].clamp(0, 1), depth[..., 0].clamp(min=0), normal)

    def render_rays(self, rays: Rays, background: Colour) -> Render:
        """Refused: Gaussians are drawn by the pixels of a camera. Raises UsageError."""
        raise UsageError("Gaussians are rendered by cameras, not by single rays; give a Camera")

    @property
    def near(self) -> float:
        """Depth along a camera's axis before which nothing is drawn, in world units."""
        return near_of(self.bounds)


def near_of(bounds: Bounds) -> float:
    """Depth before which nothing of a scene with these bounds is drawn, in world units."""
    return max(bounds.near, NEAR_SHARE * bounds.side)


def pinhole(camera: Camera) -> Camera:
    """The camera without its lens's distortion. Raises UsageError for a fisheye, which no pinhole stands for."""
    if camera.model != "perspective":
        raise UsageError(f"Gaussians are drawn by pinhole cameras, not by a {camera.model} lens; undistort the photos")
    return camera if not any(camera.distortion) else replace(camera, distortion=NO_DISTORTION)


def ray_lengths(camera: Camera, device: torch.device | str = "cpu") -> Tensor:
    """Length of each pixel's ray between planes of depth 0 and 1, [H, W]: distance along the ray = depth times this."""
    rays = camera_rays(replace(camera), device)
    forward = torch.tensor(camera.forward, dtype=torch.float32, device=device)
    return (1 / (rays.directions @ forward)).reshape(camera.height, camera.width)


def surrounding_pinhole(camera: Camera) -> tuple[Camera, Tensor]:
    """A pinhole that sees all that a bent camera sees, and where each of its pixels lies in that picture [H, W, 2]."""
    rays = camera_rays(replace(camera, world_from_camera=np.eye(4)))
    plane = rays.directions[:, :2] / rays.directions[:, 2:].clamp(min=0.05)
    plane = plane.reshape(camera.height, camera.width, 2)
    low, high = plane.amin((0, 1)), plane.amax((0, 1))
    focal = plane.new_tensor([camera.fx, camera.fy])
    size = ((high - low) * focal).ceil().long() + 2
    centre = 1 - low * focal
    wide = replace(
        camera,
        width=int(size[0]),
        height=int(size[1]),
        cx=float(centre[0]),
        cy=float(centre[1]),
        distortion=NO_DISTORTION,
    )
    return wide, plane * focal + centre
