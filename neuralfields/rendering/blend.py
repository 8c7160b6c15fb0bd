"""Renders a blend of two fields: rays that miss its box are the base's own, bit for bit.

All rays are rendered by the base as if nothing were there, then those that meet the box again by the blend, in steps
as fine as the smaller of both fields needs.
"""

import math

import torch
from torch import Tensor

from neuralfields.fields.blend import BlendField, Config
from neuralfields.ops.occupancy_bits import CELLS, bricks_of, cells_of
from neuralfields.rays import Rays, Render, through_box
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.volume import RENDER_CHUNK, OfVolume, Volume, finish
from neuralfields.scene import Bounds

FINEST = 1 / 8  # least step of a small insert, as a share of the base's
MARGIN = 1e-4  # of the box's sides: by rounding, a ray just beside it may have a sample in it


class Blended(OfVolume):
    """A renderable blend: `volume`, of the blend, with the base's bounds and the occupancy of both."""

    @property
    def base(self) -> Volume:
        """The base by itself."""
        field = self.volume.field
        assert isinstance(field, BlendField)
        return Volume(field.base, self.volume.bounds, field.base_occupancy)

    @torch.no_grad()
    def render_rays(self, rays: Rays, background: Colour) -> Render:
        """Renders rays [R] of the world's frame: rgb [R, 3], opacity and depth [R]."""
        seen = self.base.render_rays(rays, background)
        config = self.volume.field.config
        near = meets_box(config, rays).nonzero().flatten()
        colour, fine = torch.tensor(background, device=self.device), self._coarseness(config)
        for part in near.split(RENDER_CHUNK):
            again = finish(self.volume.sums(rays[part], coarseness=fine), colour, self.bounds.side)
            seen.rgb[part], seen.opacity[part], seen.depth[part] = again.rgb, again.opacity, again.depth
        return seen

    def _coarseness(self, config: Config) -> float:
        return min(1.0, max(FINEST, config.insert.side * config.scale / self.bounds.side))


def meets_box(config: Config, rays: Rays) -> Tensor:
    """Mask [R] of rays of the base's world that meet the box of a blend in front of their origins."""
    origins = config.local(rays.origins)
    directions = rays.directions @ rays.directions.new_tensor(config.turn)
    low, high = origins.new_tensor(config.low), origins.new_tensor(config.high)
    margin = MARGIN * (high - low)
    enter, leave = through_box(origins, directions, low - margin, high + margin)
    return leave >= enter.clamp(min=0)


@torch.no_grad()
def blended_occupancy(config: Config, base: Volume, insert: Volume) -> Tensor:
    """Occupancy bits of a blend: the base's, and cells that hold an occupied cell of the insert in the box.

    Cells that lie in the box as a whole lose the base where the mode is "replace".
    """
    cells, bounds = cells_of(base.occupancy.cpu()), base.bounds
    steps = [bounds.side * 2.0**cascade / CELLS for cascade in range(len(cells))]
    if config.mode == "replace":
        for cascade, step in enumerate(steps):
            _clear(config, cells[cascade], bounds, step)
    for theirs, corner, size in _occupied_cells(config, insert):
        # So many along a cell, its faces among them.
        looks = min(8, 1 + math.ceil(size * config.scale / steps[0] - 1e-6))
        line = torch.linspace(0, 1, looks) * size
        for offset in torch.cartesian_prod(line, line, line):
            local = corner[theirs] + offset
            local = local[config.inside(local)]
            world = config.scale * local @ local.new_tensor(config.turn).T + local.new_tensor(config.at)
            for cascade, step in enumerate(steps):
                at = ((world - world.new_tensor(bounds.centre)) / step + CELLS / 2).floor().long()
                at = at[((at >= 0) & (at < CELLS)).all(1)]
                cells[cascade].index_put_(tuple(at.T.flip(0)), torch.tensor(True))
    return bricks_of(cells).to(base.occupancy.device)


def _clear(config: Config, cells: Tensor, bounds: Bounds, step: float) -> None:
    """Clears those of a cascade's cells [128, 128, 128] of that side that lie in the box as a whole."""
    corners = torch.cartesian_prod(*torch.tensor([config.low, config.high]).T.unbind(0))
    world = config.scale * corners @ torch.tensor(config.turn).T + torch.tensor(config.at)
    place = (world - torch.tensor(bounds.centre)) / step + CELLS / 2
    first, last = place.amin(0).floor().clamp(0, CELLS).long(), place.amax(0).ceil().clamp(0, CELLS).long()
    if bool((first >= last).any()):
        return
    lines = [torch.arange(a, b + 1) for a, b in zip(first.tolist(), last.tolist(), strict=True)]
    x, y, z = ((line - CELLS / 2) * step + middle for line, middle in zip(lines, bounds.centre, strict=True))
    grid = torch.stack(torch.meshgrid(z, y, x, indexing="ij")[::-1], -1)
    inside = config.inside(config.local(grid.reshape(-1, 3))).reshape(grid.shape[:3])
    for axis in range(3):  # a box is convex: a cell lies in it if its corners do
        inside = inside.narrow(axis, 0, inside.shape[axis] - 1) & inside.narrow(axis, 1, inside.shape[axis] - 1)
    (a, b, c), (d, e, f) = first.tolist(), last.tolist()
    cells[c:f, b:e, a:d] &= ~inside


def _occupied_cells(config: Config, insert: Volume) -> list[tuple[Tensor, Tensor, float]]:
    """For each cascade of the insert: which of the occupied cells near the box, their lowest corners, their side."""
    found, bounds = [], insert.bounds
    for cascade, cells in enumerate(cells_of(insert.occupancy.cpu())):
        size = bounds.side * 2.0**cascade / CELLS
        at = cells.nonzero().flip(1)
        corner = (at - CELLS / 2) * size + torch.tensor(bounds.centre)
        low, high = corner.new_tensor(config.low), corner.new_tensor(config.high)
        near = ((corner + size >= low) & (corner <= high)).all(1)
        if cascade:  # what a finer cascade holds is told there
            near &= ((at < CELLS // 4) | (at >= CELLS - CELLS // 4)).any(1)
        found.append((near, corner, size))
    return found
