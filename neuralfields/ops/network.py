"""Small bias-free MLPs, and modulated layers between products of others.

Vocabulary
  network   h_0 = x, h_{l+1} = relu(W_l h_l), the last layer linear. The native kernel keeps a tile of samples in cache
            through all layers; its backward recomputes the hidden activations
  modulate  y = (h - mean(h)) / sqrt(var(h) + 1e-5), or h;  z = beta + gamma y;  relu(z), or z. Coordinate-Aware
            Modulation (arXiv:2311.14993) does so after each hidden layer; gamma and beta are a sample's
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neuralfields.ops import backend
from neuralfields.ops.native import array, kernel, threads
from neuralfields.ops.register import native_op


def network(x: Float[Tensor, "S inputs"], weights: list[Float[Tensor, "_ _"]]) -> Float[Tensor, "S outputs"]:
    """MLP of x [S, in], weights[l] [out, in] -> [S, last out]; 1 to 8 layers of at most 512. Differentiable."""
    if backend.uses("tcnn", x) and backend.other("tcnn").takes_network(weights):
        return backend.other("tcnn").network(x, weights)
    return _network(x, weights)


def _out(x: Tensor, weights: list[Tensor]) -> Tensor:
    return x.new_empty(x.shape[0], weights[-1].shape[0])


@native_op("network", _out)
def _network(x: Tensor, weights: list[Tensor]) -> Tensor:
    out = _out(x, weights)
    kernel("network_forward", x.dtype)(array(x), [array(w) for w in weights], out, threads())
    return out


def _gradients(x: Tensor, weights: list[Tensor], d_out: Tensor, needs_x: bool) -> list[Tensor]:
    return [x.new_empty(x.shape if needs_x else 0), *(w.new_empty(w.shape) for w in weights)]


@native_op("network_backward", _gradients)
def _network_backward(x: Tensor, weights: list[Tensor], d_out: Tensor, needs_x: bool) -> list[Tensor]:
    """d_x (empty where it is not needed), then the gradients of all weights."""
    d_x, *d_weights = _gradients(x, weights, d_out, needs_x)
    kernel("network_backward", x.dtype)(
        array(x), [array(w) for w in weights], array(d_out), d_weights, d_x if needs_x else None, threads()
    )
    return [d_x, *d_weights]


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x, weights = inputs
    ctx.save_for_backward(x, *weights)


def _backward(ctx: Any, d_out: Tensor) -> tuple:
    x, *weights = ctx.saved_tensors
    needs_x = ctx.needs_input_grad[0]
    d_x, *d_weights = _network_backward(x, weights, d_out, needs_x)
    return d_x if needs_x else None, d_weights


torch.library.register_autograd(_network, _backward, setup_context=_setup)


def network_reference(x: Float[Tensor, "S inputs"], weights: list[Float[Tensor, "_ _"]]) -> Float[Tensor, "S outputs"]:
    """The same in plain torch."""
    for weight in weights[:-1]:
        x = torch.relu(x @ weight.T)
    return x @ weights[-1].T


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


def _modulate_out(h: Tensor, gamma: Tensor, beta: Tensor, normalise: bool, relu: bool) -> Tensor:
    return h.new_empty(h.shape)


@native_op("modulate", _modulate_out)
def _modulate(h: Tensor, gamma: Tensor, beta: Tensor, normalise: bool, relu: bool) -> Tensor:
    out = _modulate_out(h, gamma, beta, normalise, relu)
    forward = kernel("modulate_forward", h.dtype)
    forward(*map(array, (h, gamma, beta)), normalise, relu, out, threads())
    return out


def _modulate_gradients(
    h: Tensor, gamma: Tensor, beta: Tensor, d_out: Tensor, normalise: bool, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return h.new_empty(h.shape), gamma.new_empty(gamma.shape), beta.new_empty(beta.shape)


@native_op("modulate_backward", _modulate_gradients)
def _modulate_backward(
    h: Tensor, gamma: Tensor, beta: Tensor, d_out: Tensor, normalise: bool, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """d_h, d_gamma, d_beta."""
    gradients = _modulate_gradients(h, gamma, beta, d_out, normalise, relu)
    kernel("modulate_backward", h.dtype)(
        *map(array, (h, gamma, beta)), normalise, relu, array(d_out), *gradients, threads()
    )
    return gradients


def _modulate_setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.settings = inputs[3:]


def _lead_back(ctx: Any, d_out: Tensor) -> tuple:
    return *_modulate_backward(*ctx.saved_tensors, d_out, *ctx.settings), None, None


torch.library.register_autograd(_modulate, _lead_back, setup_context=_modulate_setup)


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
