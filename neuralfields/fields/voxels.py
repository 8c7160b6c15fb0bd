"""Dense voxel grids with spherical harmonics (Plenoxels, arXiv:2112.05131; DVGO, arXiv:2111.11215), without a network.

  f = [s, c], interpolated between the nodes       log_density = s
  rgb = sigmoid(sum over k of c_k Y_k(direction)), three sums of degree^2 harmonics
  every domain but radiance: values = f

The density is computed from the interpolated s (post-activation), not interpolated itself: a surface can be sharper
than a cell (DVGO, Sec. 3.1). On a CPU a step costs in proportion to the grid's gradient: the grids are a tenth of the
papers', and colour, which is smoother than density, has the coarser one.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuralfields.domain import RADIANCE, Domain
from neuralfields.fields.field import Field, ParameterGroup, Shown, Teacher
from neuralfields.layers.grids import PENALTY_EVERY, PenaltySchedule, growth_shares, resized, stage_points, variation
from neuralfields.ops.grid import grid_interpolate
from neuralfields.ops.spherical_harmonics import spherical_harmonics
from neuralfields.settings import require_range

PENALTY_SAMPLES = 4096  # random nodes of a penalty, on each grid
PIECE = 1 << 16  # nodes that are evaluated together
UNSMOOTHED = {"density_variation": 0.0, "colour_variation": 0.0}
DARKEST = 1e-2  # colours are clamped to this distance from 0 and 1: their logits would dominate the others


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the voxel field."""

    resolution: int = 129
    """points along an axis of the density's grid; a signal has as many in all, or one for each of its samples"""
    colour_resolution: int = 81
    """points along an axis of the harmonics' grid"""
    degree: int = 2
    """degree of the harmonics: degree^2 coefficients a colour"""
    doublings: int = 3
    """times the grids double during a fit; 0 begins with the full resolution"""
    grown: float = 0.5
    """share of a fit at which the grids have their full resolution"""
    density_variation: float = 1e-4
    """weight of the total variation of s (of the values of a signal)"""
    colour_variation: float = 1e-3
    """weight of the total variation of c"""
    learning_rate: float = 0.3
    """learning rate of the density's grid, and of a signal's values"""
    colour_learning_rate: float = 0.1
    """learning rate of the harmonics' grid"""

    def __post_init__(self) -> None:
        require_range(
            self, resolution=(2, 512), colour_resolution=(2, 512), degree=(1, 4), doublings=(0, 6), grown=(0.01, 0.99),
            density_variation=(0, 1e3), colour_variation=(0, 1e3), learning_rate=(1e-7, 10.0),
            colour_learning_rate=(1e-7, 10.0),
        )  # fmt: skip


class VoxelField(Field):
    """The voxel field: see the module's equations."""

    Config = Config
    SIZES = tuple({"resolution": 16 * n + 1, "colour_resolution": 10 * n + 1} for n in range(2, 13))
    # A teacher leaves nothing for the variation to smooth, which takes a gradient of the whole grid.
    FINER: ClassVar = {
        least: {"resolution": 16 * n + 1, "colour_resolution": 8 * n + 1} | UNSMOOTHED
        for least, n in ((180, 12), (360, 16))
    }
    DOMAINS = ("radiance", "image", "shape", "video", "sound")

    def __init__(self, config: Config, domain: Domain = RADIANCE) -> None:
        super().__init__()
        self.config, self.domain = config, domain
        self.looks = PenaltySchedule()
        channels = 1 if domain.radiance else domain.channels
        self.grid = nn.Parameter(torch.zeros(*self._points(config.resolution), channels))
        if domain.radiance:
            self.colour = nn.Parameter(torch.zeros(*self._points(config.colour_resolution), 3 * config.degree**2))

    def _points(self, resolution: int, stage: int | None = None) -> tuple[int, ...]:
        """Points along each axis at a stage (Default: the final one): as many in all whatever the number of axes."""
        doublings, most = self.config.doublings, resolution**3
        lengths = self.domain.lengths or (most,) * self.domain.dimensions
        share = min(1.0, (most / math.prod(lengths)) ** (1 / len(lengths)))
        sides = (max(2, min(most, round(length * share))) for length in lengths)
        return tuple(stage_points(side, doublings, doublings if stage is None else stage) for side in sides)

    def features(self, x: Float[Tensor, "S D"]) -> Float[Tensor, "S F"]:
        """Interpolates log-density and coefficients, [S, 1 + 3 degree^2]; in other domains the values."""
        if not self.domain.radiance:
            return grid_interpolate(x, self.grid)
        return torch.cat([grid_interpolate(x, grid, accumulate=True) for grid in (self.grid, self.colour)], dim=1)

    def decode(
        self, f: Float[Tensor, "S F"], directions: Float[Tensor, "S 3"]
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, "S 3"]]:
        """Splits the features into log-density and coefficients; evaluates the direction's harmonics."""
        harmonics = spherical_harmonics(directions, self.config.degree)
        coefficients = f[:, 1:].unflatten(1, (3, self.config.degree**2))
        return f[:, 0], torch.sigmoid((coefficients * harmonics[:, None]).sum(2))

    def log_density(self, f: Float[Tensor, "S F"]) -> Float[Tensor, " S"]:
        """The first feature."""
        return f[:, 0]

    def values(self, f: Float[Tensor, "S F"]) -> Float[Tensor, "S C"]:
        """The features themselves."""
        return f

    def groups(self) -> list[ParameterGroup]:
        """Parameter groups: both grids have sparse gradients, as a step samples few of their nodes."""
        groups = [ParameterGroup("grid", (self.grid,), self.config.learning_rate, sparse=True)]
        if self.domain.radiance:
            groups.append(ParameterGroup("grid", (self.colour,), self.config.colour_learning_rate, sparse=True))
        return groups

    def penalty(self) -> Tensor | None:
        """Total variation of the grids; sampled, at every fourth call."""
        generator = self.looks.next()
        grids = [(self.grid, self.config.density_variation)]
        if self.domain.radiance:
            grids.append((self.colour, self.config.colour_variation))
        grids = [(grid, weight) for grid, weight in grids if weight > 0]
        if generator is None or not grids:
            return None
        axes = tuple(range(self.domain.dimensions))
        totals = [weight * variation(grid, axes, PENALTY_SAMPLES, generator).mean() for grid, weight in grids]
        return PENALTY_EVERY * len(axes) * sum(totals)

    @torch.no_grad()
    def initialise_from(self, teacher: Teacher, shown: Shown | None = None) -> bool:
        """Takes a teacher's log-densities, and coefficients by least squares to its colours from all directions."""
        if not self.domain.radiance:
            return False
        directions = _directions(2 * self.config.degree**2).to(self.grid.device)
        solve = torch.linalg.pinv(spherical_harmonics(directions, self.config.degree))
        for x, nodes, rows in _nodes(self.grid, shown):
            nodes[rows, 0] = teacher(x, directions[:1])[0]
        for x, nodes, rows in _nodes(self.colour, shown):
            logits = torch.logit(teacher(x, directions)[1], eps=DARKEST)
            nodes[rows] = torch.einsum("kd,dnc->nck", solve, logits).flatten(1)
        return True

    def stages(self) -> tuple[float, ...]:
        """Shares of a fit at which the grids double, `doublings` of them."""
        return growth_shares(self.config.doublings, self.config.grown)

    def grow(self, stage: int) -> None:
        """Resamples both grids to the nodes of a stage."""
        self.grid = resized(self.grid, self._points(self.config.resolution, stage))
        if self.domain.radiance:
            self.colour = resized(self.colour, self._points(self.config.colour_resolution, stage))


def _directions(count: int) -> Tensor:
    """Unit directions [count, 3], evenly over the sphere (a Fibonacci spiral)."""
    height = 1 - (2 * torch.arange(count) + 1) / count
    angle = torch.arange(count) * math.pi * (3 - math.sqrt(5))
    radius = (1 - height.square()).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), height], 1)


def _nodes(grid: Tensor, shown: Shown | None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yields, in pieces, positions [N, 3] in the unit cube of a grid's nodes that are shown (Default: all), the piece's
    features [P, C], and the rows [N] of those nodes in it. A node counts in the cells around it.
    """
    flat, sides = grid.detach().view(-1, grid.shape[-1]), grid.shape[:-1]
    reach = 1 / (min(sides) - 1)
    for piece in torch.arange(len(flat), device=grid.device).split(PIECE):
        i = torch.stack(torch.unravel_index(piece, sides), 1)
        x = i / (i.new_tensor(sides) - 1)
        keep = torch.ones_like(piece, dtype=torch.bool) if shown is None else shown(x, reach)
        rows = keep.nonzero().flatten()
        if len(rows):
            yield x[rows], flat[piece[0] : piece[-1] + 1], rows


FIELD = VoxelField
