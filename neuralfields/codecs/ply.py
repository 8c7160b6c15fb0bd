"""Gaussians as a PLY of INRIA's layout, which every program of the field reads: nothing is lost.

    ply                                        text, one line each, up to end_header
    format binary_little_endian 1.0            read too: binary_big_endian, ascii
    comment SplatRenderMode: mip               where the opacities are compensated; also `antialiased 1`
    element vertex N
    property float x, y, z                     means
    property float nx, ny, nz                  normals: written as 0, ignored
    property float f_dc_0..2                   the constant harmonic, red, green, blue
    property float f_rest_0..3(K-1)-1          the others, channel by channel: K-1 of red, of green, of blue
    property float opacity                     logit
    property float scale_0..2                  natural logarithm; without scale_2 (2DGS) the third is FLAT
    property float rot_0..3                    w, x, y, z of any length
    property ...                               any other property is kept in `extra` by its name
    end_header
    N rows

The world is that of the cameras of the fit, as ours (x right, y down, z forward by COLMAP's custom): nothing is turned.
72 numbers of f_rest are of degree 4, whose 27 highest are left out. Round trip: the same bits.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuralfields.codecs.quantisation import array
from neuralfields.codecs.untrusted import columns, head_of, read_whole, require_count
from neuralfields.errors import InputError
from neuralfields.files import atomic_write_bytes
from neuralfields.gaussians import Gaussians, keep_sound

NAME = "3D Gaussian splats (INRIA .ply)"
LONGEST_HEADER = 2**20
FLAT = -13.815510557964274  # ln 1e-6
TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
FORMATS = {"ascii": "ascii", "binary_little_endian": "<", "binary_big_endian": ">"}
NEEDED = (
    "x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "rot_0", "rot_1", "rot_2", "rot_3"
)  # fmt: skip
REST = (0, 9, 24, 45, 72)
# torch computes little with unsigned integers of more than 8 bits: they are kept in the next larger type.
KEPT = {"u2": "i4", "u4": "i8", "f8": "f8", "f4": "f4", "i1": "i1", "u1": "u1", "i2": "i2", "i4": "i4"}
WRITTEN = {
    torch.float32: ("float", "<f4"), torch.float64: ("double", "<f8"), torch.uint8: ("uchar", "u1"),
    torch.int8: ("char", "i1"), torch.int16: ("short", "<i2"), torch.int32: ("int", "<i4"),
    torch.int64: ("double", "<f8"), torch.bool: ("uchar", "u1"), torch.float16: ("float", "<f4"),
}  # fmt: skip


@dataclass(frozen=True)
class Element:
    """A table of a PLY: its name, rows and properties (name, numpy type without byte order; None for a list)."""

    name: str
    count: int
    properties: tuple[tuple[str, str | None], ...]

    def names(self) -> set[str]:
        """Names of the properties."""
        return {name for name, _ in self.properties}

    def row(self, path: Path, order: str) -> np.dtype:
        """The numpy type of a row. Raises InputError for lists and for names that occur twice."""
        if any(kind is None for _, kind in self.properties) or not self.properties:
            raise InputError(f"{path}: element {self.name[:40]} has lists or nothing, it cannot be passed over")
        if len(self.names()) < len(self.properties):
            raise InputError(f"{path}: element {self.name[:40]} has a property twice; export it again")
        return np.dtype([(name, order + str(kind)) for name, kind in self.properties])


@dataclass(frozen=True)
class Header:
    """What a PLY says of itself: byte order ("<", ">", "ascii"), comments, elements, where the rows begin."""

    order: str
    comments: tuple[str, ...]
    elements: tuple[Element, ...]
    begin: int

    def element(self, name: str) -> Element | None:
        """The element of a name, if there is one."""
        return next((element for element in self.elements if element.name == name), None)


def read_header(path: Path, data: bytes) -> Header:
    """The header of a PLY. Raises InputError for a line that is not understood or where there is no end."""
    head, end, _ = data[:LONGEST_HEADER].partition(b"end_header")
    if not head.startswith(b"ply") or not end:
        raise InputError(f"{path}: is no PLY file (no header, or one longer than {LONGEST_HEADER} bytes)")
    begin = len(head) + len(end)
    begin += 2 if data[begin : begin + 2] == b"\r\n" else 1
    order, comments, elements = "", [], []
    for line in head.decode("latin-1").splitlines()[1:]:
        words = line.split()
        try:
            if words[:1] == ["format"]:
                order = FORMATS[words[1]]
            elif words[:1] == ["comment"]:
                comments.append(line.split(None, 1)[1] if len(words) > 1 else "")
            elif words[:1] == ["element"]:
                count = int(words[2]) if words[2].isascii() and len(words[2]) < 20 else -1
                if count < 0:
                    raise ValueError
                elements.append((words[1], count, []))
            elif words[:2] == ["property", "list"]:
                elements[-1][2].append((words[4], None))
            elif words[:1] == ["property"]:
                elements[-1][2].append((words[2], TYPES[words[1]]))
        except (KeyError, IndexError, ValueError):
            raise InputError(f"{path}: header line {line[:60]!r} is not understood; export it again") from None
    if not order:
        raise InputError(f"{path}: the header names no format; export it again")
    return Header(order, tuple(comments), tuple(Element(n, c, tuple(p)) for n, c, p in elements), begin)


def recognises(path: Path) -> bool:
    """Whether a file is a PLY whose vertices have the properties of Gaussians; a mesh has not."""
    head = head_of(path, LONGEST_HEADER)
    try:
        vertex = read_header(path, head).element("vertex") if head.startswith(b"ply") else None
    except InputError:
        return False
    return vertex is not None and set(NEEDED) <= vertex.names()


def read(path: Path) -> Gaussians:
    """The Gaussians of a PLY of any byte order or in text. Raises InputError with one line for any other file."""
    data = read_whole(path)
    header = read_header(path, data)
    vertex = header.element("vertex")
    if vertex is None or not set(NEEDED) <= vertex.names():
        missing = ", ".join(name for name in NEEDED if vertex is None or name not in vertex.names())
        raise InputError(f"{path}: its vertices have no {missing[:80]}; it holds no Gaussians, is it a mesh?")
    rest = sum(name.startswith("f_rest_") for name in vertex.names())
    if rest not in REST or not {f"f_rest_{i}" for i in range(rest)} <= vertex.names():
        raise InputError(f"{path}: has {rest} properties f_rest_, {', '.join(map(str, REST))} are possible")
    degree = min(REST.index(rest), 3)
    require_count(path, vertex.count, degree, len(data))
    if header.order == "ascii":
        rows = _ascii_rows(path, data, header, vertex)
    else:
        rows = tables(path, data, header, ("vertex",))["vertex"]
    notes = []
    if rest == 72:
        notes.append("harmonics of degree 4 left out; degree 3 is the highest that is known here")
    if "scale_2" not in vertex.names():
        notes.append("flat Gaussians (2DGS, no scale_2): their third scale is set to 1e-6")
    told = " ".join(header.comments).lower()
    gaussians = Gaussians(
        means=_table(rows, ("x", "y", "z")),
        scales=_scales(rows),
        rotations=_table(rows, tuple(f"rot_{i}" for i in range(4))),
        opacities=_table(rows, ("opacity",))[:, 0],
        harmonics=_harmonics(rows, rest // 3, degree),
        extra=_extra(rows),
        antialiased="splatrendermode: mip" in told or "antialiased 1" in told,
        notes=tuple(notes),
    )
    return keep_sound(gaussians, path)


def write(gaussians: Gaussians, path: Path) -> None:
    """Writes a binary little-endian PLY with normals of 0, whole or not at all; extra properties last."""
    many, k = len(gaussians), gaussians.harmonics.shape[1]
    rest = gaussians.harmonics[:, 1:].transpose(1, 2).reshape(many, -1)
    names = [
        "x",
        "y",
        "z",
        "nx",
        "ny",
        "nz",
        *(f"f_dc_{i}" for i in range(3)),
        *(f"f_rest_{i}" for i in range(3 * k - 3)),
    ]
    names += ["opacity", *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
    parts = [gaussians.means, torch.zeros_like(gaussians.means), gaussians.harmonics[:, 0], rest]
    parts += [gaussians.opacities[:, None], gaussians.scales, gaussians.rotations]
    table = np.concatenate([array(part) for part in parts], 1).astype("<f4", copy=False)
    extras = _extra_columns(gaussians, set(names))
    lines = ["ply", "format binary_little_endian 1.0", "comment Generated by neuralfields"]
    lines += ["comment SplatRenderMode: mip"] * gaussians.antialiased + [f"element vertex {many}"]
    lines += [f"property float {name}" for name in names]
    lines += [f"property {WRITTEN[value.dtype][0]} {name}" for name, value in extras.items()]
    body = table.tobytes()
    if extras:
        kinds = [("table", "<f4", (table.shape[1],)), *((n, WRITTEN[v.dtype][1]) for n, v in extras.items())]
        rows = np.empty(many, np.dtype(kinds))
        rows["table"] = table
        for name, value in extras.items():
            rows[name] = value.detach().cpu().numpy()
        body = rows.tobytes()
    atomic_write_bytes(path, "\n".join([*lines, "end_header\n"]).encode() + body)


def tables(path: Path, data: bytes, header: Header, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The elements of some names as structured arrays. Raises InputError where one is cut short or behind lists."""
    found, place = {}, header.begin
    for element in header.elements:
        if len(found) == len(names):
            break
        kind = element.row(path, header.order)
        rows = columns(path, data, place, element.count, kind, f"element {element.name[:40]}")
        if element.name in names:
            found[element.name] = rows
        place += element.count * kind.itemsize
    return found


def _ascii_rows(path: Path, data: bytes, header: Header, vertex: Element) -> np.ndarray:
    kind = vertex.row(path, "<")
    if header.elements[0] is not vertex:
        raise InputError(f"{path}: is text whose first element is not vertex; export it as binary")
    lines = data[header.begin :].split(b"\n", vertex.count)[: vertex.count]
    try:
        table = np.array(b" ".join(lines).split(), np.float64).reshape(vertex.count, len(vertex.properties))
    except ValueError:
        raise InputError(
            f"{path}: its {vertex.count} lines of vertices are cut short or damaged; copy it again"
        ) from None
    rows = np.empty(vertex.count, kind)
    with np.errstate(invalid="ignore", over="ignore"):
        for i, (name, _) in enumerate(vertex.properties):
            rows[name] = table[:, i]
    return rows


def _table(rows: np.ndarray, names: tuple[str, ...]) -> Tensor:
    """Columns side by side [N, len(names)], float32; doubles beyond its range become infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return torch.from_numpy(np.stack([rows[name].astype(np.float32) for name in names], 1))


def _scales(rows: np.ndarray) -> Tensor:
    names = [f"scale_{i}" for i in range(3) if f"scale_{i}" in (rows.dtype.names or ())]
    found = _table(rows, tuple(names))
    return torch.cat([found, torch.full((len(found), 3 - len(names)), FLAT)], 1)


def _harmonics(rows: np.ndarray, each: int, degree: int) -> Tensor:
    """[N, K, 3] of `each` numbers a channel, the constant apart; what is beyond the degree is left out."""
    constant = _table(rows, ("f_dc_0", "f_dc_1", "f_dc_2"))[:, None]
    if not each:
        return constant
    many = (degree + 1) ** 2 - 1
    names = tuple(f"f_rest_{channel * each + i}" for i in range(many) for channel in range(3))
    return torch.cat([constant, _table(rows, names).reshape(len(rows), many, 3)], 1)


def _extra(rows: np.ndarray) -> dict[str, Tensor]:
    found = {}
    for name in rows.dtype.names or ():
        if name not in (*NEEDED, "scale_2", "nx", "ny", "nz") and not name.startswith("f_rest_"):
            kind = rows.dtype[name].str[1:]
            found[name] = torch.from_numpy(rows[name].astype(KEPT[kind]))
    return found


def _extra_columns(gaussians: Gaussians, taken: set[str]) -> dict[str, Tensor]:
    """Those of the extra tensors that a PLY can hold: one number a Gaussian, a name of its own without spaces."""
    return {
        name: value
        for name, value in gaussians.extra.items()
        if value.ndim == 1
        and value.dtype in WRITTEN
        and name not in taken
        and name.isascii()
        and name.split() == [name]
    }
