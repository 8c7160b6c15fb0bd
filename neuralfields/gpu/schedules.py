"""Schedules of the ops on a CUDA GPU: their kernels of cuda/gpu, how many threads, in which order.

A schedule takes `allocate`, the op's own function that makes empty outputs, and then the op's arguments. It is found by
the op's name (`schedule`); an op that is one kernel (`OneKernel`) needs none here.
Formulas are those of cuda/*.h, which the CPU runs too.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from neuralfields.domain import CASCADE_WORDS
from neuralfields.errors import UsageError
from neuralfields.gpu import launch as cuda_launch
from neuralfields.gpu import splat
from neuralfields.gpu.compile import Module
from neuralfields.gpu.grid import grid_interpolate, grid_interpolate_backward
from neuralfields.gpu.launch import THREADS, blocks_for, expect, inputs, scalar
from neuralfields.gpu.modulate import modulate, modulate_backward
from neuralfields.gpu.network import network, network_backward
from neuralfields.gpu.rbf import rbf, rbf_backward
from neuralfields.ops.register import OneKernel, Op, every_op

BLOCK_WORDS = 8  # of a cascade: one bit a block of 16^3 cells (see cuda/march.h)
ADAM_BLOCKS = 16  # a multiprocessor; each thread then does several elements


def schedule(name: str) -> Callable[..., Any]:
    """The schedule of an op; UsageError if it has none."""
    if name not in SCHEDULES:
        raise UsageError(f"{name} runs on the CPU alone; use --device cpu")
    return SCHEDULES[name]


def one_kernel(op: Op, kernel: OneKernel) -> Callable[..., Any]:
    """The schedule of an op that is one kernel."""

    def run(allocate: Callable, *given: Any) -> Any:
        sides: dict[int | str, int] = {}
        for name, shape in kernel.shapes.items():
            tensor = given[op.parameters.index(name)]
            wanted = tuple(sides.get(side, -1) if isinstance(side, str) else side for side in shape)
            expect(**{name: (tensor, wanted)})
            sides |= zip(shape, tensor.shape, strict=True)
        out = allocate(*given)
        outputs = out if isinstance(out, tuple) else (out,)
        tensors = inputs(*(value for value in given if isinstance(value, Tensor)))
        numbers = [value for value in given if not isinstance(value, Tensor)]
        rows = outputs[0].shape[0]
        launch = scalar_module(kernel.source, outputs[0].dtype), kernel.name, blocks_for(rows), THREADS
        cuda_launch.launch(*launch, *tensors, rows, *numbers, *outputs)
        return out

    return run


def scalar_module(source: str, dtype: torch.dtype) -> Module:
    """The module of a source that is compiled for a scalar type alone."""
    return Module(source, (("NF_SCALAR", scalar(dtype)),))


def hash_module(source: str, table: Tensor, scales: Tensor, levels: Tensor) -> Module:
    """The module of a source that is compiled for a hash grid's geometry."""
    return Module(source, (("NF_SCALAR", scalar(table.dtype)), *grid_defines(table.shape[1], scales, levels)))


def grid_defines(features: int, scales: Tensor, levels: Tensor) -> tuple[tuple[str, str], ...]:
    """A hash grid's geometry as constants. The geometry is kept on the CPU, so the GPU is not waited for."""
    rows = zip(scales.tolist(), levels.tolist(), strict=True)
    text = ", ".join(f"{{{s.hex()}f, {r}u, {size}u, {at}u, {dense}u}}" for s, (r, size, at, dense) in rows)
    return ("NF_FEATURES", str(features)), ("NF_LEVELS", text)


def occupancy_blocks(occupancy: Tensor) -> Tensor:
    """Bits of the occupied blocks of 16^3 cells, [cascades, 8] int64 words."""
    expect(occupancy=(occupancy, (-1, CASCADE_WORDS)))
    blocks = occupancy.new_zeros(occupancy.shape[0], BLOCK_WORDS)
    module = scalar_module("rays", torch.float32)
    count = occupancy.numel()
    cuda_launch.launch(module, "occupancy_blocks", blocks_for(count), THREADS, occupancy, count, blocks)
    return blocks


def _march(
    allocate: Callable, origins: Tensor, directions: Tensor, jitter: Tensor, occupancy: Tensor, steps: list[float]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Marches twice, as on the CPU; the host waits for the number of samples between the passes."""
    origins, directions, jitter, occupancy = inputs(origins, directions, jitter, occupancy)
    module, rays = scalar_module("rays", origins.dtype), origins.shape[0]
    expect(origins=(origins, (rays, 3)), directions=(directions, (rays, 3)), jitter=(jitter, (rays,)))
    common = (origins, directions, jitter, rays, occupancy, occupancy_blocks(occupancy), *steps, occupancy.shape[0])
    offsets = occupancy.new_zeros(rays + 1)
    cuda_launch.launch(module, "march_count", blocks_for(rays), THREADS, *common, offsets[1:])
    offsets = offsets.cumsum(0)
    count = int(offsets[-1])
    x, t, length = origins.new_empty(count, 3), origins.new_empty(count), origins.new_empty(count)
    cuda_launch.launch(module, "march_write", blocks_for(rays), THREADS, *common, offsets, x, t, length)
    return x, t, length, offsets


def _harmonics(allocate: Callable, directions: Tensor, degree: int) -> Tensor:
    _check_degree(directions, degree)
    out, (d,) = allocate(directions, degree), inputs(directions)
    launch = scalar_module("elements", d.dtype), "harmonics_forward", blocks_for(d.shape[0]), THREADS
    cuda_launch.launch(*launch, d, d.shape[0], degree, out)
    return out


def _harmonics_backward(allocate: Callable, directions: Tensor, d_out: Tensor, degree: int) -> Tensor:
    _check_degree(directions, degree)
    expect(d_out=(d_out, (directions.shape[0], degree * degree)))
    d_directions, (d, d_out) = allocate(directions, d_out, degree), inputs(directions, d_out)
    launch = scalar_module("elements", d.dtype), "harmonics_gradient", blocks_for(d.shape[0]), THREADS
    cuda_launch.launch(*launch, d, d_out, d.shape[0], degree, d_directions)
    return d_directions


def _composite_backward(allocate: Callable, given: list[Tensor], sums: Tensor, d_sums: Tensor) -> tuple[Tensor, Tensor]:
    *tensors, sums, d_sums = inputs(*given, sums, d_sums)
    out, rays = allocate(tensors, sums, d_sums), sums.shape[0]
    launch = scalar_module("composite", sums.dtype), "composite_gradient", blocks_for(rays), THREADS
    cuda_launch.launch(*launch, *tensors, rays, sums, d_sums, *out)
    return out


def _hash_encode(allocate: Callable, x: Tensor, table: Tensor, scales: Tensor, levels: Tensor) -> Tensor:
    expect(x=(x, (-1, 3)), table=(table, (-1, -1)), levels=(levels, (len(scales), 4)))
    out, (x, table) = allocate(x, table, scales, levels), inputs(x, table)
    module, blocks = hash_module("hash_grid", table, scales, levels), (blocks_for(x.shape[0]), len(scales))
    cuda_launch.launch(module, "hash_forward", blocks, THREADS, x, x.shape[0], table, out)
    return out


def _hash_encode_backward(
    allocate: Callable, x: Tensor, table: Tensor, scales: Tensor, levels: Tensor, d_out: Tensor, needs: list[bool]
) -> tuple[Tensor, Tensor]:
    d_x, d_table = allocate(x, table, scales, levels, d_out, needs)
    x, table, d_out = inputs(x, table, d_out)
    expect(d_out=(d_out, (x.shape[0], len(scales) * table.shape[1])))
    module, samples = hash_module("hash_grid", table, scales, levels), x.shape[0]
    if needs[1]:
        blocks = blocks_for(samples), len(scales)
        cuda_launch.launch(module, "hash_scatter", blocks, THREADS, x, samples, d_out, d_table)
    if needs[0]:
        launch = module, "hash_position_gradient", blocks_for(samples), THREADS
        cuda_launch.launch(*launch, x, samples, table, d_out, d_x)
    return d_x, d_table


def _check_degree(directions: Tensor, degree: int) -> None:
    expect(directions=(directions, (-1, 3)))
    if not 1 <= degree <= 4:
        raise ValueError("degree must be 1 to 4")


def _adam(
    allocate: Callable, parameter: Tensor, gradient: Tensor, m: Tensor, v: Tensor, folded: list[float], sparse: bool
) -> None:
    tensors = {"parameter": parameter, "gradient": gradient, "m": m, "v": v}
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            raise ValueError(f"adam works in place: {name} has strides {list(tensor.stride())}, it must be contiguous")
        expect(**{name: (tensor, tuple(parameter.shape))})
    count = parameter.numel()
    blocks = min(blocks_for(count), ADAM_BLOCKS * cuda_launch.processors(parameter.device.index or 0))
    launch = scalar_module("elements", parameter.dtype), "adam_step", blocks, THREADS
    cuda_launch.launch(*launch, *(a.detach() for a in tensors.values()), count, *folded, int(sparse))


SCHEDULES: dict[str, Callable[..., Any]] = {
    **{name: one_kernel(op, op.gpu) for name, op in every_op().items() if op.gpu},
    "march": _march,
    "spherical_harmonics": _harmonics,
    "spherical_harmonics_backward": _harmonics_backward,
    "composite_backward": _composite_backward,
    "hash_encode": _hash_encode,
    "hash_encode_backward": _hash_encode_backward,
    "grid_interpolate": grid_interpolate,
    "grid_interpolate_backward": grid_interpolate_backward,
    "rbf": rbf,
    "rbf_backward": rbf_backward,
    "modulate": modulate,
    "modulate_backward": modulate_backward,
    "network": network,
    "network_backward": network_backward,
    "adam": _adam,
    "splat_project": splat.project,
    "splat_project_backward": splat.project_backward,
    "splat_tile_lists": splat.tile_lists,
    "splat_blend": splat.blend,
    "splat_blend_backward": splat.blend_backward,
}
