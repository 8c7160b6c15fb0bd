"""Writes meshes as other programs open them: glTF with colours or texture, OBJ with a material and its picture.

glTF is y-up, and so are viewers; Blender turns it to its own z. A capture's up is anything, so the writer is told it
and turns the mesh; sizes stay the capture's. PLY and OBJ keep the capture's own frame.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from neuralfields.errors import UsageError
from neuralfields.files import atomic_write_bytes
from neuralfields.mesh.files import WRITERS, write_mesh
from neuralfields.mesh.mesh import Mesh
from neuralfields.mesh.texture import TexturedMesh

MODELS = (*WRITERS, ".glb")
TEXTURED = (".obj", ".glb")


def write_model(path: Path, mesh: Mesh | TexturedMesh, up: np.ndarray | None = None) -> list[Path]:
    """Writes a mesh by its suffix: .ply, .obj or .glb; returns the files. `up` [3]: the world's, of glTF alone.

    Raises UsageError for another suffix, for a texture where a format has none, and without the package trimesh.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".glb":
        atomic_write_bytes(path, _glb(mesh, up))
        return [path]
    if isinstance(mesh, Mesh):
        write_mesh(path, mesh)
        return [path]
    if suffix != ".obj":
        raise UsageError(f"{path}: textures are written to {' or '.join(TEXTURED)}; choose one, or leave --texture out")
    return _write_textured_obj(path, mesh)


def upright(up: np.ndarray) -> np.ndarray:
    """The rotation [3, 3] by the shortest way that turns a unit direction `up` to +y."""
    goal = np.array([0.0, 1.0, 0.0])
    cosine = float(up @ goal)
    if cosine < -1 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    axis = np.cross(up, goal)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1 + cosine)


def _glb(mesh: Mesh | TexturedMesh, up: np.ndarray | None) -> bytes:
    trimesh = trimesh_or_remedy()
    plain = mesh if isinstance(mesh, Mesh) else mesh.mesh
    turn = np.eye(3) if up is None else upright(up)
    places = plain.vertices @ turn.T
    if isinstance(mesh, TexturedMesh):
        matter = trimesh.visual.material.PBRMaterial(
            baseColorTexture=Image.fromarray(mesh.texture), metallicFactor=0.0, roughnessFactor=1.0
        )
        look = trimesh.visual.TextureVisuals(uv=mesh.uv, material=matter)
    elif plain.colours is not None:
        alpha = np.full((len(places), 1), 255, np.uint8)
        look = trimesh.visual.ColorVisuals(vertex_colors=np.concatenate([_linear(plain.colours), alpha], 1))
    else:
        look = None
    made = trimesh.Trimesh(places, plain.faces, visual=look, vertex_normals=plain.normals() @ turn.T, process=False)
    return trimesh.exchange.gltf.export_glb(trimesh.Scene([made]), include_normals=True)


def _linear(colours: np.ndarray) -> np.ndarray:
    """sRGB bytes as linear bytes: glTF has vertex colours linear, textures in sRGB."""
    c = colours / 255.0
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return np.round(linear * 255).astype(np.uint8)


def _write_textured_obj(path: Path, mesh: TexturedMesh) -> list[Path]:
    """OBJ beside a material (.mtl) and its texture (.png), which are named like it."""
    material, picture = path.with_suffix(".mtl"), path.with_suffix(".png")
    lines = [f"mtllib {material.name}", "usemtl surface"]
    lines += [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in mesh.mesh.vertices.tolist()]
    lines += [f"vt {u:.7g} {v:.7g}" for u, v in mesh.uv.tolist()]
    lines += ["f " + " ".join(f"{i}/{i}" for i in face) for face in (mesh.mesh.faces + 1).tolist()]
    text = f"newmtl surface\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {picture.name}\n"
    coded = io.BytesIO()
    Image.fromarray(mesh.texture).save(coded, "PNG")
    atomic_write_bytes(picture, coded.getvalue())
    atomic_write_bytes(material, text.encode())
    atomic_write_bytes(path, ("\n".join(lines) + "\n").encode())
    return [path, material, picture]


def trimesh_or_remedy() -> Any:
    """The package trimesh; raises UsageError with the command that installs it."""
    try:
        import trimesh
    except ImportError:
        raise UsageError(".glb needs the package trimesh; run: pip install 'neuralfields[mesh]'") from None
    return trimesh
