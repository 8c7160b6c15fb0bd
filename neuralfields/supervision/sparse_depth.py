"""Depth supervision by sparse points: the expected depth along a ray through a point should be its distance.

Vocabulary
  sighting  a point in a photo that saw it: photo, pixel, distance along the ray in world units, weight

The loss of a sighting is the Huber loss of (depth - distance) / distance, depth being the expected one (a ray that is
not opaque falls short). A point of large reprojection error weighs less: exp(-(its error / twice the median error)^2),
as in Depth-supervised NeRF (arXiv:2107.02791).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import Camera, project
from neuralfields.ops.pixel_rays import camera_table, pixel_rays
from neuralfields.rays import Rays, RaySums
from neuralfields.scene import Sightings

RAYS = 256  # a step
TOLERANCE = 0.02  # Huber threshold of the relative depth error


@dataclass(frozen=True)
class DepthBatch:
    """A batch of depth supervision: rays [R] through points, their photos, distances in world units, weights [R]."""

    rays: Rays
    camera: Tensor
    distance: Tensor
    weight: Tensor


class DepthRays:
    """Pixels of the training photos whose distance is known, drawn as random batches.

    `camera` [K]: the photo of each; `pixel` [K, 2]; `distance` [K] along the ray in world units; `weight` [K];
    `cameras`: their table (ops/pixel_rays.py). `share`: weight of the loss beside the photos', None for the settings'.
    `until`: share of a fit at which it has faded to 0, None for never.
    """

    share: float | None = None
    until: float | None = None

    def weight_at(self, progress: float, usual: float) -> float:
        """Weight of the loss at a progress of the fit; `usual`: that of the settings."""
        share = usual if self.share is None else self.share
        return share if self.until is None else share * max(0.0, 1 - progress / self.until)

    def __init__(self, camera: Tensor, pixel: Tensor, distance: Tensor, weight: Tensor, cameras: Tensor) -> None:
        self.camera, self.pixel, self.distance, self.weight, self.cameras = camera, pixel, distance, weight, cameras

    def __len__(self) -> int:
        return len(self.camera)

    def to(self, device: torch.device | str) -> "DepthRays":
        """Moves them to another device, where rays are then made."""
        for name in ("camera", "pixel", "distance", "weight", "cameras"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def batch(self, generator: torch.Generator) -> DepthBatch:
        """Draws RAYS of them uniformly with replacement; the generator is on their device."""
        index = torch.randint(0, len(self), (RAYS,), generator=generator, device=generator.device)
        camera = self.camera[index]
        rays = Rays(*pixel_rays(self.cameras, camera, self.pixel[index]))
        return DepthBatch(rays, camera, self.distance[index], self.weight[index])


class SparseDepth(DepthRays):
    """Sightings of sparse points in the training photos."""

    def __init__(self, sightings: list[Sightings | None], points: np.ndarray, cameras: list[Camera]) -> None:
        """`sightings`: one of each camera's photo; `points` [P, 3] in the cameras' world."""
        found = [_seen(i, s, points, c) for i, (s, c) in enumerate(zip(sightings, cameras, strict=True)) if s]
        camera = torch.cat([camera for camera, _ in found] or [torch.zeros(0, dtype=torch.int64)])
        rows = np.concatenate([rows for _, rows in found] or [np.zeros((0, 4))])
        error = rows[:, 3]
        middle = 2 * max(float(np.median(error)), 1e-6) if len(error) else 1.0
        pixel, distance = (torch.from_numpy(part).to(torch.float32) for part in (rows[:, :2], rows[:, 2]))
        weight = torch.from_numpy(np.exp(-((error / middle) ** 2))).to(torch.float32)
        super().__init__(camera, pixel, distance, weight, camera_table(cameras))


def _seen(index: int, sightings: Sightings, points: np.ndarray, camera: Camera) -> tuple[Tensor, np.ndarray]:
    """Photo [K], and rows [K, 4] of pixel, distance and reprojection error, of points inside the photo."""
    seen = points[sightings.points].astype(np.float64)
    pixel, depth = project(camera, seen)
    inside = (depth > 0) & (pixel >= 0).all(1) & (pixel < (camera.width, camera.height)).all(1)
    distance = np.linalg.norm(seen - camera.centre, axis=1)
    rows = np.column_stack([pixel, distance, sightings.errors])[inside]
    return torch.full((len(rows),), index), rows


def depth_loss(sums: RaySums, batch: DepthBatch, side: float, share: float) -> Tensor:
    """Depth loss: weighted mean over the sightings whose rays rendered `sums`.

    `side`: of the inner cube, in world units; `share`: the loss's weight beside the photometric loss.
    """
    off = (sums.depth * side - batch.distance) / batch.distance
    size = off.abs()
    error = torch.where(size < TOLERANCE, off.square() / (2 * TOLERANCE), size - TOLERANCE / 2)
    weight = batch.weight * sums.valid
    return share * (error * weight).sum() / weight.sum().clamp(min=1e-6)
