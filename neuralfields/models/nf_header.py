"""The header of a `.nf` file: reading and validation without torch, trusting no byte of it.

A `.nf` file is a safetensors file:

  8 bytes    length of the header, little-endian
  header     {"__metadata__": {"neuralfields": JSON text}, tensor name: {"dtype", "shape", "data_offsets"}, ...}
  data       the tensors, without gaps, in the order of their offsets

The JSON text is `Header` below. Its first key is `digest`: the sha256 of the whole safetensors header with the digest's
own 64 digits set to zero. `sha256` holds one hash per tensor. So a flipped bit anywhere in the file is found.

A tensor that `quantised` names is U8: codes of one byte in the tensor's own shape, or (`deflate`) all codes as one zlib
stream, [bytes]. A value is low + step * code in float32, with one low and step for the tensor or one for each index of
its last axis. A stream holds at most 8 times as many values as it has bytes.
"""

import hashlib
import json
import os
import re
import stat
from math import prod
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import msgspec

from neuralfields.domain import CASCADE_WORDS, SEGMENTS
from neuralfields.errors import InputError
from neuralfields.settings import did_you_mean

FORMAT_VERSION = 2
NEEDS = "0.2.0"  # the first version of neuralfields that reads FORMAT_VERSION
HEADER_LIMIT = 8_000_000  # bytes; names of 100,000 cameras fit
MAX_CASCADES = 16
PREFIX = b'{"__metadata__":{"neuralfields":"{\\"digest\\":\\"'
ZERO_DIGEST = b"0" * 64
PACKED = 8  # values a byte of a stream may hold: a Huffman code spends at least one bit a value
FLOAT32_LARGEST = 3.4028234e38
DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
CONVENTIONS: dict[str, str] = {
    "camera_axes": "opencv: x right, y down, z forward; world_from_camera",
    "pixel_centres": "+0.5",
    "colour": "sRGB in [0, 1]",
    "length_unit": "the capture's own",
    "occupancy": "128^3 cells a cascade, bricks of 4^3, one int64 a brick",
}
CAMERA_TENSORS = ("cameras.world_from_camera", "cameras.intrinsics", "cameras.model", "cameras.held_out")

Positive = Annotated[float, msgspec.Meta(gt=0)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class BoundsHeader(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """`scene.Bounds` in the file."""

    centre: tuple[float, float, float]
    side: Positive
    cascades: Annotated[int, msgspec.Meta(ge=1, le=MAX_CASCADES)]
    contraction: Literal["box", "cube"]
    near: Annotated[float, msgspec.Meta(ge=0)]
    origin: tuple[float, float, float] | None = None  # not in the file where it is zero
    times: tuple[float, float] | None = None  # not in the file of a scene that stands still


class DomainHeader(msgspec.Struct, forbid_unknown_fields=True):
    """`domain.Domain` in the file."""

    kind: str
    dimensions: int
    channels: int
    lengths: tuple[int, ...] = ()


class Quantised(msgspec.Struct, forbid_unknown_fields=True):
    """Dequantisation of a float32 tensor of that shape from its codes: see above."""

    shape: Annotated[list[Annotated[int, msgspec.Meta(ge=0, lt=2**48)]], msgspec.Meta(min_length=1, max_length=8)]
    low: Annotated[list[float], msgspec.Meta(min_length=1)]
    step: Annotated[list[Annotated[float, msgspec.Meta(ge=0)]], msgspec.Meta(min_length=1)]
    coding: Literal["raw", "deflate"]


class Header(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The JSON header of a `.nf` file; the order of the keys is the order in the file."""

    digest: Sha256
    format_version: int
    needs: str
    field: str
    config: dict[str, Any]
    domain: DomainHeader
    signal: dict[str, Any]
    bounds: BoundsHeader
    conventions: dict[str, str]
    made: dict[str, Any]
    metrics: dict[str, Any]
    background: tuple[float, float, float]
    lineage: list[Any]
    camera_names: list[str]
    half: list[str]
    quantised: dict[str, Quantised]
    sha256: dict[str, Sha256]
    camera_times: list[float] = []  # one a camera, in the capture's unit; empty where nothing moves


class TensorEntry(msgspec.Struct, forbid_unknown_fields=True):
    """A tensor's type, shape and place: `data_offsets` [begin, end) in bytes from the start of the data."""

    dtype: str
    shape: Annotated[list[Annotated[int, msgspec.Meta(ge=0, lt=2**48)]], msgspec.Meta(max_length=8)]
    data_offsets: tuple[Annotated[int, msgspec.Meta(ge=0)], Annotated[int, msgspec.Meta(ge=0)]]

    @property
    def nbytes(self) -> int:
        """Bytes that the tensor takes in the file."""
        return self.data_offsets[1] - self.data_offsets[0]


class _Version(msgspec.Struct):
    format_version: int = 0
    needs: str = ""


def open_model(path: Path) -> BinaryIO:
    """Opens an ordinary file for reading; InputError for a missing file, a folder, a pipe or no permission."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
            kind = "a folder" if Path(path).is_dir() else "not a regular file"
            raise InputError(f"{path}: is {kind}; give a .nf file")
        return open(path, "rb")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give a .nf file that `nf fit` wrote") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be opened ({reason.lower()})") from error


def read_header(path: Path, file: BinaryIO) -> tuple[Header, dict[str, TensorEntry], int]:
    """Reads and validates the header of an open `.nf` file; returns it, its tensors by name, and the data's offset.

    Everything is validated that can be without the data: version, digest, types, ranges, offsets against the size of
    the file. Raises InputError naming the file and the fault.
    """
    size = os.fstat(file.fileno()).st_size
    head, brace = file.read(8), file.read(1)
    if size == 0:
        raise InputError(f"{path}: is empty; fit the scene again or restore a backup")
    if brace != b"{" and (head[:4] == b"PK\x03\x04" or head[:1] == b"\x80"):
        raise InputError(f"{path}: is a pickle or zip archive, which could run code; give a .nf file")
    length = int.from_bytes(head, "little")
    if len(head) < 8 or brace not in (b"{", b"") or not 2 <= length <= HEADER_LIMIT:
        raise InputError(f"{path}: is not a .nf file (no safetensors header); give a file that `nf fit` wrote")
    raw = brace + file.read(length - 1) if length <= size - 8 else b""
    if len(raw) < length:
        raise InputError(f"{path}: is cut short (a header of {length} bytes, a file of {size}); copy it again")
    text, entries = _split(path, raw)
    header = _parse(path, raw, text)
    _check_layout(path, header, entries, size - 8 - length)
    return header, entries, 8 + length


def _split(path: Path, raw: bytes) -> tuple[str, dict[str, TensorEntry]]:
    try:
        parts = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(parts.pop("__metadata__", b"{}"), type=dict[str, str])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: the header is damaged ({first_line(error)}); copy it again or restore a backup"
        ) from None
    if "neuralfields" not in metadata:
        raise InputError(f"{path}: is a safetensors file that neuralfields did not write; give a .nf file")
    try:
        entries = {name: msgspec.json.decode(part, type=TensorEntry) for name, part in parts.items()}
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the header's tensor table is damaged ({first_line(error)}); copy it again") from None
    return metadata["neuralfields"], entries


def _parse(path: Path, raw: bytes, text: str) -> Header:
    try:
        version = msgspec.json.decode(text, type=_Version)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(
            f"{path}: the header is damaged ({first_line(error)}); copy it again or restore a backup"
        ) from None
    if text.startswith('{"version":'):
        raise InputError(f"{path}: is the checkpoint of a fit; nf render, view, eval, export and the others read it")
    if version.format_version > FORMAT_VERSION:
        needs = version.needs if re.fullmatch(r"[0-9][0-9a-z.]{0,20}", version.needs) else "a newer version"
        raise InputError(
            f"{path}: needs neuralfields >= {needs}, this file is format {version.format_version}, "
            f"this program reads up to {FORMAT_VERSION}; update it with pip install -U neuralfields"
        )
    if version.format_version < FORMAT_VERSION:
        raise InputError(
            f"{path}: is format {version.format_version}, from before fields had domains; fit the scene again"
        )
    start, end = len(PREFIX), len(PREFIX) + 64
    blank = raw[:start] + ZERO_DIGEST + raw[end:]
    if not raw.startswith(PREFIX) or hashlib.sha256(blank).hexdigest().encode() != raw[start:end]:
        raise InputError(f"{path}: the header was changed after it was written (sha256 differs); restore a backup")
    _refuse_duplicates(path, raw, text)
    try:
        return msgspec.json.decode(text, type=Header)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(f"{path}: header: {first_line(error)}; fit the scene again or restore a backup") from None


def _refuse_duplicates(path: Path, raw: bytes, text: str) -> None:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items):
            names = [name for name, _ in items]
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"{path}: the header has the key {twice[:60]!r} twice; restore a backup")
        return found

    try:
        json.loads(raw, object_pairs_hook=pairs)
        json.loads(text, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: the header is damaged ({first_line(error)}); restore a backup") from None


def _check_layout(path: Path, header: Header, entries: dict[str, TensorEntry], data_bytes: int) -> None:
    for key, value in header.conventions.items():
        if CONVENTIONS.get(key) != value:
            known = CONVENTIONS.get(key, "not a convention of this version")
            raise InputError(f"{path}: conventions.{key} is {value[:60]!r}, known is {known!r}; update neuralfields")
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        if entry.dtype not in DTYPE_BYTES:
            raise InputError(f"{path}: tensor {name}: dtype {entry.dtype[:20]!r} is none of {', '.join(DTYPE_BYTES)}")
        if entry.data_offsets[0] != position or prod(entry.shape) * DTYPE_BYTES[entry.dtype] != entry.nbytes:
            raise InputError(f"{path}: tensor {name}: shape {entry.shape} does not fit its {entry.nbytes} bytes")
        position = entry.data_offsets[1]
    if position != data_bytes:
        state = "cut short" if data_bytes < position else "longer than its tensors"
        raise InputError(f"{path}: is {state} ({position} bytes of data expected, {data_bytes} found); copy it again")
    for name in sorted(set(entries) ^ set(header.sha256)):
        raise InputError(
            f"{path}: tensor {name} is {'without hash' if name in entries else 'missing'}; restore a backup"
        )
    for name in header.half:
        if name not in entries or entries[name].dtype != "F16":
            raise InputError(
                f"{path}: half names {name[:80]}, which is no float16 tensor of the file; restore a backup"
            )
    _check_quantised(path, header, entries)
    _check_names(path, header, entries)


def _check_quantised(path: Path, header: Header, entries: dict[str, TensorEntry]) -> None:
    for name, form in header.quantised.items():
        entry, count = entries.get(name), prod(form.shape)
        if entry is None or entry.dtype != "U8" or not name.startswith("field."):
            raise InputError(f"{path}: quantised names {name[:80]}, which is no tensor of codes; restore a backup")
        stored = form.shape if form.coding == "raw" else [entry.nbytes]
        if entry.shape != stored or count > PACKED * entry.nbytes:
            raise InputError(
                f"{path}: tensor {name} has {entry.nbytes} bytes in shape {entry.shape}, too few or too many for codes "
                f"({form.coding}) of {form.shape}; restore a backup"
            )
        channels = len(form.low)
        if channels != len(form.step) or channels not in (1, form.shape[-1]):
            numbers = f"{channels} lows and {len(form.step)} steps for {form.shape[-1]} channels"
            raise InputError(f"{path}: tensor {name}: {numbers}; restore a backup")
        if any(abs(low) + 255 * step > FLOAT32_LARGEST for low, step in zip(form.low, form.step, strict=True)):
            raise InputError(f"{path}: tensor {name}: its low and step leave float32; restore a backup")


def _check_names(path: Path, header: Header, entries: dict[str, TensorEntry]) -> None:
    """Checks tensors outside `field.`, which have a fixed name, dtype and shape."""
    count, times = len(header.camera_names), header.bounds.times
    if times is not None and not (header.domain.dimensions == 4 and times[0] < times[1]):
        raise InputError(f"{path}: bounds.times is {times}, of a field that moves from the first to the second")
    if header.camera_times and len(header.camera_times) != count:
        raise InputError(f"{path}: {len(header.camera_times)} camera_times for {count} cameras; restore a backup")
    layers = header.bounds.cascades * (SEGMENTS if header.domain.dimensions == 4 else 1)
    expected = {
        "cameras.world_from_camera": ("F64", [count, 4, 4]),
        "cameras.intrinsics": ("F64", [count, 14]),
        "cameras.model": ("U8", [count]),
        "cameras.held_out": ("U8", [count]),
        "occupancy": ("I64", [layers, CASCADE_WORDS]),
    }
    for name in CAMERA_TENSORS:
        if name not in entries:
            raise InputError(f"{path}: tensor {name} is missing; fit the scene again or restore a backup")
    for name, entry in entries.items():
        if name.startswith("field."):
            continue
        if name not in expected:
            near = did_you_mean(name, expected)
            raise InputError(f"{path}: tensor {name[:80]} is unknown{near}; the file was not written by neuralfields")
        if name == "occupancy" and entry.dtype == "U8" and len(entry.shape) == 1:
            continue  # a stream, which is unpacked to no more than the words that are needed
        if (entry.dtype, entry.shape) != expected[name]:
            dtype, shape = expected[name]
            raise InputError(f"{path}: tensor {name} is {entry.dtype} {entry.shape}, {dtype} {shape} is needed")


def first_line(error: Exception) -> str:
    """The first line of a parser's message, short enough for one line."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return (str(error).splitlines() or ["unreadable"])[0][:160].lower().rstrip(".")


def seal(header: Header, entries: dict[str, TensorEntry]) -> bytes:
    """Serialises the header with its length and digest, padded so that the data is aligned to 8 bytes."""
    header.digest = ZERO_DIGEST.decode()
    table = {name: msgspec.to_builtins(entry) for name, entry in entries.items()}
    text = msgspec.json.encode(header).decode()
    raw = msgspec.json.encode({"__metadata__": {"neuralfields": text}, **table})
    raw += b" " * (-len(raw) % 8)
    if len(raw) > HEADER_LIMIT:
        raise InputError(f"the model's header has {len(raw)} bytes, at most {HEADER_LIMIT} are allowed; record less")
    start, end = len(PREFIX), len(PREFIX) + 64
    assert raw.startswith(PREFIX + ZERO_DIGEST)
    digest = hashlib.sha256(raw).hexdigest().encode()
    return len(raw).to_bytes(8, "little") + raw[:start] + digest + raw[end:]


def describe(path: Path) -> dict[str, Any]:
    """Describes a `.nf` file from its header alone: quick, no torch, the data is not read.

    Keys: path, bytes, format_version, field, config, parameters, parts (bytes by name), half, bits, domain, signal,
    bounds, background, cameras, camera_names, conventions, made, metrics, lineage. Raises what `model.load` raises.
    """
    with open_model(path) as file:
        header, entries, begin = read_header(path, file)
    parts = {"header": begin}
    for name, entry in entries.items():
        part = name.split(".")[1] if name.startswith("field.") else name.split(".")[0]
        parts[part] = parts.get(part, 0) + entry.nbytes
    return {
        "path": str(path),
        "bytes": sum(parts.values()),
        "format_version": header.format_version,
        "field": header.field,
        "config": header.config,
        "parameters": sum(
            prod(header.quantised[name].shape if name in header.quantised else entry.shape)
            for name, entry in entries.items()
            if name.startswith("field.")
        ),
        "parts": parts,
        "half": bool(header.half),
        "bits": 8 if header.quantised else 32,
        "domain": msgspec.to_builtins(header.domain),
        "signal": header.signal,
        "bounds": msgspec.to_builtins(header.bounds),
        "background": list(header.background),
        "cameras": len(header.camera_names),
        **({"camera_times": header.camera_times} if header.camera_times else {}),
        "camera_names": header.camera_names,
        "conventions": header.conventions,
        "made": header.made,
        "metrics": header.metrics,
        "lineage": header.lineage,
    }
