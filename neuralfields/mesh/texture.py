"""Bakes a texture: unwraps a mesh into an atlas (xatlas) and asks a function for the colour of every texel.

Vocabulary
  chart    a piece of the surface that lies flat in the picture; its border is a seam, where vertices are doubled
  uv       [V, 2] in [0, 1], v upwards, as OBJ has it; a picture's first row is at v = 1
  texel    a pixel of the texture; those outside all charts take the nearest chart's colour, so that no seam shows
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from neuralfields.errors import InputError, UsageError
from neuralfields.mesh.distance import open3d_or_remedy
from neuralfields.mesh.mesh import Mesh

Colours = Callable[[Tensor, Tensor], Tensor]  # points [S, 3] and outward normals [S, 3], float32 -> colours [S, 3]
PIECE = 1 << 17  # texels that are asked for at a time


@dataclass(frozen=True, eq=False)
class TexturedMesh:
    """A mesh whose seams double vertices, its `uv` [V, 2] and its `texture` [H, W, 3] uint8."""

    mesh: Mesh
    uv: np.ndarray
    texture: np.ndarray


def unwrapped(mesh: Mesh, side: int) -> tuple[Mesh, np.ndarray]:
    """The mesh with its seams cut, and its uv [V, 2], packed for a square texture of `side` pixels."""
    xatlas = xatlas_or_remedy()
    low, high = mesh.box
    places = ((mesh.vertices - low) / max(float((high - low).max()), 1e-30)).astype(np.float32)
    atlas = xatlas.Atlas()
    atlas.add_mesh(places, mesh.faces.astype(np.uint32))
    packing = xatlas.PackOptions()
    packing.resolution, packing.padding, packing.bilinear = side, 2, True
    atlas.generate(pack_options=packing)
    origin, faces, uv = atlas[0]
    if not len(faces):
        raise InputError("the mesh could not be unwrapped; export it without --texture")
    colours = None if mesh.colours is None else mesh.colours[origin]
    return Mesh(mesh.vertices[origin], faces.astype(np.int64), colours), np.asarray(uv, dtype=np.float64)


def baked(mesh: Mesh, side: int, colours: Colours) -> TexturedMesh:
    """Unwraps a mesh and fills a texture of side x side; UsageError without the packages, InputError if it fails."""
    normals_of = mesh.normals()
    places = {tuple(v): i for i, v in enumerate(mesh.vertices)}
    cut, uv = unwrapped(mesh, side)
    normals = normals_of[[places[tuple(v)] for v in cut.vertices]]
    face, weights = _texels(cut.faces, uv, side)
    there = face >= 0
    corners = cut.faces[face[there]]
    share = weights[there][..., None]
    points = (cut.vertices[corners] * share).sum(1)
    outward = (normals[corners] * share).sum(1)
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-12)
    parts = zip(*(torch.from_numpy(v).float().split(PIECE) for v in (points, outward)), strict=True)
    found = torch.cat([colours(x, n) for x, n in parts])
    texture = np.zeros((side, side, 3), np.uint8)
    texture[there] = (found.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    nearest = distance_transform_edt(~there, return_distances=False, return_indices=True)
    return TexturedMesh(cut, uv, texture[tuple(nearest)])


def _texels(faces: np.ndarray, uv: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The face of each texel [H, W], -1 for none, and its barycentric weights there [H, W, 3]."""
    core = open3d_or_remedy()
    scene = core.t.geometry.RaycastingScene(nthreads=torch.get_num_threads())
    flat = np.concatenate([uv, np.zeros((len(uv), 1))], 1).astype(np.float32)

    def tensor(values: np.ndarray) -> Any:
        return core.core.Tensor(np.ascontiguousarray(values))

    scene.add_triangles(tensor(flat), tensor(faces.astype(np.uint32)))
    u, v = np.meshgrid((np.arange(side) + 0.5) / side, 1 - (np.arange(side) + 0.5) / side)
    rays = np.zeros((side, side, 6), np.float32)
    rays[..., 0], rays[..., 1], rays[..., 2], rays[..., 5] = u, v, 1, -1
    hits = scene.cast_rays(tensor(rays))
    face = hits["primitive_ids"].numpy().astype(np.int64)
    b, c = np.moveaxis(hits["primitive_uvs"].numpy().astype(np.float64), -1, 0)
    missed = face == core.t.geometry.RaycastingScene.INVALID_ID
    return np.where(missed, -1, face), np.stack([1 - b - c, b, c], -1)


def xatlas_or_remedy() -> Any:
    """The package xatlas; raises UsageError with the command that installs it."""
    try:
        import xatlas
    except ImportError:
        raise UsageError("textures need the package xatlas; run: pip install 'neuralfields[mesh]'") from None
    return xatlas
