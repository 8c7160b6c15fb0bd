"""Rays, and what comes back along them.

Vocabulary
  R  number of rays
  t  distance along a ray, in the units of the frame the ray lives in (world, unless a name says otherwise)
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rays:
    """`origins` [R, 3] and unit `directions` [R, 3], world frame, float32."""

    origins: Tensor
    directions: Tensor

    def __len__(self) -> int:
        return self.origins.shape[0]

    def __getitem__(self, index: slice | Tensor) -> "Rays":
        return Rays(self.origins[index], self.directions[index])

    def to(self, device: torch.device | str) -> "Rays":
        """The same rays on another device."""
        return Rays(self.origins.to(device), self.directions.to(device))


@dataclass(frozen=True)
class Render:
    """What a ray sees.

    `rgb` [R, 3]: colour already laid over the background; `opacity` [R] in [0, 1]; `depth` [R]: expected distance
    along the ray in world units where opaque (the mean over what is opaque; 0 where nothing is). A picture has
    [H, W] in place of [R].
    """

    rgb: Tensor
    opacity: Tensor
    depth: Tensor

    def reshape(self, *shape: int) -> "Render":
        """[R] to any shape of as many elements, e.g. a picture's (H, W)."""
        return Render(self.rgb.reshape(*shape, 3), self.opacity.reshape(*shape), self.depth.reshape(*shape))
