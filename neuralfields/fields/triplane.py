"""Tri-plane field (EG3D, arXiv:2112.07945): three planes of features, decoded by the shared heads.

f = P_xy(x, y) + P_xz(x, z) + P_yz(y, z)  (or their product)     log_density, rgb, values = heads(f)
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuralfields.domain import RADIANCE, Domain
from neuralfields.errors import UsageError
from neuralfields.fields.field import HeadedField, ParameterGroup
from neuralfields.layers.grids import (
    PENALTY_EVERY,
    PenaltySchedule,
    axis_points,
    growth_shares,
    plane_features,
    plane_pairs,
    resized,
    stage_points,
    variation,
)
from neuralfields.layers.heads import Heads
from neuralfields.settings import require_range

PENALTY_SAMPLES = 1024  # random nodes of a penalty, on each plane


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the tri-plane field."""

    combination: Literal["sum", "product"] = "sum"
    """combination of the three planes' features: sum or product"""
    resolution: int = 193
    """points along an axis of a plane, a signal's samples at most"""
    features: int = 32
    """number of features of a point"""
    hidden: int = 32
    """width of the networks"""
    density_layers: int = 1
    """number of hidden layers of the density network"""
    colour_layers: int = 2
    """number of hidden layers of the colour network"""
    code: int = 16
    """number of outputs of the density network, the log-density among them"""
    degree: int = 4
    """degree of the direction's spherical harmonics"""
    doublings: int = 2
    """times the planes double during a fit; 0 begins with the full resolution"""
    grown: float = 0.5
    """share of a fit at which the planes have their full resolution"""
    variation: float = 1e-4
    """weight of the planes' total variation"""
    learning_rate: float = 5e-2
    """learning rate of the planes"""
    network_learning_rate: float = 1e-2
    """learning rate of the networks"""

    def __post_init__(self) -> None:
        if self.combination not in ("sum", "product"):
            raise ValueError(f"combination {self.combination!r}: must be sum or product")
        require_range(
            self, resolution=(2, 4096), features=(1, 256), hidden=(1, 256), density_layers=(0, 6), colour_layers=(1, 6),
            code=(1, 64), degree=(1, 4), doublings=(0, 6), grown=(0.01, 0.99), variation=(0, 1e3),
            learning_rate=(1e-7, 1.0), network_learning_rate=(1e-7, 1.0),
        )  # fmt: skip


class TriplaneField(HeadedField):
    """The tri-plane field: see the module's equations."""

    Config = Config
    SIZES = tuple({"resolution": points} for points in (33, 49, 65, 97, 129, 161, 193, 257, 321))
    FINER: ClassVar = {180: {"resolution": 257, "variation": 0.0}, 360: {"resolution": 385, "variation": 0.0}}
    DOMAINS = ("radiance", "shape", "video")

    def __init__(self, config: Config, domain: Domain = RADIANCE) -> None:
        super().__init__()
        self.config, self.domain = config, domain
        if domain.dimensions != 3:
            raise UsageError(f"field triplane: takes 3 coordinates, not {domain.dimensions}; use kplanes")
        self.looks = PenaltySchedule()
        self._points = axis_points(config.resolution, domain)
        low, high = (-0.1, 0.1) if config.combination == "sum" else (0.1, 0.5)  # a factor near 0 hides the others
        planes = (torch.empty(*shape).uniform_(low, high) for shape in self._shapes())
        self.planes = nn.ParameterList(map(nn.Parameter, planes))
        layers = config.density_layers, config.colour_layers
        self.heads = Heads(config.features, config.hidden, layers, config.code, config.degree, domain)

    def _shapes(self, stage: int | None = None) -> list[tuple[int, ...]]:
        """The planes' shapes at a stage. Default: the final ones."""
        doublings = self.config.doublings
        points = [stage_points(p, doublings, doublings if stage is None else stage) for p in self._points]
        return [(points[i], points[j], self.config.features) for i, j in plane_pairs(3)]

    def features(self, x: Float[Tensor, "S D"]) -> Float[Tensor, "S F"]:
        """The planes' features, summed or multiplied, [S, features]."""
        return plane_features(x, self.planes, self.config.combination == "product", self.domain.radiance)

    def groups(self) -> list[ParameterGroup]:
        """Parameter groups: the planes, and the networks at a lower learning rate."""
        rates = self.config.learning_rate, self.config.network_learning_rate
        return self.grids_and_heads(tuple(self.planes), *rates)

    def penalty(self) -> Tensor | None:
        """Total variation of the planes; sampled, at every fourth call."""
        generator = self.looks.next()
        if generator is None or not self.config.variation:
            return None
        total = sum(2 * variation(plane, (0, 1), PENALTY_SAMPLES, generator).mean() for plane in self.planes)
        return PENALTY_EVERY * self.config.variation * total

    def stages(self) -> tuple[float, ...]:
        """Shares of a fit at which the planes double, `doublings` of them."""
        return growth_shares(self.config.doublings, self.config.grown)

    def grow(self, stage: int) -> None:
        """Resamples the planes to the points of a stage."""
        for k, shape in enumerate(self._shapes(stage)):
            self.planes[k] = resized(self.planes[k], shape[:2])


FIELD = TriplaneField
