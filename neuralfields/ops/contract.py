"""From the frame of the inner cube to the unit cube that fields live in (see cuda/contraction.h for the equations)."""

import torch
from torch import Tensor

from neuralfields.ops.native import array, kernel

KINDS = {"box": 0, "cube": 1}


def contract(x: Tensor, kind: str, extent: float) -> Tensor:
    """x [S, 3], the inner cube being [0, 1]^3, to [S, 3] in the unit cube.

    kind "box": (x - 0.5) / extent + 0.5. kind "cube": Mip-NeRF 360's contraction with the max norm (`extent` unused).
    """
    return _contract(x, KINDS[kind], extent)


@torch.library.custom_op("neuralfields::contract", mutates_args=(), device_types="cpu")
def _contract(x: Tensor, kind: int, extent: float) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    kernel("contract_forward", x.dtype)(array(x), out, kind, extent)
    return out


@_contract.register_fake
def _(x: Tensor, kind: int, extent: float) -> Tensor:
    return torch.empty_like(x)


def _setup(ctx, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.kind, ctx.extent = inputs[1:]


def _backward(ctx, d_out: Tensor) -> tuple:
    (x,) = ctx.saved_tensors
    d_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    kernel("contract_backward", x.dtype)(array(x), array(d_out), d_x, ctx.kind, ctx.extent)
    return d_x, None, None


_contract.register_autograd(_backward, setup_context=_setup)


def contract_reference(x: Tensor, kind: str, extent: float) -> Tensor:
    """The same in plain torch."""
    if kind == "box":
        return (x - 0.5) / extent + 0.5
    u = 2 * (x - 0.5)
    m = u.abs().amax(dim=-1, keepdim=True).clamp(min=1)
    return u * (2 - 1 / m) / m / 4 + 0.5
