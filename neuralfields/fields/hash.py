"""Hash-grid field (Instant-NGP, arXiv:2201.05989): the default, and the one with a fused renderer.

  f = hash-grid features of x        [h_0, h] = density network(f)        log_density = h_0
  rgb = sigmoid(colour network([h_0, h, harmonics(direction)]))          a signal: values = value network(f)
  a scene that moves: see layers/space_time.py; it has no fused renderer

Small tables and four features an entry, not the paper's defaults: on a CPU the table's cache misses and Adam's memory
traffic are the bottleneck (8 levels x 4 features need half the gathers of 16 x 2 and fit as well).
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuralfields.domain import RADIANCE, Domain
from neuralfields.fields.field import Encoding, FusedRenderer, HeadedField, ParameterGroup
from neuralfields.layers.hash_table import HashTable
from neuralfields.layers.heads import Heads
from neuralfields.layers.space_time import Grids, SpaceTimeGrids, Warp
from neuralfields.ops.hash_render import HashRenderer, TurnedRenderer
from neuralfields.ops.occupancy_bits import ORDERS
from neuralfields.settings import require_range


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the hash field."""

    levels: int = 8
    """number of resolution levels of the grid"""
    features: int = 4
    """features of a table entry: 2, 4 or 8"""
    table: int = 17
    """log2 of the entries of a level's table"""
    base: int = 16
    """points along an axis of the coarsest level"""
    finest: float = 0
    """points along an axis of the finest level; 0: 2048 for a scene, 512 for a shape, else the signal's samples"""
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
    axes: Literal["xyz", "yzx"] = "xyz"
    """order in which a scene's coordinates enter; yzx is that of Instant-NGP's snapshots"""
    motion: Literal["grids", "warp"] = "grids"
    """how a scene moves: by grids over space-time, or by a warp of space before a grid that stands still"""
    moments: int = 64
    """points along time of the finest grid over space-time"""
    learning_rate: float = 1e-2
    """learning rate of the table and the networks"""
    warp_learning_rate: float = 1e-3
    """learning rate of the warp"""

    def __post_init__(self) -> None:
        require_range(
            self, levels=(1, 32), table=(4, 24), base=(2, 1024), finest=(0, 1 << 18), hidden=(1, 256),
            density_layers=(0, 6), colour_layers=(1, 6), code=(1, 64), degree=(1, 4), moments=(2, 4096),
            learning_rate=(1e-7, 1.0), warp_learning_rate=(1e-7, 1.0),
        )  # fmt: skip
        if self.features not in (2, 4, 8):
            raise ValueError(f"features {self.features}: must be 2, 4 or 8")
        if self.axes not in ORDERS:
            raise ValueError(f"axes {self.axes!r}: must be one of {', '.join(ORDERS)}")
        if self.motion not in ("grids", "warp"):
            raise ValueError(f"motion {self.motion!r}: must be grids or warp")
        if 0 < self.finest < self.base:
            raise ValueError(f"finest {self.finest}: must not be below base {self.base}")


class HashField(HeadedField):
    """The hash-grid (Instant-NGP) field: see the module's equations."""

    Config = Config
    SIZES = (
        {"levels": 4, "table": 9, "finest": 128},
        {"levels": 6, "table": 10, "finest": 256},
        {"levels": 6, "table": 11, "finest": 256},
        {"levels": 8, "table": 12, "finest": 512},
        {"levels": 8, "table": 13, "finest": 512},
        {"levels": 8, "table": 14, "finest": 1024},
        {"levels": 8, "table": 15, "finest": 1024},
        {"levels": 8, "table": 16, "finest": 2048},
        {"levels": 8, "table": 17, "finest": 2048},
        {"levels": 8, "table": 18, "finest": 2048},
        {"levels": 8, "table": 19, "finest": 4096},
    )
    DOMAINS = ("radiance", "image", "shape", "video", "sound")
    MOVES = True

    def __init__(self, config: Config, domain: Domain = RADIANCE) -> None:
        super().__init__()
        if config.axes != "xyz" and not domain.radiance:
            raise ValueError(f"axes {config.axes}: only a scene's coordinates can be permuted")
        moves = domain.dimensions == 4
        if config.axes != "xyz" and moves:
            raise ValueError(f"axes {config.axes}: not of a scene that moves")
        self.config, self.domain = config, domain
        self._order = ORDERS[config.axes]
        size = Grids(config.levels, config.features, config.table, config.base, config.finest)
        self.layout = HashTable.of(size.levels, size.table, size.base, size.finest, RADIANCE if moves else domain)
        self._renderer: HashRenderer | TurnedRenderer | None = None
        self.table = nn.Parameter(torch.empty(self.layout.entries, config.features).uniform_(-1e-4, 1e-4))
        layers = config.density_layers, config.colour_layers
        inputs = config.levels * config.features
        self.grids = self.warp = None
        if moves and config.motion == "warp":
            self.warp = Warp()
        elif moves:
            self.grids = SpaceTimeGrids(replace(size, table=max(4, size.table - 1)), config.moments)
            inputs += self.grids.outputs
        self.heads = Heads(inputs, config.hidden, layers, config.code, config.degree, domain)

    def features(self, x: Float[Tensor, "S D"]) -> Float[Tensor, "S F"]:
        """Encodes points by the hash grid, [S, levels * features], four times as many with grids over space-time."""
        if self.warp is not None:
            return self.layout.encode(self.warp(x), self.table)
        if self.grids is not None:
            return torch.cat([self.layout.encode(x[:, :3].contiguous(), self.table), self.grids(x)], dim=1)
        x = x[:, self._order] if self.config.axes != "xyz" else x
        return self.layout.encode(x, self.table)

    def encoding_of(self) -> Encoding | None:
        """The hash table and its geometry; None of a scene that moves."""
        if self.domain.dimensions == 4:
            return None
        return Encoding((self.table,), self.layout.facts(self.table, self.config.axes))

    def decode(
        self, f: Float[Tensor, "S F"], directions: Float[Tensor, "S 3"]
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, "S 3"]]:
        """Runs the density network, then the colour network on its code and the direction's harmonics."""
        directions = directions[:, self._order] if self.config.axes != "xyz" else directions
        return self.heads.decode(f, directions)

    def groups(self) -> list[ParameterGroup]:
        """Parameter groups: table and networks share a learning rate; the table's gradients are sparse."""
        tables = (self.table, *(self.grids.tables if self.grids is not None else ()))
        groups = self.grids_and_heads(tables, self.config.learning_rate, self.config.learning_rate)
        if self.warp is not None:
            groups.append(ParameterGroup("network", tuple(self.warp.parameters()), self.config.warp_learning_rate))
        return groups

    def fused(self) -> FusedRenderer | None:
        """The fused renderer of a radiance field: marching, encoding, networks and compositing in one native pass."""
        if not self.domain.radiance or self.domain.dimensions == 4:
            return None
        if self._renderer is None or self._renderer.table is not self.table:
            heads = list(self.heads.density), list(self.heads.colour)
            own = HashRenderer(self.table, self.layout.scales, self.layout.levels, *heads, self.config.degree)
            self._renderer = own if self.config.axes == "xyz" else TurnedRenderer(own, self._order)
        return self._renderer if self._renderer.available else None


FIELD = HashField
