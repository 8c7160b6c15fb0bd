"""3D Gaussian Splatting (arXiv:2308.04079): a scene as coloured, oriented ellipsoids, drawn by rasterisation.

Not a function of a point: it has no features to decode and no density to march through. What it shares with the other
architectures is its place on the command line, its model file, and that it renders (`Model.renderable`). In a scene
that moves each has a lifetime and a path of its own (motion.py).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from neuralfields.domain import MOVING, RADIANCE, Domain
from neuralfields.errors import UsageError
from neuralfields.fields.field import Field, ParameterGroup
from neuralfields.gaussians import COUNTS, PARAMETERS, Gaussians
from neuralfields.motion import MOTION
from neuralfields.settings import require_range


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of a set of Gaussians."""

    count: int = 0
    """Gaussians in the model; 0: the fit decides"""
    most: int = 0
    """Gaussians at most; 0: as many as pixels and time pay for"""
    degree: int = 3
    """degree of the colour's spherical harmonics, 0 to 3"""
    beginning: Literal["auto", "depth", "points", "random"] = "auto"
    """where a fit begins: at depths that photos agree on, at sparse points, at random"""
    antialiased: bool = False
    """whether opacities are compensated for a pixel's filter (Mip-Splatting)"""

    def __post_init__(self) -> None:
        require_range(self, count=(0, 50_000_000), most=(0, 50_000_000), degree=(0, 3))


class GaussianField(Field):
    """N Gaussians as parameters, in the units of `gaussians.Gaussians`."""

    Config = Config
    DOMAINS = ("radiance",)
    MOVES = True
    STEPS = 5000  # a photo each

    def __init__(self, config: Config, domain: Domain = RADIANCE) -> None:
        super().__init__()
        self.config, self.domain = config, domain
        shapes = {"means": (3,), "scales": (3,), "rotations": (4,), "opacities": ()}
        for name, shape in (*shapes.items(), ("harmonics", (COUNTS[config.degree], 3))):
            setattr(self, name, nn.Parameter(torch.empty(config.count, *shape).zero_()))
        if domain.dimensions == 4:
            self.motion = nn.Parameter(torch.empty(config.count, MOTION).zero_())

    @staticmethod
    def of(gaussians: Gaussians, most: int = 0) -> "GaussianField":
        """A field that holds these Gaussians."""
        config = Config(len(gaussians), most, gaussians.degree, antialiased=gaussians.antialiased)
        moves = gaussians.motion is not None
        field = GaussianField(config, MOVING if moves else RADIANCE)
        for name in (*PARAMETERS, "motion") if moves else PARAMETERS:
            setattr(field, name, nn.Parameter(getattr(gaussians, name).detach().clone().contiguous()))
        return field

    def gaussians(self) -> Gaussians:
        """The parameters as the noun that renderers and files take."""
        parts = [getattr(self, name).detach() for name in PARAMETERS]
        motion = self.motion.detach() if self.domain.dimensions == 4 else None
        return Gaussians(*parts, antialiased=self.config.antialiased, motion=motion)

    def features(self, x: Tensor) -> Tensor:
        """Refused: Gaussians are no function of a point. Raises UsageError."""
        raise UsageError("Gaussians are no function of a point; render them, or convert them to another field first")

    def groups(self) -> list[ParameterGroup]:
        """One group; a fit has its own rates (splatting/)."""
        return [ParameterGroup("grid", tuple(self.parameters()), 0.0, sparse=True)]


FIELD = GaussianField
