"""Adam (arXiv:1412.6980) in place, optionally sparse: only parameters with a gradient.

m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
p = p - lr (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + epsilon)
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from neuralfields.ops.native import array, kernel, threads
from neuralfields.ops.register import native_op, nothing


def adam(
    parameter: Float[Tensor, "*P"],
    gradient: Float[Tensor, "*P"],
    moments: tuple[Float[Tensor, "*P"], Float[Tensor, "*P"]],
    step: int,
    settings: tuple[float, float, float, float],
    sparse: bool,
) -> None:
    """One step, in place; `settings` = (lr, beta1, beta2, epsilon), `step` counts from 1; the gradient is cleared.

    `sparse`: elements whose gradient is exactly zero keep parameter and moments as they are.
    """
    lr, beta1, beta2, epsilon = settings
    correction = math.sqrt(1 - beta2**step)
    folded = [lr * correction / (1 - beta1**step), beta1, beta2, epsilon * correction]
    _adam(parameter.detach(), gradient, *moments, folded, sparse)


@native_op("adam", nothing, mutates=("parameter", "gradient", "m", "v"))
def _adam(parameter: Tensor, gradient: Tensor, m: Tensor, v: Tensor, folded: list[float], sparse: bool) -> None:
    tensors = {"parameter": parameter, "gradient": gradient, "m": m, "v": v}
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            raise ValueError(f"adam works in place: {name} has strides {list(tensor.stride())}, it must be contiguous")
    kernel("adam", parameter.dtype)(*(array(a) for a in tensors.values()), folded, sparse, threads())


def adam_reference(
    parameter: Float[Tensor, "*P"],
    gradient: Float[Tensor, "*P"],
    moments: tuple[Float[Tensor, "*P"], Float[Tensor, "*P"]],
    step: int,
    settings: tuple[float, float, float, float],
    sparse: bool,
) -> None:
    """The same in plain torch."""
    lr, beta1, beta2, epsilon = settings
    m, v = moments
    hit = gradient != 0 if sparse else torch.ones_like(gradient, dtype=torch.bool)
    m_new = beta1 * m + (1 - beta1) * gradient
    v_new = beta2 * v + (1 - beta2) * gradient**2
    change = lr * (m_new / (1 - beta1**step)) / (torch.sqrt(v_new / (1 - beta2**step)) + epsilon)
    with torch.no_grad():
        parameter.copy_(torch.where(hit, parameter - change, parameter))
        m.copy_(torch.where(hit, m_new, m))
        v.copy_(torch.where(hit, v_new, v))
        gradient.zero_()
