"""Alpha compositing of packed samples along rays (Max 1995; NeRF, arXiv:2003.08934, Eq. 3).

Vocabulary
  R  rays, S  samples of all rays one after the other; ray r owns samples offsets[r] : offsets[r + 1]
  T transmittance: alpha_i = 1 - exp(-density_i length_i)   w_i = T_i alpha_i   T_{i+1} = T_i (1 - alpha_i)
  sums of a ray: w rgb (3), w (opacity), w t (depth), distortion, w s  with s = t / (1 + t)
  distortion = sum_{i,j} w_i w_j |s_i - s_j| + 1/3 sum_i w_i^2 length_i / (1 + t_i)^2   (arXiv:2111.12077, Eq. 15)
Early termination: a ray is opaque once T < 1e-4; its later samples have no weight and no gradient.
"""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from neuralfields.ops.native import array, kernel, threads
from neuralfields.ops.register import OneKernel, native_op

TRANSMITTANCE_STOP = 1e-4
SUMS = 7


def composite(
    density: Float[Tensor, " S"],
    length: Float[Tensor, " S"],
    t: Float[Tensor, " S"],
    rgb: Float[Tensor, "S 3"],
    offsets: Int64[Tensor, " R1"],
) -> tuple[Float[Tensor, "R1-1 7"], Float[Tensor, " S"]]:
    """Composites density, length, t [S], rgb [S, 3] along rays, offsets [R + 1] int64.

    Returns the sums [R, 7] in the order above and the weights [S]. Differentiable in density and rgb through the sums;
    the weights are constants.
    """
    return _composite(density, length, t, rgb, offsets)


def _out(density: Tensor, length: Tensor, t: Tensor, rgb: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    return density.new_empty(offsets.shape[0] - 1, SUMS), density.new_empty(density.shape)


SHAPES = {"density": ("samples",), "length": ("samples",), "t": ("samples",), "rgb": ("samples", 3)}


@native_op("composite", _out, gpu=OneKernel("composite", "composite_forward", SHAPES))
def _composite(density: Tensor, length: Tensor, t: Tensor, rgb: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    inputs = density, length, t, rgb, offsets
    out = _out(*inputs)
    kernel("composite_forward", density.dtype)(*(array(a) for a in inputs), *out, threads())
    return out


def _gradients(inputs: list[Tensor], sums: Tensor, d_sums: Tensor) -> tuple[Tensor, Tensor]:
    density, rgb = inputs[0], inputs[3]
    return density.new_empty(density.shape), rgb.new_empty(rgb.shape)


@native_op("composite_backward", _gradients)
def _composite_backward(inputs: list[Tensor], sums: Tensor, d_sums: Tensor) -> tuple[Tensor, Tensor]:
    """d_density and d_rgb from the forward's inputs, its sums and their gradient."""
    gradients = _gradients(inputs, sums, d_sums)
    kernel("composite_backward", sums.dtype)(
        *(array(a) for a in inputs), array(sums), array(d_sums), *gradients, threads()
    )
    return gradients


def _setup(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs, output[0])


def _backward(ctx: Any, d_sums: Tensor, d_weight: Tensor) -> tuple:
    *inputs, sums = ctx.saved_tensors
    d_density, d_colour = _composite_backward(inputs, sums, d_sums)
    return d_density, None, None, d_colour, None


torch.library.register_autograd(_composite, _backward, setup_context=_setup)


def composite_reference(
    density: Float[Tensor, " S"],
    length: Float[Tensor, " S"],
    t: Float[Tensor, " S"],
    rgb: Float[Tensor, "S 3"],
    offsets: Int64[Tensor, " R1"],
) -> tuple[Float[Tensor, "R1-1 7"], Float[Tensor, " S"]]:
    """The same in plain torch, by the cumulative optical depth of each ray (rays padded to the longest)."""
    counts = offsets.diff()
    rays, longest = len(counts), int(counts.max()) if len(counts) else 0
    inside = torch.arange(longest, device=density.device) < counts[:, None]

    def padded(values: Tensor) -> Tensor:
        return density.new_zeros(rays, longest).masked_scatter(inside, values)

    tau, t, length = padded(density * length), padded(t), padded(length)
    rgb = density.new_zeros(rays, longest, 3).masked_scatter(inside[..., None], rgb)
    transmittance = torch.exp(-(torch.cumsum(tau, 1) - tau))
    weight = transmittance * (1 - torch.exp(-tau)) * (transmittance >= TRANSMITTANCE_STOP)
    s = t / (1 + t)
    pairs = weight[:, :, None] * weight[:, None, :] * (s[:, :, None] - s[:, None, :]).abs()
    distortion = pairs.sum((1, 2)) + (weight.square() * length / (1 + t).square()).sum(1) / 3
    columns = [weight, weight * t]
    sums = [(weight[..., None] * rgb).sum(1), *(c.sum(1, keepdim=True) for c in columns)]
    sums += [distortion[:, None], (weight * s).sum(1, keepdim=True)]
    return torch.cat(sums, 1), weight[inside].detach()
