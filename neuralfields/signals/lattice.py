"""Signals sampled on a lattice: pixels, pixels and frames, samples of a sound.

  y at the centre of sample i along an axis of n samples:  x = (i + 0.5) / n

A field is supervised at the samples themselves, not at values interpolated between them: the interpolant is smoother
than the signal, and metrics are taken at the samples.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from neuralfields.domain import Domain
from neuralfields.scene import Bounds
from neuralfields.signals.signal import UNIT, Signal


@dataclass(frozen=True, eq=False)
class Lattice(Signal):
    """`values` [..., C]: uint8 for colours (255 is 1), else float32; the last axis before C is the first coordinate."""

    name: str
    root: Path
    domain: Domain
    facts: msgspec.Struct
    values: Tensor
    bounds: Bounds = UNIT
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.values[..., 0].numel()

    def batch(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws a batch by stratified sampling: one sample from each of `count` equal parts, or all if they are fewer.

        No sample comes twice in a step, and all regions weigh alike.
        """
        total = len(self)
        if total <= count:
            return self.at(torch.arange(total))
        place = torch.arange(count, dtype=torch.float64) + torch.rand(count, generator=generator, dtype=torch.float64)
        return self.at((place * (total / count)).long().clamp(max=total - 1))

    def at(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """x and y of samples by their index [S] into the flattened lattice."""
        y = self.values.reshape(-1, self.domain.channels)[index]
        return centres(self.domain.lengths, index), y.float() / 255 if y.dtype == torch.uint8 else y

    def loss(self, values: Tensor, y: Tensor) -> Tensor:
        """Squared error, mean over channels; a colour is weighted by its pixel's alpha."""
        error = (values - y).square()
        if self.domain.channels == 4 and self.domain.kind == "image":
            alpha = y[:, -1:]
            error = error * torch.cat([alpha, alpha, alpha, torch.ones_like(alpha)], 1)
        return error.mean(1)

    def fingerprint(self) -> str:
        """Hash of the samples and their arrangement."""
        digest = hashlib.sha256(repr((self.domain, self.facts)).encode())
        digest.update(self.values.contiguous().numpy().tobytes())
        return digest.hexdigest()


def centres(lengths: tuple[int, ...], index: Tensor) -> Tensor:
    """Coordinates x [S, D] of samples by their index [S] into the flattened lattice of `lengths` along the axes."""
    x = []
    for length in lengths:
        x.append(((index % length).double() + 0.5) / length)
        index = index // length
    return torch.stack(x, 1).float()
