"""Surface field: a signed distance with colour, learned from photos by volume rendering (VolSDF, arXiv:2106.12052).

  v = (x - 1/2) / (2 inner)             the frame of the inner cube, about its middle
  [h_0, h_1, h] = density network(hash-grid features of x)
  d = |v| - radius + h_0 / 4            signed distance, below 0 inside; at first a sphere, for the network begins at 0
  density = Psi(-d) / beta              Psi: cumulative Laplace distribution of scale beta, which is learned
  outside the inner cube  log_density = h_1, an ordinary field for the background
  rgb = sigmoid(colour network([h_0, h_1, h, harmonics(direction)]))
  penalty = eikonal mean (|grad d| - 1)^2, by differences (Neuralangelo, arXiv:2306.03092), at samples of the step and
            at random points of the inner cube

VolSDF and not NeuS (arXiv:2106.10689): its density is a function of a point alone, so that marching, compositing, the
occupancy grid, distillation and blending take this field like any other; NeuS weighs sections of one ray. Levels of the
grid come in from coarse to fine. Distances are in inner cubes.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuralfields.domain import RADIANCE, Domain
from neuralfields.fields.field import FusedRenderer, HeadedField, ParameterGroup
from neuralfields.layers.differences import gradient_of
from neuralfields.layers.hash_table import HashTable
from neuralfields.layers.heads import Heads
from neuralfields.ops.hash_render import HashRenderer, SignedDistance
from neuralfields.scene import Bounds
from neuralfields.settings import require_range

RESIDUAL = 0.25  # of h_0 in the distance: what Adam's first steps move the surface by
POINTS = 512  # of the penalty: so many samples of the step, and so many random points
SLOPE = 1 / 512  # least half side of what gradients are taken over, in inner cubes
GROWTH = (0.1, 0.2, 0.3, 0.45)  # shares of a fit at which finer levels come in
LEAST_BETA = 2e-4
SHARPENING = 5.0  # of Adam's steps of log beta: a short fit would end blurred


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the surface field."""

    levels: int = 8
    """number of resolution levels of the grid"""
    features: int = 4
    """features of a table entry: 2, 4 or 8"""
    table: int = 17
    """log2 of the entries of a level's table"""
    base: int = 16
    """points along an axis of the coarsest level"""
    finest: float = 1024
    """points along an axis of the finest level"""
    first: int = 4
    """levels that are there at the beginning of a fit"""
    hidden: int = 32
    """width of the networks"""
    density_layers: int = 1
    """number of hidden layers of the density network"""
    colour_layers: int = 2
    """number of hidden layers of the colour network"""
    code: int = 16
    """number of outputs of the density network, distance and background's log-density among them"""
    degree: int = 4
    """degree of the direction's spherical harmonics"""
    inner: float = 0.5
    """half the side of the inner cube in the unit cube; a fit sets it by the scene's bounds"""
    radius: float = 0.1
    """radius of the sphere that a fit begins with, in inner cubes"""
    beta: float = 0.1
    """scale of the density about the surface at the beginning, in inner cubes"""
    eikonal: float = 0.003
    """weight of the penalty on |grad d| - 1; beside squared errors of colour, the paper's 0.1 keeps the sphere"""
    learning_rate: float = 1e-2
    """learning rate of the table and the networks"""

    def __post_init__(self) -> None:
        require_range(
            self, levels=(1, 32), table=(4, 24), base=(2, 1024), finest=(2, 1 << 18), first=(1, 32), hidden=(1, 256),
            density_layers=(0, 6), colour_layers=(1, 6), code=(2, 64), degree=(1, 4), inner=(1e-5, 0.5),
            radius=(0, 1), beta=(1e-3, 1), eikonal=(0, 100), learning_rate=(1e-7, 1.0),
        )  # fmt: skip
        if self.features not in (2, 4, 8):
            raise ValueError(f"features {self.features}: must be 2, 4 or 8")
        if self.finest < self.base:
            raise ValueError(f"finest {self.finest}: must not be below base {self.base}")


class SurfaceField(HeadedField):
    """A signed distance with colour: see the module's equations."""

    Config = Config
    SIZES = (
        {"levels": 4, "table": 9, "finest": 128},
        {"levels": 6, "table": 11, "finest": 256},
        {"levels": 8, "table": 13, "finest": 512},
        {"levels": 8, "table": 15, "finest": 1024},
        {"levels": 8, "table": 17, "finest": 1024},
        {"levels": 8, "table": 19, "finest": 2048},
    )

    def __init__(self, config: Config, domain: Domain = RADIANCE) -> None:
        super().__init__()
        self.config, self.domain, self.active = config, domain, config.levels
        self.layout = HashTable.of(config.levels, config.table, config.base, config.finest, domain)
        self.table = nn.Parameter(torch.empty(self.layout.entries, config.features).uniform_(-1e-4, 1e-4))
        layers = config.density_layers, config.colour_layers
        self.heads = Heads(config.levels * config.features, config.hidden, layers, config.code, config.degree, domain)
        self.log_beta = nn.Parameter(torch.empty(1).fill_(math.log(config.beta) / SHARPENING))
        self.register_buffer("draws", torch.zeros(1, dtype=torch.int64))
        self._near: Tensor | None = None
        self._renderer: HashRenderer | None = None

    @classmethod
    def placed(cls, config: Config, bounds: Bounds) -> Config:
        """The Config with `inner` for a scene's bounds: how large its inner cube is in the unit cube."""
        half = 0.25 if bounds.contraction == "cube" else 0.5 / 2 ** (bounds.cascades - 1)
        return replace(config, inner=half)

    def features(self, x: Float[Tensor, "S D"]) -> Float[Tensor, "S F"]:
        """Features of the grid, levels that are not there yet being 0, and behind them v [S, 3]."""
        f, config = self.layout.encode(x, self.table), self.config
        if self.active < config.levels:
            mask = torch.arange(f.shape[1], device=f.device) < self.active * config.features
            f = f * mask
        if torch.is_grad_enabled():  # the penalty takes some of a step's samples
            self._near = x.detach()[:: max(1, len(x) // POINTS)]
        return torch.cat([f, (x - 0.5) / (2 * config.inner)], 1)

    def distance(self, f: Float[Tensor, "S F"]) -> Float[Tensor, " S"]:
        """Signed distances of features, in inner cubes; below 0 inside, meaningless outside the inner cube."""
        return self._distance(self.heads.log_density(f[:, :-3]), f[:, -3:])

    def decode(
        self, f: Float[Tensor, "S F"], directions: Float[Tensor, "S 3"]
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, "S 3"]]:
        """Log-density by the distance, and colour."""
        code, rgb = self.heads.code_and_colour(f[:, :-3], directions)
        return self._log_density(code, f[:, -3:]), rgb

    def log_density(self, f: Float[Tensor, "S F"]) -> Float[Tensor, " S"]:
        """Log-density by the distance."""
        return self._log_density(self.heads.code(f[:, :-3]), f[:, -3:])

    def beta(self) -> Tensor:
        """Scale of the density about the surface, in inner cubes, [1]."""
        return (SHARPENING * self.log_beta).exp().clamp(min=LEAST_BETA)

    def penalty(self) -> Tensor | None:
        """The eikonal loss with its weight."""
        config = self.config
        if not config.eikonal:
            return None
        generator = torch.Generator().manual_seed(int(self.draws))
        self.draws += 1
        v = torch.rand(POINTS, 3, generator=generator).to(self.table) - 0.5
        near = self._near
        if near is None and self._renderer is not None:
            near = self._renderer.recorded(POINTS)
        if near is not None:
            near = (near[:POINTS] - 0.5) / (2 * config.inner)
            v = torch.cat([v, near[near.abs().amax(1) < 0.5]])
        slope = self.gradient(v.clamp(-0.5 + SLOPE, 0.5 - SLOPE))
        self._near = None
        return config.eikonal * (slope.norm(dim=1) - 1).square().mean()

    def gradient(self, v: Float[Tensor, "S 3"]) -> Float[Tensor, "S 3"]:
        """Gradient of the distance at points about the inner cube's middle, by differences over the finest cell."""
        cell = 0.25 / (self.config.inner * float(self.layout.scales[self.active - 1]))
        step = max(SLOPE, min(cell, 1 / 32))
        near = self._near
        slope, _ = gradient_of(lambda at: self.distance(self.features(at * (2 * self.config.inner) + 0.5)), v, step)
        self._near = near
        return slope

    def stages(self) -> tuple[float, ...]:
        """Shares of a fit at which a finer level comes in."""
        return GROWTH[: max(0, self.config.levels - self.config.first)]

    def grow(self, stage: int) -> None:
        """Adds levels: all of them at the last stage."""
        count = len(self.stages())
        more = self.config.levels - self.config.first
        self.active = self.config.levels if stage >= count else self.config.first + more * stage // max(count, 1)

    def fused(self) -> FusedRenderer | None:
        """The fused renderer, on a CPU: marching, encoding, networks and compositing in one native pass."""
        if self._renderer is None or self._renderer.table is not self.table:
            config, heads = self.config, (list(self.heads.density), list(self.heads.colour))
            distance = SignedDistance(config.inner, config.radius, RESIDUAL, self.beta, self._levels)
            layout = self.layout
            self._renderer = HashRenderer(self.table, layout.scales, layout.levels, *heads, config.degree, distance)
        return self._renderer if self._renderer.available else None

    def groups(self) -> list[ParameterGroup]:
        """Parameter groups: table, and networks with beta."""
        grid, heads = self.grids_and_heads((self.table,), self.config.learning_rate, self.config.learning_rate)
        return [grid, replace(heads, parameters=(*heads.parameters, self.log_beta))]

    def _levels(self) -> int:
        return self.active

    def _distance(self, h: Tensor, v: Tensor) -> Tensor:
        return v.norm(dim=1) - self.config.radius + RESIDUAL * h

    def _log_density(self, code: Tensor, v: Tensor) -> Tensor:
        inside = v.abs().amax(1) <= 0.5
        return torch.where(inside, log_laplace(-self._distance(code[:, 0], v), self.beta()), code[:, 1])


def log_laplace(s: Float[Tensor, " S"], beta: Float[Tensor, " 1"]) -> Float[Tensor, " S"]:
    """Logarithm of Psi(s) / beta: the cumulative Laplace distribution of scale beta, as VolSDF's density."""
    z = s / beta
    outside = math.log(0.5) + z.clamp(max=0)
    inside = torch.log1p(-0.5 * torch.exp(-z.clamp(min=0)))
    return torch.where(z > 0, inside, outside) - beta.log()


FIELD = SurfaceField
