"""Reads meshes of glTF (.glb, .gltf) by trimesh, where it is installed: triangles in their places, colours of vertices.

A .gltf names further files, its buffers: those beside it or below are read, no others, and nothing is fetched.
"""

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from neuralfields.errors import InputError
from neuralfields.media import import_plugin
from neuralfields.mesh.mesh import Mesh

LARGEST_BUFFER = 2_000_000_000  # bytes


class Beside(Mapping[str, bytes]):
    """What a file in `folder` may name, as trimesh asks for it: the bytes of a file by its name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def __getitem__(self, name: str) -> bytes:
        """The bytes of a buffer. Raises InputError for one that is elsewhere, is none, or too large."""
        path = (self.folder / unquote(name)).resolve()
        if "://" in name or not path.is_relative_to(self.folder):
            raise InputError(f"names {name[:80]!r}, which is outside its folder; put it beside")
        if not path.is_file() or path.stat().st_size > LARGEST_BUFFER:
            raise InputError(f"names {name[:80]!r}, which is no file or too large; export the mesh again, as .glb")
        return path.read_bytes()

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def read_gltf(path: Path, data: bytes) -> Mesh:
    """Reads the triangles of all nodes in one mesh. Raises InputError for other content, UsageError without trimesh."""
    trimesh = import_plugin("trimesh", path, "a mesh in glTF")
    try:
        if path.suffix.lower() == ".gltf":
            json.loads(data)  # trimesh would take what is none for the name of another file
        scene = trimesh.load_scene(
            io.BytesIO(data), file_type=path.suffix.lower()[1:], resolver=Beside(path.parent), skip_materials=True
        )
        parts = [part for part in scene.dump() if len(getattr(part, "faces", ()))]
        meshes = [_part(part) for part in parts]
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except MemoryError:
        raise
    except Exception:  # the file is untrusted, and a reader of it may raise anything
        raise InputError(f"{path}: no glTF that is read, or compressed (Draco); export it again, or as .obj") from None
    if not meshes:
        raise InputError(f"{path}: holds no triangles; nf info and nf view take glTF with Gaussians")
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    coloured = all(mesh.colours is not None for mesh in meshes)
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]),
        np.concatenate([mesh.colours for mesh in meshes]) if coloured else None,
    )


def _part(part: object) -> Mesh:
    """One of trimesh's meshes, which has been moved to its place, as ours."""
    vertices, faces = np.array(part.vertices, np.float64), np.array(part.faces, np.int64)  # type: ignore[attr-defined]
    visual = part.visual  # type: ignore[attr-defined]
    if vertices.shape != (len(vertices), 3) or faces.shape != (len(faces), 3):
        raise InputError("has faces or vertices that are no triples; export the mesh again")
    if faces.min(initial=0) < 0 or faces.max(initial=0) >= len(vertices):
        raise InputError("has faces that name no vertices; export the mesh again")
    if visual is None or visual.kind != "vertex":
        return Mesh(vertices, faces)
    return Mesh(vertices, faces, np.array(visual.vertex_colors, np.uint8)[:, :3])
