"""Reads meshes (OBJ and PLY here, others in plain_files.py and gltf_files.py), writes OBJ and PLY, whole or not at all.

OBJ  text: `v x y z [r g b]`, colours to 1 or 255, and `f a b c ...` (1-based, negative from the end, a/b/c with
     texture and normal)
PLY  ascii or binary; vertices x y z and, where they are there, red green blue; faces as one list of indices

Polygons become triangles (mesh/polygons.py). Everything else in a file (textures, normals, lines) is left out.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from neuralfields.errors import InputError, UsageError
from neuralfields.files import atomic_write_bytes
from neuralfields.mesh.gltf_files import read_gltf
from neuralfields.mesh.mesh import Mesh
from neuralfields.mesh.plain_files import read_off, read_stl
from neuralfields.mesh.polygons import triangulated

LARGEST_FILE = 2_000_000_000  # bytes
LONGEST_HEADER = 64_000
TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
COLOUR = ("red", "green", "blue")
FAR = 1000.0  # distance from the origin, in sizes of the mesh, from which positions are written in double precision


def read_mesh(path: Path) -> Mesh:
    """Reads a mesh as the file has it; `mesh.checked` validates its geometry.

    Raises InputError naming file and line if it is not what its suffix says, UsageError for another suffix.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        *some, last = READERS
        raise UsageError(f"{path}: meshes are read from {', '.join(some)} and {last}; convert it first")
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a mesh")
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"{path}: is empty; export the mesh again")
    if size > LARGEST_FILE:
        raise InputError(f"{path}: has more than {LARGEST_FILE // 10**9} GB; simplify the mesh first")
    return reader(path, path.read_bytes())


def write_mesh(path: Path, mesh: Mesh) -> None:
    """Writes `.obj` or `.ply` (binary), with the colours if there are any. Raises what `files.atomic_write` raises."""
    writer = WRITERS.get(Path(path).suffix.lower())
    if writer is None:
        raise UsageError(f"{path}: meshes are written as {' or '.join(WRITERS)}; choose one of them")
    atomic_write_bytes(Path(path), writer(mesh))


# ---------------------------------------------------------------- OBJ


def _read_obj(path: Path, data: bytes) -> Mesh:
    vertices: list[list[float]] = []
    polygons: list[list[int]] = []
    if b"\\" in data:  # a line that goes on in the next
        data = data.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ")
    for number, line in enumerate(data.split(b"\n"), start=1):
        words = line.partition(b"#")[0].split()
        try:
            if words[:1] == [b"v"]:
                vertices.append([float(word) for word in words[1:7]])
            elif words[:1] == [b"f"]:
                polygons.append([_corner(word, len(vertices)) for word in words[1:]])
        except (ValueError, OverflowError):
            shown = line.strip()[:60].decode(errors="replace")
            raise InputError(f"{path}, line {number}: {shown!r} is no vertex or face; export the mesh again") from None
    widths = {len(vertex) for vertex in vertices}
    if vertices and min(widths) < 3:
        raise InputError(f"{path}: a vertex has fewer than three coordinates; export the mesh again")
    table = np.array([vertex[:3] for vertex in vertices], dtype=np.float64).reshape(-1, 3)
    colours = np.array([vertex[3:] for vertex in vertices]) if widths == {6} else None
    if not polygons and not len(table):
        raise InputError(f"{path}: holds no vertices and no faces; is it an OBJ file?")
    if colours is not None and 1 < np.nan_to_num(colours).max(initial=0) <= 255:
        colours = colours / 255
    return Mesh(table, triangulated(table, polygons), None if colours is None else _eight_bit(colours))


def _corner(word: bytes, vertices: int) -> int:
    index = int(word.partition(b"/")[0])
    if abs(index) > LARGEST_FILE:
        raise ValueError
    return index - 1 if index > 0 else vertices + index if index < 0 else -1


def _eight_bit(colours: np.ndarray) -> np.ndarray:
    return np.round(np.clip(np.nan_to_num(colours), 0, 1) * 255).astype(np.uint8)


def _is_far(mesh: Mesh) -> bool:
    """Whether a mesh lies so far from the origin, for its size, that float32 would deform it."""
    if not len(mesh.vertices):
        return False
    size = float(np.ptp(mesh.vertices, axis=0).max())
    return float(np.abs(mesh.vertices).max()) > FAR * size


def _obj(mesh: Mesh) -> bytes:
    digits = 15 if _is_far(mesh) else 9
    places = [" ".join(f"{value:.{digits}g}" for value in vertex) for vertex in mesh.vertices.tolist()]
    if mesh.colours is None:
        lines = [f"v {place}" for place in places]
    else:
        rows = zip(places, (mesh.colours / 255.0).tolist(), strict=True)
        lines = [f"v {place} {r:.4g} {g:.4g} {b:.4g}" for place, (r, g, b) in rows]
    lines += [f"f {a} {b} {c}" for a, b, c in (mesh.faces + 1).tolist()]
    return ("\n".join(lines) + "\n").encode()


# ---------------------------------------------------------------- PLY


def _read_ply(path: Path, data: bytes) -> Mesh:
    head, end, body = data[:LONGEST_HEADER].partition(b"end_header")
    if not data.startswith(b"ply") or not end:
        raise InputError(f"{path}: is not a PLY file (no header); export the mesh again")
    body = data[len(head) + len(end) :].lstrip(b"\r")[1:]
    order, elements = _ply_header(path, head)
    found: dict[str, dict[str, np.ndarray]] = {}
    words = iter(body.split()) if order == "ascii" else None
    for name, count, properties in elements:
        try:
            if words is not None:
                found[name] = _ascii_element(words, count, properties)
            else:
                found[name], body = _binary_element(body, count, properties, order)
        except (ValueError, IndexError, StopIteration, OverflowError):
            raise InputError(f"{path}: element {name[:40]} ({count} of them) is cut short or damaged") from None
    vertex, face = found.get("vertex", {}), found.get("face", {})
    if not {"x", "y", "z"} <= vertex.keys():
        raise InputError(f"{path}: has no vertices with x, y and z; is it a mesh?")
    lists = [face[name] for name in ("vertex_indices", "vertex_index") if name in face]
    if not lists:
        others = ", ".join(sorted(found.keys() - {"vertex"})) or "nothing else"
        raise InputError(f"{path}: has vertices and {others}, but no faces; a mesh of faces is needed")
    vertices = np.stack([vertex[axis] for axis in "xyz"], 1).astype(np.float64)
    colours = np.stack([vertex[c] for c in COLOUR], 1) if set(COLOUR) <= vertex.keys() else None
    if colours is not None and colours.dtype != np.uint8:
        colours = _eight_bit(colours.astype(np.float64))
    return Mesh(vertices, triangulated(vertices, lists[0]), colours)


Property = tuple[str, str, str | None]  # name, type, type of a list's length


def _ply_header(path: Path, head: bytes) -> tuple[str, list[tuple[str, int, list[Property]]]]:
    order, elements = "", []
    for line in head.decode("latin-1").splitlines()[1:]:
        words = line.split()
        try:
            if words[:1] == ["format"]:
                order = {"ascii": "ascii", "binary_little_endian": "<", "binary_big_endian": ">"}[words[1]]
            elif words[:1] == ["element"]:
                elements.append((words[1], int(words[2]), []))
                if elements[-1][1] < 0:
                    raise ValueError
            elif words[:2] == ["property", "list"]:
                elements[-1][2].append((words[4], TYPES[words[3]], TYPES[words[2]]))
            elif words[:1] == ["property"]:
                elements[-1][2].append((words[2], TYPES[words[1]], None))
        except (KeyError, IndexError, ValueError):
            raise InputError(f"{path}: header line {line[:60]!r} is not understood; export the mesh again") from None
    if not order:
        raise InputError(f"{path}: the header names no format; export the mesh again")
    return order, elements


def _ascii_element(words: Iterator[bytes], count: int, properties: list[Property]) -> dict[str, np.ndarray]:
    if all(length is None for _, _, length in properties):
        wide = len(properties)
        values = np.array(list(islice(words, count * wide)), dtype=np.float64).reshape(count, wide)
        return {name: _typed(values[:, i], kind) for i, (name, kind, _) in enumerate(properties)}
    columns: dict[str, list] = {name: [] for name, _, _ in properties}
    for _ in range(count):
        for name, _, length in properties:
            columns[name].append(next(words) if length is None else list(islice(words, int(next(words)))))
    lists = {name for name, _, length in properties if length is not None}
    return {n: _ragged([np.array(v, np.int64) for v in c]) for n, c in columns.items() if n in lists}


def _typed(values: np.ndarray, kind: str) -> np.ndarray:
    return values.astype(np.uint8) if kind == "u1" else values


def _binary_element(
    body: bytes, count: int, properties: list[Property], order: str
) -> tuple[dict[str, np.ndarray], bytes]:
    lists = [item for item in properties if item[2] is not None]
    if not lists:
        row = np.dtype([(name, order + kind) for name, kind, _ in properties])
        values = np.frombuffer(body, row, count)
        return {name: values[name] for name in row.names or ()}, body[count * row.itemsize :]
    if count == 0:
        return {name: _ragged([]) for name, _, _ in lists}, body
    # Nearly always every list has the length of the first: then the element is one table.
    fields, first = [], 0
    for name, kind, length in properties:
        if length is None:
            fields.append((name, order + kind))
        else:
            many = int(np.frombuffer(body, order + length, 1, first + _width(fields))[0])
            if not 0 <= many <= len(body):
                raise ValueError
            fields += [(f"{name} length", order + length), (name, order + kind, (many,))]
    row = np.dtype(fields)
    if count * row.itemsize <= len(body):
        values = np.frombuffer(body, row, count)
        if all((values[f"{name} length"] == row[name].shape[0]).all() for name, _, _ in lists):
            return {n: values[n].astype(np.int64) for n, _, _ in lists}, body[count * row.itemsize :]
    return _ragged_binary(body, count, properties, order)


def _width(fields: list) -> int:
    return np.dtype(fields).itemsize if fields else 0


def _ragged_binary(
    body: bytes, count: int, properties: list[Property], order: str
) -> tuple[dict[str, np.ndarray], bytes]:
    columns: dict[str, list] = {name: [] for name, _, length in properties if length is not None}
    place = 0
    for _ in range(count):
        for name, kind, length in properties:
            many = 1
            if length is not None:
                many = int(np.frombuffer(body, order + length, 1, place)[0])
                place += np.dtype(length).itemsize
                if many < 0:
                    raise ValueError
                columns[name].append(np.frombuffer(body, order + kind, many, place).astype(np.int64))
            place += many * np.dtype(kind).itemsize
    return {name: _ragged(rows) for name, rows in columns.items()}, body[place:]


def _ragged(rows: list[np.ndarray]) -> np.ndarray:
    """Lists of any length as an array of objects; equal lengths as a table."""
    if len({len(row) for row in rows}) == 1:
        return np.stack(rows)
    table = np.empty(len(rows), dtype=object)
    table[:] = rows
    return table


def _ply(mesh: Mesh) -> bytes:
    coloured = mesh.colours is not None
    kinds = [(axis, "<f8" if _is_far(mesh) else "<f4") for axis in "xyz"] + [(name, "u1") for name in COLOUR] * coloured
    rows = np.empty(len(mesh.vertices), dtype=kinds)
    for i, axis in enumerate("xyz"):
        rows[axis] = mesh.vertices[:, i]
    for i, name in enumerate(COLOUR if coloured else ()):
        rows[name] = mesh.colours[:, i]
    faces = np.empty(len(mesh.faces), dtype=[("length", "u1"), ("corners", "<i4", (3,))])
    faces["length"], faces["corners"] = 3, mesh.faces
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    types = {"<f4": "float", "<f8": "double", "u1": "uchar"}
    lines += [f"property {types[kind]} {name}" for name, kind in kinds]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header\n"]
    return "\n".join(lines).encode() + rows.tobytes() + faces.tobytes()


READERS: dict[str, Callable[[Path, bytes], Mesh]] = {
    ".obj": _read_obj,
    ".ply": _read_ply,
    ".stl": read_stl,
    ".off": read_off,
    ".glb": read_gltf,
    ".gltf": read_gltf,
}
WRITERS: dict[str, Callable[[Mesh], bytes]] = {".obj": _obj, ".ply": _ply}
