"""Coordinate network, MLP (NeRF, Fourier features, SIREN, FINER): all parameters are weights, none are grids.

  e = encoding(x)     h = trunk(e)
  radiance   f = W h (32 features)     log_density, rgb = small networks of f (layers/heads.py)
  others     f = h                     values = W f
  FreSh (layers/fresh.py) chooses the encoding's `frequencies` from the spectrum of the targets.

Made for two CPU cores: NeRF's 8 layers of 256 take 7 times the operations of 4 layers of 128.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuralfields.domain import RADIANCE, Domain
from neuralfields.fields.field import HeadedField, ParameterGroup
from neuralfields.layers import fresh
from neuralfields.layers.encodings import USUAL, Encoding, activation, encoding, require_frequencies
from neuralfields.layers.heads import Heads
from neuralfields.layers.trunk import Shape, Trunk
from neuralfields.layers.whole import Whole, whole
from neuralfields.settings import require_range

FEATURES, CODE, DEGREE = 32, 16, 4
# A teacher's colours may vary more with direction than photos show: from voxels to mlp 0.4 dB. From photos the wider
# brings little (trial runs: mlp +0.1 and +0.35 dB on two scenes; cam +0.3 and -1.1 by seed).
HIDDEN, TAUGHT_HIDDEN = 32, 64
TILE = 4096  # points whose hidden layers stay in a CPU's cache: 1.3 times as fast in training, 1.4 without gradients
# Warm-up steps of a scene. At the full rate from the first step Adam may make all of space empty, where no gradient
# leads back: seen on the chair.
WARMUP = 100
SCENE_RATE = 2.0  # a scene learned from photos does as well at twice the rate, and one from a teacher better
SINE_RATE = 0.2  # weights of sine layers are smaller by their omega


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the mlp field."""

    encoding: Encoding = "gaussian"
    """positional encoding: octaves, gaussian, siren or finer"""
    frequencies: float | None = None
    """octaves: number; gaussian: deviation in cycles; siren: omega; finer: range of biases; none: chosen by FreSh"""
    count: int = 64
    """number of random frequencies of gaussian; a sine and a cosine of each"""
    layers: int = 4
    """number of hidden layers, or hourglass blocks"""
    width: int = 128
    """width of the hidden layers, or of the path past an hourglass"""
    hidden: int | None = None
    """width of a scene's two decoder heads; none: 64 for a student of a distillation, 32 from photos"""
    skip: int = 0
    """hidden layer with a skip connection from the encoding; 0: none"""
    blocks: Literal["plain", "hourglass"] = "plain"
    """plain layers, or hourglass residual blocks with a bottleneck of `inner` units"""
    inner: int = 48
    """width of the bottleneck of an hourglass block"""
    lift: Literal["trained", "fixed"] = "trained"
    """whether an hourglass's first projection is trained, or fixed at its random initialisation"""
    bfloat16: bool | None = None
    """matrix products in bfloat16 where the CPU has them, weights stay float32; none: those of scenes"""
    learning_rate: float = 5e-3
    """learning rate of all weights; a fifth of it for networks of sines, twice for scenes, less above width 128"""

    def __post_init__(self) -> None:
        require_frequencies(self.encoding, self.frequencies)
        require_range(
            self, count=(1, 4096), layers=(1, 16), width=(1, 2048), skip=(0, 15), inner=(1, 2048),
            hidden=(1, 512), learning_rate=(1e-7, 1.0),
        )  # fmt: skip
        if self.blocks not in ("plain", "hourglass"):
            raise ValueError(f"blocks {self.blocks!r}: must be plain or hourglass")
        if self.lift not in ("trained", "fixed"):
            raise ValueError(f"lift {self.lift!r}: must be trained or fixed")
        if self.bfloat16 and self.encoding in ("siren", "finer"):
            raise ValueError(f"bfloat16 true: {self.encoding} needs float32, its sines turn rounding into noise")

    @property
    def shape(self) -> Shape:
        """The trunk's shape."""
        inner = self.inner if self.blocks == "hourglass" else 0
        return Shape(self.layers, self.width, self.skip, inner, self.lift == "fixed", bool(self.bfloat16))


class Mlp(HeadedField):
    """The coordinate network (MLP) field: see the module's equations."""

    Config = Config
    SIZES = (
        {"count": 16, "layers": 2, "width": 16, "hidden": 16},
        {"count": 16, "layers": 2, "width": 32, "hidden": 32},
        {"count": 32, "layers": 3, "width": 48, "hidden": 32},
        {"count": 64, "layers": 3, "width": 64},
        {"count": 64, "layers": 3, "width": 96},
        {"count": 64, "layers": 4, "width": 128},
        {"count": 64, "layers": 5, "width": 192},
        {"count": 128, "layers": 6, "width": 256},
        {"count": 128, "layers": 8, "width": 256},
        {"count": 256, "layers": 8, "width": 512},
    )
    DOMAINS = ("radiance", "image", "shape", "video", "sound")
    MOVES = True
    BATCH = 0.25
    # On signals, layers wider than this learn slower in proportion: 3,200 steps on a photo at width 276 reach 22.4 dB
    # at the full rate, 23.2 at 0.4 of it, 23.0 at 0.2 (trial runs); at width 128 the full rate is the best.
    WIDE: ClassVar[float] = 128
    SIGNAL_BATCH = 0.0625  # Kodak 1 after 45 s, 266 thousand parameters: 22.9 dB (cam); at 0.25 20.8, at 1 19.9

    def __init__(self, config: Config, domain: Domain = RADIANCE) -> None:
        super().__init__()
        if config.frequencies is None:
            config = replace(config, frequencies=USUAL[config.encoding])
        if config.hidden is None:
            config = replace(config, hidden=HIDDEN)
        self.config, self.domain = config, domain
        self.encoding = encoding(config.encoding, domain.dimensions, config.count, config.frequencies)
        self.trunk = Trunk(self.encoding.outputs, config.shape, activation(config.encoding, config.frequencies))
        self.readout = nn.Linear(config.width, FEATURES if domain.radiance else domain.channels)
        if domain.radiance:
            self.heads = Heads(FEATURES, config.hidden, (1, 2), CODE, DEGREE, domain)

    @classmethod
    def tuned(cls, config: Config, domain: Domain, targets: list[Tensor], seed: int, taught: bool = False) -> Config:
        """Chooses `frequencies` by FreSh if unset and targets are given, and `hidden`."""
        if taught and config.hidden is None:
            config = replace(config, hidden=TAUGHT_HIDDEN)
        if config.frequencies is not None or not targets:
            return config

        def untrained(setting: float) -> Callable[[Tensor], Tensor]:
            return cls(replace(config, frequencies=setting), domain).colours_for_fresh

        candidates = fresh.settings(config.encoding, domain, targets)
        chosen = fresh.choose(candidates, untrained, domain, targets, seed)
        if domain.radiance:
            chosen = fresh.for_scene(config.encoding, chosen, taught)
        return replace(config, frequencies=chosen)

    @classmethod
    def taught_by(cls, domain: Domain) -> str | None:
        """By `hash`: a step is slow where all is fog."""
        return "hash" if domain.radiance else None

    def colours_for_fresh(self, x: Tensor) -> Tensor:
        """Values for FreSh at x [S, D], or colours seen along the last axis."""
        f = self.features(x)
        if not self.domain.radiance:
            return self.values(f)
        along = f.new_zeros(len(f), 3)
        along[:, 2] = 1
        return self.decode(f, along)[1]

    def features(self, x: Float[Tensor, "S D"]) -> Float[Tensor, "S F"]:
        """Encodes points. Radiance: 32 features projected from the trunk; others: its last hidden layer."""
        native = self.whole()
        if native is not None and x.device.type == "cpu":
            return native.features(self.canonical(x), self.modulation(x))
        tiles = x.split(TILE if x.device.type == "cpu" else max(1, len(x)))
        return torch.cat([self.tile(x) for x in tiles])

    def recalled(self, x: Float[Tensor, "S D"], f: Float[Tensor, "S F"]) -> Float[Tensor, "S F"]:
        """Features at x [S, D] that are known to be f [S, F]: their gradients alone are computed, on a CPU."""
        native = self.whole()
        if native is None or x.device.type != "cpu":
            return self.features(x)
        return native.features(self.canonical(x), self.modulation(x), f)

    @property
    def recalls(self) -> bool:
        """Whether `recalled` costs less than `features`."""
        return self.readout.weight.device.type == "cpu" and self.whole() is not None

    def whole(self) -> Whole | None:
        """The network as the native op takes it; None where it has none (see layers/whole.py)."""
        return whole(self) if self.domain.radiance else None

    def whole_heads(self) -> Whole | None:
        """The same if its op decodes features too."""
        return self.whole()

    def canonical(self, x: Tensor) -> Tensor:
        """What the network is asked at for x [S, D]: x itself, or its place in a canonical space."""
        return x

    def modulation(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """Scales and shifts [S, layers] of hidden layers at x, or None."""
        return None

    def decode(
        self, f: Float[Tensor, "S F"], directions: Float[Tensor, "S 3"]
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, "S 3"]]:
        """Runs the density network, then the colour network on its code and the direction's harmonics."""
        native = self.whole_heads()
        if native is None or f.device.type != "cpu" or directions.requires_grad:
            return super().decode(f, directions)
        return native.decode(self.heads, f, directions)

    def log_density(self, f: Float[Tensor, "S F"]) -> Float[Tensor, " S"]:
        """Runs the density network alone."""
        native = self.whole_heads()
        if native is None or f.device.type != "cpu":
            return super().log_density(f)
        if torch.is_grad_enabled():  # the op of both leads back
            return native.decode(self.heads, f, torch.zeros_like(f[:, :3]))[0]
        return native.log_density(self.heads, f)

    def tile(self, x: Tensor) -> Tensor:
        """Features of one tile of points."""
        h = self.trunk(self.encoding(x))
        return self.readout(h) if self.domain.radiance else h

    def values(self, f: Float[Tensor, "S F"]) -> Float[Tensor, "S C"]:
        """Runs the last, linear layer."""
        return self.readout(f)

    def groups(self) -> list[ParameterGroup]:
        """One parameter group: all weights share a learning rate."""
        rate = self.config.learning_rate * (SINE_RATE if self.config.encoding in ("siren", "finer") else 1.0)
        if self.domain.radiance:
            return [ParameterGroup("network", tuple(self.parameters()), SCENE_RATE * rate, warmup=WARMUP)]
        return [ParameterGroup("network", tuple(self.parameters()), rate * min(1.0, self.WIDE / self.config.width))]


FIELD = Mlp
