"""The trunk of a coordinate network: hidden layers from encoded points to the last hidden layer.

Vocabulary
  E  encoded values     h  [S, width]     z  [S, d_z] the residual path of an hourglass;  d_h  its inner width

  plain       h <- act(m(W h + b)), with the encoding beside h at layer `skip`
  hourglass   z <- z + W_2 act(m(W_1 norm(z) + b_1)) + b_2, from z = W_in e, trained or drawn once; d_h < d_z
              (arXiv:2510.01796); with d_h > d_z it is the conventional residual block
  m           `modulate(layer, h, relu) -> h`, the identity if None: called after each hidden linear layer, before its
              activation, with the layer's number from 0; with `relu` it does that too

Products are torch's (MKL, oneDNN): at widths of 64 to 256 they were 1.6 to 1.9 times as fast, forward and backward, as
ops/network.py's tiles, on one loaded core with AVX2. Scenes on a CPU take one op for all of it (whole.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from neuralfields.layers.encodings import Activation

Modulate = Callable[[int, Tensor, bool], Tensor]


@dataclass(frozen=True)
class Shape:
    """`layers` hidden layers (or hourglass blocks) of `width`; `skip`: layer with a skip connection, 0 for none.

    `inner`: inner width of hourglass blocks, 0 for plain layers; `fixed_lift`: their first projection is never trained.
    `bfloat16`: products in bfloat16 if the CPU has them (weights stay float32); float32 elsewhere.
    """

    layers: int
    width: int
    skip: int = 0
    inner: int = 0
    fixed_lift: bool = False
    bfloat16: bool = False

    @property
    def modulated(self) -> tuple[int, ...]:
        """Widths of the layers that `modulate` is called for."""
        return (self.inner or self.width,) * self.layers


@cache
def has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 natively; if not, torch's products of it are ten times slower."""
    found = getattr(torch.cpu, "get_capabilities", dict)()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def activated(activation: Activation, kind: int, h: Tensor, layer: int, modulate: Modulate | None) -> Tensor:
    """h [S, W] of hidden layer number `layer`, modulated and after the activation of layer number `kind`."""
    if modulate is None:
        return activation(kind, h)
    rectified = activation.rectified(kind)
    h = modulate(layer, h, rectified)
    return h if rectified else activation(kind, h)


class Plain(nn.Module):
    """A plain MLP trunk, with a skip connection from the encoding if asked for."""

    def __init__(self, inputs: int, shape: Shape, activation: Activation) -> None:
        super().__init__()
        self.skip, self.activation = shape.skip, activation
        widths = [inputs] + [shape.width] * shape.layers
        extra = [inputs if layer and layer == shape.skip else 0 for layer in range(shape.layers)]
        self.linears = nn.ModuleList(nn.Linear(widths[k] + extra[k], shape.width) for k in range(shape.layers))
        for layer, linear in enumerate(self.linears):
            activation.initialise(layer, linear)

    def forward(self, e: Tensor, modulate: Modulate | None = None) -> Tensor:
        """e [S, E] -> h [S, width], after its activation."""
        h = e
        for layer, linear in enumerate(self.linears):
            if layer and layer == self.skip:
                h = torch.cat([h, e], dim=1)
            h = activated(self.activation, layer, linear(h), layer, modulate)
        return h


class Hourglass(nn.Module):
    """Hourglass residual blocks: a wide residual path past a narrow bottleneck."""

    def __init__(self, inputs: int, shape: Shape, activation: Activation) -> None:
        super().__init__()
        self.activation, self.width = activation, shape.width
        lift = torch.randn(shape.width, inputs).div_(inputs**0.5)
        if shape.fixed_lift:
            self.register_buffer("lift", lift)
        else:
            self.lift = nn.Parameter(lift)
        self.narrow = nn.ModuleList(nn.Linear(shape.width, shape.inner) for _ in range(shape.layers))
        self.wide = nn.ModuleList(nn.Linear(shape.inner, shape.width) for _ in range(shape.layers))
        for linear in self.narrow:
            activation.initialise(1, linear)

    def forward(self, e: Tensor, modulate: Modulate | None = None) -> Tensor:
        """e [S, E] -> z [S, width]."""
        z = nn.functional.linear(e, self.lift)
        for layer, (narrow, wide) in enumerate(zip(self.narrow, self.wide, strict=True)):
            h = narrow(nn.functional.layer_norm(z, (self.width,)))
            z = z + wide(activated(self.activation, 1, h, layer, modulate))
        return z


class Trunk(nn.Module):
    """Plain layers or hourglass blocks on an encoding of `inputs` values, in float32 or with bfloat16 products."""

    def __init__(self, inputs: int, shape: Shape, activation: Activation) -> None:
        super().__init__()
        self.shape = shape
        self.body = (Hourglass if shape.inner else Plain)(inputs, shape, activation)

    def forward(self, e: Tensor, modulate: Modulate | None = None) -> Tensor:
        """e [S, inputs] -> [S, width] in the type of e."""
        if not (self.shape.bfloat16 and has_bfloat16()):
            return self.body(e, modulate)
        with torch.autocast("cpu", torch.bfloat16):
            return self.body(e, modulate).to(e.dtype)
