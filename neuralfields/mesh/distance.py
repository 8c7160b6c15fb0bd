"""Signed distance to a mesh, by Open3D's ray casting (the extra `mesh`).

Distances are exact. The sign is by ray parity: inside, a ray meets the mesh an odd number of times. Rays of several
directions vote, so that a hole or a hit on an edge does not decide; Open3D's own votes all go one way.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuralfields.errors import UsageError
from neuralfields.mesh.mesh import Mesh

VOTES, MORE_VOTES = 3, 11  # rays per point; the same for a mesh that is not watertight


class MeshDistance:
    """Queries of distance, sign and colour of one mesh, in its coordinates; UsageError if Open3D cannot be loaded."""

    def __init__(self, mesh: Mesh, watertight: bool) -> None:
        self.mesh, self.votes = mesh, VOTES if watertight else MORE_VOTES
        self._core = open3d_or_remedy()
        self._scene = self._core.t.geometry.RaycastingScene(nthreads=torch.get_num_threads())
        faces = np.ascontiguousarray(mesh.faces, dtype=np.uint32)
        self._scene.add_triangles(self._tensor(mesh.vertices.astype(np.float32)), self._tensor(faces))

    def _tensor(self, values: np.ndarray) -> Any:
        return self._core.core.Tensor(np.ascontiguousarray(values))

    def distance(self, x: Tensor) -> Tensor:
        """Distances of x [S, 3] float32 to the nearest point of the mesh, [S]."""
        return torch.from_numpy(self._scene.compute_distance(self._tensor(x.numpy())).numpy())

    def inside(self, x: Tensor) -> Tensor:
        """Whether each of x [S, 3] float32 lies inside, [S] bool."""
        return self._share(x) > 0.5

    def doubt(self, x: Tensor) -> float:
        """Disagreement of the rays on points x that some ray finds inside: 0 if all agree, 1 if half do."""
        share = self._share(x)
        share = share[share > 0]
        return float(2 * torch.minimum(share, 1 - share).mean()) if len(share) else 0.0

    def _share(self, x: Tensor) -> Tensor:
        """Share of the rays from each point that find it inside, [S]."""
        found = torch.zeros(len(x))
        for direction in _directions(self.votes):
            rays = torch.cat([x, direction.expand(len(x), 3)], 1)
            found += torch.from_numpy(self._scene.count_intersections(self._tensor(rays.numpy())).numpy() % 2)
        return found / self.votes

    def signed(self, x: Tensor) -> Tensor:
        """Signed distances of x [S, 3], negative inside, [S]."""
        distance = self.distance(x)
        return torch.where(self.inside(x), -distance, distance)

    def colours(self, x: Tensor) -> Tensor:
        """Colours [S, 3] in [0, 1] of the nearest points of a mesh that has colours."""
        found = self._scene.compute_closest_points(self._tensor(x.numpy()))
        face = self.mesh.faces[found["primitive_ids"].numpy().astype(np.int64)]
        v, w = found["primitive_uvs"].numpy().T
        weights = np.stack([1 - v - w, v, w], 1)[..., None]
        return torch.from_numpy((self.mesh.colours[face] / 255.0 * weights).sum(1).astype(np.float32))


def _directions(count: int) -> Tensor:
    """Unit directions [count, 3] on a Fibonacci spiral: even over the sphere and along no axis."""
    height = 1 - 2 * (torch.arange(count) + 0.41) / count
    turn = torch.arange(count) * 2.399963 + 0.37
    around = (1 - height.square()).sqrt()
    return torch.stack([around * turn.cos(), around * turn.sin(), height], 1)


def open3d_or_remedy() -> Any:
    """The package open3d; raises UsageError with the command that installs what is missing."""
    try:
        import open3d
    except ModuleNotFoundError:
        raise UsageError("meshes need the package open3d; run: pip install 'neuralfields[mesh]'") from None
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0][:80] if str(error) else "unknown reason"
        raise UsageError(f"open3d cannot be loaded ({reason}); on Debian run: apt-get install libusb-1.0-0") from None
    return open3d
