"""Multiresolution hash-grid encoding (Instant-NGP, arXiv:2201.05989).

Vocabulary
  S  samples          L  levels          F  features of a table entry          D  coordinates, 1 to 3
  level l has a lattice of `scale_l = base * growth^l - 1` cells, `resolution = ceil(scale) + 1` points an axis
  p = x * scale + 0.5,  i = floor(p),  f = p - i,   feature = sum over corners of  w(f) * table[index(i + corner)]

On a CPU the native kernel takes every D. On a GPU it takes D = 3; one or two (sounds and images, 2^D corners) are
gathered and scattered by torch's own loops.
"""

import math
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag

from neuralfields.ops import backend
from neuralfields.ops.native import array, kernel, threads
from neuralfields.ops.register import native_op

PRIMES = (1, 2654435761, 805459861)


@dataclass(frozen=True)
class HashGeometry:
    """Levels of the table: `scales` [L] float32; `levels` [L, 4] int64: resolution, size, offset, dense."""

    scales: Float32[Tensor, " L"]
    levels: Int64[Tensor, "L 4"]
    entries: int

    @staticmethod
    def of(level_count: int, table_log2: int, base: int, finest: float, dimensions: int = 3) -> "HashGeometry":
        """Geometric growth from `base` to `finest` points an axis; levels that fit are dense, the others hashed."""
        growth = (math.log(finest) - math.log(base)) / max(level_count - 1, 1)
        scales, rows, offset = [], [], 0
        for level in range(level_count):
            scale = base * math.exp(level * growth) - 1.0
            resolution = math.ceil(scale - 1e-6) + 1
            lattice = _lattice(resolution, dimensions)
            size = min(lattice, 1 << table_log2)
            rows.append([resolution, size, offset, int(lattice <= 1 << table_log2)])
            scales.append(scale)
            offset += size
        return HashGeometry(torch.tensor(scales, dtype=torch.float32), torch.tensor(rows), offset)


def hash_encode(
    x: Float[Tensor, "S D"],
    table: Float[Tensor, "entries F"],
    scales: Float32[Tensor, " L"],
    levels: Int64[Tensor, "L 4"],
) -> Float[Tensor, "S L*F"]:
    """Encodes points: x [S, D] in the unit cube (clamped to it), table [entries, F] -> features [S, L * F].

    Differentiable in x and table, not in the geometry; the gradient in x is zero where x was clamped.
    """
    if x.ndim != 2 or x.shape[1] not in (1, 2):
        if backend.uses("tcnn", x) and backend.other("tcnn").takes_encoding(x, table):
            return backend.other("tcnn").hash_encode(x, table, scales, levels)
        return _hash_encode(x, table, scales, levels)
    resolution, size, _, dense = levels[0].tolist()
    if dense and _lattice(resolution, x.shape[1]) != size:  # the native kernel checks its own
        expected = next((d for d in (1, 2, 3) if _lattice(resolution, d) == size), 3)
        raise ValueError(f"x has shape {list(x.shape)}, expected [*, {expected}]")
    return (_encode_few if x.is_cuda else _hash_encode)(x, table, scales, levels)


def _lattice(resolution: int, dimensions: int) -> int:
    """Number of entries of a dense level."""
    return (resolution**dimensions + 7) // 8 * 8


def _encode_few(x: Tensor, table: Tensor, scales: Tensor, levels: Tensor) -> Tensor:
    """Encodes one or two coordinates, level by level, so that a level's data stays in cache."""
    rows = x.clamp(0, 1).T.contiguous()
    every = [_corners(rows, *level) for level in zip(scales.tolist(), levels.tolist(), strict=True)]
    index, weight = zip(*every, strict=True)
    return _WeightedEntries.apply(table, *index, *weight)


def _corners(rows: Tensor, scale: float, level: list[int]) -> tuple[Tensor, Tensor]:
    """Entries and weights [S, 2^D] of the corners around points, given as rows [D, S]."""
    resolution, size, offset, dense = level
    p = rows * scale + 0.5
    cell = p.detach().floor()
    index, weight, stride = [torch.zeros_like(cell[0], dtype=torch.int64)], [torch.ones_like(p[0])], 1
    for axis, (i, f) in enumerate(zip(cell.long(), p - cell, strict=True)):  # the first axis runs fastest
        if dense:
            index = [before + stride * (i + bit) for bit in (0, 1) for before in index]
        else:
            index = [before ^ ((i + bit) * PRIMES[axis]) for bit in (0, 1) for before in index]
        weight = [before * side for side in (1 - f, f) for before in weight]
        stride *= resolution
    entry = torch.stack(index, 1)
    entry = torch.where(entry >= size, entry - size, entry) if dense else entry & (size - 1)
    return entry + offset, torch.stack(weight, 1)


class _WeightedEntries(torch.autograd.Function):
    """Weighted sums of table entries, side by side for all levels: sum over k of weight[s, k] * table[index[s, k]].

    Torch's own gradient of the table sorts first, and is slow.
    """

    @staticmethod
    def forward(ctx, table: Tensor, *parts: Tensor) -> Tensor:  # noqa: ANN001
        ctx.save_for_backward(table, *parts)
        index, weight = parts[: len(parts) // 2], parts[len(parts) // 2 :]
        bags = [embedding_bag(i, table, mode="sum", per_sample_weights=w) for i, w in zip(index, weight, strict=True)]
        return torch.cat(bags, 1)

    @staticmethod
    def backward(ctx, d_out: Tensor) -> tuple:  # noqa: ANN001
        table, *parts = ctx.saved_tensors
        levels, width = len(parts) // 2, table.shape[1]
        d_table = table.new_zeros(table.numel()) if ctx.needs_input_grad[0] else None
        d_weights: list[Tensor | None] = [None] * levels
        for level, d_part in enumerate(d_out.split(width, 1)):
            index, weight = parts[level], parts[levels + level]
            if d_table is not None:
                place = index[..., None] * width + torch.arange(width)
                d_table.scatter_add_(0, place.flatten(), (weight[..., None] * d_part[:, None]).flatten())
            if ctx.needs_input_grad[1 + levels + level]:
                d_weights[level] = (table[index] * d_part[:, None]).sum(2)
        return None if d_table is None else d_table.view_as(table), *[None] * levels, *d_weights


def _out(x: Tensor, table: Tensor, scales: Tensor, levels: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], scales.shape[0] * table.shape[1])


@native_op("hash_encode", _out)
def _hash_encode(x: Tensor, table: Tensor, scales: Tensor, levels: Tensor) -> Tensor:
    out = _out(x, table, scales, levels)
    kernel("hash_forward", x.dtype)(array(x), array(table), scales, levels, out, threads())
    return out


def _gradients(
    x: Tensor, table: Tensor, scales: Tensor, levels: Tensor, d_out: Tensor, needs: list[bool]
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape if needs[0] else 0), table.new_zeros(table.shape if needs[1] else 0)


@native_op("hash_encode_backward", _gradients)
def _hash_encode_backward(
    x: Tensor, table: Tensor, scales: Tensor, levels: Tensor, d_out: Tensor, needs: list[bool]
) -> tuple[Tensor, Tensor]:
    """d_x and d_table; the one that is not needed is empty."""
    d_x, d_table = _gradients(x, table, scales, levels, d_out, needs)
    wanted = [d if need else None for d, need in zip((d_table, d_x), reversed(needs), strict=True)]
    kernel("hash_backward", x.dtype)(array(x), array(table), scales, levels, array(d_out), *wanted, threads())
    return d_x, d_table


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, d_out: Tensor) -> tuple:
    needs = list(ctx.needs_input_grad[:2])
    gradients = _hash_encode_backward(*ctx.saved_tensors, d_out, needs)
    return *(d if need else None for d, need in zip(gradients, needs, strict=True)), None, None


torch.library.register_autograd(_hash_encode, _backward, setup_context=_setup)


def hash_encode_reference(
    x: Float[Tensor, "S D"],
    table: Float[Tensor, "entries F"],
    scales: Float32[Tensor, " L"],
    levels: Int64[Tensor, "L 4"],
) -> Float[Tensor, "S L*F"]:
    """The same in plain torch."""
    features = []
    for scale, (resolution, size, offset, dense) in zip(scales.tolist(), levels.tolist(), strict=True):
        p = x.clamp(0, 1) * scale + 0.5
        cell = p.floor()
        f = p - cell
        total, axes = 0, range(x.shape[1])
        for corner in range(2 ** x.shape[1]):
            bits = torch.tensor([(corner >> axis) & 1 for axis in axes], device=x.device)
            i = cell.long() + bits
            if dense:
                index = sum(i[:, axis] * resolution**axis for axis in axes) % size
            else:
                hashed = [(i[:, axis] * PRIMES[axis]) & 0xFFFFFFFF for axis in axes]
                index = reduce(torch.bitwise_xor, hashed) % size
            weight = torch.where(bits.bool(), f, 1 - f).prod(dim=1, keepdim=True)
            total = total + weight * table[offset + index]
        features.append(total)
    return torch.cat(features, dim=1)
