"""Reads STL (binary and text) and OFF meshes, which hold triangles or polygons alone."""

from itertools import islice
from pathlib import Path

import numpy as np

from neuralfields.errors import InputError
from neuralfields.mesh.mesh import Mesh
from neuralfields.mesh.polygons import triangulated

STL_HEADER, STL_TRIANGLE = 84, np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def read_stl(path: Path, data: bytes) -> Mesh:
    """Reads STL: binary if its size is that of its count, which some whose header begins with "solid" are too."""
    count = int.from_bytes(data[80:84], "little") if len(data) >= STL_HEADER else -1
    if count > 0 and len(data) >= STL_HEADER + count * STL_TRIANGLE.itemsize:
        rows = np.frombuffer(data, STL_TRIANGLE, count, STL_HEADER)
        corners = rows["corners"].reshape(-1, 3).astype(np.float64)
    elif data.lstrip()[:5].lower() == b"solid":
        corners = _stl_text(path, data)
    else:
        raise InputError(f"{path}: is no STL file, or is cut short; export the mesh again")
    places, faces = np.unique(corners, axis=0, return_inverse=True)  # STL names no vertices: equal ones are one
    return Mesh(places, faces.reshape(-1, 3).astype(np.int64))


def _stl_text(path: Path, data: bytes) -> np.ndarray:
    words = data.split()
    starts = [i + 1 for i, word in enumerate(words) if word.lower() == b"vertex"]
    try:
        corners = np.array([[float(word) for word in words[i : i + 3]] for i in starts], dtype=np.float64)
        if not len(corners) or len(corners) % 3:
            raise ValueError
        return corners.reshape(-1, 3)
    except ValueError:
        raise InputError(f"{path}: holds no whole triangles; export the mesh again") from None


def read_off(path: Path, data: bytes) -> Mesh:
    """Reads OFF: numbers of vertices, faces and edges, positions, then faces, with or without colours behind them."""
    lines = [line.partition(b"#")[0].split() for line in data.splitlines()]
    rows = iter([line for line in lines if line])
    try:
        first = next(rows)
        if first[0].upper() != b"OFF":
            raise InputError(f"{path}: is no OFF file (its first word is not OFF); export the mesh again")
        counts = first[1:] or next(rows)
        vertices, faces = int(counts[0]), int(counts[1])
        places = [[float(word) for word in row[:3]] for row in islice(rows, vertices)]
        polygons = [[int(word) for word in row[1 : 1 + int(row[0])]] for row in islice(rows, faces)]
        whole = all(len(place) == 3 for place in places) and len(places) == vertices and len(polygons) == faces
        if not whole or min(vertices, faces) < 0 or any(abs(i) > 2**40 for polygon in polygons for i in polygon):
            raise ValueError
    except (ValueError, IndexError, StopIteration, OverflowError):
        raise InputError(f"{path}: is cut short or damaged; export the mesh again") from None
    table = np.array(places, dtype=np.float64).reshape(-1, 3)
    return Mesh(table, triangulated(table, polygons))
