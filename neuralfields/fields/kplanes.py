"""K-Planes (arXiv:2301.10241): a plane of features for every pair of coordinates, multiplied, at several resolutions.

  f = [prod over pairs (i, j) of P_rij(x_i, x_j), for each resolution r]     log_density, rgb, values = heads(f)

With time (a fourth coordinate, or a video's third) the space-time planes begin at 1 and hold what changes: a static
scene leaves them so (Sec. 3.2). Time has one resolution, `moments`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuralfields.domain import RADIANCE, Domain
from neuralfields.fields.field import HeadedField, ParameterGroup
from neuralfields.layers.grids import (
    PENALTY_EVERY,
    PenaltySchedule,
    axis_points,
    plane_features,
    plane_pairs,
    variation,
)
from neuralfields.layers.heads import Heads
from neuralfields.settings import require_range

# By 0.1 in place of the smoothness of a video `deformation` gained 6.1 dB after 300 steps, `topology` 3.2 after a
# minute, `texture` nothing (docs/decisions.md).
OF_SCENES, OF_VIDEOS = 0.1, 1e-3
PENALTY_SAMPLES = 1024  # random nodes of a penalty, on each plane


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the K-Planes field."""

    resolutions: tuple[int, ...] = (48, 96, 192, 384)
    """points along an axis of space, a signal's samples at most, one for each set of planes"""
    moments: int = 32
    """points along time"""
    features: int = 32
    """features of a point, evenly over the resolutions"""
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
    variation: float = 1e-4
    """weight of the planes' total variation in space"""
    smoothness: float | None = None
    """weight of the planes' squared second differences along time; none: 0.1 for a scene, 0.001 for a video"""
    stillness: float = 1e-4
    """weight of the sparse-transients loss, the distance of the space-time planes from 1"""
    learning_rate: float = 5e-2
    """learning rate of the planes"""
    network_learning_rate: float = 1e-2
    """learning rate of the networks"""

    def __post_init__(self) -> None:
        require_range(
            self, moments=(2, 4096), features=(1, 256), hidden=(1, 256), density_layers=(0, 6), colour_layers=(1, 6),
            code=(1, 64), degree=(1, 4), variation=(0, 1e3), smoothness=(0, 1e3), stillness=(0, 1e3),
            learning_rate=(1e-7, 1.0), network_learning_rate=(1e-7, 1.0),
        )  # fmt: skip
        given = self.resolutions
        if not isinstance(given, tuple) or not 1 <= len(given) <= 8 or not all(2 <= g <= 4096 for g in given):
            raise ValueError(f"resolutions {given}: must be 1 to 8 numbers between 2 and 4096")
        if self.features % len(given):
            raise ValueError(f"features {self.features}: must be a multiple of the {len(given)} resolutions")


class KPlanesField(HeadedField):
    """The K-Planes field: see the module's equations."""

    Config = Config
    SIZES = tuple({"resolutions": tuple(n * k for k in (1, 2, 4, 8))} for n in (6, 8, 12, 16, 24, 32, 40, 48, 64))
    DOMAINS = ("radiance", "image", "shape", "video")
    MOVES = SMOOTH_IN_TIME = True

    def __init__(self, config: Config, domain: Domain = RADIANCE) -> None:
        super().__init__()
        self.config, self.domain = config, domain
        self._time = domain.dimensions - 1 if domain.kind == "video" or domain.dimensions == 4 else None
        self._pairs = plane_pairs(domain.dimensions)
        self.looks = PenaltySchedule()
        sets = [(points, pair) for points in config.resolutions for pair in self._pairs]
        self.planes = nn.ParameterList(self._plane(*each) for each in sets)
        layers = config.density_layers, config.colour_layers
        self.heads = Heads(config.features, config.hidden, layers, config.code, config.degree, domain)

    def _plane(self, points: int, pair: tuple[int, int]) -> nn.Parameter:
        space, time = (axis_points(most, self.domain) for most in (points, self.config.moments))
        sides = [(time if axis == self._time else space)[axis] for axis in pair]
        plane = torch.empty(*sides, self.config.features // len(self.config.resolutions))
        return nn.Parameter(plane.fill_(1) if self._time in pair else plane.uniform_(0.1, 0.5))

    def features(self, x: Float[Tensor, "S D"]) -> Float[Tensor, "S F"]:
        """The products of the planes' features, resolution by resolution, [S, features]."""
        count, planes = len(self._pairs), list(self.planes)
        sets = [planes[i : i + count] for i in range(0, len(planes), count)]
        return torch.cat([plane_features(x, chosen, True, self.domain.radiance) for chosen in sets], dim=1)

    def groups(self) -> list[ParameterGroup]:
        """Parameter groups: the planes, and the networks at a lower learning rate."""
        rates = self.config.learning_rate, self.config.network_learning_rate
        return self.grids_and_heads(tuple(self.planes), *rates)

    @property
    def smoothness(self) -> float:
        """The weight of smoothness along time. A scene's moments are seen by a photo or two each, a video's whole."""
        if self.config.smoothness is not None:
            return self.config.smoothness
        return OF_SCENES if self.domain.radiance else OF_VIDEOS

    def penalty(self) -> Tensor | None:
        """Total variation in space, smoothness and sparse transients in time; sampled, at every fourth call."""
        c, generator, smoothness = self.config, self.looks.next(), self.smoothness
        if generator is None or not (c.variation or smoothness or c.stillness):
            return None
        loss = self.planes[0].new_zeros(())
        for index, plane in enumerate(self.planes):
            pair = self._pairs[index % len(self._pairs)]
            axes = tuple(k for k, axis in enumerate(pair) if axis != self._time)
            if c.variation:
                loss = loss + c.variation * len(axes) * variation(plane, axes, PENALTY_SAMPLES, generator).mean()
            if self._time in pair:
                curve = plane.diff(dim=1).diff(dim=1)
                smooth = curve.square().mean() if curve.numel() else 0.0
                loss = loss + smoothness * smooth + c.stillness * (plane - 1).abs().mean()
        return PENALTY_EVERY * loss


FIELD = KPlanesField
