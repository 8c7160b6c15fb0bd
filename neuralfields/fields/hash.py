"""Hash-grid field (Instant-NGP, arXiv:2201.05989): the default, and the one with a fused native path.

  f = hash-grid features of x        [h_0, h] = density network(f)        log_density = h_0
  rgb = sigmoid(colour network([h_0, h, harmonics(direction)]))

Small tables and four features an entry, not the paper's defaults: on a CPU the table's cache misses and Adam's traffic
are what one waits for (8 levels x 4 features need half the gathers of 16 x 2 and fit as well).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuralfields.domain import RADIANCE, Domain
from neuralfields.fields.field import Field, ParameterGroup
from neuralfields.heads import Heads
from neuralfields.ops.hash_grid import HashGeometry, hash_encode
from neuralfields.ops.hash_render import HashRenderer
from neuralfields.options import require_range


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the hash field."""

    levels: int = 8
    """resolutions of the grid"""
    features: int = 4
    """features of a table entry: 2, 4 or 8"""
    table: int = 17
    """log2 of the entries of a level's table"""
    base: int = 16
    """points along an axis of the coarsest level"""
    finest: int = 2048
    """points along an axis of the finest level"""
    hidden: int = 32
    """width of the networks"""
    density_layers: int = 1
    """hidden layers of the density network"""
    colour_layers: int = 2
    """hidden layers of the colour network"""
    code: int = 16
    """outputs of the density network, the log-density among them"""
    degree: int = 4
    """degree of the direction's spherical harmonics"""
    learning_rate: float = 1e-2
    """of the table and the networks"""

    def __post_init__(self) -> None:
        require_range(
            self, levels=(1, 32), table=(4, 24), base=(2, 1024), finest=(2, 1 << 18), hidden=(1, 256),
            density_layers=(0, 6), colour_layers=(1, 6), code=(1, 64), degree=(1, 4), learning_rate=(1e-7, 1.0),
        )  # fmt: skip
        if self.features not in (2, 4, 8):
            raise ValueError(f"features {self.features}: must be 2, 4 or 8")
        if self.finest < self.base:
            raise ValueError(f"finest {self.finest}: must not be below base {self.base}")


class HashField(Field):
    """See the module's equations."""

    Config = Config

    def __init__(self, config: Config, domain: Domain = RADIANCE) -> None:
        super().__init__()
        self.config, self.domain = config, domain
        geometry = HashGeometry.of(config.levels, config.table, config.base, config.finest)
        self._scales, self._levels = geometry.scales, geometry.levels
        self._renderer: HashRenderer | None = None
        self.table = nn.Parameter(torch.empty(geometry.entries, config.features).uniform_(-1e-4, 1e-4))
        layers = config.density_layers, config.colour_layers
        self.heads = Heads(config.levels * config.features, config.hidden, layers, config.code, config.degree, domain)

    def features(self, x: Tensor) -> Tensor:
        """Hash-grid features, [S, levels * features]."""
        return hash_encode(x, self.table, self._scales, self._levels)

    def decode(self, f: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Density network, then colour network on its code and the direction's harmonics."""
        return self.heads.decode(f, directions)

    def log_density(self, f: Tensor) -> Tensor:
        """The density network alone."""
        return self.heads.log_density(f)

    def groups(self) -> list[ParameterGroup]:
        """Table and networks share a learning rate; the table's gradients are sparse."""
        rate = self.config.learning_rate
        return [
            ParameterGroup("grid", (self.table,), rate, sparse=True),
            ParameterGroup("network", tuple(self.heads.parameters()), rate),
        ]

    def fused(self) -> Any:
        """Marching, encoding, networks and compositing in one native pass."""
        if self._renderer is None or self._renderer.table is not self.table:
            heads = list(self.heads.density), list(self.heads.colour)
            self._renderer = HashRenderer(self.table, self._scales, self._levels, *heads, self.config.degree)
        return self._renderer


FIELD = HashField
