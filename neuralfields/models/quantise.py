"""8-bit quantisation of parameters: codes on a uniform grid between the extremes, entropy-coded if that pays.

  step = (largest - low) / 255      code = round((w - low) / step) in 0 .. 255      w' = low + step * code
  (min-max quantisation, as of the weights and grids of the compact models of arXiv:2311.14993)

Vocabulary
  low, step  one number a tensor, or one a channel (index of the last axis) of a grid; in the file's header
  form       of a parameter: `codes` of one low and step, of one for each of its `channels`, or `half` precision
  coding     `raw`: one byte a code, in the tensor's shape; `deflate`: all codes as one zlib stream of Huffman codes

A Huffman code spends at least one bit a symbol, so a stream cannot expand without limit (see models/nf_header.py).
"""

import math
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor

from neuralfields.errors import InputError
from neuralfields.fields.field import Field

LEVELS = 255
DIGITS = 7  # of low and step in the header: more than float32 resolves within a step
CHANNEL = 256  # values that a channel has at least to be worth a low and a step of its own
PAYS = 0.95  # of the raw bytes: a stream that saves less is not worth its decoding
SMALL = 0.1  # of a field's numbers: a grid that holds fewer is a small one
Coding = Literal["raw", "deflate"]
Form = Literal["codes", "channels", "half"]


@dataclass(frozen=True)
class Codes:
    """A tensor as codes: `stored` uint8, in its shape if raw, else [bytes]; `low`, `step`: one, or one a channel."""

    stored: Tensor
    low: list[float]
    step: list[float]
    coding: Coding


def plan(field: Field) -> dict[str, Form]:
    """Plans the storage of an 8-bit file's parameters: name -> form; those without a name stay as they are.

    Biases and buffers stay: few bytes, and an error in a fixed frequency would be one in every sample. A small grid is
    kept in half precision: where few nodes scale whole layers, codes of 8 bits cost 1.5 dB of a sharp picture.
    """
    grids = {p for group in field.groups() if group.role == "grid" for p in group.parameters}
    few, found = SMALL * sum(p.numel() for p in field.parameters()), {}
    for name, p in field.named_parameters():
        if p.dtype == torch.float32 and p.ndim >= 2:
            small, long = p.numel() < few, p.numel() >= CHANNEL * p.shape[-1]
            found[name] = "codes" if p not in grids else "half" if small else "channels" if long else "codes"
    return found


def encode(tensor: Tensor, channels: bool = False) -> Codes:
    """Quantises a finite float32 tensor; `channels`: each index of the last axis gets its own low and step."""
    low, step = _grid(tensor.detach(), channels)
    codes = _codes(tensor.detach(), low, step)
    packed = _deflate(codes)
    if len(packed) < PAYS * codes.numel():
        return Codes(torch.frombuffer(packed, dtype=torch.uint8), low, step, "deflate")
    return Codes(codes, low, step, "raw")


def decode(codes: Codes, shape: list[int]) -> Tensor:
    """Dequantises codes to the float32 tensor of that shape. Raises InputError if they do not fill it."""
    count = prod(shape)
    stored = codes.stored.reshape(-1)
    if codes.coding == "deflate":
        stored = _inflate(stored, count)
    if stored.numel() != count:
        raise InputError(f"{stored.numel()} codes for {count} values")
    return _values(stored.reshape(shape), codes.low, codes.step)


@torch.no_grad()
def round_parameters(field: Field, names: Collection[str] | None = None) -> None:
    """Rounds every parameter, or those of these names, to its value after an 8-bit round trip."""
    for name, form in plan(field).items():
        if names is not None and name not in names:
            continue
        parameter = field.get_parameter(name)
        if form == "half":
            parameter.copy_(parameter.half())
        else:
            low, step = _grid(parameter, form == "channels")
            parameter.copy_(_values(_codes(parameter, low, step), low, step))


def round_in_turn(field: Field, share: float, done: int) -> int:
    """Rounds the networks' weights and the small grids one after the other (incremental quantisation-aware training).

    Returns how many of them are rounded. `share` in [0, 1) of the time of all of them; `done`: how many were. Large
    grids hardly suffer from rounding and are left out.
    """
    names = _in_turn(field)
    due = max(done, math.floor(share * len(names)) + 1)
    round_parameters(field, names[done:due])
    return due


def freeze_rounded(field: Field, rounded: int) -> None:
    """Freezes the rounded tensors: drops their gradients, so that an optimiser leaves them as they are."""
    for name in _in_turn(field)[:rounded]:
        field.get_parameter(name).grad = None


def _in_turn(field: Field) -> list[str]:
    return [name for name, form in plan(field).items() if form != "channels"]


def _grid(tensor: Tensor, channels: bool) -> tuple[list[float], list[float]]:
    """Computes low and step, one or one a channel: numbers of few digits."""
    flat = tensor.detach().reshape(-1, tensor.shape[-1] if channels else 1).double()
    if not flat.numel():
        return [0.0] * flat.shape[1], [0.0] * flat.shape[1]
    low = [_short(value) for value in flat.amin(0).tolist()]
    return low, [_short(max(top - bottom, 0) / LEVELS) for bottom, top in zip(low, flat.amax(0).tolist(), strict=True)]


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _codes(tensor: Tensor, low: list[float], step: list[float]) -> Tensor:
    first, apart = (torch.tensor(numbers, dtype=torch.float32, device=tensor.device) for numbers in (low, step))
    places = torch.where(apart > 0, (tensor - first) / apart, 0)  # a constant tensor has no steps
    return places.round().clamp(0, LEVELS).to(torch.uint8)


def _values(codes: Tensor, low: list[float], step: list[float]) -> Tensor:
    first, apart = (torch.tensor(numbers, dtype=torch.float32, device=codes.device) for numbers in (low, step))
    return codes.to(torch.float32) * apart + first  # two roundings, on every machine the same


def _deflate(codes: Tensor) -> bytearray:
    packer = zlib.compressobj(9, strategy=zlib.Z_HUFFMAN_ONLY)
    return bytearray(packer.compress(codes.contiguous().numpy()) + packer.flush())


def pack_words(words: Tensor) -> Tensor:
    """Packs int64 words into a zlib stream of their bytes, uint8 [bytes]: an occupancy is mostly runs of one byte."""
    packed = bytearray(zlib.compress(words.contiguous().numpy().tobytes(), 9))
    return torch.frombuffer(packed, dtype=torch.uint8)


def unpack_words(stored: Tensor, shape: list[int]) -> Tensor:
    """The reverse of `pack_words`; InputError if the stream does not fill that shape. Little-endian, as the file is."""
    raw = _inflate(stored, 8 * prod(shape))
    if raw.numel() != 8 * prod(shape):
        raise InputError(f"{raw.numel()} bytes for {prod(shape)} words")
    return raw.view(torch.int64).reshape(shape)


def _inflate(stored: Tensor, count: int) -> Tensor:
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(stored.contiguous().numpy(), count + 1)
    except zlib.error as error:
        raise InputError(f"the coded bytes are damaged ({error})") from None
    if not unpacker.eof or unpacker.unused_data:
        raise InputError(f"the coded bytes are not one stream of {count} values")
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8)
