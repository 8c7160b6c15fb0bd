"""Real spherical harmonics of a direction, up to degree 4 (16 values)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neuralfields.ops.native import array, kernel
from neuralfields.ops.register import native_op


def spherical_harmonics(directions: Float[Tensor, "S 3"], degree: int) -> Float[Tensor, "S K"]:
    """Evaluates unit directions [S, 3] -> [S, degree^2], degree 1 to 4; signs of Instant-NGP and Gaussian Splatting."""
    return _harmonics(directions, degree)


def _out(directions: Tensor, degree: int) -> Tensor:
    return directions.new_empty(directions.shape[0], degree * degree)


@native_op("spherical_harmonics", _out)
def _harmonics(directions: Tensor, degree: int) -> Tensor:
    out = _out(directions, degree)
    kernel("harmonics_forward", directions.dtype)(array(directions), out, degree)
    return out


def _gradient(directions: Tensor, d_out: Tensor, degree: int) -> Tensor:
    return directions.new_empty(directions.shape)


@native_op("spherical_harmonics_backward", _gradient)
def _harmonics_backward(directions: Tensor, d_out: Tensor, degree: int) -> Tensor:
    d_directions = _gradient(directions, d_out, degree)
    kernel("harmonics_backward", directions.dtype)(array(directions), array(d_out), d_directions, degree)
    return d_directions


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.degree = inputs[1]


def _backward(ctx: Any, d_out: Tensor) -> tuple:
    return _harmonics_backward(*ctx.saved_tensors, d_out, ctx.degree), None


torch.library.register_autograd(_harmonics, _backward, setup_context=_setup)


def spherical_harmonics_reference(directions: Float[Tensor, "S 3"], degree: int) -> Float[Tensor, "S K"]:
    """The same in plain torch."""
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    rows = [torch.full_like(x, 0.28209479177387814)]
    rows += [-0.48860251190291987 * y, 0.48860251190291987 * z, -0.48860251190291987 * x]
    rows += [
        1.0925484305920792 * x * y,
        -1.0925484305920792 * y * z,
        0.31539156525252005 * (2 * zz - xx - yy),
        -1.0925484305920792 * x * z,
        0.54627421529603959 * (xx - yy),
    ]
    rows += [
        -0.59004358992664352 * y * (3 * xx - yy),
        2.8906114426405538 * x * y * z,
        -0.45704579946446572 * y * (4 * zz - xx - yy),
        0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
        -0.45704579946446572 * x * (4 * zz - xx - yy),
        1.4453057213202769 * z * (xx - yy),
        -0.59004358992664352 * x * (xx - 3 * yy),
    ]
    return torch.stack(rows[: degree * degree], dim=-1)
