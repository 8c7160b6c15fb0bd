"""Renders a triangle mesh by casting rays (Open3D), lit from the camera as fitted shapes are (surface.py)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from neuralfields.cameras import Camera
from neuralfields.mesh.distance import open3d_or_remedy
from neuralfields.mesh.mesh import Mesh
from neuralfields.rays import Rays, Render
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.surface import AMBIENT, CLAY
from neuralfields.rendering.volume import RENDER_CHUNK, by_parts
from neuralfields.scene import Bounds

ROOM = 1.1  # sides of the bounds in those of the mesh


@dataclass(frozen=True, eq=False)
class MeshView:
    """A mesh as a renderable, in its vertices' colours or clay. Raises UsageError without Open3D, when it renders."""

    mesh: Mesh

    @cached_property
    def bounds(self) -> Bounds:
        """A cube around the mesh."""
        low, high = self.mesh.box
        return Bounds(tuple(((low + high) / 2).tolist()), ROOM * max(float((high - low).max()), 1e-9))

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    @cached_property
    def _scene(self) -> Any:
        open3d = open3d_or_remedy()
        scene = open3d.t.geometry.RaycastingScene()
        vertices, faces = (np.ascontiguousarray(a, kind) for a, kind in ((self._local, "f4"), (self.mesh.faces, "u4")))
        scene.add_triangles(open3d.core.Tensor(vertices), open3d.core.Tensor(faces))
        return scene

    @property
    def _local(self) -> np.ndarray:
        """Vertices from the middle on, in sides of the bounds: float32 is fine enough for those."""
        return (self.mesh.vertices - np.array(self.bounds.centre)) / self.bounds.side

    def render(self, camera: Camera, background: Colour) -> Render:
        """Renders a camera's view over a background: rgb [H, W, 3], opacity and depth [H, W], normals [H, W, 3]."""
        return by_parts(camera, RENDER_CHUNK, "cpu", lambda rays: self.render_rays(rays, background))

    @torch.no_grad()
    def render_rays(self, rays: Rays, background: Colour) -> Render:
        """Renders rays [R]: rgb and normals [R, 3], opacity and depth [R]."""
        origins = (rays.origins - rays.origins.new_tensor(self.bounds.centre)) / self.bounds.side
        found = self._scene.cast_rays(np.concatenate([origins.numpy(), rays.directions.numpy()], 1).astype(np.float32))
        t = torch.from_numpy(found["t_hit"].numpy())
        hit = torch.isfinite(t)
        normal = torch.from_numpy(found["primitive_normals"].numpy())
        normal = torch.where(hit[:, None], torch.nn.functional.normalize(normal, dim=1), 0.0)
        facing = (normal * rays.directions).sum(1, keepdim=True)
        normal = torch.where(facing > 0, -normal, normal)  # towards the camera, whatever side it sees
        rgb = torch.tensor(background).expand(len(rays), 3).clone()
        corner = found["primitive_uvs"].numpy()[hit.numpy()], found["primitive_ids"].numpy()[hit.numpy()]
        rgb[hit] = self._colours(*corner) * (AMBIENT + (1 - AMBIENT) * facing.abs()[hit])
        return Render(rgb, hit.float(), torch.where(hit, t, 0) * self.bounds.side, normal)

    def _colours(self, uv: np.ndarray, face: np.ndarray) -> torch.Tensor:
        """Colours [S, 3] at places of faces, between those of their corners."""
        if self.mesh.colours is None:
            return torch.tensor(CLAY).expand(len(uv), 3)
        weights = np.concatenate([1 - uv.sum(1, keepdims=True), uv], 1)
        corners = self.mesh.colours[self.mesh.faces[face]] / 255.0
        return torch.from_numpy((weights[..., None] * corners).sum(1).astype(np.float32))
