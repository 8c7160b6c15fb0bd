"""Dense feature grids: coarse-to-fine growth, and total-variation regularisation.

Vocabulary
  grid  [G_1, ..., G_D, C], C features at every node, corners aligned (ops/grid.py)
  stage, 0 to `doublings`: at the last a grid has its full number of points along an axis, at each before it half
"""

import math
from collections.abc import Iterable
from itertools import combinations

import torch
from torch import Tensor, nn

from neuralfields.domain import Domain
from neuralfields.ops.grid import grid_interpolate

# Each evaluation of a penalty costs a gradient of the grid's size: evaluations are rarer, and weigh more.
PENALTY_EVERY = 4


class PenaltySchedule(nn.Module):
    """Schedule and random state of a grid penalty; the count is saved, so that a resumed fit samples the same nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def next(self) -> torch.Generator | None:
        """The random generator of the next evaluation, or None if this call takes none."""
        self.count += 1
        count = int(self.count)
        return None if count % PENALTY_EVERY else torch.Generator().manual_seed(count)


def axis_points(points: int, domain: Domain) -> tuple[int, ...]:
    """`points` along each axis, but no more than a signal has samples there."""
    return tuple(max(2, min(points, length)) for length in domain.lengths or (points,) * domain.dimensions)


def stage_points(points: int, doublings: int, stage: int) -> int:
    """Points along an axis at a stage. If `points` - 1 is a multiple of 2^doublings growth keeps every old node."""
    return math.ceil((points - 1) / 2 ** (doublings - stage)) + 1


def growth_shares(doublings: int, until: float) -> tuple[float, ...]:
    """Shares of a fit at which a grid doubles, evenly up to `until`."""
    return tuple(until * (index + 1) / doublings for index in range(doublings))


@torch.no_grad()
def resized(grid: Tensor, points: tuple[int, ...]) -> nn.Parameter:
    """Upsamples or downsamples a grid, multilinearly, to `points` along each axis, as a new parameter."""
    values = grid.detach()
    for axis, count in enumerate(points):
        before = values.shape[axis]
        if before == count:
            continue
        position = torch.arange(count, dtype=torch.float64, device=grid.device) * (before - 1) / max(count - 1, 1)
        first = position.floor().long().clamp(max=max(before - 2, 0))
        weight = (position - first).to(values.dtype).reshape(-1, *[1] * (values.ndim - axis - 1))
        second = (first + 1).clamp(max=before - 1)
        low, high = values.index_select(axis, first), values.index_select(axis, second)
        values = low * (1 - weight) + high * weight
    return nn.Parameter(values.clone(memory_format=torch.contiguous_format))


def variation(grid: Tensor, axes: tuple[int, ...], count: int, generator: torch.Generator) -> Tensor:
    """Squared differences of neighbouring nodes along `axes`, at `count` random nodes for each: [len(axes) count, C].

    A stochastic sample of the total variation (Plenoxels, arXiv:2112.05131, Eq. 4; K-Planes, arXiv:2301.10241, Eq. 5).
    """
    *nodes, channels = grid.shape
    starts, steps = [], []
    for axis in axes:
        stride = math.prod(nodes[axis + 1 :])
        row = torch.zeros(count, dtype=torch.int64)
        for other, size in enumerate(nodes):
            room = size - 1 if other == axis else size
            row = row * size + torch.randint(max(room, 1), (count,), generator=generator)
        starts.append(row)
        steps.append(row + (stride if nodes[axis] > 1 else 0))
    pairs = grid.reshape(-1, channels).index_select(0, torch.cat(starts + steps).to(grid.device))
    low, high = pairs.chunk(2)
    return (high - low).square()


def plane_pairs(dimensions: int) -> list[tuple[int, int]]:
    """Pairs of axes that have a plane, in the order of the planes."""
    return list(combinations(range(dimensions), 2))


def plane_features(x: Tensor, planes: Iterable[Tensor], product: bool, accumulate: bool = False) -> Tensor:
    """Sum or product of the features of all planes [G_i, G_j, C] at (x_i, x_j): x [S, D] -> [S, C].

    `accumulate`: see ops/grid.py; not for gradients in x alone, as of a shape's normals.
    """
    pairs = plane_pairs(x.shape[1])
    found = [grid_interpolate(x[:, pair], plane, accumulate) for pair, plane in zip(pairs, planes, strict=True)]
    return math.prod(found) if product else sum(found)
