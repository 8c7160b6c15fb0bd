"""Multilinear interpolation in a dense grid of any features, 1 to 4 axes.

Vocabulary
  S  samples      D  axes (1 to 4)      C  features of a node      G_k  nodes along axis k, corners aligned
  p_k = x_k * (G_k - 1),  i_k = floor(p_k) at most G_k - 2,  f_k = p_k - i_k
  out = sum over the 2^D corners b of  w_b * grid[i + b],   w_b = product over k of  f_k or 1 - f_k
"""

import math

import torch
from torch import Tensor


def grid_interpolate(x: Tensor, grid: Tensor) -> Tensor:
    """Features of points: x [S, D] in the unit cube (clamped to it), grid [G_1, ..., G_D, C] -> [S, C].

    Axis k of x runs along axis k of the grid: 0 is its first node, 1 its last. Differentiable in x and grid; the
    gradient in x is zero where x was clamped.
    """
    return grid_interpolate_reference(x, grid)


def grid_interpolate_reference(x: Tensor, grid: Tensor) -> Tensor:
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
