"""Schedules of the modulated layer on a CUDA GPU: one thread a sample."""

from collections.abc import Callable

from torch import Tensor

from neuralfields.gpu import launch as cuda_launch
from neuralfields.gpu.compile import Module
from neuralfields.gpu.launch import THREADS, blocks_for, expect, inputs, scalar


def modulate(allocate: Callable, h: Tensor, gamma: Tensor, beta: Tensor, normalise: bool, relu: bool) -> Tensor:
    """The forward pass."""
    out, (h, gamma, beta) = allocate(h, gamma, beta, normalise, relu), inputs(h, gamma, beta)
    sizes = _sizes(h, gamma, beta)
    launch = _module(h), "modulate_forward", blocks_for(h.shape[0]), THREADS
    cuda_launch.launch(*launch, h, gamma, beta, *sizes, int(normalise), int(relu), out)
    return out


def modulate_backward(
    allocate: Callable, h: Tensor, gamma: Tensor, beta: Tensor, d_out: Tensor, normalise: bool, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of h, gamma and beta."""
    gradients = allocate(h, gamma, beta, d_out, normalise, relu)
    h, gamma, beta, d_out = inputs(h, gamma, beta, d_out)
    sizes = _sizes(h, gamma, beta)
    expect(d_out=(d_out, tuple(h.shape)))
    launch = _module(h), "modulate_gradient", blocks_for(h.shape[0]), THREADS
    cuda_launch.launch(*launch, h, gamma, beta, d_out, *sizes, int(normalise), int(relu), *gradients)
    return gradients


def _module(h: Tensor) -> Module:
    return Module("modulate", (("NF_SCALAR", scalar(h.dtype)),))


def _sizes(h: Tensor, gamma: Tensor, beta: Tensor) -> tuple[int, int, int]:
    """Samples, features, numbers of a sample's gamma. Raises ValueError for shapes that do not fit together."""
    expect(h=(h, (-1, -1)))
    samples, width = h.shape
    expect(gamma=(gamma, (samples, -1)))
    each = gamma.shape[1]
    if each not in (1, width):
        raise ValueError(f"gamma has shape {list(gamma.shape)}, expected one number a sample or one a feature")
    expect(beta=(beta, (samples, each)))
    return samples, width, each
