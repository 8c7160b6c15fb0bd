"""Radial basis functions of features: one layer of units with a centre and a width each (arXiv:2503.06762).

Vocabulary
  S  samples      D  features      N  units      c_kd  centres      b_kd  log-precisions
  r2_k = sum over d of e^{b_kd} (f_d - c_kd)^2,   phi_k = kernel(r2_k),   with r = sqrt(r2):
  gaussian              exp(-r2 / 2)          cubic       r^3
  multiquadric          sqrt(1 + r2)          thin-plate  r^2 log r
  inverse-multiquadric  1 / sqrt(1 + r2)      wendland    (1 - r)^4 (4 r + 1) below r = 1, else 0   (Wendland's C2)
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neuralfields.ops import native
from neuralfields.ops.register import native_op

KERNELS = ("gaussian", "multiquadric", "inverse-multiquadric", "cubic", "thin-plate", "wendland")
THIN_PLATE_FLOOR = 1e-12  # of r2 under the logarithm, whose slope would be infinite at a centre


def rbf(
    f: Float[Tensor, "S D"],
    centres: Float[Tensor, "N D"],
    log_precisions: Float[Tensor, "N D"],
    kernel: str = "gaussian",
) -> Float[Tensor, "S N"]:
    """Evaluates units: f [S, D], centres [N, D], log_precisions [N, D] -> [S, N]; `kernel` is one of KERNELS.

    Differentiable in all three. Memory is that of the inputs and of the result. Raises ValueError for another kernel.
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel {kernel!r}: must be one of {', '.join(KERNELS)}")
    return _rbf(f, centres, log_precisions, KERNELS.index(kernel))


def _out(f: Tensor, centres: Tensor, log_precisions: Tensor, kernel: int) -> Tensor:
    return f.new_empty(f.shape[0], centres.shape[0])


@native_op("rbf", _out)
def _rbf(f: Tensor, centres: Tensor, log_precisions: Tensor, kernel: int) -> Tensor:
    out = _out(f, centres, log_precisions, kernel)
    forward = native.kernel("rbf_forward", f.dtype)
    forward(*map(native.array, (f, centres, log_precisions)), kernel, out, native.threads())
    return out


def _gradients(
    f: Tensor, centres: Tensor, log_precisions: Tensor, d_out: Tensor, kernel: int, needs_f: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return f.new_empty(f.shape if needs_f else 0), f.new_empty(centres.shape), f.new_empty(centres.shape)


@native_op("rbf_backward", _gradients)
def _rbf_backward(
    f: Tensor, centres: Tensor, log_precisions: Tensor, d_out: Tensor, kernel: int, needs_f: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """d_f (empty where it is not needed), d_centres, d_log_precisions."""
    d_f, *d_units = _gradients(f, centres, log_precisions, d_out, kernel, needs_f)
    native.kernel("rbf_backward", f.dtype)(
        *map(native.array, (f, centres, log_precisions)),
        kernel,
        native.array(d_out),
        d_f if needs_f else None,
        *d_units,
        native.threads(),
    )
    return d_f, *d_units


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.kernel = inputs[3]


def _backward(ctx: Any, d_out: Tensor) -> tuple:
    needs_f = ctx.needs_input_grad[0]
    d_f, *d_units = _rbf_backward(*ctx.saved_tensors, d_out, ctx.kernel, needs_f)
    return d_f if needs_f else None, *d_units, None


torch.library.register_autograd(_rbf, _backward, setup_context=_setup)


def rbf_reference(
    f: Float[Tensor, "S D"],
    centres: Float[Tensor, "N D"],
    log_precisions: Float[Tensor, "N D"],
    kernel: str = "gaussian",
) -> Float[Tensor, "S N"]:
    """The same in plain torch, of differences: an intermediate result [S, N, D]."""
    r2 = (log_precisions.exp() * (f[:, None] - centres).square()).sum(2)
    return _VALUES[kernel](r2)


def rbf_products(
    f: Float[Tensor, "S D"],
    centres: Float[Tensor, "N D"],
    log_precisions: Float[Tensor, "N D"],
    kernel: str = "gaussian",
) -> Float[Tensor, "S N"]:
    """The same in plain torch as three matrix products, r2 = f^2 B' - 2 f (B c)' + sum B c^2: nothing beyond [S, N].

    All is measured from the mean centre: the products cancel, and the error grows with the distance from the origin.
    """
    middle = centres.detach().mean(0)
    f, c, precisions = f - middle, centres - middle, log_precisions.exp()
    r2 = f.square() @ precisions.T - 2 * f @ (precisions * c).T + (precisions * c.square()).sum(1)
    return _VALUES[kernel](r2.clamp(min=0))


def _wendland(r2: Tensor) -> Tensor:
    r = _root(r2)
    return (1 - r).clamp(min=0) ** 4 * (4 * r + 1)


def _root(r2: Tensor) -> Tensor:
    """sqrt with a finite slope at 0, where all its users are flat."""
    return torch.where(r2 > 0, r2, torch.ones_like(r2)).sqrt() * (r2 > 0)


_VALUES: dict[str, Callable[[Tensor], Tensor]] = {
    "gaussian": lambda r2: torch.exp(-r2 / 2),
    "multiquadric": lambda r2: (1 + r2).sqrt(),
    "inverse-multiquadric": lambda r2: (1 + r2).rsqrt(),
    "cubic": lambda r2: r2 * _root(r2),
    "thin-plate": lambda r2: r2 / 2 * r2.clamp(min=THIN_PLATE_FLOOR).log(),
    "wendland": _wendland,
}
