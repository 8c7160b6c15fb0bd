"""Shuffle buffer of a teacher's samples, for point-wise supervision of a student.

Consecutive samples of a ray are 1/300 of the scene apart, and so correlated that a smooth field learns from a dozen of
them as much as from one. So the samples of thousands of rays are shuffled before a step takes its batch (measured:
benchmarks/convert_ablation_sample_mlp.md, "points ray by ray").
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

PASSES = 2  # times each point is used
MOST_ASKED = 100  # calls to fill one pool: where rays hit little it stays small


@dataclass(frozen=True)
class Points:
    """Samples of a teacher at S points."""

    x: Tensor
    """in the field's unit cube, [S, 3]; with the moment, [S, 4], of a scene that moves"""
    directions: Tensor
    """viewing directions, unit, [S, 3]"""
    f: Tensor
    """features, [S, F]"""
    log_density: Tensor
    """[S]"""
    rgb: Tensor
    """[S, 3]"""
    weight: Tensor
    """compositing weight in the teacher's render, [S]"""

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Tensor | slice) -> "Points":
        return Points(*(getattr(self, field.name)[index] for field in fields(self)))

    @staticmethod
    def together(parts: list["Points"]) -> "Points":
        """Concatenates points."""
        return Points(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Points)))


class PointPool:
    """Shuffle buffer: `more(generator)` samples points along new rays; `size` of them are shuffled together.

    `shuffle` False keeps their order.
    """

    def __init__(self, more: Callable[[torch.Generator], Points], size: int, shuffle: bool = True) -> None:
        self.more, self.size, self.shuffle = more, size, shuffle
        self.points: Points | None = None
        self.order = torch.empty(0, dtype=torch.int64)

    def draw(self, count: int, generator: torch.Generator) -> Points:
        """Draws the next `count` points; fewer where rays hit nothing, and at the end of a pool."""
        if not len(self.order):
            self._fill(generator)
        chosen, self.order = self.order.split([min(count, len(self.order)), max(0, len(self.order) - count)])
        return self.points[chosen]

    def _fill(self, generator: torch.Generator) -> None:
        parts = [self.more(generator)]
        while 0 < sum(map(len, parts)) < self.size and len(parts) < MOST_ASKED:
            parts.append(self.more(generator))
        self.points = Points.together(parts)
        count = len(self.points)
        device = generator.device
        orders = [torch.randperm(count, generator=generator, device=device) for _ in range(PASSES)]
        self.order = torch.cat(orders) if self.shuffle else torch.arange(count, device=device)

    def tensors(self) -> dict[str, Tensor]:
        """The points that are left, for a checkpoint."""
        if self.points is None:
            return {}
        return {"pool.order": self.order} | {
            f"pool.{field.name}": getattr(self.points, field.name) for field in fields(Points)
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The reverse of `tensors`."""
        if "pool.order" in tensors:
            self.order = tensors["pool.order"]
            self.points = Points(*(tensors[f"pool.{field.name}"] for field in fields(Points)))
