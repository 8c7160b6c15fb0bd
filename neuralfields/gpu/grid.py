"""The dense grid on a CUDA GPU (cuda/gpu/grid.cu): one thread a channel of a sample, gradients added by atomics."""

from collections.abc import Callable

from torch import Tensor

from neuralfields.gpu import launch as cuda_launch
from neuralfields.gpu.compile import Module
from neuralfields.gpu.launch import THREADS, blocks_for, expect, inputs, scalar

MOST_AXES = 4


def grid_module(x: Tensor) -> Module:
    """The kernels for x's type and number of coordinates."""
    return Module("grid", (("NF_SCALAR", scalar(x.dtype)), ("NF_AXES", str(x.shape[1]))))


def _shape(grid: Tensor) -> tuple[int, ...]:
    """Numbers of nodes along four axes, and of channels."""
    *nodes, channels = grid.shape
    return (*nodes, *[1] * (MOST_AXES - len(nodes)), channels)


def grid_interpolate(allocate: Callable, x: Tensor, grid: Tensor) -> Tensor:
    """The op's forward."""
    expect(x=(x, (-1, grid.dim() - 1)))
    out, (x, grid) = allocate(x, grid), inputs(x, grid)
    launch = grid_module(x), "grid_forward", blocks_for(out.numel()), THREADS
    cuda_launch.launch(*launch, x, x.shape[0], grid, *_shape(grid), out)
    return out


def grid_interpolate_backward(
    allocate: Callable, x: Tensor, grid: Tensor, d_out: Tensor, needs: list[bool]
) -> tuple[Tensor, Tensor]:
    """The op's backward: d_x and d_grid; the one that is not needed is empty."""
    d_x, d_grid = allocate(x, grid, d_out, needs)
    add_grid_gradients(x, grid, d_out, d_grid if needs[1] else None, d_x if needs[0] else None)
    return d_x, d_grid


def add_grid_gradients(x: Tensor, grid: Tensor, d_out: Tensor, d_grid: Tensor | None, d_x: Tensor | None) -> None:
    """Adds to d_grid and overwrites d_x, if given."""
    x, grid, d_out = inputs(x, grid, d_out)
    module, samples, shape = grid_module(x), x.shape[0], _shape(grid)
    expect(x=(x, (-1, grid.dim() - 1)), d_out=(d_out, (samples, grid.shape[-1])))
    if d_grid is not None:
        blocks = blocks_for(d_out.numel())
        cuda_launch.launch(module, "grid_scatter", blocks, THREADS, x, samples, d_out, *shape, d_grid)
    if d_x is not None:
        launch = module, "grid_position_gradient", blocks_for(samples * 32), THREADS
        cuda_launch.launch(*launch, x, samples, grid, d_out, *shape, d_x)
