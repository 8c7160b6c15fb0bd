"""Low-rank tensors (TensoRF, arXiv:2203.09517): a grid factored into vectors and matrices, or vectors alone.

  vm  component r of axis k:  a_kr(x) = v_kr(x_k) M_kr(x without x_k)      R components for each axis (Eq. 3)
  cp  component r:            a_r(x) = v_1r(x_1) ... v_Dr(x_D)             R components in all (Eq. 2)
  radiance   f = [s, B a]: log_density = s, `shift` and the sum of the density's components; a, those of the colour
             rgb = sigmoid(colour network([f, harmonics(direction)]))
  others     f = B a, values = value network(f)

f is as wide as the output of the shared density network: a log-density and a code (PVD compares the two).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuralfields.domain import RADIANCE, Domain
from neuralfields.errors import UsageError
from neuralfields.fields.field import Field, ParameterGroup
from neuralfields.layers.grids import (
    PENALTY_EVERY,
    PenaltySchedule,
    axis_points,
    growth_shares,
    resized,
    stage_points,
    variation,
)
from neuralfields.layers.heads import weights
from neuralfields.ops.grid import grid_interpolate
from neuralfields.ops.network import network
from neuralfields.ops.spherical_harmonics import spherical_harmonics
from neuralfields.settings import require_range

PENALTY_SAMPLES = 1024  # random nodes of a penalty, on each vector and matrix
RESOLUTION, FINEST = 193, 4096


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the low-rank field."""

    decomposition: Literal["vm", "cp"] = "vm"
    """vm: vector times matrix for each axis; cp: vectors alone, a hundredth of the bytes"""
    resolution: int | None = None
    """points along an axis, a signal's samples at most; none: an image's samples, 193 for the rest"""
    density_rank: int = 8
    """components of the density, for each axis under vm"""
    colour_rank: int = 16
    """components of the colour, or of a signal; for each axis under vm"""
    code: int = 16
    """features of a point, the log-density among them"""
    hidden: int = 32
    """width of the colour network"""
    colour_layers: int = 2
    """number of hidden layers of the colour network"""
    degree: int = 4
    """degree of the direction's spherical harmonics"""
    doublings: int = 2
    """times the resolution doubles during a fit; 0 begins with the full one"""
    grown: float = 0.5
    """share of a fit at which the resolution is full"""
    shift: float = 0.0
    """log-density at components of 0"""
    initial: float = 1e-2
    """standard deviation of the components at initialisation"""
    sparsity: float = 1e-4
    """weight of the mean magnitude of the density's vectors and matrices"""
    variation: float = 0.0
    """weight of the total variation of the matrices (of the vectors, under cp)"""
    learning_rate: float = 5e-2
    """learning rate of vectors and matrices"""
    network_learning_rate: float = 1e-2
    """learning rate of B and the networks"""

    def __post_init__(self) -> None:
        if self.decomposition not in ("vm", "cp"):
            raise ValueError(f"decomposition {self.decomposition!r}: must be vm or cp")
        require_range(
            self, resolution=(2, FINEST), density_rank=(1, 1024), colour_rank=(1, 160), code=(2, 64), hidden=(1, 256),
            colour_layers=(1, 6), degree=(1, 4), doublings=(0, 6), grown=(0.01, 0.99), shift=(-20, 20),
            initial=(1e-9, 1e3), sparsity=(0, 1e3), variation=(0, 1e3), learning_rate=(1e-7, 10.0),
            network_learning_rate=(1e-7, 1.0),
        )  # fmt: skip


class LowRankField(Field):
    """The low-rank (TensoRF) field: see the module's equations."""

    Config = Config
    SIZES = (
        {"decomposition": "cp", "resolution": 97, "density_rank": 24, "colour_rank": 48},
        {"decomposition": "cp", "resolution": 193, "density_rank": 48, "colour_rank": 96},
        *({"resolution": points} for points in (49, 65, 97, 129, 161, 193, 257, 321)),
    )
    DOMAINS = ("radiance", "image", "shape", "video")

    def __init__(self, config: Config, domain: Domain = RADIANCE) -> None:
        super().__init__()
        self.config, self.domain = config, domain
        axes = domain.dimensions
        if config.decomposition == "vm" and axes > 3:
            raise UsageError("field lowrank: decomposition vm takes at most 3 coordinates, not time; use cp or kplanes")
        self.looks = PenaltySchedule()
        self._density_rank = config.density_rank if domain.radiance else 0
        rank = self._density_rank + config.colour_rank
        finest = FINEST if domain.lengths and domain.kind == "image" else RESOLUTION
        self._points = axis_points(config.resolution or finest, domain)
        factors = 2 if config.decomposition == "vm" else axes
        deviation = config.initial ** (1 / factors)

        def factor(along: list[int]) -> nn.Parameter:
            return nn.Parameter(torch.randn(*[self._points[a] for a in along], rank).mul_(deviation))

        vm = config.decomposition == "vm"
        self.vectors = nn.ParameterList(factor([k]) for k in range(axes))
        self.matrices = nn.ParameterList(factor(_others(k, axes)) for k in range(axes if vm else 0))
        code, hidden = config.code, [config.hidden] * config.colour_layers
        self.basis = weights([config.colour_rank * (axes if vm else 1), code - 1 if domain.radiance else code])
        out = [code + config.degree**2, *hidden, 3] if domain.radiance else [code, *hidden, domain.channels]
        self.network = weights(out)

    def components(self, x: Tensor) -> list[Tensor]:
        """Component products [S, density_rank + colour_rank]: one such for each axis under vm, one under cp."""
        along = [grid_interpolate(x[:, k : k + 1], vector) for k, vector in enumerate(self.vectors)]
        if self.config.decomposition == "cp":
            return [math.prod(along)]
        axes = x.shape[1]
        across = [
            grid_interpolate(x[:, _others(k, axes)], matrix, accumulate=self.domain.radiance)
            for k, matrix in enumerate(self.matrices)
        ]
        return [vector * matrix for vector, matrix in zip(along, across, strict=True)]

    def features(self, x: Float[Tensor, "S D"]) -> Float[Tensor, "S F"]:
        """The log-density and the code of points, [S, code]."""
        components = self.components(x)
        rank = self._density_rank
        f = network(torch.cat([c[:, rank:] for c in components], dim=1), list(self.basis))
        if not self.domain.radiance:
            return f
        density = sum(c[:, :rank].sum(1, keepdim=True) for c in components)
        return torch.cat([density + self.config.shift, f], dim=1)

    def decode(
        self, f: Float[Tensor, "S F"], directions: Float[Tensor, "S 3"]
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, "S 3"]]:
        """The first feature is the log-density; runs the colour network on all and the direction's harmonics."""
        harmonics = spherical_harmonics(directions, self.config.degree)
        return f[:, 0], torch.sigmoid(network(torch.cat([f, harmonics], dim=1), list(self.network)))

    def log_density(self, f: Float[Tensor, "S F"]) -> Float[Tensor, " S"]:
        """The first feature."""
        return f[:, 0]

    def values(self, f: Float[Tensor, "S F"]) -> Float[Tensor, "S C"]:
        """Runs the value network."""
        return network(f, list(self.network))

    def groups(self) -> list[ParameterGroup]:
        """Parameter groups: vectors and matrices, and B and the networks at a lower learning rate."""
        factors = (*self.vectors, *self.matrices)
        networks = (*self.basis, *self.network)
        return [
            ParameterGroup("grid", factors, self.config.learning_rate, sparse=True),
            ParameterGroup("network", networks, self.config.network_learning_rate),
        ]

    def penalty(self) -> Tensor | None:
        """L1 magnitude of the density's factors and total variation; sampled, at every fourth call."""
        c, generator = self.config, self.looks.next()
        if generator is None or not (c.sparsity or c.variation):
            return None
        loss = self.basis[0].new_zeros(())
        for factor in (*self.vectors, *self.matrices):
            if c.sparsity and self._density_rank:
                rows = factor.flatten(0, -2)
                chosen = torch.randint(len(rows), (PENALTY_SAMPLES,), generator=generator).to(rows.device)
                loss = loss + c.sparsity * rows.index_select(0, chosen)[:, : self._density_rank].abs().mean()
            axes = tuple(range(factor.ndim - 1))
            if c.variation and (len(axes) > 1 or c.decomposition == "cp"):
                loss = loss + c.variation * len(axes) * variation(factor, axes, PENALTY_SAMPLES, generator).mean()
        return PENALTY_EVERY * loss

    def stages(self) -> tuple[float, ...]:
        """Shares of a fit at which vectors and matrices double their points, `doublings` of them."""
        return growth_shares(self.config.doublings, self.config.grown)

    def grow(self, stage: int) -> None:
        """Resamples vectors and matrices to the points of a stage."""
        points = [stage_points(p, self.config.doublings, stage) for p in self._points]
        for k, vector in enumerate(self.vectors):
            self.vectors[k] = resized(vector, (points[k],))
        for k, matrix in enumerate(self.matrices):
            self.matrices[k] = resized(matrix, tuple(points[a] for a in _others(k, len(points))))


def _others(axis: int, axes: int) -> list[int]:
    """All axes but one."""
    return [a for a in range(axes) if a != axis]


FIELD = LowRankField
