"""Gaussians as .spz (Niantic), about a tenth of a .ply; read in versions 1 to 4, written in 3 or 4.

    version 1 to 3, one gzip stream            version 4, plain header, one zstd frame a column
      0   "NGSP"                                 0   "NGSP"
      4   uint32 version                         4   uint32 version
      8   uint32 N                               8   uint32 N
      12  uint8 degree, fraction bits F,         12  uint8 degree, F, flags, number of frames
          flags (1 antialiased, 2 extensions),   16  uint32 T, where the table begins; 12 x 0
          0                                      32  extensions: uint32 type, uint32 length, content
      16  the columns                            T   a frame each: uint64 packed bytes, uint64 bytes
                                                     the frames
    columns, each of N Gaussians:
      means        3 x int24, value 2^F (version 1: 3 x float16)
      opacities    uint8 a, 255 = 1
      colours      3 x uint8 (0.15 h + 0.5) 255 of the constant harmonic h
      scales       3 x uint8 (ln s + 10) 16
      rotations    version 1, 2: 3 x uint8 of x, y, z (q + 1) 127.5, w is positive
                   version 3, 4: uint32, lowest byte first: 2 bits which of x, y, z, w is largest and left out, then for
                   the other three a sign and 9 bits of 511 |q| sqrt 2
      harmonics    K - 1 times red, green, blue: uint8 128 h + 128

The file's axes are x right, y up, z back: y and z are turned, and with them rotations and harmonics. The extension
SPZ_ADOBE_coordinate_system names other axes, of which those that are turned into ours by flips alone are read.

Version 3 is the default: readers from 2025 on know it, those of version 4 (2026) are few, and the sizes differ by a few
percent (benchmarks/splat_files.md). F is 12; up to 18 where all means fit 16 bits so, less where they do not fit 24.

Round trip: means 2^-(F + 1); logarithms of scales LOG within -10 to 5.94; opacities 1/510; the constant harmonic
CONSTANT within -3.33 to 3.33; rotations ANGLE (ANGLE_2 in version 2); other harmonics 2^-bits (half a step; 5 bits in
degree 1 and 4 beyond unless told otherwise) and 1/128, within -1 to 1; extra properties are lost.
"""

import gzip
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from neuralfields.codecs.quantisation import (
    ANGLE_PER_STEP,
    ROOT_HALF,
    array,
    logits_of,
    sigmoid,
    to_byte,
    with_largest,
    without_largest,
)
from neuralfields.codecs.untrusted import gunzip, gunzip_head, head_of, read_whole, require_count, unzstd, zstd
from neuralfields.errors import InputError
from neuralfields.files import atomic_write_bytes
from neuralfields.gaussians import COUNTS, Gaussians, flipped, keep_sound

NAME = "packed splats (Niantic .spz)"
MAGIC, GZIP = b"NGSP", b"\x1f\x8b"
ANTIALIASED, EXTENDED = 1, 2
FRACTION, CODE = 12, 2**23 - 1
LEVEL = 6  # of gzip: 9 takes ten times as long for 3 % less
LOG = 1 / 32
CONSTANT = 1 / (2 * 255 * 0.15)
ANGLE = ANGLE_PER_STEP * ROOT_HALF / 1022
ANGLE_2 = 0.24  # w comes of x, y, z, badly where it is small: off by sqrt(2 sqrt(3) / 255), twice that as an angle
MOST_EXTENSIONS = 2**20  # bytes of them after the columns of versions 1 to 3
BITS = (5, 4)  # of harmonics of degree 1 and beyond
AXES = 0xADBE0003  # SPZ_ADOBE_coordinate_system; its values less 1 are bits: x is right, y is up, z is forward
COLUMNS = ("means", "opacities", "colours", "scales", "rotations", "harmonics")


@dataclass(frozen=True)
class _Header:
    """What the file says of itself."""

    version: int
    count: int
    degree: int
    fraction: int
    flags: int

    def sizes(self) -> list[int]:
        """Bytes of a Gaussian in each column."""
        rest = 3 * ((self.degree + 1) ** 2 - 1)
        return [6 if self.version == 1 else 9, 1, 3, 3, 4 if self.version >= 3 else 3, rest]


def recognises(path: Path) -> bool:
    """Whether a file begins as .spz does, packed or plain."""
    head = head_of(path, 4096)
    return (gunzip_head(head, 4) if head.startswith(GZIP) else head).startswith(MAGIC)


def read(path: Path) -> Gaussians:
    """The Gaussians of a .spz. Raises InputError with one line for any other file."""
    data = read_whole(path)
    packed = data.startswith(GZIP)
    head = gunzip_head(data, 16) if packed else data[:16]
    if not head.startswith(MAGIC) or len(head) < 16:
        raise InputError(f"{path}: is no .spz file or is cut short in its header; copy it again")
    header = _Header(*struct.unpack_from("<IIBBB", head, 4))
    if not 1 <= header.version <= 4:
        raise InputError(f"{path}: is .spz of version {header.version}, 1 to 4 are read; export it again")
    if header.degree > 4 or header.fraction > 23:
        raise InputError(f"{path}: degree {header.degree}, {header.fraction} fraction bits; it is damaged")
    require_count(path, header.count, min(header.degree, 3), len(data))
    if packed:
        data = gunzip(path, data, 16 + header.count * sum(header.sizes()) + MOST_EXTENSIONS)
    columns, extensions = (_frames if header.version == 4 else _stream)(path, data, header)
    gaussians = flipped(_decode(header, columns), _turned(path, extensions))
    return keep_sound(gaussians, path)


def write(gaussians: Gaussians, path: Path, version: int = 3, bits: tuple[int, int] = BITS) -> None:
    """Writes version 3 or 4; `bits`, 1 to 8, of the harmonics of degree 1 and of those beyond."""
    if version not in (3, 4):
        raise InputError(f"{path}: .spz of version {version}; 3 or 4 are written")
    reach = float(gaussians.means.abs().max()) if len(gaussians) else 0.0
    fraction = FRACTION + max(0, int(np.floor(np.log2(8 / max(reach, 1e-30))))) if reach < 8 else FRACTION
    while fraction and reach * 2**fraction > CODE:
        fraction -= 1
    if reach > CODE:
        raise InputError(f"{path}: means up to {reach:g}, .spz holds up to {CODE}; make the scene smaller")
    columns = _encode(flipped(gaussians, "yz"), min(fraction, 18), bits)
    head = MAGIC + struct.pack(
        "<IIBBB", version, len(gaussians), gaussians.degree, min(fraction, 18), ANTIALIASED * gaussians.antialiased
    )
    if version == 3:
        # mtime: the same Gaussians give the same bytes
        data = gzip.compress(head + b"\0" + b"".join(columns), LEVEL, mtime=0)
    else:
        columns = [column for column in columns if column]
        frames = [zstd(column) for column in columns]
        table = b"".join(struct.pack("<QQ", len(f), len(c)) for f, c in zip(frames, columns, strict=True))
        data = head + struct.pack("<BI12x", len(frames), 32) + table + b"".join(frames)
    atomic_write_bytes(path, data)


def _stream(path: Path, data: bytes, header: _Header) -> tuple[list[bytes], bytes]:
    """The columns of versions 1 to 3, and the extensions after them."""
    columns, place = [], 16
    for name, size in zip(COLUMNS, header.sizes(), strict=True):
        columns.append(data[place : place + header.count * size])
        if len(columns[-1]) < header.count * size:
            raise InputError(f"{path}: is cut short in its {name}; copy it again")
        place += header.count * size
    if place < len(data) and not header.flags & EXTENDED:
        raise InputError(f"{path}: {len(data) - place} bytes follow its {header.count} Gaussians; it is damaged")
    return columns, data[place:]


def _frames(path: Path, data: bytes, header: _Header) -> tuple[list[bytes], bytes]:
    """The columns of version 4, unpacked to the sizes that N asks for, and the extensions before them."""
    if len(data) < 32:
        raise InputError(f"{path}: is cut short in its header; copy it again")
    many, table = struct.unpack_from("<BI", data, 15)
    wanted = [header.count * size for size in header.sizes()]
    wanted = wanted if wanted[-1] or many == 6 else wanted[:-1]
    if many != len(wanted) or not 32 <= table <= len(data) - 16 * many:
        raise InputError(f"{path}: {many} columns from byte {table} on, {len(wanted)} are needed; it is damaged")
    columns, place = [], table + 16 * many
    for i, (name, size) in enumerate(zip(COLUMNS, wanted, strict=False)):
        packed, stated = struct.unpack_from("<QQ", data, table + 16 * i)
        if stated != size or packed > len(data) - place:
            raise InputError(f"{path}: its {name} say {packed} bytes for {stated}, {size} are needed; it is damaged")
        columns.append(unzstd(path, data[place : place + packed], size, name) if packed or size else b"")
        place += packed
    if place < len(data):
        raise InputError(f"{path}: {len(data) - place} bytes follow its columns; it is damaged")
    return columns + [b""] * (6 - len(columns)), data[32:table] if header.flags & EXTENDED else b""


def _records(extensions: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place + 8 <= len(extensions):
        kind, size = struct.unpack_from("<II", extensions, place)
        yield kind, extensions[place + 8 : place + 8 + size]
        place += 8 + size


def _turned(path: Path, extensions: bytes) -> str:
    """The axes that point the other way in the file than here (x right, y down, z forward)."""
    for kind, content in _records(extensions):
        if kind == AXES and len(content) == 4:
            axes = int.from_bytes(content, "little") - 1
            if axes > 7:
                raise InputError(f"{path}: its axes are of kind {axes + 1}, 1 to 8 are read; export with RUB or RDF")
            if axes >= 0:
                return "x" * (not axes & 1) + "y" * bool(axes & 2) + "z" * (not axes & 4)
    return "yz"


def _decode(header: _Header, columns: list[bytes]) -> Gaussians:
    """Gaussians in the file's axes."""
    n, rest = header.count, (header.degree + 1) ** 2 - 1
    codes = [np.frombuffer(column, np.uint8).reshape(n, -1) for column in columns[:5]]
    if header.version == 1:
        means = codes[0].view("<f2").astype(np.float32)
    else:
        wide = np.zeros((n, 3, 4), np.uint8)
        wide[:, :, 1:] = codes[0].reshape(n, 3, 3)  # shifted up a byte, so that the sign is the highest bit's
        means = ((wide.view("<i4")[:, :, 0] >> 8) / 2.0**header.fraction).astype(np.float32)
    constant = ((codes[2] / 255 - 0.5) / 0.15).astype(np.float32)
    others = (np.frombuffer(columns[5], np.uint8).astype(np.float32) - 128) / 128
    harmonics = np.concatenate([constant[:, None], others.reshape(n, rest, 3)], 1)
    notes = ("harmonics of degree 4 left out; degree 3 is the highest that is known here",) * (header.degree > 3)
    return Gaussians(
        means=torch.from_numpy(means),
        scales=torch.from_numpy(codes[3].astype(np.float32) / 16 - 10),
        rotations=torch.from_numpy(_rotations(codes[4])),
        opacities=logits_of(codes[1][:, 0] / 255),
        harmonics=torch.from_numpy(np.ascontiguousarray(harmonics[:, : COUNTS[-1]])),
        antialiased=bool(header.flags & ANTIALIASED),
        notes=notes,
    )


def _rotations(codes: np.ndarray) -> np.ndarray:
    """w, x, y, z [N, 4] of three or four bytes."""
    if codes.shape[1] == 3:
        vector = codes / 127.5 - 1
        return with_largest(np.zeros(len(codes), np.int64), vector)  # "largest": the one that is left out, w
    packed = codes.copy().view("<u4")[:, 0]
    three = np.empty((len(packed), 3))
    for i in range(3):
        part = packed >> np.uint32(20 - 10 * i) & np.uint32(1023)
        three[:, i] = (part & 511) / 511 * ROOT_HALF * np.where(part & 512, -1, 1)
    return np.roll(with_largest((packed >> 30).astype(np.int64), three), 1, axis=1)


def _encode(gaussians: Gaussians, fraction: int, bits: tuple[int, int]) -> list[bytes]:
    """The columns of Gaussians in the file's axes."""
    n = len(gaussians)
    places = np.rint(array(gaussians.means).astype(np.float64) * 2**fraction).astype("<i4")
    means = places.view(np.uint8).reshape(n, 3, 4)[:, :, :3]
    constant = array(gaussians.harmonics[:, 0]).astype(np.float64)
    scales = np.clip(np.rint((array(gaussians.scales).astype(np.float64) + 10) * 16), 0, 255).astype(np.uint8)
    index, three = without_largest(np.roll(array(gaussians.rotations), -1, axis=1))
    packed = index.astype(np.uint32)
    for i in range(3):
        size = np.clip(np.rint(np.abs(three[:, i]) / ROOT_HALF * 511), 0, 511).astype(np.uint32)
        packed = packed << np.uint32(10) | (three[:, i] < 0).astype(np.uint32) << np.uint32(9) | size
    steps = np.array([2 ** (8 - bits[0])] * 3 + [2 ** (8 - bits[1])] * 12)[: gaussians.harmonics.shape[1] - 1, None]
    others = np.rint((array(gaussians.harmonics[:, 1:]).astype(np.float64) * 128 + 128) / steps) * steps
    return [
        means.tobytes(),
        to_byte(sigmoid(gaussians.opacities)).tobytes(),
        to_byte(constant * 0.15 + 0.5).tobytes(),
        scales.tobytes(),
        packed.astype("<u4").tobytes(),
        np.clip(others, 0, 255).astype(np.uint8).tobytes(),
    ]
