"""The occupancy grid: empty-space skipping for ray marching, updated along with the field's training.

Vocabulary
  cascade  a cube of side 2^c inner cubes around the inner cube's middle, of 128^3 cells
  brick    4^3 cells, kept as one 64-bit word of bits; 32^3 bricks a cascade
  density  a decaying maximum of a cell's sampled densities, in 1/inner cube; -1 in bricks that no camera sees
  segment  of a scene that moves: a part of its time with a grid of its own (rendering/in_time.py)
  layer    a cascade of a segment
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.captures.hull import Silhouette, votes
from neuralfields.domain import SEGMENTS
from neuralfields.ops.occupancy_bits import BRICK_CELLS, BRICKS, CELLS, grown, pack_bricks
from neuralfields.ops.pixel_rays import camera_table, pixel_rays

UNSEEN = -1.0
# A step of sqrt(3) / 1024 through this density absorbs 1 %: Instant-NGP's threshold.
DENSITY_THRESHOLD = 0.01 * 1024 / 3**0.5
# The threshold early in training, when density is nearly uniform (fog). At the mean itself half of all cells would be
# emptied by the first update, before anything is known: on the fox that costs 4.8 dB at 1,500 steps
# (benchmarks/ablation.md).
MEAN_SHARE = 0.5
DECAY = 0.8
# Of a scene that moves: a look sees one moment, and what passes a cell in a twentieth of the time is seen once in 20
# looks.
DECAY_IN_TIME = 0.85
MOST_LAYERS = 16  # of the grid in training, 8 MB each
CARVING_ERRORS = 0.05  # share of the photos whose silhouettes may be wrong about a brick
CARVED_BY = 3  # photos at least, all of which show background, where a scene moves


class Occupancy:
    """The grid in training: `bits` [layers, 32768] int64 for marching, from `density` [layers, 32768, 64].

    A scene that `moves` has one segment at first, whose cells are occupied if they are at any moment, and more after
    `split`.
    """

    def __init__(self, cascades: int, moves: bool = False) -> None:
        self.cascades, self.moves = cascades, moves
        self.density = torch.zeros(cascades, BRICKS**3, BRICK_CELLS)
        self.bits = torch.full((cascades, BRICKS**3), -1, dtype=torch.int64)
        self.cursor = 0
        self.held: Tensor | None = None  # bricks [layers, 32768] that are empty until `release`
        self._packed_at: float | None = None  # the threshold that `bits` was packed with
        self._brick, self._cell, self._block = _brick_corners(), _cell_corners(), _block_of_cell()
        self._order_visible()

    def hide_unseen(self, cameras: list[Camera], centre: tuple[float, float, float], side: float) -> None:
        """Marks bricks outside all cameras' views: they are never sampled, so no floaters (fog) settle in them."""
        for cascade in range(self.cascades):
            edge = 2.0**cascade
            middle = (self._brick + 0.5 / BRICKS - 0.5).double() * edge * side
            middle += torch.tensor(centre, dtype=torch.float64)
            radius = 3**0.5 / 2 * edge * side / BRICKS
            seen = torch.zeros(len(middle), dtype=torch.bool)
            for camera in cameras:
                seen |= _sees(camera, middle, radius)
            self.density[cascade :: self.cascades, ~seen] = UNSEEN
        self._open_visible()

    def hide_background(
        self, silhouettes: Sequence[Silhouette], centre: tuple[float, float, float], side: float
    ) -> None:
        """Marks bricks that lie wholly on the background of some photos: space carving, by silhouettes of an object.

        One photo in twenty may err, so that a bad mask takes nothing away; nor do poses that are a pixel off. Where
        things move, what is fast is seen somewhere by one photo alone: every photo at every time must show background.
        """
        if not silhouettes:
            return
        for cascade in range(self.cascades):
            edge = 2.0**cascade
            middle = (self._brick.double() + 0.5 / BRICKS - 0.5) * edge * side
            middle = middle.numpy() + np.asarray(centre, dtype=np.float64)
            radius = 3**0.5 / 2 * edge * side / BRICKS
            inside, away = votes(silhouettes, middle, radius, whole=True)
            empty = (away == inside) & (inside >= CARVED_BY) if self.moves else away > CARVING_ERRORS * inside
            self.density[cascade :: self.cascades, torch.from_numpy(empty)] = UNSEEN
        self._open_visible()

    def hold_empty(self, free: Tensor) -> None:
        """Marks bricks [cascades, 32768] as those that no camera sees, until `release`: what is empty at first."""
        self.held = free.to(self.density.device) & (self.density[:, :, 0] >= 0)
        self.density[self.held] = UNSEEN
        self._open_visible()

    def release(self) -> None:
        """Opens the bricks that were held empty, as empty as they are; updates fill them where a field does."""
        if self.held is None:
            return
        self.density = torch.where(self.held[..., None] & (self.density < 0), 0.0, self.density)
        self.held = None
        self._order_visible()
        self.pack()

    def hide_empty(self, low: Tensor, high: Tensor) -> None:
        """Marks bricks that no box of corners [N, 3] (inner cube's frame) reaches: what is known to be empty."""
        for cascade in range(self.cascades):
            edge = 2.0**cascade
            first, last = (((x - 0.5) / edge + 0.5) * BRICKS for x in (low, high))
            inside = ((last >= 0) & (first < BRICKS)).all(1)
            first, last = (x[inside].floor().long().clamp(0, BRICKS - 1) for x in (first, last))
            # How many boxes hold a brick: each counts from its lower corner on, and no more behind its upper one.
            counts = torch.zeros([BRICKS + 1] * 3, dtype=torch.int32, device=low.device)
            for corner in itertools.product((0, 1), repeat=3):
                at = torch.where(torch.tensor(corner, dtype=torch.bool, device=low.device), last + 1, first).unbind(1)
                sign = torch.full((len(first),), 1 - 2 * (sum(corner) % 2), dtype=torch.int32, device=low.device)
                counts.index_put_((at[2], at[1], at[0]), sign, accumulate=True)
            reached = counts.cumsum(0).cumsum(1).cumsum(2)[:BRICKS, :BRICKS, :BRICKS] > 0
            self.density[cascade :: self.cascades, ~reached.flatten().to(self.density.device)] = UNSEEN
        self._open_visible()

    def _open_visible(self) -> None:
        self.bits = torch.where(self.density[:, :, 0] < 0, 0, -1)
        self._order_visible()

    def to(self, device: torch.device | str) -> "Occupancy":
        """Moves the grid to another device, for updates and ray marching."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        return self

    def update(
        self, density: Callable[[Tensor], Tensor], generator: torch.Generator, share: float, coarse: bool
    ) -> None:
        """Updates the next `share` of the visible bricks: `density` maps x [S, 3] (inner cube's frame) to [S].

        Each cell is sampled at a random point. `coarse`: one sample for 2^3 cells. Of a scene that moves x is [S, 4],
        the last a random moment of the segment.
        """
        visible = len(self._visible)
        if not visible:
            return
        count = max(1, min(visible, round(visible * share)))
        turn = torch.arange(count, device=self.density.device) + self.cursor
        layer, brick = self._visible[turn % visible].unbind(1)
        self.cursor = (self.cursor + count) % visible
        corners, size = (self._cell[_BLOCK_FIRST], 2 / CELLS) if coarse else (self._cell, 1 / CELLS)
        x = self._brick[brick][:, None] + corners[None]
        x += torch.rand(count, len(corners), 3, generator=generator, device=generator.device) * size
        x = (x - 0.5) * torch.exp2((layer % self.cascades).float())[:, None, None] + 0.5
        if self.moves:
            moment = torch.rand(count, len(corners), 1, generator=generator, device=generator.device)
            x = torch.cat([x, (moment + (layer // self.cascades)[:, None, None]) / self.segments], dim=2)
        # NaN counts as occupied: rays must go on sampling it for the fit to notice.
        new = density(x.flatten(0, 1)).reshape(count, -1).nan_to_num(nan=2 * DENSITY_THRESHOLD)
        if coarse:
            new = new[:, self._block]
        decay = DECAY_IN_TIME if self.moves else DECAY
        new = torch.maximum(self.density[layer, brick] * decay, new)
        self.density[layer, brick] = new
        self._sums[layer, brick] = new.sum(1)
        if self.threshold() == self._packed_at:
            self.bits[layer, brick] = pack_bricks(new > self._packed_at)
        else:
            self.pack()

    @property
    def segments(self) -> int:
        """Number of segments of time, 1 for a still scene."""
        return len(self.density) // self.cascades

    def split(self) -> None:
        """Divides time into segments, each with what is known of all time; as many as memory has room for."""
        times = min(SEGMENTS, 1 << max(0, int(math.log2(MOST_LAYERS / self.cascades)))) // self.segments
        if times < 2:
            return
        self.density, self.bits = (
            part.reshape(self.segments, 1, self.cascades, *part.shape[1:])
            .expand(-1, times, *[-1] * part.ndim)
            .reshape(-1, *part.shape[1:])
            .clone()
            for part in (self.density, self.bits)
        )
        self._order_visible()
        self._packed_at, self.cursor = None, 0

    def restore(self, density: Tensor, bits: Tensor, cursor: int) -> None:
        """Restores the grid of a checkpoint."""
        device = self.density.device
        self.density, self.bits, self.cursor = density.to(device, copy=True), bits.to(device, copy=True), cursor
        if self.held is not None and bool((self.density[self.held] >= 0).all()):
            self.held = None  # it was released before
        self._order_visible()
        self._packed_at = None

    def adopt(self, bits: Tensor) -> None:
        """Begins with the cells of a finished model: as dense as counts as occupied there, empty elsewhere."""
        self.release()
        if len(bits) > len(self.density):  # a cell is occupied here if it is in any of their segments
            bits = reduce(torch.bitwise_or, bits.split(self.cascades)).repeat(self.segments, 1)
        cells = (bits.to(self.density.device)[..., None] >> torch.arange(BRICK_CELLS, device=self.density.device)) & 1
        known = cells.to(self.density.dtype) * (2 * DENSITY_THRESHOLD)
        self.density = torch.where(self.density < 0, self.density, known)
        self.bits = bits.to(self.bits.device, copy=True)
        self._order_visible()
        self._packed_at = None

    def threshold(self) -> float:
        """Density threshold of an occupied cell: Instant-NGP's, or a share of the visible cells' mean if less."""
        mean = float(self._sums.sum()) / max(len(self._visible) * BRICK_CELLS, 1)
        return min(DENSITY_THRESHOLD, MEAN_SHARE * mean)

    def edges_open(self, least: int) -> Tensor:
        """Bits with cells opened of whose 27 neighbours `least` are occupied; a flat surface beside a cell has 9.

        Cells that random samples missed cut notches out of silhouettes. What no camera sees stays empty.
        """
        hidden = self.density[:, :, 0] < 0
        return torch.where(hidden, self.bits, grown(self.bits, least))

    def share(self) -> float:
        """Share of occupied cells."""
        return float((self.density > self.threshold()).float().mean())

    def pack(self) -> None:
        """Recomputes all bits from all densities."""
        self._sums = self.density.clamp(min=0).sum(2)
        self._packed_at = self.threshold()
        self.bits = pack_bricks(self.density > self._packed_at)

    def _order_visible(self) -> None:
        """Shuffles the visible bricks [V, 2] in a fixed order: any run of it is spread over the whole space."""
        visible = (self.density[:, :, 0] >= 0).nonzero()
        order = torch.randperm(len(visible), generator=torch.Generator().manual_seed(1))
        self._visible = visible[order.to(visible.device)]
        self._sums = self.density.clamp(min=0).sum(2)


def _brick_corners() -> Tensor:
    """Lower corners of all bricks of the first cascade, x fastest, [32768, 3] in [0, 1)."""
    i = torch.arange(BRICKS**3)
    return torch.stack([i % BRICKS, i // BRICKS % BRICKS, i // BRICKS**2], 1).float() / BRICKS


def _cell_corners() -> Tensor:
    """Lower corners of a brick's 64 cells in the order of their bits."""
    i = torch.arange(BRICK_CELLS)
    return torch.stack([i % 4, i // 4 % 4, i // 16], 1).float() / CELLS


_BLOCK_FIRST = [z * 16 + y * 4 + x for z in (0, 2) for y in (0, 2) for x in (0, 2)]


def _block_of_cell() -> Tensor:
    """The 2^3 block of its brick that each of the 64 cells lies in."""
    i = torch.arange(BRICK_CELLS)
    return i % 4 // 2 + 2 * (i // 4 % 4 // 2) + 4 * (i // 32)


def _sees(camera: Camera, points: Tensor, radius: float) -> Tensor:
    """Whether balls of that radius around points [N, 3] (float64) may lie in the camera's field of view, [N] bool.

    The view is bounded by the undistorted directions of the image's border, never by projecting points: far outside
    the image a lens polynomial folds back and would put them inside.
    """
    if camera.model == "fisheye":  # may see more than half of space
        return torch.ones(len(points), dtype=torch.bool)
    pose = torch.from_numpy(np.asarray(camera.world_from_camera, dtype=np.float64))
    x, y, z = ((points - pose[:3, 3]) @ pose[:3, :3]).unbind(1)
    seen = z > -radius
    # Distance to the planes through the camera's centre that bound the view; positive outside.
    for value, low, high in zip((x, y), *_border(camera), strict=True):
        seen &= (z * low - value) / math.sqrt(1 + low * low) < radius
        seen &= (value - z * high) / math.sqrt(1 + high * high) < radius
    return seen


def _border(camera: Camera) -> tuple[list[float], list[float]]:
    """Smallest and largest (x / z, y / z) over the image's border."""
    u, v = np.linspace(0, camera.width, 17), np.linspace(0, camera.height, 17)
    edges = [(u, 0 * u), (u, 0 * u + camera.height), (0 * v, v), (0 * v + camera.width, v)]
    pixel = torch.from_numpy(np.concatenate([np.stack(e, 1) for e in edges])).to(torch.float64)
    table = camera_table([replace(camera, world_from_camera=np.eye(4))], torch.float64)
    _, d = pixel_rays(table, torch.zeros(len(pixel), dtype=torch.int64), pixel)
    plane = d[:, :2] / d[:, 2:].clamp(min=1e-3)
    return plane.amin(0).tolist(), plane.amax(0).tolist()
