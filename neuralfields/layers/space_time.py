"""Time in a hash field: hash grids over space-time, or a warp of space in front of a grid that stands still.

grids   f = [hash grid of (x, y, z)], [of (x, y, t)], [of (x, z, t)], [of (y, z, t)], one after the other
        (as K-Planes, arXiv:2301.10241, factors space-time, with grids of three coordinates in place of planes)
warp    f = hash grid of x + W(x, t), W a small network whose last layer begins at 0 (D-NeRF, arXiv:2011.13961)
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from neuralfields.domain import RADIANCE
from neuralfields.layers.encodings import encoding
from neuralfields.layers.hash_table import HashTable
from neuralfields.ops.coordinate import Layers, coordinate_network

# Points along an axis of space of the finest level: what moves is left to coarser levels than what rests. The cells of
# all levels have one shape, so points along time grow with those along space.
FINEST = 256
TRIPLES = ((0, 1, 3), (0, 2, 3), (1, 2, 3))  # the axes of the grids over space-time
OCTAVES, WIDTH, LAYERS = 4, 64, 3  # of the warp's encoding and network


@dataclass(frozen=True)
class Grids:
    """The size of hash grids: `levels`, `features` of an entry, log2 `table` of entries, points from base to finest."""

    levels: int
    features: int
    table: int
    base: int
    finest: float


class SpaceTimeGrids(nn.Module):
    """Hash grids over each pair of space's axes with time, whose finest level has `moments` points along time."""

    def __init__(self, size: Grids, moments: int) -> None:
        super().__init__()
        finest = max(size.base, min(size.finest or FINEST, FINEST))
        layout = HashTable.of(size.levels, size.table, size.base, finest, RADIANCE)
        aspect = torch.tensor([1.0, 1.0, min(1.0, moments / finest)], dtype=torch.float64, device="cpu")
        self.layout = replace(layout, aspect=aspect)
        shape = (layout.entries, size.features)
        self.tables = nn.ParameterList(nn.Parameter(torch.empty(shape).uniform_(-1e-4, 1e-4)) for _ in TRIPLES)
        self.outputs = len(TRIPLES) * size.levels * size.features

    def forward(self, x: Tensor) -> Tensor:
        """Encodes x [S, 4] -> [S, outputs]."""
        parts = zip(TRIPLES, self.tables, strict=True)
        return torch.cat([self.layout.encode(x[:, axes].contiguous(), table) for axes, table in parts], dim=1)


class Warp(nn.Module):
    """A network from a point and a moment to the point's place in a canonical space; the identity at first."""

    def __init__(self) -> None:
        super().__init__()
        self.encoding = encoding("octaves", 4, 0, OCTAVES)
        widths = [self.encoding.outputs] + [WIDTH] * LAYERS
        self.hidden = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(widths))
        self.shift = nn.Linear(WIDTH, 3)
        for parameter in self.shift.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """x [S, 4] -> places [S, 3] in the unit cube."""
        linears = [*self.hidden, self.shift]
        if x.device.type == "cpu":  # in float32: a shift rounded to bfloat16 is off by a fine cell
            weights, biases = [linear.weight for linear in linears], [linear.bias for linear in linears]
            shift = coordinate_network(x, Layers(self.encoding.matrix, self.encoding.direct, weights, biases))
        else:
            shift = self.encoding(x)
            for linear in self.hidden:
                shift = torch.relu(linear(shift))
            shift = self.shift(shift)
        return (x[:, :3] + shift).clamp(0, 1)
