"""Gaussians as PlayCanvas's compressed PLY: 16 bytes each, and one for each harmonic beyond the constant.

    format binary_little_endian 1.0
    element chunk ceil(N / 256)        18 floats: min_x..z, max_x..z, min_scale_x..z, max_scale_x..z, min_r.., max_r..
                                       (12 in old files: colours then go from 0 to 1)
    element vertex N                   4 x uint32, the highest bits first
      packed_position                  11, 10, 11 bits of x, y, z between the chunk's ends
      packed_rotation                  2 bits: which of w, x, y, z is largest and left out; 3 x 10 bits q / sqrt 2 + 1/2
      packed_scale                     11, 10, 11 bits of the logarithms between the chunk's ends
      packed_color                     8, 8, 8 bits of colour between the chunk's ends, 8 bits of opacity
    element sh N                       9, 24 or 45 x uint8 f_rest_i, channel by channel: (b + 1/2) / 32 - 4, ends exact

The world is that of an INRIA .ply. Written along a Z-curve, so that a chunk is small: the order changes. Round trip:
means and logarithms of scales half a step of their chunk (STEPS a range; logarithms within LOG), colours 1/510 of their
chunk's range, opacities 1/510, rotations ANGLE, harmonics HARMONIC within -4 to 4; extra properties are lost.
"""

from pathlib import Path

import numpy as np
import torch

from neuralfields.codecs import ply
from neuralfields.codecs.quantisation import (
    ANGLE_PER_STEP,
    ROOT_HALF,
    array,
    colour_of,
    harmonic_of,
    logits_of,
    morton_order,
    sigmoid,
    to_byte,
    with_largest,
    without_largest,
)
from neuralfields.codecs.untrusted import head_of, read_whole, require_count
from neuralfields.errors import InputError
from neuralfields.files import atomic_write_bytes
from neuralfields.gaussians import Gaussians, keep_sound

NAME = "compressed splats (PlayCanvas .compressed.ply)"
CHUNK = 256
STEPS = (2047, 1023, 2047)
ANGLE = ANGLE_PER_STEP * ROOT_HALF / 1023  # radians
HARMONIC = 1 / 32  # 1/64 but for the outermost two steps
LOG = 20.0  # scales are kept between e^-20 and e^20
ENDS = [f"{end}_{axis}" for end in ("min", "max") for axis in "xyz"]
SCALE_ENDS = [f"{end}_scale_{axis}" for end in ("min", "max") for axis in "xyz"]
COLOUR_ENDS = [f"{end}_{channel}" for end in ("min", "max") for channel in "rgb"]
PACKED = ["packed_position", "packed_rotation", "packed_scale", "packed_color"]


def recognises(path: Path) -> bool:
    """Whether a file is a PLY with chunks and packed vertices."""
    head = head_of(path, ply.LONGEST_HEADER)
    try:
        header = ply.read_header(path, head) if head.startswith(b"ply") else None
    except InputError:
        return False
    vertex = header.element("vertex") if header else None
    return vertex is not None and set(PACKED) <= vertex.names()


def read(path: Path) -> Gaussians:
    """The Gaussians of a compressed PLY. Raises InputError with one line for any other file."""
    data = read_whole(path)
    header = ply.read_header(path, data)
    chunk, vertex, sh = (header.element(name) for name in ("chunk", "vertex", "sh"))
    if chunk is None or vertex is None or header.order != "<":
        raise InputError(f"{path}: a compressed PLY has little-endian chunks and vertices; export it again")
    if chunk.count != -(-vertex.count // CHUNK) or (sh is not None and sh.count != vertex.count):
        raise InputError(f"{path}: {vertex.count} vertices, {chunk.count} chunks, {sh and sh.count} sh do not match")
    rest = len(sh.properties) if sh else 0
    if rest not in (0, 9, 24, 45):
        raise InputError(f"{path}: has {rest} harmonics in sh, 9, 24 or 45 are possible")
    degree = (0, 9, 24, 45).index(rest)
    require_count(path, vertex.count, degree, len(data))
    found = ply.tables(path, data, header, ("chunk", "vertex", "sh") if sh else ("chunk", "vertex"))
    rows, place = found["vertex"], np.arange(vertex.count) // CHUNK
    try:
        means = _between(_three(rows["packed_position"]), _numbers(found["chunk"], ENDS)[place])
        scales = _between(_three(rows["packed_scale"]), _numbers(found["chunk"], SCALE_ENDS)[place])
        colour = _bits(rows["packed_color"], (24, 16, 8, 0), (8, 8, 8, 8))
        rgb = colour[:, :3]
        if "min_r" in chunk.names():
            rgb = _between(rgb, _numbers(found["chunk"], COLOUR_ENDS)[place])
        three = (_bits(rows["packed_rotation"], (20, 10, 0), (10, 10, 10)) - 0.5) / ROOT_HALF
        which = (rows["packed_rotation"] >> 30).astype(np.int64)
        others = _rest(found["sh"], rest) if sh else np.empty((vertex.count, 0, 3), np.float32)
    except ValueError as error:  # numpy: no field of that name, or of another type than whole numbers
        raise InputError(f"{path}: an element of a compressed PLY is not as it must be ({error})") from None
    except TypeError:
        raise InputError(f"{path}: its packed vertices are not whole numbers; export it again") from None
    gaussians = Gaussians(
        means=torch.from_numpy(means.astype(np.float32)),
        scales=torch.from_numpy(scales.astype(np.float32)),
        rotations=torch.from_numpy(with_largest(which, three)),
        opacities=logits_of(colour[:, 3]),
        harmonics=torch.from_numpy(np.concatenate([harmonic_of(rgb)[:, None], others], 1)),
    )
    return keep_sound(gaussians, path)


def write(gaussians: Gaussians, path: Path) -> None:
    """Writes a compressed PLY along a Z-curve, whole or not at all."""
    gaussians = gaussians.take(torch.from_numpy(morton_order(array(gaussians.means))).to(gaussians.device))
    many, rest = len(gaussians), 3 * (gaussians.harmonics.shape[1] - 1)
    begins = np.arange(0, many, CHUNK)
    colour = colour_of(gaussians.harmonics[:, 0])
    ends, parts = [], []
    for values in (array(gaussians.means), np.clip(array(gaussians.scales), -LOG, LOG), colour):
        low, high = np.minimum.reduceat(values, begins), np.maximum.reduceat(values, begins)
        low, high = low.astype(np.float32), high.astype(np.float32)
        ends += [low, high]
        low, high = (np.repeat(end.astype(np.float64), CHUNK, 0)[:many] for end in (low, high))
        parts.append(np.clip((values - low) / np.maximum(high - low, 1e-30), 0, 1))
    rows = np.empty((many, 4), "<u4")
    rows[:, 0], rows[:, 2] = _pack_three(parts[0]), _pack_three(parts[1])
    index, three = without_largest(array(gaussians.rotations))
    turned = np.clip(np.rint((three * ROOT_HALF + 0.5) * 1023), 0, 1023).astype(np.uint32)
    rows[:, 1] = index.astype(np.uint32) << 30 | turned[:, 0] << 20 | turned[:, 1] << 10 | turned[:, 2]
    eight = np.concatenate([to_byte(parts[2]), to_byte(sigmoid(gaussians.opacities))[:, None]], 1).astype(np.uint32)
    rows[:, 3] = eight[:, 0] << 24 | eight[:, 1] << 16 | eight[:, 2] << 8 | eight[:, 3]
    flat = array(gaussians.harmonics[:, 1:].transpose(1, 2).reshape(many, rest))
    sh = np.clip(np.floor((flat / 8 + 0.5) * 256), 0, 255).astype(np.uint8)
    lines = ["ply", "format binary_little_endian 1.0", "comment Generated by neuralfields"]
    lines += [f"element chunk {len(begins)}", *(f"property float {name}" for name in ENDS + SCALE_ENDS + COLOUR_ENDS)]
    lines += [f"element vertex {many}", *(f"property uint {name}" for name in PACKED)]
    if rest:
        lines += [f"element sh {many}", *(f"property uchar f_rest_{i}" for i in range(rest))]
    head = "\n".join([*lines, "end_header\n"]).encode()
    atomic_write_bytes(path, head + np.concatenate(ends, 1).astype("<f4").tobytes() + rows.tobytes() + sh.tobytes())


def _bits(packed: np.ndarray, shifts: tuple[int, ...], widths: tuple[int, ...]) -> np.ndarray:
    """Parts of whole numbers [N, parts], each as a share of its largest."""
    return np.stack([(packed >> s & (1 << w) - 1) / ((1 << w) - 1) for s, w in zip(shifts, widths, strict=True)], 1)


def _three(packed: np.ndarray) -> np.ndarray:
    return _bits(packed, (21, 11, 0), (11, 10, 11))


def _pack_three(shares: np.ndarray) -> np.ndarray:
    x, y, z = (np.rint(shares[:, i] * STEPS[i]).astype(np.uint32) for i in range(3))
    return x << 21 | y << 11 | z


def _numbers(chunks: np.ndarray, names: list[str]) -> np.ndarray:
    return np.stack([chunks[name].astype(np.float64) for name in names], 1)


def _between(shares: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """[N, 3] at shares of the way between ends [N, 6]; infinite ends give NaN, which is left out later."""
    with np.errstate(invalid="ignore", over="ignore"):
        return ends[:, :3] * (1 - shares) + ends[:, 3:] * shares


def _rest(sh: np.ndarray, rest: int) -> np.ndarray:
    """Harmonics [N, K - 1, 3]."""
    codes = np.stack([sh[f"f_rest_{i}"] for i in range(rest)], 1).astype(np.float32)
    values = np.where(codes == 0, -4, np.where(codes == 255, 4, (codes + 0.5) / 32 - 4)).astype(np.float32)
    return values.reshape(len(sh), 3, rest // 3).transpose(0, 2, 1)
