"""MLPs on a CUDA GPU: fused on the tensor cores up to a width, matrix products of torch beyond it.

Vocabulary
  precision   half: float16 in, float32 sums, and bfloat16 for gradients, which has float32's range, so that no loss
              needs scaling;  float: float32 throughout.  NEURALFIELDS_PRECISION chooses. Default: half
  fused       all layers in one kernel, activations in registers: widths up to 64 (the input's up to 64), 1 to 7 layers
  stack       the columns of the input's first part, then the widths from input to output (see cuda/gpu/network.h)

Wider networks, and float64, are one matrix product a layer: nothing is lost there, for their weights alone fill a
multiprocessor.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from neuralfields.errors import UsageError
from neuralfields.gpu import launch as cuda_launch
from neuralfields.gpu.compile import Module
from neuralfields.gpu.launch import THREADS, blocks_for, expect, inputs

PRECISIONS = {"half": ("Half", "Bfloat"), "float": ("Float", "Float")}
WIDEST, MOST_LAYERS = 64, 7
WARPS = 4  # of a block (see cuda/gpu/network.h)
BLOCKS = 2  # a multiprocessor: as many as the backward kernel's registers allow

_forced: list[str] = []


def precision() -> str:
    """The precision of networks: half or float."""
    name = _forced[-1] if _forced else os.environ.get("NEURALFIELDS_PRECISION") or "half"
    if name not in PRECISIONS:
        raise UsageError(f"NEURALFIELDS_PRECISION={name}: must be one of {', '.join(PRECISIONS)}")
    return name


@contextmanager
def using_precision(name: str) -> Iterator[None]:
    """Context of that precision, whatever the environment says."""
    _forced.append(name)
    try:
        precision()
        yield
    finally:
        _forced.pop()


@dataclass(frozen=True)
class Stack:
    """A network's widths from input to output; `part`: how many of its inputs are padded on their own."""

    widths: tuple[int, ...]
    part: int

    @staticmethod
    def of(weights: list[Tensor]) -> "Stack":
        """The stack of a network whose input is one piece."""
        widths = (weights[0].shape[1], *(w.shape[0] for w in weights))
        return Stack(widths, widths[0])

    @property
    def padded(self) -> tuple[int, ...]:
        """Widths padded to whole tiles of 16."""
        first = _padded(self.part) + _padded(self.widths[0] - self.part)
        return (first, *map(_padded, self.widths[1:]))

    @property
    def fits(self) -> bool:
        """Whether the fused kernels take it."""
        return max(self.padded) <= WIDEST and len(self.widths) - 1 <= MOST_LAYERS

    @property
    def text(self) -> str:
        """The stack in the syntax of cuda/gpu/network.h."""
        return ", ".join(map(str, (self.part, *self.widths)))

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(a * b for a, b in pairwise(self.widths))

    @property
    def padded_weights(self) -> int:
        """Number of weights of the padded layers."""
        return sum(a * b for a, b in pairwise(self.padded))


def _padded(width: int) -> int:
    return -(-width // 16) * 16


def row_tiles(stacks: list[Stack]) -> int:
    """Tiles of 16 rows that a warp takes through a backward pass: two if a thread's registers hold them."""
    return 2 if precision() == "half" and max(max(stack.padded) for stack in stacks) <= 32 else 1


def arithmetic_defines(stacks: list[Stack]) -> tuple[tuple[str, str], ...]:
    """The networks' compile-time constants besides their stacks."""
    forward, backward = PRECISIONS[precision()]
    columns = max(a + b for stack in stacks for a, b in pairwise(stack.padded))
    return (
        ("NF_FORWARD", forward),
        ("NF_BACKWARD", backward),
        ("NF_TILES", str(row_tiles(stacks))),
        ("NF_COLUMNS", str(columns)),
    )


def packed_words(stack: Stack) -> int:
    """32-bit words that a stack's packed weights take, in either direction."""
    return stack.padded_weights // (2 if precision() == "half" else 1)


def flat(weights: list[Tensor]) -> Tensor:
    """Concatenates all weights in one row."""
    return torch.cat([w.detach().reshape(-1) for w in weights])


def backward_blocks(rows: int, tiles: int, device: int) -> int:
    """Number of blocks of a backward pass over that many rows: each writes one part of the weights' gradients."""
    return max(1, min(-(-rows // (16 * tiles * WARPS)), BLOCKS * cuda_launch.processors(device)))


def _packed(module: Module, stack: Stack, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    words = packed_words(stack)
    forward, backward = (torch.empty(words, dtype=torch.int32, device=weights[0].device) for _ in range(2))
    cuda_launch.launch(module, "network_pack", blocks_for(words), THREADS, flat(weights), forward, backward)
    return forward, backward


def _fused(x: Tensor, stack: Stack) -> bool:
    return x.dtype == torch.float32 and stack.fits


def _checked_stack(x: Tensor, weights: list[Tensor]) -> Stack:
    width = x.shape[-1]
    for weight in weights:
        expect(weights=(weight, (-1, width)))
        width = weight.shape[0]
    expect(x=(x, (-1, weights[0].shape[1])))
    return Stack.of(weights)


def _module(stack: Stack) -> Module:
    return Module("network", (("NF_NETWORK", stack.text), *arithmetic_defines([stack])))


def network(allocate: Callable, x: Tensor, weights: list[Tensor]) -> Tensor:
    """The op's forward."""
    x, *weights = inputs(x, *weights)
    stack = _checked_stack(x, weights)
    if not _fused(x, stack):
        return _layers(x, weights)[-1]
    out, module = allocate(x, weights), _module(stack)
    forward, _ = _packed(module, stack, weights)
    blocks = blocks_for(x.shape[0], 16 * row_tiles([stack]) * WARPS)
    cuda_launch.launch(module, "network_forward_rows", blocks, 32 * WARPS, x, x.shape[0], forward, out)
    return out


def network_backward(
    allocate: Callable, x: Tensor, weights: list[Tensor], d_out: Tensor, needs_x: bool
) -> list[Tensor]:
    """The op's backward: d_x, empty where it is not needed, then the weights' gradients."""
    x, d_out, *weights = inputs(x, d_out, *weights)
    stack = _checked_stack(x, weights)
    expect(d_out=(d_out, (x.shape[0], stack.widths[-1])))
    if not _fused(x, stack):
        return _layers_backward(x, weights, d_out, needs_x)
    d_x, *d_weights = allocate(x, weights, d_out, needs_x)
    module = _module(stack)
    forward, backward = _packed(module, stack, weights)
    blocks = backward_blocks(x.shape[0], row_tiles([stack]), x.device.index or 0)
    parts, d_flat = x.new_empty(blocks, stack.padded_weights), x.new_empty(stack.weights)
    arguments = (x, d_out, x.shape[0], forward, backward, d_x if needs_x else None, parts)
    cuda_launch.launch(module, "network_backward_rows", blocks, 32 * WARPS, *arguments)
    launch = module, "network_sum", blocks_for(stack.weights), THREADS
    cuda_launch.launch(*launch, parts, blocks, stack.weights, d_flat)
    for d, part in zip(d_weights, split(d_flat, weights), strict=True):
        d.copy_(part)
    return [d_x, *d_weights]


def split(flat_values: Tensor, weights: list[Tensor]) -> list[Tensor]:
    """The reverse of `flat`: views shaped as the weights."""
    parts = flat_values.split([w.numel() for w in weights])
    return [part.view(w.shape) for part, w in zip(parts, weights, strict=True)]


def _layers(x: Tensor, weights: list[Tensor]) -> list[Any]:
    """The inputs of all layers, and the output."""
    rows = [x]
    for index, weight in enumerate(weights):
        x = x @ weight.T
        rows.append(x if index == len(weights) - 1 else (x := x.relu()))
    return rows


def _layers_backward(x: Tensor, weights: list[Tensor], d_out: Tensor, needs_x: bool) -> list[Tensor]:
    rows, d_weights = _layers(x, weights), []
    for index in reversed(range(len(weights))):
        if index < len(weights) - 1:
            d_out = d_out * (rows[index + 1] > 0)
        d_weights.append(d_out.T @ rows[index])
        if index or needs_x:
            d_out = d_out @ weights[index]
    return [d_out.contiguous() if needs_x else x.new_empty(0), *reversed(d_weights)]
