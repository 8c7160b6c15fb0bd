"""Triangle meshes: the type, validation of its geometry, sampling of its surface.

Vocabulary
  V, F      vertices, faces (triangles)
  border    an edge that one triangle has alone; a mesh without borders is watertight
  clash     an edge that two triangles run along in the same direction: they disagree on what is outside
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from neuralfields.errors import InputError


@dataclass(frozen=True, eq=False)
class Mesh:
    """`vertices` [V, 3] float64; `faces` [F, 3] int64, counterclockwise from outside; `colours` [V, 3] uint8 if any."""

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray | None = None

    @property
    def corners(self) -> np.ndarray:
        """The triangles' corners, [F, 3 corners, 3]."""
        return self.vertices[self.faces]

    @property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """The bounding box of the vertices that faces use: its lowest and its highest corner [3]."""
        used = self.vertices[np.unique(self.faces)]
        return used.min(0), used.max(0)

    def areas(self) -> np.ndarray:
        """Areas of the faces, [F]."""
        a, b, c = self.corners.swapaxes(0, 1)
        return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)

    def normals(self) -> np.ndarray:
        """Unit normals of the vertices [V, 3], outwards: the mean of their faces', by area; 0 where there are none."""
        a, b, c = self.corners.swapaxes(0, 1)
        normals = np.zeros_like(self.vertices)
        for corner in self.faces.T:
            np.add.at(normals, corner, np.cross(b - a, c - a))
        return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300)

    def volume(self) -> float:
        """The enclosed volume by the divergence theorem; negative where the faces point inwards."""
        a, b, c = self.corners.swapaxes(0, 1)
        return float((a * np.cross(b, c)).sum() / 6)


@dataclass(frozen=True)
class Faults:
    """Defects of a mesh: edges at a `border`, with a `clash`, or with more than two faces (`crowded`)."""

    border: int
    clash: int
    crowded: int

    @property
    def watertight(self) -> bool:
        """Whether every edge has two faces that agree."""
        return not (self.border or self.clash or self.crowded)


def checked(mesh: Mesh, where: str) -> tuple[Mesh, list[str]]:
    """Validates a mesh: merges equal vertices and leaves degenerate triangles out; returns the mesh and warnings.

    Raises InputError for no faces, indices that point nowhere, values that are not finite, and a flat mesh.
    """
    if not len(mesh.faces):
        raise InputError(f"{where}: {len(mesh.vertices)} vertices and no faces; a mesh with triangles is needed")
    if mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
        bad = int(((mesh.faces < 0) | (mesh.faces >= len(mesh.vertices))).any(1).sum())
        raise InputError(f"{where}: {bad} faces name vertices beyond the {len(mesh.vertices)} there are; export again")
    used = np.unique(mesh.faces)
    lost = int((~np.isfinite(mesh.vertices[used]).all(1)).sum())
    if lost:
        raise InputError(f"{where}: {lost} of {len(used)} vertices are not finite numbers; export the mesh again")
    mesh = _merged(mesh, used)
    mesh, notes = _without_empty(mesh, where)
    low, high = mesh.box
    if (high - low).min() <= 1e-6 * (high - low).max():
        raise InputError(f"{where}: is flat ({' x '.join(f'{s:.3g}' for s in high - low)}); a solid shape is needed")
    found = faults(mesh)
    if not found.watertight:
        notes.append(
            f"{where}: not watertight ({found.border} border edges, {found.clash} with clashing directions, "
            f"{found.crowded} with more than two faces); the sign is by a vote of rays, distances stay exact"
        )
    return mesh, notes


def _merged(mesh: Mesh, used: np.ndarray) -> Mesh:
    """Merges vertices of equal position (texture seams split them) and leaves out those without a face."""
    places, first, inverse = np.unique(mesh.vertices[used], axis=0, return_index=True, return_inverse=True)
    new = np.full(len(mesh.vertices), -1)
    new[used] = inverse.reshape(-1)
    colours = None if mesh.colours is None else mesh.colours[used][first]
    return Mesh(places, new[mesh.faces], colours)


def _without_empty(mesh: Mesh, where: str) -> tuple[Mesh, list[str]]:
    full = mesh.areas() > 0
    if not full.any():
        raise InputError(f"{where}: all {len(full)} triangles are empty; export the mesh again")
    if full.all():
        return mesh, []
    note = f"{where}: {int((~full).sum())} of {len(full)} triangles have no area and are left out"
    return replace(mesh, faces=mesh.faces[full]), [note]


def faults(mesh: Mesh) -> Faults:
    """Counts the edges at which a mesh is not watertight."""
    edges = np.concatenate([mesh.faces[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    forward = edges[:, 0] < edges[:, 1]
    key = edges.min(1) * np.int64(len(mesh.vertices)) + edges.max(1)
    _, inverse, count = np.unique(key, return_inverse=True, return_counts=True)
    balance = np.bincount(inverse.reshape(-1), weights=np.where(forward, 1.0, -1.0))
    return Faults(int((count == 1).sum()), int(((count == 2) & (balance != 0)).sum()), int((count > 2).sum()))


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """`points` [S, 3], unit `normals` [S, 3], `colours` [S, 3] in [0, 1] or None; float32."""

    points: Tensor
    normals: Tensor
    colours: Tensor | None


class SurfaceSampler:
    """Samples points of a mesh's surface, uniformly by area."""

    def __init__(self, mesh: Mesh) -> None:
        corners = torch.from_numpy(mesh.corners)
        normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        self.edges = torch.from_numpy(np.cumsum(mesh.areas()))
        self.corners = corners.float()
        self.normals = torch.nn.functional.normalize(normals, dim=1).float()
        colours = None if mesh.colours is None else torch.from_numpy(mesh.colours[mesh.faces])
        self.colours = None if colours is None else colours.float() / 255

    def draw(self, count: int, generator: torch.Generator) -> SurfacePoints:
        """Samples `count` points."""
        place = torch.rand(count, generator=generator, dtype=torch.float64) * self.edges[-1]
        face = torch.searchsorted(self.edges, place, right=True).clamp(max=len(self.edges) - 1)
        u, v = torch.rand(2, count, 1, generator=generator)
        root = u.sqrt()  # (1 - sqrt u, sqrt u (1 - v), sqrt u v) is uniform over a triangle (Osada et al. 2002)
        weights = torch.stack([1 - root, root * (1 - v), root * v], 1)
        colours = None if self.colours is None else (self.colours[face] * weights).sum(1)
        return SurfacePoints((self.corners[face] * weights).sum(1), self.normals[face], colours)
