"""Multilinear interpolation in a dense grid of any features, 1 to 4 axes.

Vocabulary
  S  samples      D  axes (1 to 4)      C  features of a node      G_k  nodes along axis k, corners aligned
  p_k = x_k * (G_k - 1),  i_k = floor(p_k) at most G_k - 2,  f_k = p_k - i_k
  out = sum over the 2^D corners b of  w_b * grid[i + b],   w_b = product over k of  f_k or 1 - f_k
"""

import importlib
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neuralfields.ops.native import array, kernel, threads
from neuralfields.ops.register import native_op


def grid_interpolate(
    x: Float[Tensor, "S D"], grid: Float[Tensor, "*nodes C"], accumulate: bool = False
) -> Float[Tensor, "S C"]:
    """Interpolates features: x [S, D] in the unit cube (clamped to it), grid [G_1, ..., G_D, C] -> [S, C].

    Axis k of x runs along axis k of the grid: 0 is its first node, 1 its last. Differentiable in x and grid; the
    gradient in x is zero where x was clamped. With `accumulate`, backward() adds the gradient of the grid, which must
    be a leaf, to its `.grad` in place: of a large grid few nodes are hit in a step, and a fresh gradient of zeros costs
    many times the rest of the step. autograd.grad() does not see it.
    """
    if accumulate and grid.requires_grad and torch.is_grad_enabled():
        if not grid.is_leaf:
            raise ValueError("accumulate: the grid must be a parameter, not the result of another op")
        return _Accumulated.apply(x, grid)
    return _grid_interpolate(x, grid)


def _out(x: Tensor, grid: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], grid.shape[-1])


@native_op("grid_interpolate", _out)
def _grid_interpolate(x: Tensor, grid: Tensor) -> Tensor:
    out = _out(x, grid)
    kernel("grid_forward", x.dtype)(array(x), array(grid), out, threads())
    return out


def _gradients(x: Tensor, grid: Tensor, d_out: Tensor, needs: list[bool]) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape if needs[0] else 0), grid.new_zeros(grid.shape if needs[1] else 0)


@native_op("grid_interpolate_backward", _gradients)
def _grid_interpolate_backward(x: Tensor, grid: Tensor, d_out: Tensor, needs: list[bool]) -> tuple[Tensor, Tensor]:
    """d_x and d_grid; the one that is not needed is empty."""
    d_x, d_grid = _gradients(x, grid, d_out, needs)
    wanted = [d if need else None for d, need in zip((d_grid, d_x), reversed(needs), strict=True)]
    kernel("grid_backward", x.dtype)(array(x), array(grid), array(d_out), *wanted, threads())
    return d_x, d_grid


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, d_out: Tensor) -> tuple:
    needs = list(ctx.needs_input_grad)
    gradients = _grid_interpolate_backward(*ctx.saved_tensors, d_out, needs)
    return tuple(d if need else None for d, need in zip(gradients, needs, strict=True))


torch.library.register_autograd(_grid_interpolate, _backward, setup_context=_setup)


class _Accumulated(torch.autograd.Function):
    """An autograd function, not a custom op: it changes a gradient in place."""

    @staticmethod
    def forward(ctx, x: Tensor, grid: Tensor) -> Tensor:  # noqa: ANN001
        ctx.save_for_backward(x, grid)
        return _grid_interpolate(x, grid)

    @staticmethod
    def backward(ctx, d_out: Tensor) -> tuple:  # noqa: ANN001
        x, grid = ctx.saved_tensors
        if grid.grad is None:
            grid.grad = torch.zeros_like(grid)
        d_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        if x.is_cuda:
            importlib.import_module("neuralfields.gpu.grid").add_grid_gradients(x, grid, d_out, grid.grad, d_x)
        else:
            kernel("grid_backward", x.dtype)(array(x), array(grid), array(d_out), array(grid.grad), d_x, threads())
        return d_x, None


def grid_interpolate_reference(x: Float[Tensor, "S D"], grid: Float[Tensor, "*nodes C"]) -> Float[Tensor, "S C"]:
    """The same in plain torch."""
    *nodes, channels = grid.shape
    size = torch.tensor(nodes, device=x.device)
    p = x.clamp(0, 1) * (size - 1)
    cell = torch.minimum(p.detach().floor().long(), (size - 2).clamp(min=0))
    f = p - cell
    strides = torch.tensor([math.prod(nodes[axis + 1 :]) for axis in range(len(nodes))], device=x.device)
    rows, total = grid.reshape(-1, channels), x.new_zeros(x.shape[0], channels)
    for corner in range(1 << len(nodes)):
        bits = torch.tensor([(corner >> axis) & 1 for axis in range(len(nodes))], device=x.device)
        node = torch.minimum(cell + bits, size - 1)
        weight = torch.where(bits.bool(), f, 1 - f).prod(dim=1, keepdim=True)
        total = total + weight * rows[(node * strides).sum(dim=1)]
    return total
