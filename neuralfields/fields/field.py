"""The contract every architecture keeps; nothing else in the program knows which one it holds.

Vocabulary
  S  samples     F  features     D  coordinates (3 for a scene; see domain.py)     C  channels of a signal
  x            [S, D] in the unit cube (after contraction)
  log_density  the pre-activation that architectures are compared by; density = exp(log_density), in 1/length
  rgb          [S, 3] in [0, 1]
  stage        0 at first; a field that learns from coarse to fine has as many as it grows times, and one more
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuralfields.domain import RADIANCE, Domain
from neuralfields.layers.heads import Heads
from neuralfields.ops.contract import Contraction
from neuralfields.ops.march import Marching
from neuralfields.rays import RaySums

Role = Literal["grid", "network", "pose"]


@runtime_checkable
class Teacher(Protocol):
    """A field that a student learns from point by point."""

    def __call__(
        self, x: Float[Tensor, "S 3"], directions: Float[Tensor, "K 3"]
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, "K S 3"]]:
        """x [S, 3] in the unit cube, unit directions [K, 3] -> log_density [S], rgb [K, S, 3]: each place from each."""
        ...


@runtime_checkable
class FusedRenderer(Protocol):
    """A native pass from rays to colours: marching, encoding, networks and compositing at once.

    It gives the same numbers as march_rays, features, decode and composite one after the other.
    """

    @property
    def available(self) -> bool:
        """Whether it can be used where its field is."""
        ...

    def density(self, x: Float[Tensor, "S 3"], contraction: Contraction) -> Float[Tensor, " S"]:
        """Density at points of the inner cube's frame, x [S, 3] -> [S]. Not differentiable."""
        ...

    def render(self, scene: Marching, capacity: int = 0, weight_floor: float = 0.0) -> RaySums:
        """Sums along the rays of `scene`; `capacity` > 0: differentiable, with room for so many samples."""
        ...


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that learn alike: their role, their learning rate, and whether most gradients of a step are zero.

    `warmup`: steps over which the learning rate rises from 0.
    """

    role: Role
    parameters: tuple[nn.Parameter, ...]
    learning_rate: float
    sparse: bool = False
    warmup: int = 0


@dataclass(frozen=True)
class Encoding:
    """What makes `features` the function it is: the parameters it reads, and everything else, as plain data."""

    parameters: tuple[nn.Parameter, ...]
    facts: tuple[Any, ...]


class Field(nn.Module):
    """A function of points in two named halves, because distillation needs both.

    Made as `FieldClass(config, domain)`; a class names the kinds of domain it serves in `DOMAINS`.
    """

    Config: ClassVar[type]
    DOMAINS: ClassVar[tuple[str, ...]] = ("radiance",)
    # Settings of the Config from the smallest to the largest field that makes sense, for a target size in bytes.
    SIZES: ClassVar[tuple[dict[str, Any], ...]] = ()
    # What files written before the Config had these settings were made with, where the default is another now.
    FORMER: ClassVar[dict[str, Any]] = {}
    # Samples of a training step, as a share of the usual number, on scenes and on signals: what is slow to ask learns
    # more in many small steps. Without --steps a signal gets as many more of them.
    BATCH: ClassVar[float] = 1.0
    SIGNAL_BATCH: ClassVar[float] = 1.0
    config: Any
    domain: Domain = RADIANCE

    @classmethod
    def tuned(cls, config: Any, domain: Domain, targets: list[Tensor], seed: int, taught: bool = False) -> Any:
        """The Config with what it leaves to the data chosen from `targets`, before the field is made.

        `targets`: some pictures [H, W, channels], or a sound [T, channels]; float in [0, 1] (a sound in [-1, 1]).
        `taught`: it will learn from another field, point by point, not from photos.
        """
        return config

    def features(self, x: Float[Tensor, "S D"]) -> Float[Tensor, "S F"]:
        """What the encoding says about points: x [S, D] -> f [S, F]."""
        raise NotImplementedError

    def decode(
        self, f: Float[Tensor, "S F"], directions: Float[Tensor, "S 3"]
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, "S 3"]]:
        """f [S, F], unit directions [S, 3] -> log_density [S], rgb [S, 3]. Radiance only."""
        raise NotImplementedError

    def log_density(self, f: Float[Tensor, "S F"]) -> Float[Tensor, " S"]:
        """f [S, F] -> log_density [S], where colour is not needed."""
        directions = torch.zeros(f.shape[0], 3, dtype=f.dtype, device=f.device)
        directions[:, 2] = 1
        return self.decode(f, directions)[0]

    def values(self, f: Float[Tensor, "S F"]) -> Float[Tensor, "S C"]:
        """f [S, F] -> [S, channels], without an activation. Every domain but radiance."""
        raise NotImplementedError

    def groups(self) -> list[ParameterGroup]:
        """Parameters by role with their learning rates; every parameter is in exactly one group."""
        raise NotImplementedError

    def penalty(self) -> Tensor | None:
        """What the architecture's paper adds to the loss (a scalar, its weights included), or None."""
        return None

    def encoding_of(self) -> Encoding | None:
        """The encoding's parameters and layout, which distillation copies into a student with the same encoding.

        None if the encoding cannot be shared.
        """
        return None

    def initialise_from(self, teacher: Teacher) -> bool:
        """Initialises the grid by evaluating a teacher at its nodes.

        Returns False for fields whose parameters are not samples of the field.
        """
        return False

    def stages(self) -> tuple[float, ...]:
        """Shares of a fit, rising within (0, 1), at which the field grows; as made by its Config it is at the end."""
        return ()

    def grow(self, stage: int) -> None:
        """Takes the shapes of that stage, 0 to len(stages()), keeps what was learned; parameters may be new objects."""

    def fused(self) -> FusedRenderer | None:
        """A native renderer of this very field (see rendering/volume.py), or None."""
        return None

    def bytes(self) -> int:
        """Size of the parameters in memory."""
        return sum(p.numel() * p.element_size() for p in self.parameters())


class HeadedField(Field):
    """A field whose features are read by `heads`, which a subclass makes."""

    heads: Heads

    def decode(
        self, f: Float[Tensor, "S F"], directions: Float[Tensor, "S 3"]
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, "S 3"]]:
        """Density network, then colour network on its code and the direction's harmonics."""
        return self.heads.decode(f, directions)

    def log_density(self, f: Float[Tensor, "S F"]) -> Float[Tensor, " S"]:
        """The density network alone."""
        return self.heads.log_density(f)

    def values(self, f: Float[Tensor, "S F"]) -> Float[Tensor, "S C"]:
        """The value network."""
        return self.heads.values(f)

    def grids_and_heads(self, grids: tuple[nn.Parameter, ...], rate: float, head_rate: float) -> list[ParameterGroup]:
        """The usual groups: grids, of which a step sees little, and networks."""
        heads = ParameterGroup("network", tuple(self.heads.parameters()), head_rate)
        return [ParameterGroup("grid", grids, rate, sparse=True), heads]


CHUNK = 1 << 17  # points that a field is asked at a time


@torch.no_grad()
def values_at(field: Field, x: Float[Tensor, "S D"]) -> Float[Tensor, "S C"]:
    """A field's values [S, C] at points x [S, D] of the CPU, a part at a time."""
    device = next(field.parameters()).device
    parts = [field.values(field.features(part.to(device))).cpu() for part in x.split(CHUNK)]
    return torch.cat(parts) if parts else x.new_empty(0, field.domain.channels)
