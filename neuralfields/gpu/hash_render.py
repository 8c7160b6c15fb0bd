"""The fused renderer of the hash field on a CUDA GPU: one kernel from rays to `RaySums`, and its gradients' kernels.

Same passes as `CpuPass` of ops/hash_render.py. The kernels are compiled for the field's Config: its grid and networks
are constants. A recorded pass takes 2 kernels and its gradients 4 (see cuda/gpu/hash_render.cu), without host syncs.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuralfields.gpu import launch as cuda_launch
from neuralfields.gpu.compile import Module
from neuralfields.gpu.launch import THREADS, blocks_for, expect, inputs, out_of_memory
from neuralfields.gpu.network import (
    WARPS,
    Stack,
    arithmetic_defines,
    backward_blocks,
    flat,
    packed_words,
    precision,
    row_tiles,
    split,
)
from neuralfields.gpu.schedules import grid_defines, occupancy_blocks
from neuralfields.ops.composite import SUMS
from neuralfields.ops.contract import KINDS, Contraction
from neuralfields.ops.march import Marching

# Blocks of the persistent kernels: as many as a multiprocessor's registers hold at once.
PICTURE_BLOCKS, DENSITY_BLOCKS = 4, 8


@dataclass
class Recorded:
    """The recorded samples of a pass (Record of cuda/gpu/hash_render.cu), and the other inputs of its gradients."""

    capacity: int
    samples: dict[str, Tensor]
    first: Tensor
    counters: Tensor
    forward: Tensor
    backward: Tensor


class CudaPass:
    """The fused passes of one hash field on a CUDA GPU; `renderer` is a HashRenderer."""

    def __init__(self, renderer: Any) -> None:
        self.renderer = renderer
        self.density_stack = Stack.of(renderer.density_weights)
        colour = Stack.of(renderer.colour_weights)
        self.colour_stack = Stack(colour.widths, colour.widths[0] - renderer.degree**2)
        self._buffers: dict[str, Tensor] = {}
        self._modules: dict[str, Module] = {}
        self._recorded: Recorded | None = None

    @property
    def available(self) -> bool:
        """Whether the kernels take this field: float32, networks that are fused. Others run op by op."""
        return self.renderer.table.dtype == torch.float32 and all(stack.fits for stack in self.stacks)

    @property
    def stacks(self) -> list[Stack]:
        """The stacks of the density and of the colour network."""
        return [self.density_stack, self.colour_stack]

    def module(self) -> Module:
        """The kernels compiled for this field."""
        of, name = self.renderer, precision()
        if name not in self._modules:
            defines = (
                *grid_defines(of.table.shape[1], of.scales, of.levels),
                ("NF_DENSITY", self.density_stack.text),
                ("NF_COLOUR", self.colour_stack.text),
                ("NF_DEGREE", str(of.degree)),
                *arithmetic_defines(self.stacks),
            )
            self._modules[name] = Module("hash_render", defines)
        return self._modules[name]

    def _launch(self, name: str, blocks: int | tuple[int, int], threads: int, *arguments: Any) -> None:
        cuda_launch.launch(self.module(), name, blocks, threads, *arguments)

    def _processors(self) -> int:
        return cuda_launch.processors(self.renderer.table.device.index or 0)

    def _packed(self) -> tuple[Tensor, Tensor]:
        words = sum(map(packed_words, self.stacks))
        weights = flat(self.renderer.weights)
        forward, backward = (torch.empty(words, dtype=torch.int32, device=weights.device) for _ in range(2))
        self._launch("field_pack", blocks_for(words), THREADS, weights, forward, backward)
        return forward, backward

    def density(self, x: Tensor, contraction: Contraction) -> Tensor:
        """Density at points x [S, 3] -> [S]."""
        x, table = inputs(x, self.renderer.table)
        expect(x=(x, (-1, 3)))
        out = x.new_empty(x.shape[0])
        forward, _ = self._packed()
        blocks = min(blocks_for(x.shape[0], 32 * WARPS), DENSITY_BLOCKS * self._processors())
        arguments = (x, x.shape[0], KINDS[contraction.kind], float(contraction.extent), table, forward, out)
        self._launch("field_density", blocks, 32 * WARPS, *arguments)
        return out

    def forward(self, scene: Marching, capacity: int, weight_floor: float) -> tuple[Tensor, Tensor, Tensor]:
        """Renders: RaySums [R, 7], valid [R], samples [1]; `capacity` > 0 fills the record. `scene` is a Marching."""
        origins, directions, jitter = scene.rays.origins, scene.rays.directions, scene.jitter
        origins, directions, occupancy, table = inputs(origins, directions, scene.occupancy, self.renderer.table)
        rays, s = origins.shape[0], scene.settings
        expect(origins=(origins, (rays, 3)), directions=(directions, (rays, 3)))
        if jitter is not None:
            expect(jitter=(jitter, (rays,)))
            _, jitter = inputs(table, jitter)
        values = origins.new_empty(rays, SUMS)
        valid = torch.empty(rays, dtype=torch.uint8, device=origins.device)
        counters = torch.zeros(3, dtype=torch.int64, device=origins.device)
        forward, backward = self._packed()
        view = (origins, directions, jitter, rays, occupancy)
        steps = map(float, (s.min_step, s.max_step, s.cone, s.near))  # a kernel takes a whole number for another size
        march = (occupancy_blocks(occupancy), *steps, occupancy.shape[0])
        common = (*view, *march, KINDS[scene.contraction.kind], float(scene.contraction.extent), table, forward)
        blocks = min(blocks_for(rays, 32 * WARPS), PICTURE_BLOCKS * self._processors())
        if capacity:
            record = Recorded(capacity, self._samples(capacity), origins.new_empty(0), counters, forward, backward)
            record.first = torch.empty(rays, dtype=torch.int32, device=origins.device)
            self._recorded = record
            memory = (*record.samples.values(), record.first)
            self._launch("render_recorded", blocks, 32 * WARPS, *common, values, valid, counters, capacity, *memory)
        else:
            self._launch("render_picture", blocks, 32 * WARPS, *common, float(weight_floor), values, valid, counters)
        return values, valid, counters[1:2]

    def backward(self, scene: Marching, capacity: int, sums: tuple[Tensor, Tensor], d_values: Tensor) -> list[Tensor]:
        """The weights' gradients from (values, valid) and the last pass's record; the table's is added in place."""
        of, record = self.renderer, self._recorded
        values, valid, d_values, directions = inputs(*sums, d_values, scene.rays.directions)
        rays, samples = values.shape[0], record.samples
        encoded, x, log_density, rgb, t, length, ray, following = samples.values()
        walk = (log_density, rgb, t, length, following, record.first)
        self._launch("render_ray_gradients", blocks_for(rays), THREADS, values, d_values, valid, rays, *walk)

        blocks = backward_blocks(capacity, row_tiles(self.stacks), of.table.device.index or 0)
        parts = values.new_empty(blocks, sum(stack.padded_weights for stack in self.stacks))
        d_encoded = self._buffer("d_encoded", (capacity, self.density_stack.padded[0]), torch.float32)
        counted = (record.counters, capacity)
        rows = (encoded, log_density, rgb, ray, d_encoded)
        packed = (directions, record.forward, record.backward)
        self._launch("render_network_gradients", blocks, 32 * WARPS, *packed, *counted, *rows, parts)

        d_flat = values.new_empty(sum(stack.weights for stack in self.stacks))
        self._launch("render_sum", blocks_for(d_flat.numel()), THREADS, parts, blocks, d_flat)
        places = blocks_for(capacity), of.scales.shape[0]
        self._launch("render_scatter", places, THREADS, x, d_encoded, *counted, of.table.grad)
        return split(d_flat, of.weights)

    def _samples(self, capacity: int) -> dict[str, Tensor]:
        """The record's arrays in the kernel's order, reused while capacity and precision stay."""
        element = torch.float16 if precision() == "half" else torch.float32
        shapes = {
            "encoded": ((capacity, self.density_stack.padded[0]), element),
            "x": ((capacity, 3), torch.float32),
            "log_density": ((capacity,), torch.float32),
            "rgb": ((capacity, 3), torch.float32),
            "t": ((capacity,), torch.float32),
            "length": ((capacity,), torch.float32),
            "ray": ((capacity,), torch.int32),
            "next": ((capacity,), torch.int32),
        }
        return {name: self._buffer(name, *what) for name, what in shapes.items()}

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        found = self._buffers.get(name)
        if found is None or found.shape != shape or found.dtype != dtype:
            try:
                found = torch.empty(shape, dtype=dtype, device=self.renderer.table.device)
            except torch.cuda.OutOfMemoryError as error:
                raise out_of_memory(error, "give --set a smaller table= or fewer levels=") from None
            self._buffers[name] = found
        return found
