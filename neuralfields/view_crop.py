"""A part of a field: what lies inside a box, cut open at its faces.

Rays begin where they enter the box, so the faces that are seen are cut exactly. Behind the box nothing is sampled but
within the occupancy cells that its faces run through (1/128 of a cascade's side). A cut by a plane that is at right
angles to an axis is the same thing: half of space is a box too.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.ops.march import BRICKS, CELLS
from neuralfields.rays import Rays, Render
from neuralfields.scene import Bounds
from neuralfields.volume import Volume, camera_rays, finish, render_camera, render_sums

Corner = tuple[float, float, float]
Box = tuple[Corner, Corner]


@torch.no_grad()
def render_box(volume: Volume, camera: Camera, background: Corner, box: Box | None) -> Render:
    """The camera's picture of what lies inside the box (world); all of it where `box` is None."""
    if box is None:
        return render_camera(volume, camera, background)
    rays, there = camera_rays(camera, volume.device), volume.device
    colour, low, high = (torch.tensor(values, device=there) for values in (background, *box))
    steep = torch.where(rays.directions.abs() < 1e-9, 1e-9, rays.directions)  # a ray along a face divides by zero
    a, b = (low - rays.origins) / steep, (high - rays.origins) / steep
    enter = torch.minimum(a, b).amax(1).clamp(min=volume.bounds.near)
    leave = torch.maximum(a, b).amin(1)
    hit = (leave > enter).nonzero()[:, 0]
    rgb = colour.repeat(len(rays), 1)
    opacity, depth = torch.zeros(len(rays), device=there), torch.zeros(len(rays), device=there)
    if len(hit):
        directions, enter = rays.directions[hit], enter[hit]
        inside = Rays(rays.origins[hit] + directions * enter[:, None], directions)
        bits = volume.occupancy & mask(volume.bounds, box).to(there)
        cut = Volume(volume.field, replace(volume.bounds, near=0.0), bits)
        part = finish(render_sums(cut, inside), colour, volume.bounds.side)
        rgb[hit], opacity[hit] = part.rgb, part.opacity
        depth[hit] = torch.where(part.opacity > 1e-3, part.depth + enter, 0)
    return Render(rgb, opacity, depth).reshape(camera.height, camera.width)


@lru_cache(maxsize=4)
def mask(bounds: Bounds, box: Box) -> Tensor:
    """Occupancy bits [cascades, 32768] of the cells that touch the box."""
    words = []
    for cascade in range(bounds.cascades):
        side = bounds.side * 2.0**cascade
        edges = np.linspace(-0.5, 0.5, CELLS + 1) * side
        touched = [
            (edges[1:] + middle >= low) & (edges[:-1] + middle <= high)
            for middle, low, high in zip(bounds.centre, *box, strict=True)
        ]
        cells = touched[2][:, None, None] & touched[1][None, :, None] & touched[0][None, None, :]  # [z, y, x]
        inner = CELLS // BRICKS
        bricks = cells.reshape(BRICKS, inner, BRICKS, inner, BRICKS, inner).transpose(0, 2, 4, 1, 3, 5)
        bits = np.packbits(bricks.reshape(BRICKS**3, inner**3), axis=1, bitorder="little")
        words.append(torch.from_numpy(bits.view(np.int64).reshape(-1)))
    return torch.stack(words)
