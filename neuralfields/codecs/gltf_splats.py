"""Gaussians in glTF (.glb, .gltf) by KHR_gaussian_splatting: float32, and points where the extension is not known.

    glb     "glTF", uint32 2, uint32 bytes; chunks of uint32 bytes, "JSON" or "BIN\\0", content padded to 4 bytes
    gltf    the JSON alone; buffers as data: URIs or as files beside it
    a primitive of mode 0 (points) with extensions.KHR_gaussian_splatting {kernel: ellipse, colorSpace:
    srgb_rec709_display, ...} and these attributes, all but POSITION and COLOR_0 after "KHR_gaussian_splatting:"
      POSITION             float32 x, y, z
      ROTATION             x, y, z, w
      SCALE                standard deviations, linear (drafts had logarithms: told by a negative one)
      OPACITY              0 to 1
      SH_DEGREE_l_COEF_m   red, green, blue of a harmonic, l = 0 to 3
      COLOR_0              written for programs that draw points: colour and opacity in bytes

glTF's axes are x left, y up, z forward, so x and y are turned; the transforms of the nodes above a primitive are
applied, and every primitive of the scene is read. Bytes and shorts are read as well as float32. Round trip: means and
harmonics the same bits, rotations, logarithms of scales and opacities CLOSE; extra properties are lost.
"""

import base64
import binascii
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from neuralfields.codecs.quantisation import array, colour_of, sigmoid, to_byte
from neuralfields.codecs.untrusted import head_of, read_json, read_whole, require_count, safe_name, tail_of
from neuralfields.errors import InputError
from neuralfields.files import atomic_write_bytes
from neuralfields.gaussians import Gaussians, flipped, keep_sound, moved

NAME = "splats in glTF (KHR_gaussian_splatting)"
EXTENSION = "KHR_gaussian_splatting"
GLB, JSON_CHUNK, BINARY_CHUNK = b"glTF", b"JSON", b"BIN\0"
LARGEST_JSON = 2 * 10**9  # bytes: a .gltf holds its data as text
LOOKED = 2**20  # bytes of JSON in which the extension's name is looked for
CLOSE = 1e-5
KINDS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}
KNOWN = (EXTENSION, "KHR_mesh_quantization")
MOST_NODES = 100_000


class _Buffer(msgspec.Struct):
    byteLength: int
    uri: str | None = None


class _View(msgspec.Struct):
    buffer: int
    byteLength: int
    byteOffset: int = 0
    byteStride: int | None = None


class _Accessor(msgspec.Struct):
    componentType: int
    count: int
    type: str
    bufferView: int | None = None
    byteOffset: int = 0
    normalized: bool = False
    sparse: Any = None


class _Splatting(msgspec.Struct):
    kernel: str = "ellipse"
    colorSpace: str = "srgb_rec709_display"
    extensions: dict[str, Any] = {}


class _PrimitiveExtensions(msgspec.Struct):
    splatting: _Splatting | None = msgspec.field(default=None, name=EXTENSION)


class _Primitive(msgspec.Struct):
    attributes: dict[str, int]
    mode: int = 4
    extensions: _PrimitiveExtensions | None = None


class _Mesh(msgspec.Struct):
    primitives: list[_Primitive]


class _Node(msgspec.Struct):
    mesh: int | None = None
    children: list[int] = []
    matrix: list[float] | None = None
    translation: list[float] | None = None
    rotation: list[float] | None = None
    scale: list[float] | None = None


class _Scene(msgspec.Struct):
    nodes: list[int] = []


class _Document(msgspec.Struct):
    extensionsRequired: list[str] = []
    buffers: list[_Buffer] = []
    bufferViews: list[_View] = []
    accessors: list[_Accessor] = []
    meshes: list[_Mesh] = []
    nodes: list[_Node] = []
    scenes: list[_Scene] = []
    scene: int = 0


def recognises(path: Path) -> bool:
    """Whether a file is glTF that names the extension; a .gltf near its beginning or end, its data may lie between."""
    head = head_of(path, LOOKED)
    if head.startswith(GLB) and len(head) > 20:
        return EXTENSION.encode() in head[20 : 20 + struct.unpack_from("<I", head, 12)[0]]
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return False
    return EXTENSION.encode() in head or EXTENSION.encode() in tail_of(path, LOOKED)


def read(path: Path) -> Gaussians:
    """All Gaussians of the default scene of a .glb or .gltf, in one world. Raises InputError for any other file."""
    data = read_whole(path)
    text, binary = _chunks(path, data)
    document = read_json(path, text, _Document, LARGEST_JSON)
    unknown = [name for name in document.extensionsRequired if name not in KNOWN]
    if unknown:
        raise InputError(f"{path}: needs the extension {unknown[0][:60]!r}, which is not known here; export without it")
    reader = _Reader(path, document, binary, len(data))
    parts = [reader.gaussians(primitive, frame) for primitive, frame in reader.placed()]
    if not parts:
        raise InputError(f"{path}: its scene has no primitive of {EXTENSION}; is it a mesh?")
    return keep_sound(_half_turned(Gaussians.cat(parts), -1), path)


def _chunks(path: Path, data: bytes) -> tuple[bytes, bytes]:
    """JSON and binary content of a .glb; a .gltf is JSON alone."""
    if not data.startswith(GLB):
        return data, b""
    found, place = [], 12
    if len(data) < 20 or struct.unpack_from("<II", data, 4)[0] != 2 or struct.unpack_from("<I", data, 8)[0] > len(data):
        raise InputError(f"{path}: is no .glb of version 2, or is cut short; copy it again")
    while place + 8 <= len(data) and len(found) < 2:
        size, kind = struct.unpack_from("<I4s", data, place)
        if place + 8 + size > len(data):
            raise InputError(f"{path}: is cut short ({size} bytes of {kind!r} expected); copy it again")
        found.append((kind, data[place + 8 : place + 8 + size]))
        place += 8 + size
    if not found or found[0][0] != JSON_CHUNK:
        raise InputError(f"{path}: its first chunk is not JSON; export it again")
    return found[0][1], found[1][1] if len(found) > 1 and found[1][0] == BINARY_CHUNK else b""


class _Reader:
    """Accessors and placed primitives of one document; buffers are loaded when they are first asked for."""

    def __init__(self, path: Path, document: _Document, binary: bytes, size: int) -> None:
        self.path, self.document, self.size = path, document, size
        self._buffers: dict[int, bytes] = {0: binary} if binary else {}
        for buffer in document.buffers[:1000]:
            if buffer.uri and not buffer.uri.startswith("data:"):
                beside = path.parent / safe_name(path, buffer.uri)
                self.size += beside.stat().st_size if beside.is_file() else 0

    def _item(self, name: str, index: int | None) -> Any:
        items = getattr(self.document, name)
        if index is None or not 0 <= index < len(items):
            raise InputError(f"{self.path}: names number {index} of {len(items)} {name}; it is damaged")
        return items[index]

    def placed(self) -> list[tuple[_Primitive, np.ndarray]]:
        """Primitives of Gaussians under the scene's nodes, each with world_from_primitive [4, 4]."""
        document = self.document
        roots = self._item("scenes", document.scene).nodes if document.scenes else range(len(document.nodes))
        pending, found, seen = [(index, np.eye(4)) for index in roots], [], 0
        while pending:
            index, above = pending.pop()
            seen += 1
            if seen + len(pending) > MOST_NODES:
                raise InputError(f"{self.path}: has more than {MOST_NODES} nodes, or nodes that hold themselves")
            node = self._item("nodes", index)
            frame = above @ _transform(self.path, node)
            pending += [(child, frame) for child in node.children]
            primitives = self._item("meshes", node.mesh).primitives if node.mesh is not None else []
            found += [(p, frame) for p in primitives if p.extensions and p.extensions.splatting]
            if len(found) > 1000:
                raise InputError(f"{self.path}: has more than 1000 primitives of Gaussians; merge them")
        numbers = (self._item("accessors", p.attributes.get("POSITION")).count for p, _ in found)
        total = sum(max(number, 0) for number in numbers)  # of all, because primitives can share their data
        if found:
            require_count(self.path, total, max(_degree(p) for p, _ in found), self.size)
        return found

    def _bytes(self, index: int) -> bytes:
        if index not in self._buffers:
            buffer = self._item("buffers", index)
            uri = buffer.uri or ""
            if uri.startswith("data:"):
                try:
                    self._buffers[index] = base64.b64decode(uri.partition(",")[2], validate=True)
                except (binascii.Error, ValueError):
                    raise InputError(f"{self.path}: a data: URI is not base64; export it again") from None
            elif uri:
                self._buffers[index] = read_whole(self.path.parent / safe_name(self.path, uri))
            else:
                raise InputError(f"{self.path}: buffer {index} has no data; copy it again")
        return self._buffers[index]

    def values(self, name: str, primitive: _Primitive, width: int) -> np.ndarray:
        """An attribute [N, width] as float64; normalised whole numbers in [-1, 1]."""
        accessor = self._item("accessors", primitive.attributes.get(name))
        kind = KINDS.get(accessor.componentType)
        if kind is None or WIDTHS.get(accessor.type) != width or accessor.sparse is not None:
            told = f"sparse {accessor.type[:20]} of {accessor.componentType}"[7 * (accessor.sparse is None) :]
            raise InputError(f"{self.path}: {name[:60]} is {told}, which is not read; export it as float32")
        view = self._item("bufferViews", accessor.bufferView)
        data, row = self._bytes(view.buffer), width * np.dtype(kind).itemsize
        step = view.byteStride or row
        begin = view.byteOffset + accessor.byteOffset
        end = begin + step * (accessor.count - 1) + row
        limit = min(len(data), view.byteOffset + view.byteLength)
        if accessor.count < 1 or min(view.byteOffset, accessor.byteOffset) < 0 or not row <= step <= 252 or end > limit:
            raise InputError(f"{self.path}: {accessor.count} values of {name[:60]} lie outside its data; it is damaged")
        found = np.ndarray((accessor.count, width), kind, data, begin, (step, np.dtype(kind).itemsize))
        found = found.astype(np.float64)
        if accessor.normalized and accessor.componentType != 5126:
            found = np.maximum(found / np.iinfo(np.dtype(kind)).max, -1)
        return found

    def gaussians(self, primitive: _Primitive, frame: np.ndarray) -> Gaussians:
        """A primitive's Gaussians in the scene's frame, with glTF's axes."""
        splatting = primitive.extensions.splatting if primitive.extensions else None
        if splatting is None or splatting.extensions or splatting.kernel != "ellipse":
            told = (splatting and (*splatting.extensions, splatting.kernel)) or ("none",)
            raise InputError(f"{self.path}: its splats are of {told[0][:60]!r}, 'ellipse' is read; export it again")
        count = self._item("accessors", primitive.attributes.get("POSITION")).count
        names = [[f"{EXTENSION}:SH_DEGREE_{d}_COEF_{c}" for c in range(2 * d + 1)] for d in range(4)]
        wanted = {"POSITION": 3, f"{EXTENSION}:ROTATION": 4, f"{EXTENSION}:SCALE": 3, f"{EXTENSION}:OPACITY": 1}
        wanted |= {name: 3 for some in names[: _degree(primitive) + 1] for name in some}
        found = {name: self.values(name, primitive, width) for name, width in wanted.items()}
        if {len(value) for value in found.values()} != {count}:
            raise InputError(f"{self.path}: its attributes have different numbers of values; it is damaged")
        means, turn, scales, opacity, *harmonics = (torch.from_numpy(value) for value in found.values())
        notes = []
        if bool((scales < 0).any()):
            notes.append("scales below 0: read as logarithms, as drafts of the extension had them")
        if splatting.colorSpace != "srgb_rec709_display":
            notes.append(f"colours are {splatting.colorSpace[:40]}; they are taken as sRGB")
        gaussians = Gaussians(
            means=means.float(),
            scales=(scales if notes and notes[0].startswith("scales") else scales.log()).float(),
            rotations=turn.roll(1, 1).float(),
            opacities=torch.logit(opacity[:, 0]).float(),
            harmonics=torch.stack(harmonics, 1).float(),
            notes=tuple(notes),
        )
        return gaussians if np.array_equal(frame, np.eye(4)) else moved(gaussians, torch.from_numpy(frame), self.path)


def _degree(primitive: _Primitive) -> int:
    """Degree of a primitive's harmonics, by the first of each degree."""
    return next((d - 1 for d in range(1, 4) if f"{EXTENSION}:SH_DEGREE_{d}_COEF_0" not in primitive.attributes), 3)


def _half_turned(gaussians: Gaussians, sign: int) -> Gaussians:
    """x and y the other way, as the half turn about z that it is: of the two rotations with the same ellipsoid, k q."""
    w, x, y, z = gaussians.rotations.unbind(1)
    return replace(flipped(gaussians, "xy"), rotations=sign * torch.stack([-z, -y, x, w], 1))


def _transform(path: Path, node: _Node) -> np.ndarray:
    """parent_from_node [4, 4]: its matrix, stored column by column, or T R S."""
    sizes = {"matrix": 16, "translation": 3, "rotation": 4, "scale": 3}
    for name, size in sizes.items():
        value = getattr(node, name)
        if value is not None and (len(value) != size or not np.isfinite(value).all()):
            raise InputError(f"{path}: a node's {name} has {len(value)} numbers or is not finite; {size} are needed")
    if node.matrix is not None:
        return np.array(node.matrix, np.float64).reshape(4, 4).T
    frame = np.eye(4)
    if node.rotation is not None:
        x, y, z, w = np.array(node.rotation) / max(float(np.linalg.norm(node.rotation)), 1e-30)
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        frame[:3, :3] = np.eye(3) + 2 * w * cross + 2 * cross @ cross
    frame[:3, :3] *= np.array(node.scale if node.scale is not None else [1.0, 1.0, 1.0])
    frame[:3, 3] = node.translation if node.translation is not None else 0
    return frame


def write(gaussians: Gaussians, path: Path) -> None:
    """Writes a .glb, or a .gltf with its data within where the name ends so; whole or not at all."""
    turned = _half_turned(gaussians, 1)
    unit = torch.nn.functional.normalize(turned.rotations.double(), dim=1).roll(-1, 1)
    opacity = sigmoid(turned.opacities)
    colour = np.concatenate([to_byte(colour_of(turned.harmonics[:, 0])), to_byte(opacity)[:, None]], 1)
    values: dict[str, np.ndarray] = {
        "POSITION": array(turned.means),
        "COLOR_0": colour,
        f"{EXTENSION}:ROTATION": array(unit),
        f"{EXTENSION}:SCALE": array(turned.scales.double().exp()),
        f"{EXTENSION}:OPACITY": opacity.astype(np.float32)[:, None],
    }
    for degree in range(turned.degree + 1):
        for m in range(2 * degree + 1):
            values[f"{EXTENSION}:SH_DEGREE_{degree}_COEF_{m}"] = array(turned.harmonics[:, degree**2 + m])
    binary = b"".join(value.tobytes() for value in values.values())
    document = _document(values, len(binary))
    if Path(path).suffix.lower() == ".gltf":
        document["buffers"][0]["uri"] = "data:application/octet-stream;base64," + base64.b64encode(binary).decode()
        atomic_write_bytes(path, msgspec.json.encode(document))
        return
    text = msgspec.json.encode(document)
    text += b" " * (-len(text) % 4)
    size = 12 + 8 + len(text) + 8 + len(binary)
    head = GLB + struct.pack("<II", 2, size) + struct.pack("<I4s", len(text), JSON_CHUNK)
    atomic_write_bytes(path, head + text + struct.pack("<I4s", len(binary), BINARY_CHUNK) + binary)


def _document(values: dict[str, np.ndarray], size: int) -> dict[str, Any]:
    """The JSON of one primitive whose attributes lie one after another; all are multiples of 4 bytes."""
    views, accessors, place = [], [], 0
    for name, value in values.items():
        views.append({"buffer": 0, "byteOffset": place, "byteLength": value.nbytes, "target": 34962})
        place += value.nbytes
        kind = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}[value.shape[1]]
        byte = value.dtype == np.uint8
        accessors.append(
            {"bufferView": len(accessors), "componentType": 5121 if byte else 5126, "count": len(value), "type": kind}
        )
        if byte:
            accessors[-1]["normalized"] = True
        if name == "POSITION" and len(value):
            accessors[-1] |= {"min": value.min(0).tolist(), "max": value.max(0).tolist()}
    settings = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display", "projection": "perspective"}
    settings |= {"sortingMethod": "cameraDistance"}
    attributes = {name: index for index, name in enumerate(values)}
    primitive = {"attributes": attributes, "mode": 0, "extensions": {EXTENSION: settings}}
    return {
        "asset": {"version": "2.0", "generator": "neuralfields"},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "buffers": [{"byteLength": size}],
        "bufferViews": views,
        "accessors": accessors,
    }
