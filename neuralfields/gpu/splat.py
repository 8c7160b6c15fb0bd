"""Gaussian splatting on a CUDA GPU: projection, tile lists and blending, for the ops and for the training pass.

Rows, lists and pictures are those of ops/project.py and ops/blend.py, in the same places. What
differs from the CPU: lists are sorted by tile and depth at once, by one sort of 64-bit keys; an entry's mask of pixels
has a place of its own (8 words), so `block_offset` counts 16 blocks an entry. No kernel adds by atomics: bits repeat.
The host waits once a picture, for the room that its lists need.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuralfields.gpu import launch as cuda_launch
from neuralfields.gpu.compile import Module
from neuralfields.gpu.launch import THREADS, blocks_for, expect, inputs, out_of_memory, scalar
from neuralfields.ops.blend import TileLists, tiles
from neuralfields.ops.project import CHUNK, ROW, Rows

CORE = 16
CHANNELS = (3, 4, 7)  # that are blended at level 0 (colour), 1 (and depth), 2 (and normals)
WORDS = 8  # of an entry's mask of pixels
MOST_SLOTS = 1 << 27
NO_PAIR = (1 << 63) - 1
WARP = 32
Gradient = Tensor | None


def splat_module(source: str, dtype: torch.dtype) -> Module:
    """The kernels of splat_project, splat_lists or image_loss."""
    return Module(source, (("NF_SCALAR", scalar(dtype)),))


def blend_module(dtype: torch.dtype, channels: int) -> Module:
    """The kernels that blend so many numbers a pixel."""
    return Module("splat_blend", (("NF_SCALAR", scalar(dtype)), ("NF_CHANNELS", str(channels))))


def gaussian_arguments(parts: Sequence[Tensor]) -> list[Tensor | int | None]:
    """Gaussians as kernels take them: packed (core, rest), or means, scales, rotations, opacities and harmonics."""
    if len(parts) == 2:
        core, rest = parts
        count = core.shape[0]
        expect(core=(core, (count, CORE)), rest=(rest, (count, -1)))
        return [core, rest, *[None] * 5, count, rest.shape[1], 0]
    means, scales, rotations, opacities, harmonics = parts
    count = means.shape[0]
    expect(means=(means, (-1, 3)), scales=(scales, (count, 3)), rotations=(rotations, (count, 4)))
    expect(opacities=(opacities, (count,)), harmonics=(harmonics, (count, -1, 3)))
    return [None, None, *parts, count, 0, 3 * harmonics.shape[1]]


def check_view(view: list[float], degree: int, parts: Sequence[Tensor]) -> list[float]:
    """The numbers of a view; ValueError as on the CPU for those that cannot be one, or for too few harmonics."""
    width, height, near, blur = view[16:20]
    if not (1 <= width <= 32768 and 1 <= height <= 32768):
        raise ValueError("a picture has 1 to 32768 pixels a side")
    if not (near > 0 and blur >= 0 and view[12] > 0 and view[13] > 0):
        raise ValueError("camera: near, fx and fy above 0, blur not below 0")
    if not 0 <= degree <= 3:
        raise ValueError("degree must be 0 to 3")
    room = parts[1].shape[1] if len(parts) == 2 else 3 * parts[4].shape[1] - 3
    if 3 * ((degree + 1) ** 2 - 1) > room:
        raise ValueError(f"harmonics of degree {degree} need more numbers than there are")
    return [float(number) for number in view]


def project_into(rows: Rows, parts: Sequence[Tensor], view: list[float], degree: int) -> None:
    """Writes the rows of Gaussians that a view sees."""
    numbers, module = check_view(view, degree, parts), splat_module("splat_project", rows.values.dtype)
    arguments, chunks = gaussian_arguments(parts), rows.chunk_count.shape[0]
    chunk_slots = rows.totals.new_empty(chunks)
    whole = rows.values, rows.ids, rows.chunk_count, rows.slot, rows.key, chunk_slots
    cuda_launch.launch(module, "splat_project", chunks, THREADS, *arguments, *numbers, degree, *whole)
    ends = rows.chunk_count, chunk_slots, chunks, rows.slot, rows.totals
    cuda_launch.launch(module, "splat_slots", chunks, THREADS, *ends)


def lists_of(rows: Rows, size: tuple[int, int]) -> TileLists:
    """The lists of tiles of a picture of `size` (width, height); waits for the number of slots."""
    slots, count = int(rows.totals[1]), tiles(*size)
    if slots > MOST_SLOTS:
        raise ValueError("the Gaussians cover more than 2^27 tiles of the picture")
    module, new = splat_module("splat_lists", rows.values.dtype), rows.ids.new_empty
    try:
        keys = torch.full((slots,), NO_PAIR, dtype=torch.int64, device=rows.ids.device)
        found = new(slots), new(slots)
        pairs = torch.zeros_like(rows.ids)
        places = rows.values.shape[0]
        given = rows.values, rows.chunk_count, rows.slot, rows.key, places, *size
        cuda_launch.launch(module, "splat_pairs", blocks_for(WARP * places), THREADS, *given, keys, *found, pairs)
        keys, order = torch.sort(keys, stable=True)
        entries, tile_offset = new(slots, 3), new(count + 1)
        sorted_ = keys, order, *found, slots, count
        cuda_launch.launch(module, "splat_entries", blocks_for(slots + 1), THREADS, *sorted_, entries, tile_offset)
    except torch.cuda.OutOfMemoryError as error:
        raise out_of_memory(error, "give a smaller picture or fewer Gaussians") from None
    return TileLists(entries, tile_offset, tile_offset, pairs, size)


@dataclass(frozen=True)
class Pictures:
    """What blending writes, each over pixels: `depth` and `normal` None where they are not wanted."""

    rgb: Tensor
    opacity: Tensor
    depth: Tensor | None
    normal: Tensor | None

    @property
    def channels(self) -> int:
        """Numbers that are blended at a pixel."""
        return CHANNELS[2 if self.normal is not None else 1 if self.depth is not None else 0]

    @property
    def all(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """In the order in which kernels take them."""
        return self.rgb, self.opacity, self.depth, self.normal


@dataclass(frozen=True)
class Kept:
    """What the way back needs of a blending: `pixels` [8 E] int32, masks by entry; `visited` [tiles] int32 entries."""

    pixels: Tensor
    visited: Tensor


def blend_into(
    out: Pictures, kept: Kept, rows: Rows, lists: TileLists, background: Sequence[float], importance: Tensor | None
) -> None:
    """Blends rows into pictures; `importance` [N] of Gaussians is added to."""
    module = blend_module(rows.values.dtype, out.channels)
    weights = None if importance is None else rows.values.new_empty(lists.entries.shape[0])
    given = rows.values, lists.entries, lists.tile_offset, *lists.size, *map(float, background)
    arguments = *given, *out.all, weights, kept.pixels, kept.visited
    cuda_launch.launch(module, "splat_blend", tiles(*lists.size), THREADS, *arguments)
    if importance is not None:
        count = rows.values.shape[0]
        sums = rows.ids, rows.slot, lists.pairs, count, weights, importance
        cuda_launch.launch(module, "splat_importance", blocks_for(count), THREADS, *sums)


def blend_gradient(
    d_rows: Tensor,
    rows: Rows,
    lists: TileLists,
    kept: Kept,
    pictures: Pictures,
    gradients: Sequence[Gradient],
    error: Tensor | None = None,
) -> None:
    """Writes the rows' gradients [N, 16] from those of rgb, opacity, depth and normal (None: zero), and statistics."""
    width, height = lists.size
    shapes = (height, width, 3), (height, width), (height, width), (height, width, 3)
    for name, d, shape in zip(("d_rgb", "d_opacity", "d_depth", "d_normal"), gradients, shapes, strict=True):
        if d is not None:
            expect(**{name: (d, shape)})
    if error is not None:
        expect(error=(error, (height, width)))
    level = 2 if gradients[3] is not None else 1 if gradients[2] is not None else 0
    if level > CHANNELS.index(pictures.channels):
        raise ValueError("normals were not rendered" if level == 2 else "depth was not rendered")
    module, slots = blend_module(rows.values.dtype, CHANNELS[level]), lists.entries.shape[0]
    parts = rows.values.new_empty(slots, ROW), torch.empty(slots, dtype=torch.uint8, device=rows.ids.device)
    given = rows.values, lists.entries, lists.tile_offset, kept.visited, kept.pixels, width, height
    arguments = *given, *pictures.all, *gradients, error, *parts
    cuda_launch.launch(module, "splat_blend_gradient", tiles(*lists.size), THREADS, *arguments)
    count = rows.values.shape[0]
    sums = rows.values, rows.chunk_count, rows.slot, lists.pairs, count, *parts, int(error is not None), d_rows
    cuda_launch.launch(module, "splat_gather", blocks_for(WARP * count), THREADS, *sums)


def new_rows(count: int, like: Tensor) -> Rows:
    """Room for the rows of so many Gaussians."""
    chunks = -(-count // CHUNK)
    integers = [torch.empty(n, dtype=torch.int32, device=like.device) for n in (count, chunks, count, count)]
    return Rows(like.new_empty(count, ROW), *integers, torch.zeros(2 + chunks, dtype=torch.int64, device=like.device))


# The ops.


def project(allocate: Callable, *given: Tensor | list[float] | int) -> tuple[Tensor, ...]:
    """The schedule of splat_project."""
    *parts, view, degree = given
    parts, out = inputs(*parts), allocate(*given)
    project_into(Rows(*out), parts, view, degree)
    return out


def project_backward(
    allocate: Callable, given: list[Tensor], rows: list[Tensor], d_rows: Tensor, view: list[float], degree: int
) -> tuple[Tensor, ...]:
    """The schedule of splat_project_backward."""
    out, parts, whole = allocate(given, rows, d_rows, view, degree), inputs(*given), Rows(*rows)
    d_rows, count = inputs(d_rows)[0], d_rows.shape[0]
    expect(d_rows=(d_rows, (parts[0].shape[0], ROW)))
    arguments = *gaussian_arguments(parts), *check_view(view, degree, parts), degree, whole.values, d_rows
    launch = splat_module("splat_project", d_rows.dtype), "splat_project_gradient", blocks_for(count), THREADS
    cuda_launch.launch(*launch, *arguments, whole.ids, whole.chunk_count, *out)
    return out


def tile_lists(
    allocate: Callable, rows: list[Tensor], width: int, height: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The schedule of splat_tile_lists."""
    found = lists_of(Rows(*inputs(*rows)), (width, height))
    return found.entries, found.tile_offset, 16 * found.tile_offset, found.pairs


def blend(
    allocate: Callable,
    rows: Tensor,
    whole: list[Tensor],
    listed: list[Tensor],
    size: list[int],
    background: list[float],
    level: int,
    importance: bool,
) -> tuple[Tensor, ...]:
    """The schedule of splat_blend."""
    out = allocate(rows, whole, listed, size, background, level, importance)
    rgb, opacity, depth, normal, weights, _, visited, pixels = out
    pictures, lists = _pictures(rgb, opacity, depth, normal), TileLists(*inputs(*listed), tuple(size))
    given = Rows(*inputs(rows, *whole))
    blend_into(pictures, Kept(pixels, visited), given, lists, background, weights if importance else None)
    return out


def blend_backward(
    allocate: Callable,
    rows: Tensor,
    arrays: list[Tensor],
    size: list[int],
    background: list[float],
    pictures: list[Tensor],
    gradients: list[Tensor],
) -> Tensor:
    """The schedule of splat_blend_backward."""
    d_rows = allocate(rows, arrays, size, background, pictures, gradients)
    whole, listed, (_, visited, pixels) = arrays[:5], arrays[5:9], arrays[9:]
    given = [inputs(d)[0] if d.numel() else None for d in gradients]
    lists, found = TileLists(*listed, tuple(size)), Rows(*inputs(rows, *whole))
    blend_gradient(d_rows, found, lists, Kept(pixels, visited), _pictures(*pictures), given)
    d_rows[:, 13:] = 0  # sums for densification, no gradients
    return d_rows


def _pictures(rgb: Tensor, opacity: Tensor, depth: Tensor, normal: Tensor) -> Pictures:
    return Pictures(rgb, opacity, depth if depth.numel() else None, normal if normal.numel() else None)
