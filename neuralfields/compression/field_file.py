"""A model of a field (not Gaussians) as the bytes of a .nfz, and back (docs/nfz.md).

Sections: `field` (zlib of JSON: the header of a .nf, parts and their steps), `part0`, `part1`, ... (whole numbers of
weights, columns), `plain` (zlib of everything that is not quantised), `occupancy` and `cameras` (zlib).

A part is a range of rows of a parameter: the whole of it, or a level of a hash table. Weights are step times a whole
number, multiplied in float64 and rounded to float32 once: the same bits on every machine.
"""

import zlib
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.compression import coder
from neuralfields.compression.container import Section, pack, unpack
from neuralfields.domain import CASCADE_WORDS
from neuralfields.errors import InputError
from neuralfields.fields.field import Field
from neuralfields.models import nf_file
from neuralfields.models.model import Model
from neuralfields.models.nf_header import Header
from neuralfields.models.quantise import pack_words, unpack_words

HEADER = "field"
MOST_HEADER = 2**23
EACH, FREE = 64, 2**24  # numbers a byte of a file, or in any
WIDEST = 64  # columns of a row
MOST_PARTS = 48


class Part(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Rows `begin` to `end` of parameter `name` as whole numbers of `step`; `predict`: each from those near it."""

    name: str
    begin: int
    end: int
    step: float = 1.0
    predict: bool = False


class _Field(msgspec.Struct, forbid_unknown_fields=True):
    """The `field` section."""

    model: Header
    parts: list[Part]
    plain: list[str]
    occupancy: bool


@dataclass(frozen=True)
class QuantisedModel:
    """A model whose field has the weights of `codes`: int32 [rows, C] of each of `parts`."""

    model: Model
    parts: tuple[Part, ...]
    codes: tuple[np.ndarray, ...]


def parts_of(field: Field) -> list[Part]:
    """The parts of a field: parameters of two axes and more; a hash table by its levels."""
    found = []
    for name, parameter in field.named_parameters():
        if parameter.dtype != torch.float32 or parameter.ndim < 2:
            continue
        rows, layout = rows_of(tuple(parameter.shape))[0], getattr(field, "layout", None)
        edges = [0, rows]
        if name == "table" and layout is not None:
            edges = sorted({*layout.levels[:, 2].tolist(), rows} & set(range(rows + 1)) | {0})
        found += [Part(name, a, b) for a, b in pairwise(edges)]
    return found


def rows_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a parameter: its last axis where that is narrow, else single numbers."""
    count = prod(shape)
    return (count // shape[-1], shape[-1]) if 0 < shape[-1] <= WIDEST else (count, 1)


def values_of(field: Field, part: Part) -> np.ndarray:
    """The weights float64 [rows, C] of a part."""
    parameter = field.get_parameter(part.name).detach().cpu()
    columns = rows_of(tuple(parameter.shape))[1]
    return parameter.reshape(-1, columns)[part.begin : part.end].double().numpy()


def weights(codes: np.ndarray, step: float) -> Tensor:
    """Weights float32 [rows, C] of whole numbers."""
    return torch.from_numpy((codes * step).astype(np.float32))


def near_in(shape: tuple[int, ...], part: Part) -> np.ndarray:
    """Rows near each: of planes [H, W, C] those to the left and above, of anything else none."""
    rows = part.end - part.begin
    if len(shape) != 3 or rows != shape[0] * shape[1]:
        return np.full((rows, coder.NEAR), -1, np.int32)
    width, at = shape[1], np.arange(rows)
    left, above, right = at % width, at >= width, at % width < width - 1
    steps = (
        (-1, left > 0),
        (-width, above),
        (-width - 1, above & (left > 0)),
        (-width + 1, above & right),
        (-2, left > 1),
        (-2 * width, at >= 2 * width),
    )
    near = np.stack([np.where(there, at + step, -1) for step, there in steps], 1)
    order = np.argsort(near < 0, axis=1, kind="stable")  # those that are there first
    return np.ascontiguousarray(np.take_along_axis(near, order, 1).astype(np.int32))


def encode_part(shape: tuple[int, ...], part: Part, codes: np.ndarray) -> bytes:
    """The bytes of a part's whole numbers."""
    shifts = np.zeros(len(codes), np.uint8)
    return coder.encode_columns(codes, shifts, near_in(shape, part), part.predict)


def encode(quantised: QuantisedModel) -> bytes:
    """The file of a quantised model; the same for the same."""
    model, state = quantised.model, quantised.model.field.state_dict()
    coded = {part.name for part in quantised.parts}
    plain = [name for name in state if name not in coded]
    about = nf_file.header_of(model, {})
    about.digest = "0" * 64  # each section has a checksum of its own
    header = _Field(about, list(quantised.parts), plain, model.occupancy is not None)
    raw = b"".join(state[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy() for name in plain)
    parts = {HEADER: _packed(msgspec.json.encode(header)), "plain": _packed(raw)}
    for i, (part, codes) in enumerate(zip(quantised.parts, quantised.codes, strict=True)):
        parts[f"part{i}"] = Section("columns", encode_part(tuple(state[part.name].shape), part, codes))
    if model.occupancy is not None:
        parts["occupancy"] = Section("raw", bytes(pack_words(model.occupancy.cpu()).numpy()))
    cameras = nf_file.camera_tensors(model.cameras, model.held_out)
    parts["cameras"] = _packed(b"".join(_camera_bytes(name, tensor) for name, tensor in cameras.items()))
    return pack(parts)


def is_field(data: bytes) -> bool:
    """Whether the first bytes of a file are those of a field's .nfz."""
    return data[12:24].rstrip(b"\0") == HEADER.encode()


def parts_in(data: bytes, path: Path | str) -> list[Part]:
    """The parts of a file, in the order of its sections. Raises InputError for any that is none of a field."""
    return _header(unpack(data, path), Path(path)).parts


def decode(data: bytes, path: Path | str) -> Model:
    """The model of a file, on the CPU. Raises InputError with one line for any other."""
    sections, path = unpack(data, path), Path(path)
    found = _header(sections, path)
    header, make = found.model, nf_file.field_maker(path, found.model)
    shapes = nf_file.expected_shapes(path, header, make)
    count = sum(prod(value.shape) for value in shapes.values())
    if count > max(FREE, EACH * len(data)):
        raise InputError(f"{path}: says {count} numbers, too many for its {len(data)} bytes; it is damaged")
    state = _plain(sections, found, shapes, path)
    for i, part in enumerate(found.parts):
        _put(state, shapes, part, _section(sections, f"part{i}", "columns", path), path)
    lacking = set(shapes) - set(state)
    covered = {name: sum(p.end - p.begin for p in found.parts if p.name == name) for name in shapes}
    short = [n for n, rows in covered.items() if rows and rows != rows_of(tuple(shapes[n].shape))[0]]
    if lacking or short or any(not bool(torch.isfinite(v).all()) for v in state.values() if v.is_floating_point()):
        raise InputError(f"{path}: its weights are not whole or not finite; copy it again")
    with torch.random.fork_rng(devices=[]):
        field = make()
    field.load_state_dict(state)
    occupancy = None
    if found.occupancy:
        stored = torch.frombuffer(bytearray(_section(sections, "occupancy", "raw", path)), dtype=torch.uint8)
        occupancy = unpack_words(stored, [header.bounds.cascades * field.domain.segments, CASCADE_WORDS])
    cameras, held_out = _cameras(_unpacked(sections, "cameras", 2**28, path), path)
    return nf_file.model_of(path, header, field, occupancy, cameras, held_out)


def _put(state: dict[str, Tensor], shapes: dict[str, Tensor], part: Part, data: bytes, path: Path) -> None:
    """Decodes a part into its place."""
    if part.name not in shapes or shapes[part.name].dtype != torch.float32:
        raise InputError(f"{path}: part of {part.name[:60]!r}, which its field has not; copy it again")
    shape = tuple(shapes[part.name].shape)
    rows, columns = rows_of(shape)
    whole = state.setdefault(part.name, torch.zeros(shape))
    if not (0 <= part.begin < part.end <= rows and 0 < part.step <= 1e9):
        raise InputError(f"{path}: part of {part.name} is impossible; copy it again")
    shifts = np.zeros(part.end - part.begin, np.uint8)
    try:
        codes = coder.decode_columns(data, columns, shifts, near_in(shape, part), part.predict)
    except InputError as error:
        raise InputError(f"{path}: {error}; copy it again") from None
    whole.view(rows, columns)[part.begin : part.end] = weights(codes, part.step)


def _plain(sections: dict[str, Section], found: _Field, shapes: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Everything that is not quantised."""
    if not set(found.plain) <= set(shapes):
        raise InputError(f"{path}: holds tensors that its field has not; copy it again")
    sizes = [prod(shapes[name].shape) * shapes[name].element_size() for name in found.plain]
    raw = bytearray(_unpacked(sections, "plain", sum(sizes), path))
    if len(raw) != sum(sizes):
        raise InputError(f"{path}: its plain tensors have {len(raw)} bytes, {sum(sizes)} are needed; copy it again")
    state, begin = {}, 0
    for name, size in zip(found.plain, sizes, strict=True):
        part = torch.frombuffer(raw[begin : begin + size] or bytearray(1), dtype=torch.uint8)[:size].clone()
        state[name] = part.view(shapes[name].dtype).reshape(shapes[name].shape)
        begin += size
    return state


def _header(sections: dict[str, Section], path: Path) -> _Field:
    try:
        found = msgspec.json.decode(_unpacked(sections, HEADER, MOST_HEADER, path), type=_Field)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        words = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: its {HEADER} is damaged ({words}); copy it again") from None
    if len(found.parts) > MOST_PARTS:
        raise InputError(f"{path}: has {len(found.parts)} parts, {MOST_PARTS} at most; it is damaged")
    return found


def _packed(data: bytes) -> Section:
    return Section("raw", zlib.compress(data, 9))


def _section(sections: dict[str, Section], name: str, coding: str, path: Path) -> bytes:
    if name not in sections or sections[name].coding != coding:
        raise InputError(f"{path}: has no {name} as they are known here; copy it again")
    return sections[name].data


def _unpacked(sections: dict[str, Section], name: str, most: int, path: Path) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(_section(sections, name, "raw", path), most + 1)
    except zlib.error as error:
        raise InputError(f"{path}: its {name} are damaged ({error}); copy it again") from None
    if len(raw) > most or not unpacker.eof or unpacker.unused_data:
        raise InputError(f"{path}: its {name} are not one stream of {most} bytes at most; copy it again")
    return raw


_NUMBERS: tuple[tuple[str, tuple[int, ...], Any], ...] = (
    ("cameras.world_from_camera", (4, 4), "<f8"), ("cameras.intrinsics", (14,), "<f8"),
    ("cameras.model", (), "u1"), ("cameras.held_out", (), "u1"),
)  # fmt: skip


def _camera_bytes(name: str, tensor: Tensor) -> bytes:
    kind = next(kind for known, _, kind in _NUMBERS if known == name)
    values = tensor.numpy()
    return (
        values[:, :3].astype("<f4").tobytes() if name.endswith("world_from_camera") else values.astype(kind).tobytes()
    )


def _cameras(raw: bytes, path: Path) -> tuple[tuple[Camera, ...], tuple[int, ...]]:
    each = 12 * 4 + 14 * 8 + 2
    if len(raw) % each:
        raise InputError(f"{path}: its cameras have {len(raw)} bytes, {each} each are needed; copy it again")
    count, begin, found = len(raw) // each, 0, {}
    for name, shape, kind in _NUMBERS:
        shape, kind = ((3, 4), "<f4") if name.endswith("world_from_camera") else (shape, kind)
        size = count * prod(shape) * np.dtype(kind).itemsize
        values = np.frombuffer(raw[begin : begin + size], kind).reshape(count, *shape)
        begin += size
        if name.endswith("world_from_camera"):
            bottom = np.broadcast_to([0.0, 0.0, 0.0, 1.0], (count, 1, 4))
            values = np.concatenate([values.astype(np.float64), bottom], 1)
        found[name] = torch.from_numpy(np.array(values))
    return nf_file.cameras_of(path, found), tuple(torch.nonzero(found["cameras.held_out"]).flatten().tolist())
