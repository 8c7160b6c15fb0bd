"""The contract every architecture keeps; nothing else in the program knows which one it holds.

Vocabulary
  S  samples     F  features
  x            [S, 3] in the unit cube (after contraction)
  log_density  the pre-activation that architectures are compared by; density = exp(log_density), in 1/length
  rgb          [S, 3] in [0, 1]
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

Role = Literal["grid", "network", "pose"]


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that learn alike: their role, their learning rate, and whether most gradients of a step are zero."""

    role: Role
    parameters: tuple[nn.Parameter, ...]
    learning_rate: float
    sparse: bool = False


class Field(nn.Module):
    """A radiance field in two named halves, because distillation needs both."""

    Config: ClassVar[type]
    config: Any

    def features(self, x: Tensor) -> Tensor:
        """What the encoding says about points: x [S, 3] -> f [S, F]."""
        raise NotImplementedError

    def decode(self, f: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """f [S, F], unit directions [S, 3] -> log_density [S], rgb [S, 3]."""
        raise NotImplementedError

    def log_density(self, f: Tensor) -> Tensor:
        """f [S, F] -> log_density [S], where colour is not needed."""
        directions = torch.zeros(f.shape[0], 3, dtype=f.dtype, device=f.device)
        directions[:, 2] = 1
        return self.decode(f, directions)[0]

    def groups(self) -> list[ParameterGroup]:
        """Parameters by role with their learning rates; every parameter is in exactly one group."""
        raise NotImplementedError

    def fused(self) -> Any | None:
        """A native renderer of this very field (see volume.py), or None."""
        return None

    def bytes(self) -> int:
        """Size of the parameters in memory."""
        return sum(p.numel() * p.element_size() for p in self.parameters())
