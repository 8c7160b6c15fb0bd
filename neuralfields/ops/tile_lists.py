"""Which Gaussians a tile of the picture has to blend, from front to back.

Vocabulary
  tile    16 x 16 pixels, numbered by rows   block  4 x 4 pixels, bit 4 y + x of an entry's mask
  entry   (row, slot, blocks): one Gaussian in one tile; a slot is a place of its own for the pair's gradient
A block is in the mask if the ellipse alpha >= 1/255 meets the rectangle of its pixel centres: exact, not a box.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from neuralfields.ops.native import kernel, threads
from neuralfields.ops.project import Rows, native_rows
from neuralfields.ops.register import native_op

TILE = 16


@dataclass(frozen=True)
class TileLists:
    """Lists of a picture of `size` (width, height): tile i has entries[tile_offset[i] : tile_offset[i + 1]].

    `entries` [E, 3] int32; `tile_offset`, `block_offset` [tiles + 1] int32, the latter counting blocks of all entries
    before; `pairs` [N] int32: tiles of a row.
    """

    entries: Tensor
    tile_offset: Tensor
    block_offset: Tensor
    pairs: Tensor
    size: tuple[int, int]


def tiles(width: int, height: int) -> int:
    """How many tiles a picture has."""
    return -(-width // TILE) * -(-height // TILE)


def tile_lists(rows: Rows, size: tuple[int, int]) -> TileLists:
    """The lists of a picture of `size` (width, height). Not differentiable."""
    parts = rows.values.detach(), rows.ids, rows.chunk_count, rows.slot, rows.key, rows.totals
    return TileLists(*_tile_lists(list(parts), *size), size)


def _unknown_many(rows: list[Tensor], width: int, height: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    new = rows[1].new_empty
    return new(count, 3), new(tiles(width, height) + 1), new(tiles(width, height) + 1), new(rows[1].shape)


@native_op("splat_tile_lists", _unknown_many)
def _tile_lists(rows: list[Tensor], width: int, height: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    found, new, count = Rows(*rows), rows[1].new_empty, tiles(width, height)
    slots = int(found.totals[1])
    entries, seen, pairs = new(slots, 3), new(slots), rows[1].new_zeros(rows[1].shape)
    tile_offset, block_offset, visited = new(count + 1), new(count + 1), new(count)
    lists = kernel("SplatLists", found.values.dtype)(width, height, tile_offset, block_offset, visited, entries, seen)
    kernel("splat_lists", found.values.dtype)(native_rows(found, pairs), lists, threads())
    return entries, tile_offset, block_offset, pairs
