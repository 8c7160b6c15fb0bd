"""Cleans an extracted mesh: drops floaters by connected component, and decimates to a number of faces.

Decimation is by quadric error (Garland and Heckbert 1997), of Open3D; colours are looked up again on the mesh as it
was, for a collapsed edge knows its two ends alone.
"""

from dataclasses import replace

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from neuralfields.mesh.distance import MeshDistance, open3d_or_remedy
from neuralfields.mesh.mesh import Mesh


def parts(mesh: Mesh) -> np.ndarray:
    """Connected components: the number of its component for each face, [F] from 0."""
    count = len(mesh.vertices)
    a, b = mesh.faces[:, [0, 1]].T, mesh.faces[:, [1, 2]].T
    rows, columns = np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1]])
    graph = coo_matrix((np.ones(len(rows), dtype=np.int8), (rows, columns)), (count, count))
    return connected_components(graph, directed=False)[1][mesh.faces[:, 0]]


def without_floaters(mesh: Mesh, least: float) -> tuple[Mesh, int]:
    """Drops components with fewer faces than a share `least` of the largest one's; returns how many."""
    part = parts(mesh)
    size = np.bincount(part)
    large = size >= least * size.max()
    dropped = int(((size > 0) & ~large).sum())
    return (used(replace(mesh, faces=mesh.faces[large[part]])), dropped) if dropped else (mesh, 0)


def used(mesh: Mesh) -> Mesh:
    """The mesh without the vertices that no face names."""
    kept, faces = np.unique(mesh.faces, return_inverse=True)
    colours = None if mesh.colours is None else mesh.colours[kept]
    return Mesh(mesh.vertices[kept], faces.reshape(-1, 3).astype(np.int64), colours)


def decimated(mesh: Mesh, faces: int) -> Mesh:
    """The mesh with about `faces` triangles; as it is where it has no more. Raises UsageError without open3d."""
    if len(mesh.faces) <= faces:
        return mesh
    core = open3d_or_remedy()
    middle = mesh.vertices.mean(0)  # float64 all through, but a far origin would still cost digits of the quadrics
    vector = core.utility.Vector3dVector(mesh.vertices - middle), core.utility.Vector3iVector(mesh.faces)
    found = core.geometry.TriangleMesh(*vector).simplify_quadric_decimation(faces)
    found.remove_degenerate_triangles()
    found.remove_unreferenced_vertices()
    places = np.asarray(found.vertices)
    smaller = Mesh(places + middle, np.asarray(found.triangles).astype(np.int64))
    if mesh.colours is None:
        return smaller
    whole = MeshDistance(replace(mesh, vertices=mesh.vertices - middle), True)
    colours = whole.colours(torch.from_numpy(places).float())
    return replace(smaller, colours=(colours.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
