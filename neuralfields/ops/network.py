"""Small bias-free networks: h_0 = x, h_{l+1} = relu(W_l h_l), the last layer linear.

The native kernel keeps a tile of samples in cache through all layers; its backward recomputes the hidden activations.
"""

import torch
from torch import Tensor

from neuralfields.ops.native import array, kernel, threads


def network(x: Tensor, weights: list[Tensor]) -> Tensor:
    """x [S, in], weights[l] [out, in] -> [S, out of the last]. 1 to 8 layers of at most 512. Differentiable in all."""
    return _network(x, weights)


@torch.library.custom_op("neuralfields::network", mutates_args=(), device_types="cpu")
def _network(x: Tensor, weights: list[Tensor]) -> Tensor:
    out = x.new_empty(x.shape[0], weights[-1].shape[0])
    kernel("network_forward", x.dtype)(array(x), [array(w) for w in weights], out, threads())
    return out


@_network.register_fake
def _(x: Tensor, weights: list[Tensor]) -> Tensor:
    return x.new_empty(x.shape[0], weights[-1].shape[0])


def _setup(ctx, inputs: tuple, output: Tensor) -> None:
    x, weights = inputs
    ctx.save_for_backward(x, *weights)


def _backward(ctx, d_out: Tensor) -> tuple:
    x, *weights = ctx.saved_tensors
    d_weights = [torch.empty_like(w, memory_format=torch.contiguous_format) for w in weights]
    d_x = torch.empty_like(x, memory_format=torch.contiguous_format) if ctx.needs_input_grad[0] else None
    kernel("network_backward", x.dtype)(
        array(x), [array(w) for w in weights], array(d_out), d_weights, d_x, threads()
    )
    return d_x, d_weights


_network.register_autograd(_backward, setup_context=_setup)


def network_reference(x: Tensor, weights: list[Tensor]) -> Tensor:
    """The same in plain torch."""
    for weight in weights[:-1]:
        x = torch.relu(x @ weight.T)
    return x @ weights[-1].T
