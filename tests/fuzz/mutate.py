"""Changes of a sound input, one or a few at a time: bytes, lines and words of texts, values of JSON, packed insides.

All are functions of the input and of a random generator alone, so that a finding is made again from its number.
"""

import gzip
import io
import json
import math
import random
import re
import struct
import zipfile
from collections.abc import Callable
from typing import Any

Change = Callable[[bytes, random.Random], bytes]

INTEGERS = (0, 1, 2, 3, 7, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
FLOATS = (0.0, -0.0, 1e-300, 1e-40, 1e9, 1e30, 1e300, -1e300, math.inf, -math.inf, math.nan)
NUMBERS = (
    "0", "-0", "1", "-1", "1e9", "1e30", "1e300", "1e999", "-1e999", "nan", "inf", "-inf", "0x10", "1_000", "1,5",
    "--1", "2147483648", "4294967296", "9223372036854775808", "9" * 40, "9" * 400, "1e-320", ".", "", "١٢",
)  # fmt: skip
WORDS = (
    "",
    " ",
    "\0",
    "\ufeff",
    "\u202e",
    "\x1b[2J",
    "../../etc/passwd",
    "/dev/zero",
    "file:///x",
    "C:\\a",
    "a" * 5000,
)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 2**31, 2**63, 2**70, 1e300, -1e300, 1e-300, math.nan, math.inf, "", "a", "1", "\0",
    "../x", "\ud800", "a" * 2000, [], {}, [[]], [None], [1, 2, 3], {"a": 1}, [[[[[[[[1]]]]]]]], [0.0] * 1000,
)  # fmt: skip
NUMBER = re.compile(rb"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")


def some(data: bytes, rng: random.Random, changes: tuple[Change, ...]) -> bytes:
    """One to three of the changes, one mostly."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(changes)(data, rng)
    return data


def change_bytes(data: bytes, rng: random.Random) -> bytes:
    """Changes a binary file."""
    return some(data, rng, (_flip, _flip, _number, _number, _number, _cut, _drop, _double, _insert, _swap))


def change_text(data: bytes, rng: random.Random) -> bytes:
    """Changes a text of lines."""
    return some(data, rng, (_figure, _figure, _figure, _word, _line_out, _line_twice, _lines_swapped, _cut, _flip))


def change_json(data: bytes, rng: random.Random) -> bytes:
    """Changes values, keys and nesting of a JSON document, or its text."""
    if rng.random() < 0.15:
        return change_text(data, rng)
    try:
        document = json.loads(data)
    except ValueError:
        return change_text(data, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        document = _value_changed(document, rng)
    text = json.dumps(document, ensure_ascii=rng.random() < 0.9)
    if rng.random() < 0.03:
        text = text.replace("1", "[" * rng.choice((10, 5000)), 1)
    return text.encode("utf-8", "surrogatepass")


def inside_gzip(change: Change) -> Change:
    """Changes what is compressed, and sometimes the compressed file."""

    def changed(data: bytes, rng: random.Random) -> bytes:
        if rng.random() < 0.25:
            return change_bytes(data, rng)
        return gzip.compress(change(gzip.decompress(data), rng), 1)

    return changed


def inside_zip(by_suffix: dict[str, Change]) -> Change:
    """Changes one entry of an archive, by its name's end, leaves one out, or changes the archive itself."""

    def changed(data: bytes, rng: random.Random) -> bytes:
        if rng.random() < 0.2:
            return change_bytes(data, rng)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
        name = rng.choice(sorted(entries))
        if rng.random() < 0.05:
            del entries[name]
        else:
            change = next((c for suffix, c in by_suffix.items() if name.endswith(suffix)), change_bytes)
            entries[name] = change(entries[name], rng)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        return packed.getvalue()

    return changed


def inside_glb(data: bytes, rng: random.Random) -> bytes:
    """Changes the JSON of a .glb, its lengths kept right, or any byte."""
    if rng.random() < 0.3:
        return change_bytes(data, rng)
    length = int.from_bytes(data[12:16], "little")
    head = change_json(data[20 : 20 + length], rng)
    head += b" " * (-len(head) % 4)
    rest = data[20 + length :]
    return b"glTF" + struct.pack("<III4s", 2, 20 + len(head) + len(rest), len(head), b"JSON") + head + rest


def inside_msgpack(data: bytes, rng: random.Random) -> bytes:
    """Changes values of a MessagePack document, or its bytes."""
    import msgspec

    if rng.random() < 0.3:
        return change_bytes(data, rng)
    document = msgspec.msgpack.decode(data)
    for _ in range(rng.choice((1, 1, 2))):
        document = _value_changed(document, rng)
    try:
        return msgspec.msgpack.encode(document)
    except (OverflowError, UnicodeEncodeError):
        return change_bytes(data, rng)


# ---------------------------------------------------------------- single changes


def _place(data: bytes, rng: random.Random) -> int:
    """A place in the data; one in the first bytes half of the time, where headers are."""
    return rng.randrange(max(1, min(len(data), 256) if rng.random() < 0.5 else len(data)))


def _flip(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return b"\xff"
    at = _place(data, rng)
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _number(data: bytes, rng: random.Random) -> bytes:
    """Writes a number of odd size over whatever is there."""
    order = rng.choice("<>")
    if rng.random() < 0.3:
        value, kind = rng.choice(FLOATS), rng.choice("fd")
        with_it = struct.pack(order + kind, value if kind == "d" or abs(value) < 1e38 else math.inf)
    else:
        size = rng.choice((1, 2, 4, 4, 8))
        value = rng.choice((*INTEGERS, len(data), len(data) - 1)) % (1 << 8 * size)
        with_it = value.to_bytes(size, "little" if order == "<" else "big")
    at = _place(data, rng)
    return data[:at] + with_it + data[at + len(with_it) :]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _span(data: bytes, rng: random.Random) -> tuple[int, int]:
    at = _place(data, rng)
    return at, min(len(data), at + rng.choice((1, 2, 4, 16, 200)))


def _drop(data: bytes, rng: random.Random) -> bytes:
    a, b = _span(data, rng)
    return data[:a] + data[b:]


def _double(data: bytes, rng: random.Random) -> bytes:
    a, b = _span(data, rng)
    return data[:b] + data[a:b] * rng.choice((1, 1, 2, 20)) + data[b:]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 4, 8, 64))) + data[at:]


def _swap(data: bytes, rng: random.Random) -> bytes:
    (a, b), (c, d) = sorted((_span(data, rng), _span(data, rng)))
    return data if b > c else data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def _figure(data: bytes, rng: random.Random) -> bytes:
    """Another number in the place of one."""
    found = list(NUMBER.finditer(data))
    if not found:
        return _insert(data, rng)
    at = rng.choice(found)
    return data[: at.start()] + rng.choice(NUMBERS).encode() + data[at.end() :]


def _word(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(WORDS).encode() + data[at:]


def _line_out(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    del lines[rng.randrange(len(lines))]
    return b"\n".join(lines)


def _line_twice(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    return b"\n".join([*lines[:at], *[lines[at]] * rng.choice((2, 2, 50)), *lines[at + 1 :]])


def _lines_swapped(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return b"\n".join(lines)


def _value_changed(document: Any, rng: random.Random) -> Any:
    """One place of a nested document changed: another value, a key gone, doubled or renamed, a list cut or longer."""
    if not isinstance(document, dict | list) or not document or rng.random() < 0.15:
        if isinstance(document, int | float) and not isinstance(document, bool) and rng.random() < 0.5:
            return rng.choice((-document, document * 1e6, document + 1, document * 1e-6, int(rng.choice(INTEGERS))))
        return rng.choice(VALUES)
    if isinstance(document, list):
        at = rng.randrange(len(document))
        kind = rng.random()
        if kind < 0.08:
            return document[:at]
        if kind < 0.16:
            return document[:at] + [document[at]] * rng.choice((2, 3, 200)) + document[at + 1 :]
        return [*document[:at], _value_changed(document[at], rng), *document[at + 1 :]]
    key = rng.choice(list(document))
    kind = rng.random()
    if kind < 0.1:
        return {name: value for name, value in document.items() if name != key}
    if kind < 0.15:
        return {(str(name) + "x" if name == key else name): value for name, value in document.items()}
    return document | {key: _value_changed(document[key], rng)}
