"""Renders Gaussians by rasterisation: the `Renderable` of a splat file and of a fit of Gaussians.

Vocabulary
  picture's depth   sum of w z along the optical axis (ops/blend.py); a `Render` has the distance along the ray instead
  ray's length      |(a, b, 1)| of a pixel's point (a, b) on the plane z = 1: distance = z times it
A perspective lens with distortion is rendered as a pinhole that sees all of it, and the picture is bent; for
a fit photos are undistorted once, when they are loaded.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from neuralfields.cameras import NO_DISTORTION, Camera
from neuralfields.errors import UsageError
from neuralfields.gaussians import Gaussians
from neuralfields.ops.blend import COLOUR_ONLY, WITH_NORMAL, Blended, splat
from neuralfields.ops.project import View, project
from neuralfields.ops.splat_pass import Packed, SplatPass, morton_order
from neuralfields.rays import Rays, Render
from neuralfields.rendering.moving_splats import MovingPass, packed
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.volume import camera_rays
from neuralfields.scene import Bounds

LEAST_OPACITY = 1e-4  # under it a pixel has neither depth nor normal
NEAR_SHARE = 1e-3  # least depth, in sides of the scene's cube
RAY_FOCAL = 1000.0  # pixels: how wide the pixel is that a single ray stands for


@dataclass(frozen=True)
class Splats:
    """Gaussians to look at, and where they are. Renders on their device, in float32; no gradients.

    Those that move are seen as they are at a camera's or a ray's time, at the scene's first where it has none.
    """

    gaussians: Gaussians
    bounds: Bounds

    @property
    def device(self) -> torch.device:
        """Where it computes: where the Gaussians are."""
        return self.gaussians.device

    @cached_property
    def _order(self) -> Tensor:
        return morton_order(self.gaussians.means)

    @cached_property
    def _run(self) -> SplatPass | MovingPass:
        """The Gaussians in Morton order, packed, with the memory of the last picture."""
        ordered = self.gaussians.take(self._order)
        if ordered.motion is not None:
            return MovingPass(packed(ordered))
        return SplatPass(Packed.of(*(part.float() for part in parameters(ordered))))

    def at(self, time: float | None) -> "Splats":
        """What stands still at a time in the capture's own unit, or at the first."""
        if self.gaussians.motion is None:
            return self
        still = self.gaussians.at(self._moment(time))
        return Splats(still, replace(self.bounds, times=None))

    def _moment(self, time: float | None) -> float:
        return 0.0 if time is None else self.bounds.moment(time)

    def _seen(self, time: float | None, view: View, background: Colour, level: int) -> Blended:
        """The picture of a time."""
        if isinstance(self._run, MovingPass):
            self._run.moment = self._moment(time)
        return self._run.render(view, background, self.gaussians.degree, level)

    def view(self, camera: Camera) -> View:
        """The camera as the projection takes it; raises UsageError for a lens that bends lines."""
        near = near_of(self.bounds)
        return View.of(camera, near=near, antialiased=self.gaussians.antialiased)

    @torch.no_grad()
    def render(self, camera: Camera, background: Colour) -> Render:
        """Renders a camera's picture: rgb [H, W, 3], opacity, depth [H, W], normal [H, W, 3]; any perspective lens."""
        if not len(self.gaussians):
            empty = torch.zeros(camera.height, camera.width, device=self.device)
            return Render(
                empty.new_tensor(background).expand(*empty.shape, 3).clone(),
                empty,
                empty,
                empty[..., None].repeat(1, 1, 3),
            )
        if camera.model == "perspective" and any(camera.distortion):
            return self._through_lens(camera, background)
        view = self.view(camera)
        return finished(self._seen(camera.time, view, background, WITH_NORMAL), view)

    def _through_lens(self, camera: Camera, background: Colour) -> Render:
        """The picture of a camera with distortion: that of a pinhole that sees all of it, bent."""
        wide, places = surrounding_pinhole(camera)
        seen = self.render(wide, background)
        grid = (places / places.new_tensor([wide.width, wide.height]) * 2 - 1)[None].to(self.device)
        rgb = _bent(seen.rgb, grid, "bicubic")  # the rest has edges of its own, which a cubic overshoots
        rest = _bent(torch.cat([seen.opacity[..., None], seen.depth[..., None], seen.normal], 2), grid, "bilinear")
        opacity, depth, normal = rest.split([1, 1, 3], 2)
        return Render(rgb.clamp(0, 1), opacity[..., 0].clamp(0, 1), depth[..., 0].clamp(min=0), _unit(normal))

    def importance(self, cameras: list[Camera]) -> Tensor:
        """Sum of each Gaussian's blending weights over the pixels of all cameras, [N]."""
        total = torch.zeros(len(self.gaussians), device=self.device)
        for camera in cameras:
            total += self.weights(self.view(camera), camera.time)
        return total

    @torch.no_grad()
    def weights(self, view: View, time: float | None = None) -> Tensor:
        """Sum of each Gaussian's blending weights over the pixels of a view, [N]."""
        total = torch.zeros(len(self.gaussians), device=self.device)
        if isinstance(self._run, MovingPass):
            self._run.moment = self._moment(time)
        self._run.render(view, (0.0, 0.0, 0.0), 0, COLOUR_ONLY, total)
        return torch.empty_like(total).index_copy(0, self._order, total)

    @torch.no_grad()
    def render_rays(self, rays: Rays, background: Colour) -> Render:
        """Rays one by one, each a picture of one pixel, some tenths of a millisecond a ray. For pictures: `render`.

        rgb [R, 3], opacity and depth [R], normal [R, 3].
        """
        near = near_of(self.bounds)
        pictures = []
        times = [None] * len(rays) if rays.times is None else rays.times.tolist()
        for origin, direction, time in zip(rays.origins.tolist(), rays.directions.tolist(), times, strict=True):
            view = replace(_along(origin, direction), near=near, antialiased=self.gaussians.antialiased)
            blended = self._seen(time, view, background, WITH_NORMAL)
            pictures.append(finished(blended, view).reshape(1))
        empty = torch.zeros(0, device=self.device)
        return Render.concatenate(pictures) if pictures else Render(empty.view(0, 3), empty, empty, empty.view(0, 3))


def near_of(bounds: Bounds) -> float:
    """Depth before which nothing of a scene with these bounds is drawn, in world units."""
    return max(bounds.near, NEAR_SHARE * bounds.side)


def pinhole(camera: Camera) -> Camera:
    """The camera without its lens's distortion. Raises UsageError for a fisheye, which no pinhole stands for."""
    if camera.model != "perspective":
        raise UsageError(f"a pinhole camera is needed, not a {camera.model} lens; undistort the photos")
    return camera if not any(camera.distortion) else replace(camera, distortion=NO_DISTORTION)


def parameters(gaussians: Gaussians) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """means, scales, rotations, opacities and harmonics, as the ops take them."""
    return gaussians.means, gaussians.scales, gaussians.rotations, gaussians.opacities, gaussians.harmonics


def render_gaussians(
    gaussians: Gaussians, view: View, background: Colour, degree: int | None = None, level: int = COLOUR_ONLY
) -> Blended:
    """A picture through the ops, differentiable in all parameters; see ops/blend.py for `level` and what comes back.

    A fit goes by `SplatPass` (ops/splat_pass.py), which gives the same picture without autograd's detour.
    """
    rows = project(*parameters(gaussians), view, gaussians.degree if degree is None else degree)
    return splat(rows, view.size, background, level)


def finished(blended: Blended, view: View) -> Render:
    """What was blended as a `Render` of its own memory: distance along the unit ray, normals of length 1 or None."""
    opacity, (width, height) = blended.opacity, view.size
    hit = opacity > LEAST_OPACITY
    columns, rows = (torch.arange(n, dtype=opacity.dtype, device=opacity.device) + 0.5 for n in (width, height))
    a, b = (columns - view.principal[0]) / view.focal[0], (rows - view.principal[1]) / view.focal[1]
    length = (a * a + (b * b)[:, None] + 1).sqrt()
    depth = torch.where(hit, blended.depth / opacity.clamp(min=LEAST_OPACITY) * length, torch.zeros_like(opacity))
    normal = None if blended.normal is None else _unit(blended.normal) * hit[..., None]
    return Render(blended.rgb.clamp(max=1.0), opacity.clone(), depth, normal)


def _along(origin: list[float], direction: list[float]) -> View:
    """A pinhole of one pixel whose axis is the ray."""
    forward = np.asarray(direction, dtype=np.float64)
    aside = np.cross(np.eye(3)[np.abs(forward).argmin()], forward)
    aside /= np.linalg.norm(aside)
    rotation = np.stack([aside, np.cross(forward, aside), forward])
    return View(tuple(rotation.flatten().tolist()), tuple(origin), (RAY_FOCAL, RAY_FOCAL), (0.5, 0.5), (1, 1))


def _unit(vectors: Tensor) -> Tensor:
    """Vectors [..., 3] at length 1; 0 stays. Several times as fast as torch's own over so short an axis."""
    x, y, z = vectors.unbind(-1)
    return vectors * (x * x + y * y + z * z).clamp(min=1e-24).rsqrt()[..., None]


def _bent(picture: Tensor, grid: Tensor, mode: str) -> Tensor:
    """A picture [H, W, C] at the places of a grid [1, h, w, 2], [h, w, C]."""
    planes = picture.permute(2, 0, 1)[None]
    return grid_sample(planes, grid, mode=mode, padding_mode="border", align_corners=False)[0].permute(1, 2, 0)


def surrounding_pinhole(camera: Camera) -> tuple[Camera, Tensor]:
    """A pinhole that sees all that a bent camera sees, and where each of its pixels lies in that picture [H, W, 2]."""
    facts = camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy, camera.model, camera.distortion
    size, centre, places = _surroundings(*facts)
    wide = replace(camera, width=size[0], height=size[1], cx=centre[0], cy=centre[1], distortion=NO_DISTORTION)
    return wide, places


@lru_cache(maxsize=4)
def _surroundings(*facts: Any) -> tuple[tuple[int, int], tuple[float, float], Tensor]:
    """Size and centre of that picture and the pixels' places in it, of a lens: the photos of a capture share few."""
    camera = Camera(np.eye(4), *facts)
    rays = camera_rays(camera)
    plane = rays.directions[:, :2] / rays.directions[:, 2:].clamp(min=0.05)
    plane = plane.reshape(camera.height, camera.width, 2)
    low, high = plane.amin((0, 1)), plane.amax((0, 1))
    focal = plane.new_tensor([camera.fx, camera.fy])
    width, height = (((high - low) * focal).ceil().long() + 2).tolist()
    centre = 1 - low * focal
    return (width, height), (float(centre[0]), float(centre[1])), plane * focal + centre
