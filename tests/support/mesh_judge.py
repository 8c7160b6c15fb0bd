"""The plain judge of distances to a mesh: every point against every triangle, in float64. Small meshes only."""

import numpy as np
import torch
from torch import Tensor

from neuralfields.mesh.mesh import Mesh


class PlainDistance:
    """What `mesh_distance.MeshDistance` answers, by brute force; inside is where the winding number is above a half."""

    def __init__(self, mesh: Mesh, watertight: bool = True) -> None:
        self.mesh = mesh

    def distance(self, x: Tensor) -> Tensor:
        return torch.cat([torch.from_numpy(self._nearest(p.double().numpy())).float() for p in x.split(256)])

    def _nearest(self, p: np.ndarray) -> np.ndarray:
        """The nearest of: each edge's nearest point, and the foot on the plane where it lies in the triangle."""
        corners = self.mesh.corners
        best = np.full(len(p), np.inf)
        for i in range(3):
            a, b = corners[:, i], corners[:, (i + 1) % 3]
            along = b - a
            share = ((p[:, None] - a) * along).sum(-1) / (along**2).sum(-1)
            foot = a + share.clip(0, 1)[..., None] * along
            best = np.minimum(best, np.linalg.norm(p[:, None] - foot, axis=-1).min(1))
        a, b, c = corners.swapaxes(0, 1)
        normal = np.cross(b - a, c - a)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        height = ((p[:, None] - a) * normal).sum(-1)
        foot = p[:, None] - height[..., None] * normal
        inside = np.ones(height.shape, bool)
        for i in range(3):
            start, end = corners[:, i], corners[:, (i + 1) % 3]
            inside &= (np.cross(end - start, foot - start) * normal).sum(-1) >= 0
        return np.minimum(best, np.where(inside, np.abs(height), np.inf).min(1))

    def inside(self, x: Tensor) -> Tensor:
        """Winding number by solid angles (van Oosterom and Strackee 1983)."""
        found = []
        for part in x.split(256):
            a, b, c = (self.mesh.corners[None, :, i] - part.double().numpy()[:, None] for i in range(3))
            la, lb, lc = (np.linalg.norm(v, axis=-1) for v in (a, b, c))
            top = (a * np.cross(b, c)).sum(-1)
            below = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
            found.append(2 * np.arctan2(top, below).sum(1) / (4 * np.pi) > 0.5)
        return torch.from_numpy(np.concatenate(found))

    def signed(self, x: Tensor) -> Tensor:
        distance = self.distance(x)
        return torch.where(self.inside(x), -distance, distance)

    def colours(self, x: Tensor) -> Tensor:
        """Of the nearest vertex: enough where colours are even."""
        nearest = torch.cdist(x.double(), torch.from_numpy(self.mesh.vertices)).argmin(1).numpy()
        return torch.from_numpy(self.mesh.colours[nearest] / 255.0).float()
