"""Multiresolution hash-grid encoding (Instant-NGP, arXiv:2201.05989).

Vocabulary
  S  samples          L  levels          F  features of a table entry
  level l has a lattice of `scale_l = base * growth^l - 1` cells, `resolution = ceil(scale) + 1` points an axis
  p = x * scale + 0.5,  i = floor(p),  f = p - i,   feature = sum over corners of  w(f) * table[index(i + corner)]
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuralfields.ops.native import array, kernel, threads
from neuralfields.ops.register import native_op

PRIMES = (1, 2654435761, 805459861)


@dataclass(frozen=True)
class HashGeometry:
    """Levels in the table: `scales` [L] float32; `levels` [L, 4] int64: resolution, size, offset, dense."""

    scales: Tensor
    levels: Tensor
    entries: int

    @staticmethod
    def of(level_count: int, table_log2: int, base: int, finest: int) -> "HashGeometry":
        """Geometric growth from `base` to `finest` points an axis; levels that fit are dense, the others hashed."""
        growth = (math.log(finest) - math.log(base)) / max(level_count - 1, 1)
        scales, rows, offset = [], [], 0
        for level in range(level_count):
            scale = base * math.exp(level * growth) - 1.0
            resolution = math.ceil(scale - 1e-6) + 1
            lattice = (resolution**3 + 7) // 8 * 8
            size = min(lattice, 1 << table_log2)
            rows.append([resolution, size, offset, int(lattice <= 1 << table_log2)])
            scales.append(scale)
            offset += size
        return HashGeometry(torch.tensor(scales, dtype=torch.float32), torch.tensor(rows), offset)


def hash_encode(x: Tensor, table: Tensor, scales: Tensor, levels: Tensor) -> Tensor:
    """Features of points: x [S, 3] in the unit cube (clamped to it), table [entries, F] -> [S, L * F].

    Differentiable in x and table, not in the geometry; the gradient in x is zero where x was clamped.
    """
    return _hash_encode(x, table, scales, levels)


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


_hash_encode.register_autograd(_backward, setup_context=_setup)


def hash_encode_reference(x: Tensor, table: Tensor, scales: Tensor, levels: Tensor) -> Tensor:
    """The same in plain torch."""
    features = []
    for scale, (resolution, size, offset, dense) in zip(scales.tolist(), levels.tolist(), strict=True):
        p = x.clamp(0, 1) * scale + 0.5
        cell = p.floor()
        f = p - cell
        total = 0
        for corner in range(8):
            bits = torch.tensor([(corner >> axis) & 1 for axis in range(3)], device=x.device)
            i = cell.long() + bits
            if dense:
                index = (i[:, 0] + resolution * (i[:, 1] + resolution * i[:, 2])) % size
            else:
                hashed = [(i[:, axis] * PRIMES[axis]) & 0xFFFFFFFF for axis in range(3)]
                index = (hashed[0] ^ hashed[1] ^ hashed[2]) % size
            weight = torch.where(bits.bool(), f, 1 - f).prod(dim=1, keepdim=True)
            total = total + weight * table[offset + index]
        features.append(total)
    return torch.cat(features, dim=1)
