"""Gaussians of a .ksplat (GaussianSplats3D), in sections of buckets; read only, newer formats are smaller.

    4096 bytes   uint8 major 0, minor >= 1; uint32 at 4: sections S; at 16: splats; uint16 at 20: level 0, 1 or 2;
                 float32 at 36 and 40: least and greatest harmonic of level 2 (0 for -1.5 and 1.5)
    S x 1024     uint32 splats, room, splats a bucket, buckets; float32 side of a bucket; uint16 at 20: bytes a bucket;
                 uint32 at 24: half the steps of a bucket's side (0 for 32767); at 32: full buckets, partial buckets;
                 uint16 at 40: degree of the harmonics
    sections     uint32 splats of each partial bucket; float32 x, y, z of each bucket; room x splat
    a splat      level 0: float32 x, y, z, 3 scales, w, x, y, z; uint8 r, g, b, opacity; float32 harmonics
                 level 1: uint16 x, y, z in its bucket; float16 scales, rotation; uint8 x 4; float16 harmonics
                 level 2: as level 1, harmonics of uint8 between the header's ends
                 harmonics degree by degree and within it channel by channel; scales are linear

The world is that of an INRIA .ply.
"""

import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from neuralfields.codecs.quantisation import harmonic_of, logits_of
from neuralfields.codecs.untrusted import columns, head_of, read_whole, require_count
from neuralfields.errors import InputError
from neuralfields.gaussians import COUNTS, Gaussians, keep_sound

NAME = "splats in buckets (GaussianSplats3D .ksplat)"
HEADER, SECTION = 4096, 1024
MOST_SECTIONS = 10_000
HALF_STEPS = 32767


@dataclass(frozen=True)
class _Section:
    """A section's header: numbers of splats and buckets, and how a place in a bucket is written."""

    splats: int
    room: int
    capacity: int
    buckets: int
    side: float
    bucket_bytes: int
    half_steps: int
    full: int
    partial: int
    degree: int


def recognises(path: Path) -> bool:
    """Whether a file's header is that of a .ksplat of version 0.1 or later."""
    head = head_of(path, HEADER)
    if len(head) < HEADER or path.suffix.lower() != ".ksplat":
        return False
    level = struct.unpack_from("<H", head, 20)[0]
    return head[0] == 0 and head[1] >= 1 and level <= 2


def read(path: Path) -> Gaussians:
    """The Gaussians of a .ksplat of any level. Raises InputError with one line for any other file."""
    data = read_whole(path)
    if len(data) < HEADER or data[0] != 0 or data[1] < 1:
        raise InputError(f"{path}: is no .ksplat of version 0.1 or later; export it again")
    (many,) = struct.unpack_from("<I", data, 4)
    total, level = struct.unpack_from("<IH", data, 16)
    low, high = struct.unpack_from("<2f", data, 36)
    if level > 2 or many > MOST_SECTIONS:
        raise InputError(f"{path}: level {level} with {many} sections is not known here (levels 0 to 2)")
    heads = columns(path, data, HEADER, many, f"V{SECTION}", "headers of sections")
    sections = [_section(path, bytes(head)) for head in heads]
    if sum(section.splats for section in sections) != total:
        raise InputError(f"{path}: says {total} splats, its sections have another number; copy it again")
    require_count(path, total, max((s.degree for s in sections), default=0), len(data))
    place, parts = HEADER + many * SECTION, []
    for section in sections:
        row = _row(level, section.degree)
        rows = place + 4 * section.partial + section.buckets * section.bucket_bytes
        if section.splats:
            found = columns(path, data, rows, section.splats, row, "splats")
            centres = _centres(path, data, place, section) if level else np.zeros((section.splats, 3))
            parts.append(_gaussians(found, centres, section, level, (low or -1.5, high or 1.5)))
        place = rows + section.room * row.itemsize
        if place > len(data):
            raise InputError(f"{path}: is cut short in its splats; copy it again")
    return keep_sound(Gaussians.cat(parts), path)


def _section(path: Path, head: bytes) -> _Section:
    splats, room, capacity, buckets, side, size = struct.unpack_from("<4IfH", head)
    (steps,) = struct.unpack_from("<I", head, 24)
    full, partial, degree = struct.unpack_from("<2IH", head, 32)
    section = _Section(splats, room, capacity, buckets, side, size, steps or HALF_STEPS, full, partial, degree)
    if degree > 3 or splats > room or full + partial > buckets or (buckets and size < 12):
        raise InputError(f"{path}: a section's header has numbers that do not match; it is damaged")
    return section


def _row(level: int, degree: int) -> np.dtype:
    """A splat's numpy type."""
    place, number = ("<f4", "<f4") if level == 0 else ("<u2", "<f2")
    rest = ("<f4", "<f2", "u1")[level]
    many = 3 * (COUNTS[degree] - 1)
    return np.dtype(
        [("means", place, 3), ("scales", number, 3), ("rotation", number, 4), ("colour", "u1", 4), ("rest", rest, many)]
    )


def _centres(path: Path, data: bytes, place: int, section: _Section) -> np.ndarray:
    """The middle [N, 3] of each splat's bucket: full ones first, then the partial ones with as many as they say."""
    sizes = columns(path, data, place, section.partial, "<u4", "sizes of buckets")
    row = np.dtype([("centre", "<f4", 3), ("more", f"V{max(section.bucket_bytes - 12, 0)}")])
    centres = columns(path, data, place + 4 * section.partial, section.buckets, row, "buckets")["centre"]
    in_full = section.full * section.capacity
    if in_full + int(sizes.sum(dtype=np.uint64)) < section.splats or in_full > 2**32:
        raise InputError(f"{path}: a section's buckets hold fewer splats than it has; it is damaged")
    ends = in_full + np.cumsum(sizes, dtype=np.int64)
    number = np.arange(section.splats)
    partial = section.full + np.searchsorted(ends, number, side="right")
    bucket = np.where(number < in_full, number // max(section.capacity, 1), partial)
    return centres[np.minimum(bucket, len(centres) - 1)].astype(np.float64)


def _gaussians(
    rows: np.ndarray, centres: np.ndarray, section: _Section, level: int, ends: tuple[float, float]
) -> Gaussians:
    means = rows["means"].astype(np.float64)
    if level:
        means = (means - section.half_steps) * (section.side / 2 / section.half_steps) + centres
    rest = rows["rest"].astype(np.float32)
    if level == 2:
        rest = rest / 255 * (ends[1] - ends[0]) + ends[0]
    bands = [
        rest[:, 3 * (low - 1) : 3 * (high - 1)].reshape(len(rows), 3, high - low).transpose(0, 2, 1)
        for low, high in pairwise(COUNTS[: section.degree + 1])
    ]
    colour = rows["colour"].astype(np.float64) / 255
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scales = np.log(rows["scales"].astype(np.float64)).astype(np.float32)
        means = means.astype(np.float32)
    return Gaussians(
        means=torch.from_numpy(means),
        scales=torch.from_numpy(scales),
        rotations=torch.from_numpy(rows["rotation"].astype(np.float32)),
        opacities=logits_of(colour[:, 3]),
        harmonics=torch.from_numpy(np.concatenate([harmonic_of(colour[:, :3])[:, None], *bands], 1)),
    )
