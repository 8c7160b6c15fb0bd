"""Dense grids of features: how they grow, and what keeps them smooth.

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

# Every look of a penalty at a grid costs a gradient of the grid's size: looks are rarer, and weigh more.
LOOK_EVERY = 4


class PenaltySchedule(nn.Module):
    """When and where a penalty looks at its grids; the count is saved, so that a resumed fit looks where it would."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def next(self) -> torch.Generator | None:
        """The randomness of the next look, or None where this call takes none."""
        self.count += 1
        count = int(self.count)
        return None if count % LOOK_EVERY else torch.Generator().manual_seed(count)


def axis_points(points: int, domain: Domain) -> tuple[int, ...]:
    """`points` along each axis, but no more than a signal has samples there."""
    return tuple(max(2, min(points, length)) for length in domain.lengths or (points,) * domain.dimensions)


def stage_points(points: int, doublings: int, stage: int) -> int:
    """Points along an axis at a stage. Where `points` - 1 is a multiple of 2^doublings growth keeps every old node."""
    return math.ceil((points - 1) / 2 ** (doublings - stage)) + 1


def growth_shares(doublings: int, until: float) -> tuple[float, ...]:
    """Shares of a fit at which a grid doubles, evenly up to `until`."""
    return tuple(until * (index + 1) / doublings for index in range(doublings))


@torch.no_grad()
def resized(grid: Tensor, points: tuple[int, ...]) -> nn.Parameter:
    """The grid's multilinear function at the nodes of a grid of `points` along each axis, as a new parameter."""
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
    """Squared differences of neighbouring nodes along `axes`, at `count` random places for each: [len(axes) count, C].

    A sample of the total variation (Plenoxels, arXiv:2112.05131, Eq. 4; K-Planes, arXiv:2301.10241, Eq. 5).
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
    """The pairs of axes that have a plane, in the order of the planes."""
    return list(combinations(range(dimensions), 2))


def plane_features(x: Tensor, planes: Iterable[Tensor], product: bool, accumulate: bool = False) -> Tensor:
    """Sum or product of what each plane [G_i, G_j, C] gives at (x_i, x_j): x [S, D] -> [S, C].

    `accumulate`: see ops/grid.py; not where gradients in x alone are asked for, as for a shape's normals.
    """
    pairs = plane_pairs(x.shape[1])
    found = [grid_interpolate(x[:, pair], plane, accumulate) for pair, plane in zip(pairs, planes, strict=True)]
    return math.prod(found) if product else sum(found)
