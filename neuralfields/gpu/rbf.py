"""Radial basis functions on a CUDA GPU (cuda/gpu/rbf.cu)."""

from collections.abc import Callable

from torch import Tensor

from neuralfields.gpu import launch as cuda_launch
from neuralfields.gpu.compile import Module
from neuralfields.gpu.launch import THREADS, blocks_for, expect, inputs, scalar

KINDS = ("gaussian", "multiquadric", "inverse_multiquadric", "cubic", "thin_plate", "wendland")  # of cuda/rbf.h
CHUNK = 512  # samples of one part of a sum over samples (see cuda/gpu/rbf.cu)


def rbf_module(f: Tensor, kind: int) -> Module:
    """The kernels for f's type and one of KINDS."""
    return Module("rbf", (("NF_SCALAR", scalar(f.dtype)), ("NF_RBF", KINDS[kind])))


def _prepared(module: Module, centres: Tensor, log_precisions: Tensor) -> tuple[Tensor, Tensor]:
    """Scales and scaled centres, [N, D] each."""
    expect(log_precisions=(log_precisions, tuple(centres.shape)))
    scale, centre, count = centres.new_empty(centres.shape), centres.new_empty(centres.shape), centres.numel()
    cuda_launch.launch(module, "rbf_prepare", blocks_for(count), THREADS, centres, log_precisions, count, scale, centre)
    return scale, centre


def rbf(allocate: Callable, f: Tensor, centres: Tensor, log_precisions: Tensor, kind: int) -> Tensor:
    """The op's forward."""
    expect(f=(f, (-1, centres.shape[-1])), centres=(centres, (-1, -1)))
    out, module = allocate(f, centres, log_precisions, kind), rbf_module(f, kind)
    f, centres, log_precisions = inputs(f, centres, log_precisions)
    prepared = _prepared(module, centres, log_precisions)
    launch = module, "rbf_forward", blocks_for(out.numel()), THREADS
    cuda_launch.launch(*launch, f, f.shape[0], *prepared, *centres.shape, out)
    return out


def rbf_backward(
    allocate: Callable, f: Tensor, centres: Tensor, log_precisions: Tensor, d_out: Tensor, kind: int, needs_f: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The op's backward: d_f (empty where it is not needed), d_centres, d_log_precisions."""
    d_f, d_centres, d_precisions = allocate(f, centres, log_precisions, d_out, kind, needs_f)
    f, centres, log_precisions, d_out = inputs(f, centres, log_precisions, d_out)
    module, samples, count, shape = rbf_module(f, kind), f.shape[0], centres.numel(), tuple(centres.shape)
    prepared, h = _prepared(module, centres, log_precisions), d_out.new_empty(d_out.shape)
    slopes = module, "rbf_slopes", blocks_for(h.numel()), THREADS
    cuda_launch.launch(*slopes, f, samples, *prepared, *shape, d_out, h)
    if needs_f:
        features = module, "rbf_feature_gradient", blocks_for(f.numel()), THREADS
        cuda_launch.launch(*features, f, samples, *prepared, *shape, h, d_f)
    chunks = blocks_for(samples, CHUNK)
    parts = f.new_empty(chunks, 2, count)
    units = module, "rbf_unit_sums", (blocks_for(count), chunks), THREADS
    cuda_launch.launch(*units, f, samples, centres, *shape, h, parts)
    last = module, "rbf_unit_gradients", blocks_for(count), THREADS
    cuda_launch.launch(*last, parts.sum(0), log_precisions, count, d_centres, d_precisions)
    return d_f, d_centres, d_precisions
