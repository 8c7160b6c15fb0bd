"""A modulated layer: features to zero mean and unit variance, scaled, shifted, past a ReLU, in one pass over memory.

  y = (h - mean(h)) / sqrt(var(h) + 1e-5), or h     z = beta + gamma y     out = relu(z), or z

Coordinate-Aware Modulation (arXiv:2311.14993) does so after each hidden layer; gamma and beta are a sample's.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neuralfields.ops import native
from neuralfields.ops.register import native_op


def modulate(
    h: Float[Tensor, "S W"],
    gamma: Float[Tensor, "S G"],
    beta: Float[Tensor, "S G"],
    normalise: bool = True,
    relu: bool = True,
) -> Float[Tensor, "S W"]:
    """Modulates h [S, W] by gamma and beta [S, G], G = W or 1 for all features alike. Differentiable in all three.

    `normalise`: over the features of each sample first; `relu`: a ReLU at the end.
    """
    return _modulate(h, gamma, beta, normalise, relu)


def _out(h: Tensor, gamma: Tensor, beta: Tensor, normalise: bool, relu: bool) -> Tensor:
    return h.new_empty(h.shape)


@native_op("modulate", _out)
def _modulate(h: Tensor, gamma: Tensor, beta: Tensor, normalise: bool, relu: bool) -> Tensor:
    out = _out(h, gamma, beta, normalise, relu)
    forward = native.kernel("modulate_forward", h.dtype)
    forward(*map(native.array, (h, gamma, beta)), normalise, relu, out, native.threads())
    return out


def _gradients(
    h: Tensor, gamma: Tensor, beta: Tensor, d_out: Tensor, normalise: bool, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return h.new_empty(h.shape), gamma.new_empty(gamma.shape), beta.new_empty(beta.shape)


@native_op("modulate_backward", _gradients)
def _modulate_backward(
    h: Tensor, gamma: Tensor, beta: Tensor, d_out: Tensor, normalise: bool, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """d_h, d_gamma, d_beta."""
    gradients = _gradients(h, gamma, beta, d_out, normalise, relu)
    native.kernel("modulate_backward", h.dtype)(
        *map(native.array, (h, gamma, beta)), normalise, relu, native.array(d_out), *gradients, native.threads()
    )
    return gradients


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.settings = inputs[3:]


def _backward(ctx: Any, d_out: Tensor) -> tuple:
    return *_modulate_backward(*ctx.saved_tensors, d_out, *ctx.settings), None, None


torch.library.register_autograd(_modulate, _backward, setup_context=_setup)


def modulate_reference(
    h: Float[Tensor, "S W"],
    gamma: Float[Tensor, "S G"],
    beta: Float[Tensor, "S G"],
    normalise: bool = True,
    relu: bool = True,
) -> Float[Tensor, "S W"]:
    """The same in plain torch."""
    y = torch.nn.functional.layer_norm(h, h.shape[1:]) if normalise else h
    z = torch.addcmul(beta, gamma, y)
    return torch.relu(z) if relu else z
