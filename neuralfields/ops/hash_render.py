"""The fused renderer of hash and surface fields, forward and backward: rays in, accumulated colours (`RaySums`) out.

One pass marches, encodes, runs both networks and composites, tile by tile, with early ray termination, so little is
evaluated behind a surface. A training pass records the samples with weight; its backward recomputes the networks'
hidden activations from the recorded features. It gives the same numbers as march_rays + hash_encode + network +
composite, which a test holds.

`CpuPass` runs it on the CPU; on a CUDA GPU it is `CudaPass` (gpu/hash_render.py), of the same shape, which has no
signed distance.

The table's gradient is added straight into `parameter.grad`, kept allocated from step to step: a fresh zeroed buffer of
the table's size each step would cost more than the scatter itself. The optimiser clears the gradient (ops/adam.py).
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor

from neuralfields.ops.backend import ours_alone
from neuralfields.ops.composite import SUMS
from neuralfields.ops.contract import KINDS, Contraction
from neuralfields.ops.march import Marching
from neuralfields.ops.native import array, kernel, threads
from neuralfields.ops.occupancy_bits import Order, turn_occupancy
from neuralfields.rays import Rays, RaySums


@dataclass(frozen=True)
class SignedDistance:
    """What makes the density network's first output a signed distance's residual: see cuda/signed_distance.h.

    `inner`: half the side of the inner cube in the unit cube; `radius`, and `beta` [1], in inner cubes, differentiable;
    `active`: levels of the grid that are there. The last two are asked at each pass.
    """

    inner: float
    radius: float
    residual: float
    beta: Callable[[], Float[Tensor, " 1"]]
    active: Callable[[], int]


class HashRenderer:
    """The fused renderer of one hash field, on the device of its parameters.

    With a `distance` its density is that of a signed distance; on the CPU alone.
    """

    def __init__(
        self,
        table: Float[Tensor, "entries F"],
        scales: Float32[Tensor, " L"],
        levels: Int64[Tensor, "L 4"],
        density: list[Tensor],
        colour: list[Tensor],
        degree: int,
        distance: SignedDistance | None = None,
    ) -> None:
        self.table, self.scales, self.levels, self.distance = table, scales, levels, distance
        self.density_weights, self.colour_weights, self.degree = density, colour, degree
        self.number = 0  # number of the pass that the record holds
        self.pending = False  # whether there is a record that no backward has used
        self._pass: tuple[torch.device, Any] | None = None

    @property
    def available(self) -> bool:
        """Whether this field has a fused pass on its device and all backends are native; else it runs op by op."""
        if self.distance is not None and self.table.device.type != "cpu":
            return False
        return ours_alone() and self.native.available

    @property
    def weights(self) -> list[Tensor]:
        """The weights of the density network, then of the colour network."""
        return [*self.density_weights, *self.colour_weights]

    @property
    def native(self) -> Any:
        """The passes for the parameters' device; they keep the memory of their record between steps."""
        device = self.table.device
        if self._pass is None or self._pass[0] != device:
            if device.type == "cuda":
                self._pass = device, importlib.import_module("neuralfields.gpu.hash_render").CudaPass(self)
            else:
                self._pass = device, CpuPass(self)
        return self._pass[1]

    def density(self, x: Float[Tensor, "S 3"], contraction: Contraction) -> Float[Tensor, " S"]:
        """Density at points of the inner cube's frame, x [S, 3] -> [S]. Not differentiable."""
        return self.native.density(x, contraction)

    def recorded(self, count: int) -> Float[Tensor, "S 3"] | None:
        """About `count` of the samples whose record waits for its backward, in the unit cube; None if none does."""
        return self.native.recorded(count) if self.pending else None

    def render(
        self,
        scene: Marching,
        capacity: int = 0,
        weight_floor: float = 0.0,
    ) -> RaySums:
        """Accumulates values along the rays of `scene`.

        `capacity`: samples that a differentiable pass may record; rays past it come back with `valid` 0. Default: 0,
        nothing is recorded and no gradient flows. Samples whose weight is under `weight_floor` get no colour.
        """
        if capacity and torch.is_grad_enabled():
            scale = () if self.distance is None else (self.distance.beta(),)
            values, valid, samples = _Render.apply(self, scene, capacity, self.table, *self.weights, *scale)
            return RaySums(values, valid, int(samples.sum()))
        values, valid, samples = self.native.forward(scene, 0, weight_floor)
        return RaySums(values, valid, int(samples.sum()))


class CpuPass:
    """The fused passes of the native CPU core."""

    available = True

    def __init__(self, renderer: HashRenderer) -> None:
        self.renderer = renderer
        self._record: dict[str, Any] = {}

    def _field(self, contraction: Contraction) -> object:
        """The field's parameters in the form that the core takes."""
        of = self.renderer
        field = kernel("HashField", of.table.dtype)(
            array(of.table),
            of.scales,
            of.levels,
            [array(w) for w in of.density_weights],
            [array(w) for w in of.colour_weights],
            of.degree,
            KINDS[contraction.kind],
            contraction.extent,
        )
        if of.distance is not None:
            with torch.no_grad():
                beta = float(of.distance.beta())
            field.set_distance(of.distance.inner, of.distance.radius, of.distance.residual, beta)
            field.set_active(of.distance.active())
        return field

    def density(self, x: Float[Tensor, "S 3"], contraction: Contraction) -> Float[Tensor, " S"]:
        """Density at points x [S, 3] -> [S]."""
        out = x.new_empty(x.shape[0])
        kernel("density", x.dtype)(self._field(contraction), array(x), out, threads())
        return out

    def forward(
        self, scene: Marching, capacity: int, weight_floor: float
    ) -> tuple[Float[Tensor, "R 7"], UInt8[Tensor, " R"], Int64[Tensor, " threads"]]:
        """Renders: RaySums [R, 7], valid [R], samples [threads]; `capacity` > 0 fills the record."""
        origins, directions, jitter = scene.rays.origins, scene.rays.directions, scene.jitter
        count = origins.shape[0]
        values = origins.new_empty(count, SUMS)
        valid = torch.empty(count, dtype=torch.uint8)
        samples = torch.empty(threads(), dtype=torch.int64)
        kernel("render_forward", origins.dtype)(
            self._field(scene.contraction),
            array(origins),
            array(directions),
            None if jitter is None else array(jitter),
            scene.occupancy,
            scene.settings.native(scene.occupancy),
            weight_floor,
            values,
            valid,
            self._recorded(capacity) if capacity else None,
            samples,
        )
        return values, valid, samples

    def backward(self, scene: Marching, capacity: int, sums: tuple[Tensor, Tensor], d_values: Tensor) -> list[Tensor]:
        """The gradients of the weights, and of beta with a distance, from (values, valid) and the last pass's record.

        The table's is added in place.
        """
        of, (values, valid) = self.renderer, sums
        d_density = [torch.empty_like(w) for w in of.density_weights]
        d_colour = [torch.empty_like(w) for w in of.colour_weights]
        d_beta = None if of.distance is None else of.table.new_empty(1)
        kernel("render_backward", of.table.dtype)(
            self._field(scene.contraction),
            array(scene.rays.directions),
            values,
            array(d_values),
            valid,
            self._recorded(capacity),
            of.table.grad,
            d_density,
            d_colour,
            d_beta,
        )
        return [*d_density, *d_colour, *([] if d_beta is None else [d_beta])]

    def recorded(self, count: int) -> Float[Tensor, "S 3"]:
        """About `count` of the last recorded pass's samples, in the unit cube."""
        places, filled = self._record["x"].unflatten(0, (-1, 3)), self._record["filled"].tolist()
        x = torch.cat([part[:, :n] for part, n in zip(places, filled, strict=True)], 1)
        return x[:, :: max(1, x.shape[1] // count)].T[:count]

    def _recorded(self, capacity: int) -> object:
        """The record's arrays, reused while capacity and thread count stay."""
        t, like = threads(), self.renderer.table
        each = -(-capacity // t)
        if self._record.get("key") != (each, t, like.dtype):
            width = self.renderer.scales.shape[0] * like.shape[1]
            new = like.detach().new_empty
            x, filled = new(t * 3, each), torch.zeros(t, dtype=torch.int64)
            self._record = {
                "key": (each, t, like.dtype),
                "x": x,
                "filled": filled,
                "native": kernel("Record", like.dtype)(
                    new(each * t, width),
                    x,
                    new(each * t),
                    new(each * t, 3),
                    new(each * t),
                    new(each * t),
                    torch.empty(each * t, dtype=torch.int32),
                    filled,
                ),
            }
        return self._record["native"]


class _Render(torch.autograd.Function):
    """An autograd function, not a custom op: its record lives across steps, and a gradient is accumulated in place."""

    @staticmethod
    def forward(ctx, renderer, scene, capacity, table, *weights):  # noqa: ANN001
        ctx.renderer, ctx.scene, ctx.capacity = renderer, scene, capacity
        renderer.number += 1
        ctx.number, renderer.pending = renderer.number, True
        values, valid, samples = renderer.native.forward(scene, capacity, 0.0)
        ctx.save_for_backward(values, valid)
        ctx.mark_non_differentiable(valid, samples)
        return values, valid, samples

    @staticmethod
    def backward(ctx, d_values, d_valid, d_samples):  # noqa: ANN001
        renderer = ctx.renderer
        if ctx.number != renderer.number:
            raise RuntimeError(
                "the record of this render is gone: call backward once, and before the field's next recorded render"
            )
        renderer.number += 1
        renderer.pending = False  # the record is consumed
        if renderer.table.grad is None:
            renderer.table.grad = torch.zeros_like(renderer.table)
        d_weights = renderer.native.backward(ctx.scene, ctx.capacity, ctx.saved_tensors, d_values)
        return (None,) * 4 + (*d_weights,)


class TurnedRenderer:
    """A fused renderer of another axis order: permutes the axes of points, rays and occupancy to its frame."""

    def __init__(self, renderer: Any, order: Order) -> None:
        self.renderer, self.order = renderer, order
        self._turned: tuple[Tensor, int, Tensor] | None = None

    @property
    def table(self) -> Tensor:
        """The field's own table."""
        return self.renderer.table

    @property
    def available(self) -> bool:
        """Whether the renderer can be used where its field is."""
        return self.renderer.available

    def density(self, x: Float[Tensor, "S 3"], contraction: Contraction) -> Float[Tensor, " S"]:
        """Density at points of the inner cube's frame, x [S, 3] -> [S]; both contractions treat all axes alike."""
        return self.renderer.density(x[:, self.order], contraction)

    def render(self, scene: Marching, capacity: int = 0, weight_floor: float = 0.0) -> RaySums:
        """As `HashRenderer.render`."""
        rays = Rays(scene.rays.origins[:, self.order], scene.rays.directions[:, self.order])
        turned = replace(scene, rays=rays, occupancy=self._occupancy(scene.occupancy))
        return self.renderer.render(turned, capacity, weight_floor)

    def _occupancy(self, occupancy: Tensor) -> Tensor:
        """The permuted occupancy, cached until another one comes or this one is written to."""
        kept = self._turned
        if kept is None or kept[0] is not occupancy or kept[1] != occupancy._version:
            self._turned = kept = occupancy, occupancy._version, turn_occupancy(occupancy, self.order)
        return kept[2]
