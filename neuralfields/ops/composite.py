"""Compositing of packed samples along rays (Max 1995; NeRF, arXiv:2003.08934, Eq. 3).

Vocabulary
  R  rays, S  samples of all rays one after the other; ray r owns samples offsets[r] : offsets[r + 1]
  alpha_i = 1 - exp(-density_i length_i)   w_i = T_i alpha_i   T_{i+1} = T_i (1 - alpha_i)
A ray is opaque once T < 1e-4; its later samples have no weight and no gradient.
"""

import torch
from torch import Tensor

from neuralfields.ops.native import array, kernel, threads

TRANSMITTANCE_STOP = 1e-4
Composite = tuple[Tensor, Tensor, Tensor, Tensor]


def composite(density: Tensor, length: Tensor, t: Tensor, rgb: Tensor, offsets: Tensor) -> Composite:
    """density, length, t [S], rgb [S, 3], offsets [R + 1] int64.

    Returns the weighted sums of rgb [R, 3], of 1 (opacity, [R]) and of t [R], and the weights [S]. Differentiable in
    density and rgb through the three sums; the weights are constants.
    """
    return _composite(density, length, t, rgb, offsets)


@torch.library.custom_op("neuralfields::composite", mutates_args=(), device_types="cpu")
def _composite(
    density: Tensor, length: Tensor, t: Tensor, rgb: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rays = offsets.shape[0] - 1
    out = density.new_empty(rays, 3), density.new_empty(rays), density.new_empty(rays), torch.empty_like(density)
    kernel("composite_forward", density.dtype)(
        array(density), array(length), array(t), array(rgb), array(offsets), *out, threads()
    )
    return out


@_composite.register_fake
def _(
    density: Tensor, length: Tensor, t: Tensor, rgb: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rays = offsets.shape[0] - 1
    return density.new_empty(rays, 3), density.new_empty(rays), density.new_empty(rays), torch.empty_like(density)


def _setup(ctx, inputs: tuple, output: Composite) -> None:
    ctx.mark_non_differentiable(output[3])
    ctx.save_for_backward(*inputs, *output[:3])


def _backward(ctx, d_rgb: Tensor, d_opacity: Tensor, d_depth: Tensor, d_weight: Tensor) -> tuple:
    density, length, t, rgb, offsets, *out = ctx.saved_tensors
    d_density, d_colour = torch.empty_like(density), torch.empty_like(rgb, memory_format=torch.contiguous_format)
    kernel("composite_backward", density.dtype)(
        *(array(a) for a in (density, length, t, rgb, offsets)),
        [array(a) for a in out],
        [array(a) for a in (d_rgb, d_opacity, d_depth)],
        d_density,
        d_colour,
        threads(),
    )
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
