"""The container of compressed scenes: named sections, each with its coding, size and checksum (docs/nfz.md).

    0   4 bytes   6E 66 7A 00 ("nfz" and a zero)
    4   uint16    version, 1
    6   uint16    number of sections S
    8   uint32    CRC-32 of the table
    12  S times   12 bytes name (ASCII, filled up with zeros), uint32 coding, uint64 size, uint32 CRC-32 of the content
    ..            the contents, one after the other in the order of the table, nothing between or after them

Little-endian. Sizes and checksums are compared with the file before anything is made of a section.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neuralfields.errors import InputError

MAGIC, VERSION = b"nfz\0", 1
HEAD, ENTRY = struct.Struct("<4sHHI"), struct.Struct("<12sIQI")
MOST_SECTIONS = 64
Coding = Literal["raw", "json", "places", "columns"]
CODINGS: tuple[Coding, ...] = ("raw", "json", "places", "columns")


@dataclass(frozen=True)
class Section:
    """Content of a section and how it is coded."""

    coding: Coding
    data: bytes


def pack(sections: Mapping[str, Section]) -> bytes:
    """A file of named sections, in the order of the mapping."""
    table = b"".join(
        ENTRY.pack(name.encode("ascii"), CODINGS.index(part.coding), len(part.data), zlib.crc32(part.data))
        for name, part in sections.items()
    )
    head = HEAD.pack(MAGIC, VERSION, len(sections), zlib.crc32(table))
    return b"".join([head, table, *(part.data for part in sections.values())])


def unpack(data: bytes, path: Path | str, whole: bool = True) -> dict[str, Section]:
    """The sections of a file; without `whole` those that its first bytes, `data`, hold from beginning to end.

    Raises InputError with one line for any other file, or one that is cut short or damaged.
    """
    if not data.startswith(MAGIC) or len(data) < HEAD.size:
        raise InputError(f"{path}: is no .nfz file or is cut short in its header; copy it again")
    _, version, count, checksum = HEAD.unpack_from(data)
    if version != VERSION:
        raise InputError(f"{path}: is .nfz of version {version}, {VERSION} is read; update neuralfields")
    begin = HEAD.size + count * ENTRY.size
    table = data[HEAD.size : begin]
    if not 1 <= count <= MOST_SECTIONS or len(table) < count * ENTRY.size or zlib.crc32(table) != checksum:
        raise InputError(f"{path}: its table of {count} sections is damaged or cut short; copy it again")
    found: dict[str, Section] = {}
    for label, coding, size, crc in ENTRY.iter_unpack(table):
        name = label.rstrip(b"\0").decode("ascii", "replace")
        if coding >= len(CODINGS) or name in found or not name.isidentifier():
            raise InputError(f"{path}: section {name[:12]!r} of coding {coding} is unknown; update neuralfields")
        if size > len(data) - begin:
            if not whole:
                return found
            raise InputError(f"{path}: is cut short in its {name} ({size} bytes expected); copy it again")
        part = data[begin : begin + size]
        if zlib.crc32(part) != crc:
            raise InputError(f"{path}: its {name} are damaged (checksum); copy it again")
        found[name] = Section(CODINGS[coding], part)
        begin += size
    if begin != len(data):
        raise InputError(f"{path}: {len(data) - begin} bytes follow its last section; copy it again")
    return found
