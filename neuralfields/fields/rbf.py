"""Radial basis functions on hash-grid features instead of a deep decoder (GNF, arXiv:2503.06762).

  f = hash-grid features of x        phi_k = exp(-r2_k / 2),  r2_k = sum over d of e^{b_kd} (f_d - c_kd)^2
  out = W [phi, f] + w_0             (other kernels: ops/rbf.py; of those that grow, phi / N)
  radiance: out = [log_density, c], rgb = sigmoid(sum over k of c_k Y_k(direction));   a signal: values = out

One layer of 64 units on 32 features takes less than half the multiply-adds of three hidden layers of 64. It learns
only if the units are where features are, overlap, and have a bypass: f itself is read linearly beside them. Centres and
widths are drawn twice, from the features of random points at initialisation and again a little later, from trained
features; the weights are then refitted to the outputs by ridge regression. The paper's released code begins with
centres near zero, unit widths, normal features and no bypass: `initialisation=released bypass=False` is that.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuralfields.domain import RADIANCE, Domain
from neuralfields.fields.field import Encoding, Field, ParameterGroup
from neuralfields.layers.hash_table import HashTable
from neuralfields.ops.network import network
from neuralfields.ops.rbf import KERNELS, rbf
from neuralfields.ops.spherical_harmonics import spherical_harmonics
from neuralfields.settings import require_range

POINTS = 1 << 12  # random points that the features' variance and the centres are taken from
CANDIDATES = 1 << 14  # of a scene, where most of space is empty: the dense ones are taken
RIDGE = 1e-3  # ridge of the weights' regression, against units that respond alike
RELEASED_CENTRES = 1e-4
# How much wider than Gaussians units begin: Wendland's end at r = 1, and those that grow must not dwarf the features.
WIDER = {"wendland": 100.0, "multiquadric": 20.0, "cubic": 20.0, "thin-plate": 20.0}
GROWING = ("multiquadric", "cubic", "thin-plate")  # no unit is local: their mean is read, not their sum


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the RBF field."""

    units: int = 64
    """number of radial basis functions"""
    kernel: Literal["gaussian", "multiquadric", "inverse-multiquadric", "cubic", "thin-plate", "wendland"] = "gaussian"
    """kernel of the distance to a unit's centre"""
    initialisation: Literal["data", "released"] = "data"
    """data: centres and widths from features; released: as in the paper's code"""
    bypass: bool = True
    """whether the features are also read linearly, beside the units"""
    gain: float = 10.0
    """initial narrowness of Gaussian units: a feature's precision is gain / (features * its variance)"""
    redraw: float = 0.02
    """share of a fit at which centres and widths are drawn again, from trained features; 0: never"""
    spread: float = 0.01
    """bound of the table's uniform initialisation"""
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
    degree: int = 4
    """degree of the colour's spherical harmonics: degree^2 coefficients a channel"""
    learning_rate: float = 1e-2
    """learning rate of the table and the centres"""
    reader_learning_rate: float = 3e-2
    """learning rate of the widths and the weights"""

    def __post_init__(self) -> None:
        require_range(
            self, units=(1, 440), gain=(1e-6, 1e6), redraw=(0.0, 0.9), spread=(1e-6, 10.0), levels=(1, 16),
            table=(4, 24), base=(2, 1024), finest=(0, 1 << 18), degree=(1, 4), learning_rate=(1e-7, 1.0),
            reader_learning_rate=(1e-7, 1.0),
        )  # fmt: skip
        if self.features not in (2, 4, 8):
            raise ValueError(f"features {self.features}: must be 2, 4 or 8")
        if 0 < self.finest < self.base:
            raise ValueError(f"finest {self.finest}: must not be below base {self.base}")
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel {self.kernel!r}: must be one of {', '.join(KERNELS)}")
        if self.initialisation not in ("data", "released"):
            raise ValueError(f"initialisation {self.initialisation!r}: must be data or released")
        if self.units + self.levels * self.features > 512:
            raise ValueError(f"units {self.units}: with {self.levels} levels of {self.features} features at most 512")


class RbfField(Field):
    """The RBF field: see the module's equations."""

    Config = Config
    DOMAINS = ("radiance", "image", "shape", "video", "sound")
    SIZES = tuple({"table": table} for table in range(9, 20))

    def __init__(self, config: Config, domain: Domain = RADIANCE) -> None:
        super().__init__()
        self.config, self.domain = config, domain
        self.layout = HashTable.of(config.levels, config.table, config.base, config.finest, domain)
        inputs = config.levels * config.features
        outputs = 1 + 3 * config.degree**2 if domain.radiance else domain.channels
        readers = config.units + inputs * config.bypass
        self.table = nn.Parameter(torch.empty(self.layout.entries, config.features))
        self.centres = nn.Parameter(torch.empty(config.units, inputs).uniform_(-RELEASED_CENTRES, RELEASED_CENTRES))
        self.log_precisions = nn.Parameter(torch.zeros(config.units, inputs))
        self.weights = nn.Parameter(torch.empty(outputs, readers).uniform_(-1, 1).div_(math.sqrt(readers)))
        self.bias = nn.Parameter(torch.zeros(outputs))
        if self.table.is_meta:  # a file's tensors are checked there; random numbers would import torch's compiler
            return
        if config.initialisation == "released":
            nn.init.normal_(self.table)
        else:
            nn.init.uniform_(self.table, -config.spread, config.spread)
            x = torch.rand(POINTS, domain.dimensions)
            self.centres, self.log_precisions = self._units_at(self.features(x))

    def _units_at(self, f: Tensor) -> tuple[nn.Parameter, nn.Parameter]:
        """Centres and log-precisions from features [POINTS, F]; two centres of Gaussians are sqrt(2 gain) apart."""
        f = f.detach()
        variance = f.var(0).clamp(min=1e-12)  # a feature may be the same everywhere
        gain = self.config.gain / WIDER.get(self.config.kernel, 1.0)
        widths = (gain / (f.shape[1] * variance)).log()
        units = self.config.units
        return nn.Parameter(f[:units].clone()), nn.Parameter(widths.expand(units, -1).clone())

    def stages(self) -> tuple[float, ...]:
        """The share of a fit at which units are drawn again."""
        redrawn = self.config.initialisation == "data" and self.config.redraw > 0
        return (self.config.redraw,) if redrawn else ()

    @torch.no_grad()
    def grow(self, stage: int) -> None:
        """Draws centres and widths again from the trained features, and refits the weights to the former outputs."""
        if stage == 0:
            return
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(CANDIDATES, self.domain.dimensions, generator=generator)
        f = self.features(x.to(self.table))
        if self.domain.radiance:
            density = self.log_density(f).clamp(-15, 15).exp().cpu()
            kept = torch.multinomial(density, POINTS, generator=generator)
        else:
            kept = torch.arange(POINTS)
        f = f[kept.to(f.device)]
        before = self._read(f) - self.bias
        self.centres, self.log_precisions = self._units_at(f)
        inputs = self._inputs(f).double()
        normal = inputs.T @ inputs
        normal.diagonal().add_(RIDGE * normal.diagonal().mean())
        weights = torch.linalg.solve(normal, inputs.T @ before.double()).T
        self.weights = nn.Parameter(weights.to(self.weights.dtype).contiguous())

    def features(self, x: Float[Tensor, "S D"]) -> Float[Tensor, "S F"]:
        """Encodes points by the hash grid, [S, levels * features]."""
        return self.layout.encode(x, self.table)

    def _inputs(self, f: Tensor) -> Tensor:
        """The inputs of the weights: activations of the units, and the features if there is a bypass."""
        phi = rbf(f, self.centres, self.log_precisions, self.config.kernel)
        phi = phi / self.config.units if self.config.kernel in GROWING else phi
        return torch.cat([phi, f], dim=1) if self.config.bypass else phi

    def _read(self, f: Tensor, outputs: int | None = None) -> Tensor:
        """Computes the first `outputs` values, or all."""
        return network(self._inputs(f), [self.weights[:outputs]]) + self.bias[:outputs]

    def encoding_of(self) -> Encoding:
        """The hash table and its geometry."""
        return Encoding((self.table,), self.layout.facts(self.table, "xyz"))

    def decode(
        self, f: Float[Tensor, "S F"], directions: Float[Tensor, "S 3"]
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, "S 3"]]:
        """Decodes the log-density, and the colour as the sigmoid of the harmonics' sum."""
        out = self._read(f)
        harmonics = spherical_harmonics(directions, self.config.degree)
        coefficients = out[:, 1:].unflatten(1, (3, self.config.degree**2))
        return out[:, 0], torch.sigmoid((coefficients * harmonics[:, None]).sum(2))

    def log_density(self, f: Float[Tensor, "S F"]) -> Float[Tensor, " S"]:
        """Computes the first output alone."""
        return self._read(f, 1)[:, 0]

    def values(self, f: Float[Tensor, "S F"]) -> Float[Tensor, "S C"]:
        """The outputs."""
        return self._read(f)

    def groups(self) -> list[ParameterGroup]:
        """Parameter groups: widths and weights learn faster than table and centres; sparse gradients of the table."""
        rate, reader = self.config.learning_rate, self.config.reader_learning_rate
        return [
            ParameterGroup("grid", (self.table,), rate, sparse=True),
            ParameterGroup("network", (self.centres,), rate),
            ParameterGroup("network", (self.log_precisions, self.weights, self.bias), reader),
        ]


FIELD = RbfField
