"""The hash table of multiresolution hash grids with its geometry, shared by the fields that read one.

A signal with samples (pixels, frames) has cells of its own shape: x * lengths / max(lengths) is encoded, so a video
of 16 frames does not pay for 640 cells in time.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from neuralfields.domain import Domain
from neuralfields.ops.hash_grid import HashGeometry, hash_encode

FINEST = {"radiance": 2048, "shape": 512, "image": 2048, "video": 512, "sound": 1 << 16}  # where there are no samples
MOST_FINEST = 1 << 18


@dataclass(frozen=True)
class HashTable:
    """The layout of a table: `scales` and `levels` as `hash_encode` takes them, entries in all, cells' aspect [D]."""

    scales: Tensor
    levels: Tensor
    entries: int
    aspect: Tensor | None

    @staticmethod
    def of(levels: int, table: int, base: int, finest: float, domain: Domain) -> "HashTable":
        """`table`: log2 of a level's entries; `base`, `finest`: points along an axis of the coarsest and finest level.

        `finest` 0: the signal's samples, else the default of the domain's kind. ValueError for four coordinates.
        """
        if domain.dimensions > 3:
            raise ValueError(f"dimensions {domain.dimensions}: a hash grid takes three at most; use --field kplanes")
        finest = finest or max(base, min(max(domain.lengths, default=FINEST[domain.kind]), MOST_FINEST))
        geometry = HashGeometry.of(levels, table, base, finest, domain.dimensions)
        aspect = None
        if domain.lengths:
            aspect = torch.tensor(domain.lengths, dtype=torch.float64, device="cpu") / max(domain.lengths)
        return HashTable(geometry.scales, geometry.levels, geometry.entries, aspect)

    def encode(self, x: Tensor, table: Tensor) -> Tensor:
        """Encodes points x [S, D] in the unit cube -> features [S, levels * features]."""
        return hash_encode(x if self.aspect is None else x * self.aspect.to(x), table, self.scales, self.levels)

    def facts(self, table: Tensor, axes: str) -> tuple:
        """All that makes two tables the same function, besides their values; see `fields.field.Encoding`."""
        return self.scales.tolist(), self.levels.tolist(), table.shape[1], axes
