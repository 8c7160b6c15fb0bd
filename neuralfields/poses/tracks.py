"""Keypoint tracks of a posed capture: reading them, rays, robust triangulation, reprojection.

Vocabulary
  observation  a keypoint of a photo in a track: `camera` [M], `point` [M], `xy` [M, 2] in pixels;  M of them, P points
  ray          of an observation, through its keypoint, in the world
  pinhole      [N, 4] fx, fy, cx, cy of the cameras, which have no distortion
"""

import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from neuralfields.captures.colmap_files import Cursor
from neuralfields.errors import InputError

ROUNDS = 12  # of reweighted least squares
_U64, _IMAGE = struct.Struct("<Q"), struct.Struct("<I4d3dI")
KEYPOINT = np.dtype([("x", "<f8"), ("y", "<f8"), ("point", "<i8")])


@dataclass(frozen=True)
class Tracks:
    """Observations of P = `points` tracks: `camera` [M], `point` [M], ascending, and `xy` [M, 2] in pixels."""

    camera: Int64[Tensor, " M"]
    point: Int64[Tensor, " M"]
    xy: Float[Tensor, "M 2"]
    points: int

    def __len__(self) -> int:
        return len(self.camera)

    def take(self, mask: Bool[Tensor, " M"]) -> "Tracks":
        """Those observations alone; tracks keep their numbers."""
        return replace(self, camera=self.camera[mask], point=self.point[mask], xy=self.xy[mask])

    def lengths(self, mask: Bool[Tensor, " M"] | None = None) -> Int64[Tensor, " P"]:
        """Observations of each track, of `mask` alone if given."""
        point = self.point if mask is None else self.point[mask]
        return torch.bincount(point, minlength=self.points)


def read_tracks(images_bin: Path) -> tuple[Tracks, list[str]]:
    """Reads the tracks of a COLMAP model's images.bin: those of two photos or more, and the photos' names in order.

    Raises InputError where the file is damaged or holds no tracks.
    """
    cursor, names, parts = Cursor(images_bin), [], []
    for number in range(cursor.count(_IMAGE.size + 1 + 8, "images")):
        cursor.take(_IMAGE)
        names.append(cursor.name())
        (count,) = cursor.take(_U64)
        at = cursor.at
        cursor.skip(count, 24, "keypoints")
        rows = np.frombuffer(cursor.data, KEYPOINT, count, at)
        rows = rows[rows["point"] >= 0]
        xy = np.stack([rows["x"], rows["y"]], 1)
        parts.append((np.full(len(rows), number), rows["point"].astype(np.int64), xy))
    camera, point, xy = (np.concatenate(part) for part in zip(*parts, strict=True)) if parts else (np.zeros(0),) * 3
    if not len(camera) or not np.isfinite(xy).all():
        raise InputError(
            f"{images_bin}: holds no keypoints of points; --refine needs the matches of nf poses or COLMAP"
        )
    return of_rows(camera, point, xy), names


def of_rows(camera: np.ndarray, point: np.ndarray, xy: np.ndarray) -> Tracks:
    """Tracks of observations in any order with any ids of points; those that one photo alone sees are left out."""
    _, number, seen = np.unique(point, return_inverse=True, return_counts=True)
    kept = seen[number] >= 2
    _, number = np.unique(point[kept], return_inverse=True)
    order = np.argsort(number, kind="stable")
    columns = (camera[kept][order], number[order])
    tensors = [torch.from_numpy(np.ascontiguousarray(column)).long() for column in columns]
    return Tracks(*tensors, torch.from_numpy(xy[kept][order]).double(), int(number.max(initial=-1)) + 1)


def rays(
    poses: Float[Tensor, "N 4 4"], pinhole: Float[Tensor, "N 4"], tracks: Tracks
) -> tuple[Float[Tensor, "M 3"], Float[Tensor, "M 3"]]:
    """Origins and unit directions [M, 3] of the observations' rays; `poses`: world_from_camera."""
    lens, pose = pinhole[tracks.camera], poses[tracks.camera]
    plane = torch.cat([(tracks.xy - lens[:, 2:]) / lens[:, :2], torch.ones_like(tracks.xy[:, :1])], 1)
    along = torch.einsum("mij,mj->mi", pose[:, :3, :3], plane)
    return pose[:, :3, 3], torch.nn.functional.normalize(along, dim=1)


def reprojection(
    poses: Float[Tensor, "N 4 4"], pinhole: Float[Tensor, "N 4"], tracks: Tracks, points: Float[Tensor, "P 3"]
) -> Float[Tensor, "M 2"]:
    """Projected minus observed places in pixels [M, 2]; far off where a point is behind its camera."""
    lens, pose = pinhole[tracks.camera], poses[tracks.camera]
    local = torch.einsum("mji,mj->mi", pose[:, :3, :3], points[tracks.point] - pose[:, :3, 3])
    depth = local[:, 2:].clamp(min=1e-6)
    return local[:, :2] / depth * lens[:, :2] + lens[:, 2:] - tracks.xy


def triangulated(
    poses: Float[Tensor, "N 4 4"], pinhole: Float[Tensor, "N 4"], tracks: Tracks, scale: float = 0.0
) -> Float[Tensor, "P 3"]:
    """Linear triangulation [P, 3]: the points nearest to their rays, in least squares of angles.

    `scale` > 0, in pixels: robust, by reweighting with 1 / (1 + (error / scale)^2)^2 (Geman and McClure), from the
    ordinary solution with a scale that falls to this.
    """
    origins, directions = rays(poses, pinhole, tracks)
    across = torch.eye(3).to(directions) - directions[:, :, None] * directions[:, None]
    weight = torch.ones_like(origins[:, 0])
    points = _nearest(origins, across, weight, tracks)
    for turn in range(ROUNDS if scale else 2):
        distance = (points[tracks.point] - origins).norm(dim=1).clamp(min=1e-9)
        weight = 1 / distance.square()
        if scale:
            error = reprojection(poses, pinhole, tracks, points).norm(dim=1)
            wide = scale * 2.0 ** max(0, 6 - turn)
            weight = weight / (1 + (error / wide).square()).square()
        points = _nearest(origins, across, weight, tracks)
    return points


def _nearest(origins: Tensor, across: Tensor, weight: Tensor, tracks: Tracks) -> Tensor:
    matrix, right = weight[:, None, None] * across, weight[:, None] * torch.einsum("mij,mj->mi", across, origins)
    a = origins.new_zeros(tracks.points, 3, 3).index_add_(0, tracks.point, matrix)
    b = origins.new_zeros(tracks.points, 3).index_add_(0, tracks.point, right)
    size = a.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-30)
    damped = a + 1e-9 * size[:, None, None] * torch.eye(3).to(a)
    return torch.linalg.solve(damped, b)
