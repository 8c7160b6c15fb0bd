"""Scene contraction: from the frame of the inner cube to the unit cube of a field (equations: cuda/contraction.h)."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neuralfields.ops.native import array, kernel
from neuralfields.ops.register import OneKernel, native_op
from neuralfields.scene import ContractionKind

KINDS = {"box": 0, "cube": 1}


@dataclass(frozen=True)
class Contraction:
    """A scene's contraction: `kind` and `extent` as `contract` takes them."""

    kind: ContractionKind
    extent: float

    def __call__(self, x: Float[Tensor, "S 3"]) -> Float[Tensor, "S 3"]:
        """Contracts points of the inner cube's frame [S, 3] to the unit cube [S, 3]."""
        return contract(x, self.kind, self.extent)


def contract(x: Float[Tensor, "S 3"], kind: str, extent: float) -> Float[Tensor, "S 3"]:
    """Contracts x [S, 3], the inner cube being [0, 1]^3, to [S, 3] in the unit cube.

    kind "box": (x - 0.5) / extent + 0.5. kind "cube": Mip-NeRF 360's contraction with the max norm (`extent` unused).
    """
    if kind not in KINDS:
        raise ValueError(f"contraction '{kind}' is unknown; known: {', '.join(KINDS)}")
    return _contract(x, KINDS[kind], extent)


def _like(x: Tensor, *args: object) -> Tensor:
    return x.new_empty(x.shape)


@native_op("contract", _like, gpu=OneKernel("elements", "contract_forward", {"x": ("samples", 3)}))
def _contract(x: Tensor, kind: int, extent: float) -> Tensor:
    out = _like(x)
    kernel("contract_forward", x.dtype)(array(x), out, kind, extent)
    return out


BACKWARD = OneKernel("elements", "contract_gradient", {"x": ("samples", 3), "d_out": ("samples", 3)})


@native_op("contract_backward", _like, gpu=BACKWARD)
def _contract_backward(x: Tensor, d_out: Tensor, kind: int, extent: float) -> Tensor:
    d_x = _like(x)
    kernel("contract_backward", x.dtype)(array(x), array(d_out), d_x, kind, extent)
    return d_x


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.kind, ctx.extent = inputs[1:]


def _backward(ctx: Any, d_out: Tensor) -> tuple:
    return _contract_backward(*ctx.saved_tensors, d_out, ctx.kind, ctx.extent), None, None


torch.library.register_autograd(_contract, _backward, setup_context=_setup)


def contract_reference(x: Float[Tensor, "S 3"], kind: str, extent: float) -> Float[Tensor, "S 3"]:
    """The same in plain torch."""
    if kind == "box":
        return (x - 0.5) / extent + 0.5
    u = 2 * (x - 0.5)
    m = u.abs().amax(dim=-1, keepdim=True).clamp(min=1)
    return u * (2 - 1 / m) / m / 4 + 0.5


def uncontract(x: Float[Tensor, "S 3"], contraction: Contraction) -> Float[Tensor, "S 3"]:
    """Inverse scene contraction: from the unit cube to the frame of the inner cube, [S, 3]."""
    if contraction.kind == "box":
        return (x - 0.5) * contraction.extent + 0.5
    # `contract` keeps the direction and maps the max norm m of u = 2 (x - 0.5) to (2 - 1 / m) / 2 outside the cube
    v = 4 * (x - 0.5)
    m = v.abs().amax(1, keepdim=True)
    u = torch.where(m <= 1, v, v / m / (2 - m).clamp(min=1e-6))
    return u / 2 + 0.5
