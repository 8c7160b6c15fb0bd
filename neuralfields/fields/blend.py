"""Blend of two radiance fields in a box (Blended-NeRF, arXiv:2306.12760, section 3.3): made by `nf edit --insert`.

Vocabulary
  base, insert   the fields F and T; each lives in its own unit cube, and both are held whole in one file
  box            a box of the insert's world, moved to the base's world by a similarity; outside it only F is there
  sigma          density in 1/side of the base's inner cube; the insert's is scaled so that its opacity stays
  c              logit of a colour;   alpha_i = 1 - exp(-sigma_i STEP), the opacity of a usual step of ray marching

Modes (inside the box)
  replace    T alone
  fade       f F + (1 - f) T in sigma and in c,  f = 1 - exp(-ALPHA d / diagonal), d the distance from its middle (a)
  intersect  sigma = exp(log sigma_F + log sigma_T): the sum inside the activation, which is exp here (b)
  add        sigma = sigma_F + sigma_T: the sum outside the activation (c)
The last two have rgb = sigmoid((alpha_F c_F + alpha_T c_T) / (alpha_F + alpha_T)). The paper's activation of (b) is a
rectifier, for which (b) and (c) agree wherever both are positive; of exp it is a product: matter only where both have
it, in units of one inner cube.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor

from neuralfields import fields
from neuralfields.domain import CASCADE_WORDS, RADIANCE, Domain
from neuralfields.errors import UsageError
from neuralfields.fields.field import Field, ParameterGroup
from neuralfields.ops.contract import Contraction, uncontract
from neuralfields.scene import ContractionKind
from neuralfields.settings import require_range

Mode = Literal["replace", "fade", "intersect", "add"]
Point = tuple[float, float, float]
ALPHA = 1.5  # the paper's, for scenes round an object
STEP = 3**0.5 / 512  # of ray marching, in inner cubes
SATURATED = 1e-7  # of colours, before a logit


@dataclass(frozen=True)
class Part:
    """A field of a blend: its architecture and Config as in its own file, and where its unit cube is in its world."""

    name: str = "hash"
    """architecture"""
    config: dict[str, Any] = field(default_factory=dict)
    """its hyper-parameters"""
    centre: Point = (0.0, 0.0, 0.0)
    """middle of its inner cube"""
    side: float = 1.0
    """side of its inner cube"""
    cascades: int = 1
    """cascades of its occupancy"""
    contraction: ContractionKind = "box"
    """contraction of what is outside"""

    def __post_init__(self) -> None:
        require_range(self, cascades=(1, 16))
        if not (0 < self.side < math.inf and all(math.isfinite(value) for value in self.centre)):
            raise ValueError(f"side {self.side}, centre {self.centre}: a positive side and finite numbers are needed")

    def mapping(self) -> Contraction:
        """The contraction from the frame of its inner cube to its unit cube."""
        return Contraction(self.contraction, float(2 ** (self.cascades - 1)))


@dataclass(frozen=True)
class Config:
    """What a blend is made of."""

    base: Part = field(default_factory=Part)
    """field that is there"""
    insert: Part = field(default_factory=Part)
    """field that comes into it"""
    turn: tuple[Point, Point, Point] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    """rotation from the insert's axes to the base's, by rows"""
    scale: float = 1.0
    """length in the base's world of a unit of the insert's"""
    at: Point = (0.0, 0.0, 0.0)
    """point of the base's world where the insert's (0, 0, 0) comes to lie"""
    low: Point = (-0.5, -0.5, -0.5)
    """lowest corner of the box, in the insert's world"""
    high: Point = (0.5, 0.5, 0.5)
    """highest corner of the box, in the insert's world"""
    mode: Mode = "replace"
    """how both are blended in the box"""

    def __post_init__(self) -> None:
        rows = torch.tensor(self.turn, dtype=torch.float64, device="cpu")
        numbers = [self.scale, *self.at, *self.low, *self.high]
        if not all(math.isfinite(value) and abs(value) < 1e9 for value in numbers) or self.scale <= 0:
            raise ValueError(f"scale {self.scale}, at {self.at}: finite numbers and a positive scale are needed")
        if not float((rows @ rows.T - torch.eye(3, dtype=torch.float64, device="cpu")).abs().max()) < 1e-5:
            raise ValueError(f"turn {self.turn}: is no rotation")
        if any(a >= b for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError(f"low {self.low}, high {self.high}: the box is empty")

    def local(self, x: Tensor) -> Tensor:
        """Points of the base's world, x [S, 3], in the insert's world."""
        return (x - x.new_tensor(self.at)) @ x.new_tensor(self.turn) / self.scale

    def inside(self, local: Tensor) -> Tensor:
        """Mask [S] of points of the insert's world that lie in the box."""
        return ((local >= local.new_tensor(self.low)) & (local <= local.new_tensor(self.high))).all(1)


class BlendField(Field):
    """Two fields and the box in which they are blended: see the module's equations. Never fitted."""

    Config = Config

    def __init__(self, config: Config, domain: Domain = RADIANCE) -> None:
        super().__init__()
        self.config, self.domain = config, domain
        self.base, self.insert = _made(config.base, domain), _made(config.insert, domain)
        self.register_buffer("base_occupancy", _full(config.base.cascades))
        self._base_width = 0

    @classmethod
    def tuned(cls, config: Any, domain: Domain, targets: list[Tensor], seed: int, taught: bool = False) -> Any:
        """Raises UsageError: a blend is made of two fields that are there."""
        raise UsageError("blend: is made by `nf edit A.nf --insert B.nf`, not fitted; choose another field")

    def features(self, x: Tensor) -> Tensor:
        """Features of the base, those of the insert (0 outside the box), then f of the fade and the mask of the box."""
        config = self.config
        base = self.base.features(x)
        world = (uncontract(x, config.base.mapping()) - 0.5) * config.base.side + x.new_tensor(config.base.centre)
        local = config.local(world)
        inside = config.inside(local)
        unit = (local[inside] - x.new_tensor(config.insert.centre)) / config.insert.side + 0.5
        found = self.insert.features(config.insert.mapping()(unit))
        insert = found.new_zeros(len(x), found.shape[1]).index_put((inside.nonzero().flatten(),), found)
        low, high = x.new_tensor(config.low), x.new_tensor(config.high)
        share = (local - (low + high) / 2).norm(dim=1) / (high - low).norm()
        fade = 1 - torch.exp(-ALPHA * share)
        self._base_width = base.shape[1]
        return torch.cat([base, insert.to(base), fade[:, None], inside[:, None].to(base)], 1)

    def decode(self, f: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Log-density and colour of the blend."""
        log_density, rgb = self.base.decode(f[:, : self._base_width], directions)
        inside = (f[:, -1] > 0.5).nonzero().flatten()
        turned = directions[inside] @ directions.new_tensor(self.config.turn)
        new, colour = self.insert.decode(f[inside, self._base_width : -2], turned)
        pair = (log_density[inside], rgb[inside]), (new + self._offset(), colour)
        new, colour = blended(*pair, f[inside, -2], self.config.mode)
        return log_density.index_put((inside,), new), rgb.index_put((inside,), colour)

    def log_density(self, f: Tensor) -> Tensor:
        """Log-density of the blend."""
        log_density = self.base.log_density(f[:, : self._base_width])
        inside = (f[:, -1] > 0.5).nonzero().flatten()
        new = self.insert.log_density(f[inside, self._base_width : -2]) + self._offset()
        new = blended_density(log_density[inside], new, f[inside, -2], self.config.mode)
        return log_density.index_put((inside,), new)

    def groups(self) -> list[ParameterGroup]:
        """Those of both fields."""
        return [*self.base.groups(), *self.insert.groups()]

    def _offset(self) -> float:
        """Logarithm of a density's factor from the insert's inner cubes to the base's."""
        return math.log(self.config.base.side / (self.config.insert.side * self.config.scale))


def blended_density(base: Tensor, insert: Tensor, fade: Tensor, mode: Mode) -> Tensor:
    """Log-density [S] of a mode from both log-densities [S] and the fade's f [S]."""
    if mode == "replace":
        return insert
    if mode == "intersect":
        return base + insert
    if mode == "add":
        return torch.logaddexp(base, insert)
    return torch.logaddexp(base + fade.log(), insert + torch.log1p(-fade))  # f = 0 at the middle: log 0 adds nothing


def blended(
    base: tuple[Tensor, Tensor], insert: tuple[Tensor, Tensor], fade: Tensor, mode: Mode
) -> tuple[Tensor, Tensor]:
    """Log-density [S] and colour [S, 3] of a mode, from those of both fields and the fade's f [S]."""
    log_density = blended_density(base[0], insert[0], fade, mode)
    if mode == "replace":
        return log_density, insert[1]
    if mode == "fade":
        share = fade
    else:
        alphas = [-torch.expm1(-torch.exp(part[0].clamp(max=15)) * STEP) for part in (base, insert)]
        total = alphas[0] + alphas[1]
        share = torch.where(total > 0, alphas[0] / total.clamp(min=1e-30), 0.5)
    logits = [torch.logit(part[1], SATURATED) for part in (base, insert)]
    return log_density, torch.sigmoid(torch.lerp(logits[1], logits[0], share[:, None]))


def _made(part: Part, domain: Domain) -> Field:
    kind = fields.field_class(part.name)
    if part.name == fields.GAUSSIANS or domain.kind not in kind.DOMAINS:
        raise ValueError(f"{part.name}: is no function of a point of {domain.kind}, which a blend is made of")
    return kind(msgspec.convert(kind.FORMER | part.config, kind.Config), domain)


def _full(cascades: int) -> Tensor:
    return torch.full((cascades, CASCADE_WORDS), -1, dtype=torch.int64)


FIELD = BlendField
