"""Points at which a teacher was asked, in no order: what a student learns from before anything is rendered.

Samples that follow each other on a ray lie 1/300 of the scene apart, and a smooth field learns from a dozen of them
what it learns from one. So the samples of thousands of rays are shuffled before a step takes its share (what it is
worth: benchmarks/convert_ablation_sample_mlp.md, "points ray by ray").
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

PASSES = 2  # how often each point is used
MOST_ASKED = 100  # times for one pool: where rays hardly meet anything it stays small


@dataclass(frozen=True)
class Points:
    """What a field says at S points, and where they are."""

    x: Tensor
    """in the field's unit cube, [S, 3]"""
    directions: Tensor
    """in which they are looked at, unit, [S, 3]"""
    f: Tensor
    """features, [S, F]"""
    log_density: Tensor
    """[S]"""
    rgb: Tensor
    """[S, 3]"""
    weight: Tensor
    """in the teacher's picture, [S]"""

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Tensor | slice) -> "Points":
        return Points(*(getattr(self, field.name)[index] for field in fields(self)))

    @staticmethod
    def together(parts: list["Points"]) -> "Points":
        """All of them, one after the other."""
        return Points(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Points)))


class PointPool:
    """`more(generator)`: points along new rays, as many as the teacher answers at once; `size` of them are shuffled
    together, or none."""

    def __init__(self, more: Callable[[torch.Generator], Points], size: int, shuffle: bool = True) -> None:
        self.more, self.size, self.shuffle = more, size, shuffle
        self.points: Points | None = None
        self.order = torch.empty(0, dtype=torch.int64)

    def draw(self, count: int, generator: torch.Generator) -> Points:
        """The next `count` points; fewer where rays meet nothing, and at the end of a pool."""
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
