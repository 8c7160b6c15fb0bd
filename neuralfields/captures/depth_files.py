"""Depth maps and clouds of points that a transforms.json names: `depth_file_path` of a frame, `ply_file_path`.

Vocabulary
  depth   along the camera's axis, not along the ray, as nerfstudio and Instant-NGP keep it; 0 where nothing is known
  stored  the numbers of the file: millimetres in 16-bit PNG mostly, metres or the capture's own units in floats
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from neuralfields.captures.deep_images import open_exr, refuse_large, window_size
from neuralfields.errors import InputError
from neuralfields.files import read_limited, require_ordinary

DEPTH_SUFFIXES = (".png", ".tif", ".tiff", ".exr", ".npy")
DEPTH_CHANNELS = ("Z", "depth", "Y", "R")  # of an EXR file, in this order; else its first
LARGEST_CLOUD, LARGEST_HEADER = 4 << 30, 1 << 16
PLY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip


def read_depth(path: Path) -> tuple[np.ndarray, bool]:
    """Stored depth [H, W] float32, 0 where there is none, and whether the file holds whole numbers.

    PNG and TIFF of 16 or 32 bits, EXR (channel Z, depth, Y or R), .npy [H, W]. Raises InputError.
    """
    require_ordinary(path)
    suffix = path.suffix.lower()
    if suffix not in DEPTH_SUFFIXES:
        raise InputError(f"{path}: depth is read from {', '.join(DEPTH_SUFFIXES)}; convert it")
    try:
        stored = {".exr": _exr, ".npy": _npy}.get(suffix, _by_pillow)(path)
    except (InputError, MemoryError):
        raise
    except Exception:  # a decoder may raise anything on bad bytes
        raise InputError(f"{path}: the depth is damaged or cut short; copy it again or remove it") from None
    if stored.ndim != 2 or not stored.size:
        raise InputError(f"{path}: depth of shape {stored.shape}; one number a pixel is needed")
    whole = stored.dtype.kind != "f"
    depth = stored.astype(np.float32)
    return np.where(np.isfinite(depth) & (depth > 0), depth, 0), whole


def _exr(path: Path) -> np.ndarray:
    for part in open_exr(path, header_only=True).parts:
        held = 4 * math.prod(window_size(part.header["dataWindow"])) * len(part.header["channels"])
        refuse_large(path, math.prod(window_size(part.header["dataWindow"])), held)
    channels = open_exr(path, header_only=False).parts[0].channels
    name = next((name for name in DEPTH_CHANNELS if name in channels), next(iter(channels)))
    return np.asarray(channels[name].pixels)


def _npy(path: Path) -> np.ndarray:
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    refuse_large(path, int(np.prod(values.shape, dtype=object)), values.nbytes)
    if values.dtype.kind not in "fiu":
        raise InputError(f"{path}: depth of {values.dtype}; numbers are needed")
    return np.asarray(values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values)


def _by_pillow(path: Path) -> np.ndarray:
    from PIL import Image

    try:
        image = Image.open(path, formats=("PNG", "TIFF"))
    except Image.DecompressionBombError:
        raise InputError(f"{path}: declares too many pixels for a depth map; make it smaller") from None
    with image:
        if image.mode == "F" or image.mode.startswith("I"):
            return np.asarray(image)
    raise InputError(f"{path}: depth in 8 bits or in colours holds no distances; 16-bit grey or floats are needed")


def read_cloud(path: Path) -> np.ndarray:
    """Positions [P, 3] float64 of a PLY file's vertices, as text or in either byte order; raises InputError."""
    data = read_limited(path, LARGEST_CLOUD, "make the cloud of points smaller", "check the path")
    head, end, rest = data.partition(b"end_header")
    damaged = InputError(f"{path}: is no PLY file of points, or is cut short; export it again")
    if not data.startswith(b"ply") or not end or len(head) > LARGEST_HEADER:
        raise damaged
    body = rest.partition(b"\n")[2]
    try:
        kind, count, columns = _ply_header(head.decode("ascii", "replace").splitlines())
        if kind == "ascii":
            names = [name for name, _ in columns]
            places = [names.index(axis) for axis in "xyz"]
            rows = [line.split() for line in body.split(b"\n", count)[:count]]
            points = np.array([[float(row[i]) for i in places] for row in rows], dtype=np.float64).reshape(-1, 3)
        else:
            order = ">" if kind == "binary_big_endian" else "<"
            table = np.frombuffer(body, np.dtype([(name, order + PLY_TYPES[t]) for name, t in columns]), count)
            points = np.stack([table[axis] for axis in "xyz"], axis=1).astype(np.float64)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError):
        raise damaged from None
    if len(points) != count:
        raise damaged
    return points[np.isfinite(points).all(1)]


def _ply_header(lines: list[str]) -> tuple[str, int, list[tuple[str, str]]]:
    """Format, number of vertices and their columns (name, type); vertices must come first. Raises ValueError."""
    kind, count, columns, element = "", -1, [], ""
    for words in map(str.split, lines):
        if words[:1] == ["format"]:
            kind = words[1]
        elif words[:1] == ["element"]:
            if count < 0 and words[1] != "vertex":
                raise ValueError
            element, count = words[1], int(words[2]) if words[1] == "vertex" else count
        elif words[:1] == ["property"] and element == "vertex":
            columns.append((words[2], words[1]))
    if kind not in ("ascii", "binary_little_endian", "binary_big_endian") or not 0 <= count < 2**40:
        raise ValueError
    return kind, count, columns


def named_depth(frame: Any) -> str | None:
    """The depth file that a frame of a transforms.json names, in nerfstudio's or Instant-NGP's way."""
    name = frame.depth_file_path if frame.depth_file_path is not None else frame.depth_path
    return name if isinstance(name, str) and name else None
