"""Compositing of packed samples along rays (Max 1995; NeRF, arXiv:2003.08934, Eq. 3).

Vocabulary
  R  rays, S  samples of all rays one after the other; ray r owns samples offsets[r] : offsets[r + 1]
  alpha_i = 1 - exp(-density_i length_i)   w_i = T_i alpha_i   T_{i+1} = T_i (1 - alpha_i)
A ray is opaque once T < 1e-4; its later samples have no weight and no gradient.
"""

from typing import Any

import torch
from torch import Tensor

from neuralfields.ops.native import array, kernel, threads
from neuralfields.ops.register import native_op

TRANSMITTANCE_STOP = 1e-4
Composite = tuple[Tensor, Tensor, Tensor, Tensor]


def composite(density: Tensor, length: Tensor, t: Tensor, rgb: Tensor, offsets: Tensor) -> Composite:
    """density, length, t [S], rgb [S, 3], offsets [R + 1] int64.

    Returns the weighted sums of rgb [R, 3], of 1 (opacity, [R]) and of t [R], and the weights [S]. Differentiable in
    density and rgb through the three sums; the weights are constants.
    """
    return _composite(density, length, t, rgb, offsets)


def _out(
    density: Tensor, length: Tensor, t: Tensor, rgb: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rays = offsets.shape[0] - 1
    like = density.new_empty
    return like(rays, 3), like(rays), like(rays), like(density.shape)


@native_op("composite", _out)
def _composite(
    density: Tensor, length: Tensor, t: Tensor, rgb: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    inputs = density, length, t, rgb, offsets
    out = _out(*inputs)
    kernel("composite_forward", density.dtype)(*(array(a) for a in inputs), *out, threads())
    return out


def _gradients(inputs: list[Tensor], out: list[Tensor], d_out: list[Tensor]) -> tuple[Tensor, Tensor]:
    density, rgb = inputs[0], inputs[3]
    return density.new_empty(density.shape), rgb.new_empty(rgb.shape)


@native_op("composite_backward", _gradients)
def _composite_backward(inputs: list[Tensor], out: list[Tensor], d_out: list[Tensor]) -> tuple[Tensor, Tensor]:
    """d_density and d_rgb from the forward's inputs, its three sums and their gradients."""
    gradients = _gradients(inputs, out, d_out)
    kernel("composite_backward", inputs[0].dtype)(
        *(array(a) for a in inputs), [array(a) for a in out], [array(a) for a in d_out], *gradients, threads()
    )
    return gradients


def _setup(ctx: Any, inputs: tuple, output: Composite) -> None:
    ctx.mark_non_differentiable(output[3])
    ctx.save_for_backward(*inputs, *output[:3])


def _backward(ctx: Any, d_rgb: Tensor, d_opacity: Tensor, d_depth: Tensor, d_weight: Tensor) -> tuple:
    saved = list(ctx.saved_tensors)
    d_density, d_colour = _composite_backward(saved[:5], saved[5:], [d_rgb, d_opacity, d_depth])
    return d_density, None, None, d_colour, None


_composite.register_autograd(_backward, setup_context=_setup)


def composite_reference(density: Tensor, length: Tensor, t: Tensor, rgb: Tensor, offsets: Tensor) -> Composite:
    """The same in plain torch, by the cumulative optical depth of each ray (rays padded to the longest)."""
    counts = offsets.diff()
    rays, longest = len(counts), int(counts.max()) if len(counts) else 0
    inside = torch.arange(longest, device=density.device) < counts[:, None]
    tau = density.new_zeros(rays, longest).masked_scatter(inside, density * length)
    transmittance = torch.exp(-(torch.cumsum(tau, 1) - tau))
    weight = transmittance * (1 - torch.exp(-tau)) * (transmittance >= TRANSMITTANCE_STOP)
    padded_rgb = density.new_zeros(rays, longest, 3).masked_scatter(inside[..., None], rgb)
    padded_t = density.new_zeros(rays, longest).masked_scatter(inside, t)
    return (
        (weight[..., None] * padded_rgb).sum(1),
        weight.sum(1),
        (weight * padded_t).sum(1),
        weight[inside].detach(),
    )
