"""A fused renderer for a field that takes the coordinates in another order, as Instant-NGP's does.

Vocabulary
  order    three axes: coordinate a of the field's frame is coordinate order[a] of ours; points and directions alike
  turned   in the field's frame; marching, distances and colours know no axes and come out the same
"""

from typing import Any

import torch
from torch import Tensor

from neuralfields.ops.march import BRICKS

Order = tuple[int, int, int]
ORDERS: dict[str, Order] = {"xyz": (0, 1, 2), "yzx": (1, 2, 0)}


class TurnedRenderer:
    """Hands points, rays and occupancy to a fused renderer in its own frame."""

    def __init__(self, renderer: Any, order: Order) -> None:
        self.renderer, self.order = renderer, order
        self._turned: tuple[Tensor, int, Tensor] | None = None

    @property
    def table(self) -> Tensor:
        """The field's own."""
        return self.renderer.table

    @property
    def available(self) -> bool:
        """Whether the renderer can be used where its field is."""
        return self.renderer.available

    def density(self, x: Tensor, contraction: str, extent: float) -> Tensor:
        """Density at points of the inner cube's frame, x [S, 3] -> [S]; both contractions treat all axes alike."""
        return self.renderer.density(x[:, self.order], contraction, extent)

    def render(self, rays: tuple[Tensor, Tensor, Tensor | None], occupancy: Tensor, *args: Any) -> Any:
        """As the renderer's own."""
        origins, directions, jitter = rays
        turned = origins[:, self.order], directions[:, self.order], jitter
        return self.renderer.render(turned, self._occupancy(occupancy), *args)

    def _occupancy(self, occupancy: Tensor) -> Tensor:
        """The turned occupancy, kept until another one comes or this one is written to."""
        kept = self._turned
        if kept is None or kept[0] is not occupancy or kept[1] != occupancy._version:
            self._turned = kept = occupancy, occupancy._version, turn_occupancy(occupancy, self.order)
        return kept[2]


def turn_occupancy(occupancy: Tensor, order: Order) -> Tensor:
    """Occupancy [cascades, 32768] int64 in the field's frame: its axis a runs where axis order[a] of ours does."""
    return bricks_of(cells_of(occupancy).permute(0, *(3 - order[axis] for axis in (2, 1, 0))))


def cells_of(occupancy: Tensor) -> Tensor:
    """Bits [cascades, 32768] int64 -> cells [cascades, 128, 128, 128] bool by z, y, x."""
    shifts = torch.arange(64, dtype=torch.int64, device=occupancy.device)
    bits = (occupancy[..., None] >> shifts) & 1
    split = bits.bool().reshape(-1, BRICKS, BRICKS, BRICKS, 4, 4, 4)
    return split.permute(0, 1, 4, 2, 5, 3, 6).reshape(-1, 4 * BRICKS, 4 * BRICKS, 4 * BRICKS)


def bricks_of(cells: Tensor) -> Tensor:
    """Cells [cascades, 128, 128, 128] bool by z, y, x -> bits [cascades, 32768] int64."""
    split = cells.reshape(-1, BRICKS, 4, BRICKS, 4, BRICKS, 4).permute(0, 1, 3, 5, 2, 4, 6)
    words = split.reshape(cells.shape[0], BRICKS**3, 64).long()
    shifts = torch.arange(64, dtype=torch.int64, device=cells.device)
    return (words << shifts).sum(2)
