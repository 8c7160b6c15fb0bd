"""Crops a field to a box, with exact cuts at its faces.

Rays start where they enter the box, so the visible faces are cut exactly. Behind the box only the occupancy cells that
its faces pass through are sampled (1/128 of a cascade's side). An axis-aligned clipping plane is the same: half of
space is a box too.
"""

from dataclasses import replace

import torch

from neuralfields.cameras import Camera
from neuralfields.distillation.boxes import cells
from neuralfields.gaussians import Gaussians
from neuralfields.rays import Render, through_box
from neuralfields.rendering.in_time import in_segments
from neuralfields.rendering.renderable import Renderable
from neuralfields.rendering.splat import Splats
from neuralfields.rendering.splat_sequence import SplatSequence
from neuralfields.rendering.volume import Volume, camera_rays, finish

Corner = tuple[float, float, float]
Box = tuple[Corner, Corner]


@torch.no_grad()
def render_box(volume: Volume | Splats | SplatSequence, camera: Camera, background: Corner, box: Box | None) -> Render:
    """Renders a camera's view of the inside of a box (world), or of everything where `box` is None."""
    if box is None:
        return volume.render(camera, background)
    if isinstance(volume, Splats | SplatSequence):
        volume = volume.at(camera.time)
        return Splats(gaussians_inside(volume.gaussians, box), volume.bounds).render(camera, background)
    rays, there = camera_rays(camera, volume.device), volume.device
    colour = torch.tensor(background, device=there)
    enter, leave = through_box(rays.origins, rays.directions, *(rays.origins.new_tensor(corner) for corner in box))
    enter = enter.clamp(min=volume.bounds.near)
    hit = (leave > enter).nonzero()[:, 0]
    rgb = colour.repeat(len(rays), 1)
    opacity, depth = torch.zeros(len(rays), device=there), torch.zeros(len(rays), device=there)
    if len(hit):
        directions, enter = rays.directions[hit], enter[hit]
        inside = replace(rays[hit], origins=rays.origins[hit] + directions * enter[:, None])
        bits = volume.occupancy & in_segments(cells(volume.bounds, box).to(there), volume.occupancy)
        cut = Volume(volume.field, replace(volume.bounds, near=0.0), bits)
        part = finish(cut.sums(inside), colour, volume.bounds.side)
        rgb[hit], opacity[hit] = part.rgb, part.opacity
        depth[hit] = torch.where(part.opacity > 1e-3, part.depth + enter, 0)
    return Render(rgb, opacity, depth).reshape(camera.height, camera.width)


@torch.no_grad()
def render_cut(surface: Renderable, camera: Camera, background: Corner, box: Box | None) -> Render:
    """Renders a camera's view of what of a surface lies in a box (world), or of everything where `box` is None.

    Rays begin where they enter the box: behind what is cut away the rest is seen.
    """
    if box is None:
        return surface.render(camera, background)
    rays = camera_rays(camera, surface.device)
    enter, leave = through_box(rays.origins, rays.directions, *(rays.origins.new_tensor(corner) for corner in box))
    enter = enter.clamp(min=0)
    moved = replace(rays, origins=rays.origins + rays.directions * enter[:, None])
    seen = surface.render_rays(moved, background)
    kept = (leave > enter) & (seen.opacity > 0) & (seen.depth <= leave - enter)
    rgb = torch.where(kept[:, None], seen.rgb, torch.tensor(background))
    normal = None if seen.normal is None else torch.where(kept[:, None], seen.normal, 0.0)
    depth, opacity = torch.where(kept, seen.depth + enter, 0.0), torch.where(kept, seen.opacity, 0.0)
    return Render(rgb, opacity, depth, normal).reshape(camera.height, camera.width)


def gaussians_inside(gaussians: Gaussians, box: Box) -> Gaussians:
    """The Gaussians whose centres lie in a box (world)."""
    low, high = (gaussians.means.new_tensor(corner) for corner in box)
    return gaussians.take(((gaussians.means >= low) & (gaussians.means <= high)).all(1))
