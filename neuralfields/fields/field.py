"""The contract of every field architecture; nothing else in the program depends on which one it holds.

Vocabulary
  S  samples     F  features     C  channels of a signal
  D  coordinates (3 for a scene, 4 for one that moves; see domain.py)
  x            [S, D] in the unit cube (after contraction)
  log_density  the density's pre-activation, which distillation compares; density = exp(log_density), in 1/length
  rgb          [S, 3] in [0, 1]
  stage        0 at first; a coarse-to-fine field has one more than it grows times
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from neuralfields.cameras import Camera
from neuralfields.domain import RADIANCE, Domain
from neuralfields.layers.heads import Heads
from neuralfields.ops.contract import Contraction
from neuralfields.ops.march import Marching
from neuralfields.options.common import DEFAULT_STEPS
from neuralfields.rays import RaySums
from neuralfields.scene import Bounds

Role = Literal["grid", "network", "pose"]


@runtime_checkable
class Teacher(Protocol):
    """A field that supervises a student point by point."""

    def __call__(
        self, x: Float[Tensor, "S 3"], directions: Float[Tensor, "K 3"]
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, "K S 3"]]:
        """x [S, 3] in the unit cube, unit directions [K, 3] -> log_density [S], rgb [K, S, 3]: each x from each."""
        ...


@runtime_checkable
class Shown(Protocol):
    """Says which points matter to a picture: near what the occupancy grid leaves."""

    def __call__(self, x: Float[Tensor, "S 3"], reach: float) -> Bool[Tensor, " S"]:
        """Whether something that is rendered is within `reach` along each axis of x [S, 3], both in unit cubes."""
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
        """Accumulates along the rays of `scene`; `capacity` > 0: differentiable, with room for so many samples."""
        ...


@dataclass(frozen=True)
class ParameterGroup:
    """A parameter group: its role, its learning rate, and whether most gradients of a step are zero (sparse).

    `warmup`: steps over which the learning rate rises from 0.
    """

    role: Role
    parameters: tuple[nn.Parameter, ...]
    learning_rate: float
    sparse: bool = False
    warmup: int = 0


@dataclass(frozen=True)
class Encoding:
    """The encoding behind `features`: its parameters, and everything else that defines it, as plain data."""

    parameters: tuple[nn.Parameter, ...]
    facts: tuple[Any, ...]


class Field(nn.Module):
    """A neural field: `features` of points and a decoder, two named halves because distillation needs both.

    Made as `FieldClass(config, domain)`; a class names the kinds of domain it serves in `DOMAINS`.
    """

    Config: ClassVar[type]
    DOMAINS: ClassVar[tuple[str, ...]] = ("radiance",)
    MOVES: ClassVar[bool] = False  # whether it takes time as a fourth coordinate of a scene
    SMOOTH_IN_TIME: ClassVar[bool] = False  # whether its own penalty keeps it so; others see photos of near times
    PHOTOS: ClassVar[bool] = False  # whether it keeps the training photos and reads colours from them
    # Settings of the Config from the smallest to the largest field that makes sense, for a target size in bytes.
    SIZES: ClassVar[tuple[dict[str, Any], ...]] = ()
    # Settings of a student by the least side in pixels of the pictures it is to show (trainers/picture_size.py).
    FINER: ClassVar[dict[int, dict[str, Any]]] = {}
    # Values that files older than a setting were made with, if its default is another now.
    FORMER: ClassVar[dict[str, Any]] = {}
    # Batch size, as a share of the usual number of samples, on scenes and on signals: a field that is slow to evaluate
    # learns more in many small steps. Without --steps a signal gets as many more of them.
    BATCH: ClassVar[float] = 1.0
    SIGNAL_BATCH: ClassVar[float] = 1.0
    STEPS: ClassVar[int] = DEFAULT_STEPS  # of a fit to photos without --steps and --minutes
    config: Any
    domain: Domain = RADIANCE

    @classmethod
    def tuned(cls, config: Any, domain: Domain, targets: list[Tensor], seed: int, taught: bool = False) -> Any:
        """Chooses the data-dependent settings of a Config from `targets`, before the field is made.

        `targets`: some images [H, W, channels], or a sound [T, channels]; float in [0, 1] (a sound in [-1, 1]).
        `taught`: supervised by a teacher field, point by point, not by photos.
        """
        return config

    @classmethod
    def taught_by(cls, domain: Domain) -> str | None:
        """Name of the field that learns from a scene's photos in its place, and then teaches it; None: it learns alone.

        For fields that are slow to find out from photos where anything is.
        """
        return None

    @classmethod
    def placed(cls, config: Any, bounds: Bounds) -> Any:
        """Chooses the settings of a Config that depend on where a scene is, before the field is made."""
        return config

    def looking_at(
        self, images: Sequence[np.ndarray], cameras: Sequence[Camera], bounds: Bounds, seed: int = 0
    ) -> None:
        """Keeps photos, uint8 [H, W, 3 or 4] of pinhole cameras, to read colours from. For fields with `PHOTOS`.

        `seed`: of what it makes anew to read them.
        """
        raise NotImplementedError

    def features(self, x: Float[Tensor, "S D"]) -> Float[Tensor, "S F"]:
        """Encodes points: x [S, D] -> features f [S, F]."""
        raise NotImplementedError

    recalls: bool = False  # whether `recalled` costs less than `features`

    def recalled(self, x: Float[Tensor, "S D"], f: Float[Tensor, "S F"]) -> Float[Tensor, "S F"]:
        """Features at x [S, D] that are known to be f [S, F]; the same with gradients."""
        return self.features(x)

    def decode(
        self, f: Float[Tensor, "S F"], directions: Float[Tensor, "S 3"]
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, "S 3"]]:
        """Decodes f [S, F], unit directions [S, 3] -> log_density [S], rgb [S, 3]. Radiance only."""
        raise NotImplementedError

    def log_density(self, f: Float[Tensor, "S F"]) -> Float[Tensor, " S"]:
        """Decodes f [S, F] -> log_density [S], without colour."""
        directions = torch.zeros(f.shape[0], 3, dtype=f.dtype, device=f.device)
        directions[:, 2] = 1
        return self.decode(f, directions)[0]

    def values(self, f: Float[Tensor, "S F"]) -> Float[Tensor, "S C"]:
        """Decodes f [S, F] -> [S, channels], without an activation. Every domain but radiance."""
        raise NotImplementedError

    def groups(self) -> list[ParameterGroup]:
        """Parameters by role with their learning rates; every parameter is in exactly one group."""
        raise NotImplementedError

    def penalty(self) -> Tensor | None:
        """The regularisation loss of the architecture's paper (a scalar, its weights included), or None."""
        return None

    def encoding_of(self) -> Encoding | None:
        """The encoding's parameters and layout, which distillation copies into a student with the same encoding.

        None if the encoding cannot be shared.
        """
        return None

    def initialise_from(self, teacher: Teacher, shown: Shown | None = None) -> bool:
        """Initialises the grid by evaluating a teacher at its nodes, those alone that are `shown`.

        Returns False for fields whose parameters are not samples of the field.
        """
        return False

    def stages(self) -> tuple[float, ...]:
        """Shares of a fit, ascending in (0, 1), at which the field grows; a new field has its final size."""
        return ()

    def grow(self, stage: int) -> None:
        """Resamples the field to a stage, 0 to len(stages()), keeping its values; parameters may be new objects."""

    def fused(self) -> FusedRenderer | None:
        """A native renderer of this very field (see rendering/volume.py), or None."""
        return None

    def bytes(self) -> int:
        """Size of the parameters in memory."""
        return sum(p.numel() * p.element_size() for p in self.parameters())


class HeadedField(Field):
    """A field whose features are decoded by `heads`, which a subclass makes."""

    heads: Heads

    def decode(
        self, f: Float[Tensor, "S F"], directions: Float[Tensor, "S 3"]
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, "S 3"]]:
        """Runs the density network, then the colour network on its code and the direction's harmonics."""
        return self.heads.decode(f, directions)

    def log_density(self, f: Float[Tensor, "S F"]) -> Float[Tensor, " S"]:
        """Runs the density network alone."""
        return self.heads.log_density(f)

    def values(self, f: Float[Tensor, "S F"]) -> Float[Tensor, "S C"]:
        """Runs the value network."""
        return self.heads.values(f)

    def grids_and_heads(self, grids: tuple[nn.Parameter, ...], rate: float, head_rate: float) -> list[ParameterGroup]:
        """Parameter groups: grids, with sparse gradients, and networks."""
        heads = ParameterGroup("network", tuple(self.heads.parameters()), head_rate)
        return [ParameterGroup("grid", grids, rate, sparse=True), heads]


CHUNK = 1 << 17  # points that a field evaluates at a time


@torch.no_grad()
def values_at(field: Field, x: Float[Tensor, "S D"]) -> Float[Tensor, "S C"]:
    """Evaluates a field's values [S, C] at points x [S, D] of the CPU, in chunks."""
    device = next(field.parameters()).device
    parts = [field.values(field.features(part.to(device))).cpu() for part in x.split(CHUNK)]
    return torch.cat(parts) if parts else x.new_empty(0, field.domain.channels)
