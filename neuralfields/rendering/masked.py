"""A volume's field without what an edit erases: a teacher, never saved."""

from collections.abc import Callable

import torch
from torch import Tensor

from neuralfields.fields.field import Field
from neuralfields.ops.contract import uncontract
from neuralfields.rendering.volume import Volume

NOTHING = -100.0  # log-density of erased space


class Masked(Field):
    """A volume's field with zero density but where points x [S, 3] (inner cube's frame) are `left`, [S] bool."""

    def __init__(self, volume: Volume, left: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.left, self.contraction = volume.field, left, volume.contraction
        self.config, self.domain = self.inner.config, self.inner.domain

    def features(self, x: Tensor) -> Tensor:
        """Features of the field, with the mask (1: kept) appended."""
        left = self.left(uncontract(x[:, :3], self.contraction))
        return torch.cat([self.inner.features(x), left[:, None].to(x.dtype)], 1)

    def decode(self, f: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Log-density, masked, and colour of the field."""
        log_density, rgb = self.inner.decode(f[:, :-1], directions)
        return self._masked(log_density, f), rgb

    def log_density(self, f: Tensor) -> Tensor:
        """Log-density of the field, masked."""
        return self._masked(self.inner.log_density(f[:, :-1]), f)

    def _masked(self, log_density: Tensor, f: Tensor) -> Tensor:
        return torch.where(f[:, -1] > 0.5, log_density, NOTHING)
