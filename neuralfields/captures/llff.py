"""Reads LLFF captures: poses_bounds.npy, one row of 17 numbers for each photo sorted by name.

A row is a 3x5 matrix and two depths. The matrix holds a camera-to-world matrix whose columns are down, right, back
and the position, and a fifth column of image height, width and focal length. The depths bound the content.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from neuralfields.cameras import Camera, pose_from_matrix
from neuralfields.captures.bounds import Hints
from neuralfields.captures.capture import Capture, Finder, Listed, checked_size, place, with_points
from neuralfields.errors import InputError
from neuralfields.media import IMAGES

IMAGE_FOLDERS = ("images", "images_2", "images_4", "images_8")


def read_llff(path: Path, allow_outside: bool = False) -> Capture:
    """Reads a folder with poses_bounds.npy; raises InputError naming the file, the row and the remedy."""
    file = path / "poses_bounds.npy"
    rows = _rows(file)
    folder, photos = _photos(path, len(rows), file)
    listed = []
    for index, (row, photo) in enumerate(zip(rows, photos, strict=True)):
        where = f"{file.name} row {index} ({photo!r})"
        matrix = row[:15].reshape(3, 5)
        height, width, focal = (float(v) for v in matrix[:, 4])
        if not (np.isfinite(row).all() and 0 < focal < 1e7):
            raise InputError(f"{where}: holds NaN, infinity or a focal length of 0; write it again")
        # Columns down, right, back to OpenGL's right, up, back.
        opengl = np.stack([matrix[:, 1], -matrix[:, 0], matrix[:, 2], matrix[:, 3]], axis=1)
        pose, _ = pose_from_matrix(opengl, "opengl", where)
        camera = Camera(pose, int(width), int(height), focal, focal, width / 2, height / 2)
        listed.append(Listed(f"{folder}/{photo}", camera.resized, checked_size(width, height, where), where))
    capture = place(listed, Finder(path, allow_outside), str(file), "llff")
    near, far = float(rows[:, 15].min()), float(rows[:, 16].max())
    if 0 < near < far:
        capture = replace(capture, hints=Hints(near=near, far=far))
    return _with_sparse_points(capture, path)


def _rows(file: Path) -> np.ndarray:
    """Reads the array [N, 17] float64. The header is checked against the file's size before anything is allocated."""
    headers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        with file.open("rb") as stream:
            shape, fortran, kind = headers[npy.read_magic(stream)](stream)
            if kind.hasobject:
                raise InputError(f"{file}: holds Python objects, which are not read; write plain numbers")
            if len(shape) != 2 or shape[1] != 17 or kind.kind not in "fiu":
                given = "x".join(map(str, shape))
                raise InputError(f"{file}: array is {given} of {kind}; N x 17 numbers are needed (3x5, near, far)")
            left = file.stat().st_size - stream.tell()
            if shape[0] * 17 * kind.itemsize > left:
                raise InputError(f"{file}: {shape[0]} rows are declared, but only {left} bytes follow; copy it again")
            data = np.frombuffer(stream.read(shape[0] * 17 * kind.itemsize), dtype=kind)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); check the path and permissions") from None
    except InputError:
        raise
    except Exception:  # numpy parses the header as Python text, and a damaged one may raise anything
        raise InputError(f"{file}: not a plain .npy array; write N x 17 numbers with numpy.save") from None
    return data.reshape(shape, order="F" if fortran else "C").astype(np.float64)


def _photos(path: Path, count: int, file: Path) -> tuple[str, list[str]]:
    """Finds the folder with one photo for each row: `images`, or else the largest copy that has."""
    counts = {}
    for folder in IMAGE_FOLDERS:
        if (path / folder).is_dir():
            photos = sorted(
                p.name for p in (path / folder).iterdir() if p.suffix.lower() in IMAGES and not p.name.startswith(".")
            )
            if len(photos) == count:
                return folder, photos
            counts[folder] = len(photos)
    if not counts:
        raise InputError(f"{path}: no photos beside {file.name}; {', '.join(IMAGE_FOLDERS)} are expected")
    found = ", ".join(f"{n} in {folder}" for folder, n in counts.items())
    raise InputError(f"{file}: {count} poses but {found}; one photo for each row, sorted by name, is needed")


def _with_sparse_points(capture: Capture, path: Path) -> Capture:
    from neuralfields.captures.colmap import sparse_points

    found = sparse_points(path)
    return capture if found is None else with_points(capture, *found)
