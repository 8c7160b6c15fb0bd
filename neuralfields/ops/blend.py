"""Blending of projected Gaussians from front to back (3DGS, arXiv:2308.04079, Eq. 3 and its Appendix C).

Vocabulary
  alpha_i = min(0.99, opacity_i exp(-(a dx^2 + 2 b dx dy + c dy^2) / 2)), 0 below 1/255   (a, b, c: the row's conic)
  w_i = T_i alpha_i    T_{i+1} = T_i (1 - alpha_i)    T_0 = 1    a pixel is done once T < 1e-4
  rgb = sum w_i rgb_i + T_end background   opacity = 1 - T_end   depth = sum w_i z_i   normal = sum w_i n_i
  importance of a Gaussian: the sum of its w over pixels
  tile    16 x 16 pixels, numbered by rows   block  4 x 4 pixels, bit 4 y + x of an entry's mask
  entry   (row, slot, blocks): one Gaussian in one tile; a slot is a place of its own for the pair's gradient
A block is in the mask if the ellipse alpha >= 1/255 meets the rectangle of its pixel centres: exact, not a box.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from neuralfields.ops.native import array, kernel, threads
from neuralfields.ops.project import COLOUR, DEPTH, LOG_LEAST_ALPHA, NORMAL, ROW, Rows, native_rows
from neuralfields.ops.register import native_op

MOST_ALPHA, LEAST_ALPHA, LEAST_TRANSMITTANCE = 0.99, 1 / 255, 1e-4
COLOUR_ONLY, WITH_DEPTH, WITH_NORMAL = 0, 1, 2
TILE = 16


@dataclass(frozen=True)
class TileLists:
    """Lists of a picture of `size` (width, height): tile i has entries[tile_offset[i] : tile_offset[i + 1]].

    `entries` [E, 3] int32; `tile_offset`, `block_offset` [tiles + 1] int32, the latter counting blocks of all entries
    before; `pairs` [N] int32: tiles of a row.
    """

    entries: Int32[Tensor, "E 3"]
    tile_offset: Int32[Tensor, " T1"]
    block_offset: Int32[Tensor, " T1"]
    pairs: Int32[Tensor, " N"]
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


@dataclass(frozen=True)
class Blended:
    """`rgb` [H, W, 3] over the background, `opacity` [H, W]; where asked for `depth` [H, W] (sum of w z), `normal`
    [H, W, 3] (sum of w n, not of length 1), `importance` [N] of Gaussians (a constant)."""

    rgb: Float[Tensor, "H W 3"]
    opacity: Float[Tensor, "H W"]
    depth: Float[Tensor, "H W"] | None = None
    normal: Float[Tensor, "H W 3"] | None = None
    importance: Float[Tensor, " N"] | None = None


def blend(
    rows: Rows,
    lists: TileLists,
    background: tuple[float, float, float],
    level: int = COLOUR_ONLY,
    importance: bool = False,
) -> Blended:
    """Rows and their lists to a picture; `level` 0 colour and opacity, 1 and depth, 2 and normals.

    Differentiable in the rows' values through all that it gives but the importance.
    """
    whole = [rows.ids, rows.chunk_count, rows.slot, rows.key, rows.totals]
    listed = [lists.entries, lists.tile_offset, lists.block_offset, lists.pairs]
    rgb, opacity, depth, normal, weights, *_ = _blend(
        rows.values, whole, listed, list(lists.size), list(background), level, importance
    )
    return Blended(
        rgb,
        opacity,
        depth if level >= WITH_DEPTH else None,
        normal if level >= WITH_NORMAL else None,
        weights if importance else None,
    )


def _out(
    rows: Tensor,
    whole: list[Tensor],
    listed: list[Tensor],
    size: list[int],
    background: list[float],
    level: int,
    importance: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    (width, height), slots = size, listed[0].shape[0]
    new, integers = rows.new_empty, listed[0].new_empty
    depth, normal = (height, width) if level >= WITH_DEPTH else 0, (height, width, 3) if level >= WITH_NORMAL else 0
    importances = rows.new_zeros(rows.shape[0] if importance else 0)
    pictures = new(height, width, 3), new(height, width), new(depth), new(normal), importances
    return *pictures, integers(slots), integers(tiles(width, height)), integers(8 * slots)


class _Native:
    """The arrays of one blending as the core takes them; alive as long as a call needs them."""

    def __init__(
        self, rows: Tensor, whole: list[Tensor], listed: list[Tensor], size: list[int], kept: tuple[Tensor, ...]
    ) -> None:
        entries, tile_offset, block_offset, pairs = (array(a) for a in listed)
        seen, visited, self.pixels = kept
        self.rows = native_rows(Rows(rows, *whole), pairs)
        self.lists = kernel("SplatLists", rows.dtype)(*size, tile_offset, block_offset, visited, entries, seen)
        self.lists.masks = int(block_offset[-1])

    def pictures(self, background: list[float], rgb: Tensor, opacity: Tensor, depth: Tensor, normal: Tensor) -> Any:
        """Where the pictures are; an empty one is not wanted."""
        wanted = (picture if picture.numel() else None for picture in (depth, normal))
        return kernel("SplatPictures", rgb.dtype)(self.lists, background, rgb, opacity, *wanted)


@native_op("splat_blend", _out)
def _blend(
    rows: Tensor,
    whole: list[Tensor],
    listed: list[Tensor],
    size: list[int],
    background: list[float],
    level: int,
    importance: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    out = _out(rows, whole, listed, size, background, level, importance)
    native = _Native(rows, whole, listed, size, out[5:])
    weights = (rows.new_empty(listed[0].shape[0]), out[4]) if importance else (None, None)
    pictures = native.pictures(background, *out[:4])
    kernel("splat_blend", rows.dtype)(native.rows, native.lists, native.pixels, pictures, *weights, threads())
    return out


def _gradient(
    rows: Tensor,
    arrays: list[Tensor],
    size: list[int],
    background: list[float],
    pictures: list[Tensor],
    gradients: list[Tensor],
) -> Tensor:
    return rows.new_zeros(rows.shape)


@native_op("splat_blend_backward", _gradient)
def _blend_backward(
    rows: Tensor,
    arrays: list[Tensor],
    size: list[int],
    background: list[float],
    pictures: list[Tensor],
    gradients: list[Tensor],
) -> Tensor:
    """d_rows; `arrays` are whole, listed and what the forward kept, one after the other; an empty gradient is none."""
    d_rows = _gradient(rows, arrays, size, background, pictures, gradients)
    native = _Native(rows, arrays[:5], arrays[5:9], size, tuple(arrays[9:]))
    given = [array(d) if d.numel() else None for d in gradients]
    slots = rows.new_empty(arrays[5].shape[0], ROW)
    kernel("splat_blend_backward", rows.dtype)(
        native.rows,
        native.lists,
        native.pixels,
        native.pictures(background, *pictures),
        given,
        None,
        slots,
        d_rows,
        threads(),
    )
    d_rows[:, 13:] = 0  # sums for densification, no gradients
    return d_rows


def _setup(ctx: Any, inputs: tuple, output: tuple) -> None:
    rows, whole, listed, ctx.size, ctx.background, ctx.level, _ = inputs
    ctx.mark_non_differentiable(*output[4:])
    ctx.save_for_backward(rows, *whole, *listed, *output[5:], *output[:4])


def _backward(ctx: Any, *gradients: Tensor) -> tuple:
    rows, *rest = ctx.saved_tensors
    arrays, pictures = rest[:12], rest[12:]
    given = [d if picture.numel() else picture for d, picture in zip(gradients, pictures, strict=False)]
    d_rows = _blend_backward(rows, arrays, ctx.size, ctx.background, pictures, given)
    return d_rows, [None] * 5, [None] * 4, None, None, None, None


torch.library.register_autograd(_blend, _backward, setup_context=_setup)


def splat(
    rows: Rows, size: tuple[int, int], background: tuple[float, float, float], level: int = COLOUR_ONLY
) -> Blended:
    """Lists and blending in one: rows to a picture of `size` (width, height)."""
    return blend(rows, tile_lists(rows, size), background, level)


def blend_reference(
    rows: Float[Tensor, "V K"], size: tuple[int, int], background: tuple[float, float, float], tile: int = 64
) -> tuple[
    Float[Tensor, "H W 3"], Float[Tensor, "H W"], Float[Tensor, "H W"], Float[Tensor, "H W 3"], Float[Tensor, " V"]
]:
    """The same in plain torch, of rows [V, >= 13] in any order (one of zeros is none): rgb, opacity, depth, normal,
    importance [V]. Squares of `tile` pixels are made one after the other, each of what its box can hold."""
    width, height = size
    there = (rows[:, 2] > 0).nonzero().flatten()
    order = there[torch.argsort(rows[there, DEPTH].detach(), stable=True)]
    importance = rows.new_zeros(rows.shape[0])
    pictures = [rows.new_zeros(height, width, 8)]
    lines = []
    for top in range(0, height, tile):
        squares = []
        for left in range(0, width, tile):
            square = min(tile, width - left), min(tile, height - top)
            values, index, weight = _square(rows, order, (left, top), square, background)
            importance = importance.index_add(0, index, weight.detach())
            squares.append(values)
        lines.append(torch.cat(squares, 1))
    pictures = torch.cat(lines, 0)
    return pictures[..., :3], pictures[..., 3], pictures[..., 4], pictures[..., 5:8], importance


def _square(
    rows: Tensor, order: Tensor, corner: tuple[int, int], size: tuple[int, int], background: tuple[float, float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """rgb, opacity, depth, normal [h, w, 8] of a part of the picture, which rows it has, and their weights' sums."""
    (left, top), (width, height) = corner, size
    x, y, a, b, c, log_opacity = rows[order, :6].detach().unbind(1)
    cut = 2 * (log_opacity + LOG_LEAST_ALPHA) / (a * c - b * b)
    reach = (cut[:, None].clamp(min=0) * torch.stack([c, a], 1)).sqrt()
    inside = (x + reach[:, 0] >= left) & (x - reach[:, 0] <= left + width)
    inside &= (y + reach[:, 1] >= top) & (y - reach[:, 1] <= top + height)
    index = order[inside]
    row = rows[index]
    px = torch.arange(width, dtype=rows.dtype) + left + 0.5
    py = torch.arange(height, dtype=rows.dtype) + top + 0.5
    dx, dy = (px[None, :, None] - row[:, 0]), (py[:, None, None] - row[:, 1])
    power = row[:, 5] - 0.5 * (row[:, 2] * dx * dx + row[:, 4] * dy * dy) - row[:, 3] * dx * dy
    alpha = power.exp().clamp(max=MOST_ALPHA)
    alpha = torch.where(alpha >= LEAST_ALPHA, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha, 2)
    before = torch.cat([torch.ones_like(after[..., :1]), after[..., :-1]], 2)
    alpha = torch.where(before >= LEAST_TRANSMITTANCE, alpha, torch.zeros_like(alpha))
    weight = torch.where(before >= LEAST_TRANSMITTANCE, before * alpha, torch.zeros_like(alpha))
    left_over = torch.prod(1 - alpha, 2)
    rgb = weight @ row[:, COLOUR] + left_over[..., None] * rows.new_tensor(background)
    parts = [rgb, 1 - left_over[..., None], weight @ row[:, DEPTH : DEPTH + 1], weight @ row[:, NORMAL]]
    return torch.cat(parts, 2), index, weight.sum((0, 1))
