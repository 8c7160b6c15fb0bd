"""The fused native path of the hash field: rays in, colours out, and back.

One pass marches, encodes, runs both networks and composites, tile by tile; rays that turned opaque leave early, so
little is evaluated behind a surface. A training pass records the samples that counted; its backward recomputes the
networks' hidden activations from the recorded features. The same numbers come out of march + hash_encode + network +
composite, and a test holds the two together.

The table's gradient is added straight into `parameter.grad`, kept allocated from step to step: a fresh zeroed buffer of
the table's size each step would cost more than the scatter itself. The optimiser clears what it used (ops/adam.py).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuralfields.ops.composite import SUMS
from neuralfields.ops.contract import KINDS
from neuralfields.ops.march import MarchSettings
from neuralfields.ops.native import array, kernel, threads


@dataclass(frozen=True)
class Sums:
    """Sums along rays: `values` [R, 7] (see ops/composite.py), `valid` [R] uint8, `samples` evaluated."""

    values: Tensor
    valid: Tensor
    samples: int

    @property
    def rgb(self) -> Tensor:
        """Sum of w rgb, [R, 3]: no background yet."""
        return self.values[:, :3]

    @property
    def opacity(self) -> Tensor:
        """Sum of w, [R]."""
        return self.values[:, 3]

    @property
    def depth(self) -> Tensor:
        """Sum of w t, [R]."""
        return self.values[:, 4]

    @property
    def distortion(self) -> Tensor:
        """How far a ray's weight is from being in one place, [R]."""
        return self.values[:, 5]


class HashRenderer:
    """Renders one hash field's parameters; keeps the memory of its record between steps."""

    def __init__(
        self, table: Tensor, scales: Tensor, levels: Tensor, density: list[Tensor], colour: list[Tensor], degree: int
    ) -> None:
        self.table, self.scales, self.levels = table, scales, levels
        self.density_weights, self.colour_weights, self.degree = density, colour, degree
        self._record: dict[str, Any] = {}
        self._pass = 0  # which pass the record holds

    def native(self, contraction: str, extent: float) -> object:
        """The parameters as the core takes them."""
        return kernel("HashField", self.table.dtype)(
            array(self.table),
            self.scales,
            self.levels,
            [array(w) for w in self.density_weights],
            [array(w) for w in self.colour_weights],
            self.degree,
            KINDS[contraction],
            extent,
        )

    def density(self, x: Tensor, contraction: str, extent: float) -> Tensor:
        """Density at points of the inner cube's frame, x [S, 3] -> [S]. Not differentiable."""
        out = x.new_empty(x.shape[0])
        kernel("density", x.dtype)(self.native(contraction, extent), array(x), out, threads())
        return out

    def render(
        self,
        rays: tuple[Tensor, Tensor, Tensor | None],
        occupancy: Tensor,
        settings: MarchSettings,
        space: tuple[str, float],
        capacity: int = 0,
        weight_floor: float = 0.0,
    ) -> Sums:
        """rays = (origins [R, 3], directions [R, 3], jitter [R] or None) in the frame of the inner cube.

        `space` = (contraction, extent). `capacity`: samples that a differentiable pass may record; rays past it come
        back with `valid` 0. Without it nothing is recorded and no gradient flows. Samples whose weight is under
        `weight_floor` get no colour.
        """
        if capacity and torch.is_grad_enabled():
            weights = [*self.density_weights, *self.colour_weights]
            values, valid, samples = _Render.apply(
                self, rays, occupancy, settings, space, capacity, self.table, *weights
            )
            return Sums(values, valid, int(samples.sum()))
        return self._forward(self.native(*space), rays, occupancy, settings, None, weight_floor)[0]

    def _forward(
        self,
        native: object,
        rays: tuple[Tensor, Tensor, Tensor | None],
        occupancy: Tensor,
        settings: MarchSettings,
        record: object | None,
        weight_floor: float,
    ) -> tuple[Sums, Tensor]:
        origins, directions, jitter = rays
        count = origins.shape[0]
        values = origins.new_empty(count, SUMS)
        valid = torch.empty(count, dtype=torch.uint8)
        samples = torch.empty(threads(), dtype=torch.int64)
        kernel("render_forward", origins.dtype)(
            native,
            array(origins),
            array(directions),
            None if jitter is None else array(jitter),
            occupancy,
            settings.native(occupancy),
            weight_floor,
            values,
            valid,
            record,
            samples,
        )
        return Sums(values, valid, int(samples.sum())), samples

    def record(self, capacity: int) -> object:
        """The record's arrays, reused while capacity and thread count stay."""
        t, like = threads(), self.table
        each = -(-capacity // t)
        if self._record.get("key") != (each, t, like.dtype):
            width = self.scales.shape[0] * like.shape[1]
            new = like.detach().new_empty
            self._record = {
                "key": (each, t, like.dtype),
                "native": kernel("Record", like.dtype)(
                    new(each * t, width),
                    new(t * 3, each),
                    new(each * t),
                    new(each * t, 3),
                    new(each * t),
                    new(each * t),
                    torch.empty(each * t, dtype=torch.int32),
                    torch.empty(t, dtype=torch.int64),
                ),
            }
        return self._record["native"]


class _Render(torch.autograd.Function):
    """An autograd function, not a custom op: its record lives across steps, and a gradient is accumulated in place."""

    @staticmethod
    def forward(ctx, renderer, rays, occupancy, settings, space, capacity, table, *weights):  # noqa: ANN001
        ctx.renderer, ctx.space, ctx.directions = renderer, space, array(rays[1])
        ctx.record = renderer.record(capacity)
        renderer._pass += 1
        ctx.number = renderer._pass
        sums, samples = renderer._forward(renderer.native(*space), rays, occupancy, settings, ctx.record, 0.0)
        ctx.save_for_backward(sums.values, sums.valid)
        ctx.mark_non_differentiable(sums.valid, samples)
        return sums.values, sums.valid, samples

    @staticmethod
    def backward(ctx, d_values, d_valid, d_samples):  # noqa: ANN001
        renderer = ctx.renderer
        if ctx.number != renderer._pass:
            raise RuntimeError(
                "the record of this render is gone: call backward once, and before the field's next recorded render"
            )
        renderer._pass += 1  # the record is consumed
        values, valid = ctx.saved_tensors
        table = renderer.table
        if table.grad is None:
            table.grad = torch.zeros_like(table)
        d_density = [torch.empty_like(w) for w in renderer.density_weights]
        d_colour = [torch.empty_like(w) for w in renderer.colour_weights]
        kernel("render_backward", table.dtype)(
            renderer.native(*ctx.space),
            ctx.directions,
            values,
            array(d_values),
            valid,
            ctx.record,
            table.grad,
            d_density,
            d_colour,
        )
        return (None,) * 7 + (*d_density, *d_colour)
