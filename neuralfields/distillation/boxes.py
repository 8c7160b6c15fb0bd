"""Erases boxes of a scene in any field: masks its density and clears its occupancy grid there.

A box is x0,y0,z0,x1,y1,z1 in the capture's own world: two opposite corners.
"""

from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np
import torch
from torch import Tensor

from neuralfields.errors import UsageError
from neuralfields.gaussians import Gaussians
from neuralfields.ops.occupancy_bits import CELLS, bricks_of
from neuralfields.rendering.in_time import in_segments
from neuralfields.rendering.masked import Masked
from neuralfields.rendering.volume import Volume
from neuralfields.scene import Bounds
from neuralfields.splatting.clean import floaters, largest


@dataclass(frozen=True)
class Edit:
    """An edit by boxes [6] in world units: erases the inside of `erase` boxes and the outside of `keep` boxes.

    Of Gaussians also: `drop_floaters`, and the `drop_largest` percent of the largest (splatting/clean.py).
    """

    erase: tuple[tuple[float, ...], ...] = ()
    keep: tuple[tuple[float, ...], ...] = ()
    drop_floaters: bool = False
    drop_largest: float = 0.0

    def left(self, x: Tensor, bounds: Bounds) -> Tensor:
        """Mask of points that are kept, [S] bool; x [S, 3] in the frame of the inner cube."""
        kept = torch.ones(len(x), dtype=torch.bool, device=x.device)
        if self.keep:
            kept = torch.stack([_inside(x, box, bounds) for box in self.keep]).any(0)
        for box in self.erase:
            kept &= ~_inside(x, box, bounds)
        return kept

    def gaussians(self, gaussians: Gaussians) -> Gaussians:
        """Those whose means are kept."""
        kept = torch.ones(len(gaussians), dtype=torch.bool)
        if self.keep:
            kept = torch.stack([_in_world(gaussians.means, box) for box in self.keep]).any(0)
        for box in self.erase:
            kept &= ~_in_world(gaussians.means, box)
        if self.drop_floaters:
            kept &= ~floaters(gaussians)
        if self.drop_largest:
            kept &= ~largest(gaussians, self.drop_largest / 100)
        return gaussians.take(kept)

    def volume(self, volume: Volume) -> Volume:
        """The edited volume, as a teacher. Raises UsageError for what only Gaussians can lose."""
        if self.drop_floaters or self.drop_largest:
            raise UsageError("--drop-floaters and --drop-largest are for Gaussians; cut a field with --erase-box")
        masked = Masked(volume, lambda x: self.left(x, volume.bounds))
        return Volume(masked, volume.bounds, self.occupancy(volume))

    def occupancy(self, volume: Volume) -> Tensor:
        """Occupancy bits without the cells that are erased as a whole, or that touch no `keep` box."""
        bits, bounds = volume.occupancy.clone(), volume.bounds
        if self.keep:
            touched = [cells(bounds, (box[:3], box[3:])).to(bits.device) for box in self.keep]
            bits &= in_segments(reduce(torch.bitwise_or, touched), bits)
        for box in self.erase:
            bits &= ~in_segments(cells(bounds, (box[:3], box[3:]), whole=True).to(bits.device), bits)
        return bits


@lru_cache(maxsize=4)
def cells(bounds: Bounds, box: tuple[tuple[float, ...], tuple[float, ...]], whole: bool = False) -> Tensor:
    """Occupancy bits [cascades, 32768] of the cells that touch a box (two corners, world), or with `whole` lie in."""
    words = []
    for cascade in range(bounds.cascades):
        edges = np.linspace(-0.5, 0.5, CELLS + 1) * bounds.side * 2.0**cascade
        first, last = (edges[:-1], edges[1:]) if whole else (edges[1:], edges[:-1])
        x, y, z = (
            (first + middle >= low) & (last + middle <= high)
            for middle, low, high in zip(bounds.centre, *box, strict=True)
        )
        inside = z[:, None, None] & y[None, :, None] & x[None, None, :]
        words.append(torch.from_numpy(inside))
    return bricks_of(torch.stack(words))


def _in_world(x: Tensor, box: tuple[float, ...]) -> Tensor:
    return ((x >= x.new_tensor(box[:3])) & (x <= x.new_tensor(box[3:]))).all(1)


def _inside(x: Tensor, box: tuple[float, ...], bounds: Bounds) -> Tensor:
    centre = x.new_tensor(bounds.centre)
    low, high = ((x.new_tensor(corner) - centre) / bounds.side + 0.5 for corner in (box[:3], box[3:]))
    return ((x >= low) & (x <= high)).all(1)
