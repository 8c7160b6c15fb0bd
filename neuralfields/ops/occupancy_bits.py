"""The occupancy grid as bits: how cells are packed into words, and in which order.

Vocabulary
  cascade  a cube of side 2^c inner cubes around the inner cube's middle, of CELLS^3 cells
  brick    4^3 cells, kept as one 64-bit word, one bit a cell (x fastest, then y, z); BRICKS^3 a cascade, x fastest
  order    three axes: coordinate a of the field's frame is coordinate order[a] of ours
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

CELLS, BRICKS = 128, 32  # along a cascade's side
BRICK_CELLS = (CELLS // BRICKS) ** 3
Order = tuple[int, int, int]
ORDERS: dict[str, Order] = {"xyz": (0, 1, 2), "yzx": (1, 2, 0)}


def occupied(
    x: Float[Tensor, "S 3"], cascade: Int64[Tensor, " S"], occupancy: Int64[Tensor, "cascades 32768"]
) -> Bool[Tensor, " S"]:
    """Whether the cell that holds each point (frame of the inner cube) in its cascade is occupied, [S] bool."""
    side = torch.exp2(cascade.to(x.dtype))[:, None]
    cell = (((x - 0.5) / side + 0.5) * CELLS).long().clamp(0, CELLS - 1)
    brick, inside = cell >> 2, cell & 3
    word = (brick[:, 2] * BRICKS + brick[:, 1]) * BRICKS + brick[:, 0]
    bit = (inside[:, 2] * 4 + inside[:, 1]) * 4 + inside[:, 0]
    return ((occupancy[cascade, word] >> bit) & 1).bool()


def turn_occupancy(occupancy: Int64[Tensor, "cascades 32768"], order: Order) -> Int64[Tensor, "cascades 32768"]:
    """Permutes the axes of occupancy [cascades, 32768] int64: axis a of the result is axis order[a] of ours."""
    return bricks_of(cells_of(occupancy).permute(0, *(3 - order[axis] for axis in (2, 1, 0))))


def cells_of(occupancy: Int64[Tensor, "cascades 32768"]) -> Bool[Tensor, "cascades 128 128 128"]:
    """Unpacks bits [cascades, 32768] int64 -> cells [cascades, 128, 128, 128] bool by z, y, x."""
    shifts = torch.arange(BRICK_CELLS, dtype=torch.int64, device=occupancy.device)
    bits = (occupancy[..., None] >> shifts) & 1
    split = bits.bool().reshape(-1, BRICKS, BRICKS, BRICKS, 4, 4, 4)
    return split.permute(0, 1, 4, 2, 5, 3, 6).reshape(-1, 4 * BRICKS, 4 * BRICKS, 4 * BRICKS)


def bricks_of(cells: Bool[Tensor, "cascades 128 128 128"]) -> Int64[Tensor, "cascades 32768"]:
    """Packs cells [cascades, 128, 128, 128] bool by z, y, x -> bits [cascades, 32768] int64."""
    split = cells.reshape(-1, BRICKS, 4, BRICKS, 4, BRICKS, 4).permute(0, 1, 3, 5, 2, 4, 6)
    return pack_bricks(split.reshape(cells.shape[0], BRICKS**3, BRICK_CELLS))


def grown(occupancy: Int64[Tensor, "cascades 32768"], least: int) -> Int64[Tensor, "cascades 32768"]:
    """Opens cells of which at least `least` of the 27 in their neighbourhood (themselves among them) are occupied."""
    out = []
    for cells in cells_of(occupancy):  # one cascade at a time: 8 MB each
        count = torch.nn.functional.avg_pool3d(cells[None, None].float(), 3, stride=1, padding=1)[0, 0]
        out.append(cells | (count > (least - 0.5) / 27))
    return bricks_of(torch.stack(out))


def pack_bricks(cells: Bool[Tensor, "*N 64"]) -> Int64[Tensor, "*N"]:
    """Packs the cells of bricks, bool [..., 64], into words of bits, int64 [...]."""
    if cells.device.type != "cpu":
        return pack_bricks_by_torch(cells)
    bits = np.packbits(cells.contiguous().numpy(), axis=-1, bitorder="little")
    return torch.from_numpy(bits.view(np.int64).reshape(cells.shape[:-1]))


def pack_bricks_by_torch(cells: Bool[Tensor, "*N 64"]) -> Int64[Tensor, "*N"]:
    """The same on any device; on a CPU numpy is faster, since it makes no word of each cell."""
    return (cells.long() << torch.arange(BRICK_CELLS, device=cells.device)).sum(-1)
