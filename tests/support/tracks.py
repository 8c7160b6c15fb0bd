"""Keypoint tracks of a known surface, with noise and outliers, and poses that are a little off."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import Camera, look_at
from neuralfields.poses.tracks import Tracks, of_rows
from neuralfields.supervision.alignment import rotations
from neuralfields.supervision.pose_refinement import Similarity

FOCAL, SIDE = 360.0, 400


@dataclass(frozen=True)
class TrackScene:
    """True and given poses [N, 4, 4], lenses, tracks, which observations are outliers, and judges of what is found."""

    true: Tensor
    given: Tensor
    pinhole: Tensor
    tracks: Tracks
    outlier: Tensor

    def to_truth(self, poses: Tensor) -> Similarity:
        """The similarity from the world of poses to the true one."""
        sides = [
            [Camera(pose.numpy(), SIDE, SIDE, FOCAL, FOCAL, SIDE / 2, SIDE / 2) for pose in each]
            for each in (poses, self.true)
        ]
        return Similarity.between(*sides)

    def rotation_error(self, poses: Tensor) -> float:
        """Mean angle in degrees between poses, aligned, and the true ones."""
        turn = torch.from_numpy(self.to_truth(poses).rotation) @ poses[:, :3, :3]
        cosine = (torch.einsum("nij,nij->n", turn, self.true[:, :3, :3]) - 1) / 2
        return float(torch.rad2deg(cosine.clamp(-1, 1).acos()).mean())

    def point_error(self, points: Tensor, poses: Tensor) -> float:
        """Median distance of points, in the world of poses, from the true surface."""
        away = self.to_truth(poses)
        moved = away.scale * points.numpy() @ away.rotation.T + away.shift
        return float(np.median(np.abs(level(moved))))


def level(x: np.ndarray) -> np.ndarray:
    """A sphere of radius 1 with bumps: about its signed distance, x [S, 3] -> [S]."""
    return np.linalg.norm(x, axis=1) - radius(x)


def radius(x: np.ndarray) -> np.ndarray:
    """The radius of the bumpy sphere in the direction of x [S, 3]."""
    d = x / np.linalg.norm(x, axis=1, keepdims=True)
    return 1 + 0.06 * np.sin(4 * d[:, 0]) * np.cos(3 * d[:, 1]) + 0.04 * np.sin(5 * d[:, 2])


def bumpy_scene(outliers: float, noise: float, points: int = 1200, cameras: int = 10, seed: int = 0) -> TrackScene:
    """Cameras on an arc about a bumpy sphere, and keypoints of `points` places on it, with `noise` in pixels.

    The given poses are 0.3 degrees off.
    """
    generator = np.random.default_rng(seed)
    place = generator.normal(size=(points, 3))
    place *= (radius(place) / np.linalg.norm(place, axis=1))[:, None]
    poses = []
    for turn in np.linspace(-1.1, 1.1, cameras):
        eye = 2.3 * np.array([np.cos(turn), np.sin(turn), 0.4 * np.sin(5 * turn)])
        poses.append(look_at(eye, np.zeros(3), np.array([0.0, 0.0, 1.0])))
    true = torch.from_numpy(np.stack(poses))
    camera, point, xy = [], [], []
    for number, pose in enumerate(poses):
        away = place - pose[:3, 3]
        local = away @ pose[:3, :3]
        facing = (away * place).sum(1) / np.linalg.norm(away, axis=1) < -0.25
        where = local[:, :2] / local[:, 2:] * FOCAL + SIDE / 2
        seen = np.flatnonzero(facing & (where > 0).all(1) & (where < SIDE).all(1))
        camera.append(np.full(len(seen), number))
        point.append(seen)
        xy.append(where[seen])
    camera, point, xy = (np.concatenate(part) for part in (camera, point, xy))
    xy = xy + generator.normal(size=xy.shape) * noise
    order = np.argsort(point, kind="stable")
    camera, point, xy = camera[order], point[order], xy[order]
    kept = np.bincount(point)[point] >= 2
    camera, point, xy = camera[kept], point[kept], xy[kept]
    wrong = generator.random(len(xy)) < outliers
    xy[wrong] = generator.uniform(0, SIDE, (int(wrong.sum()), 2))
    given = true.clone()
    off = torch.from_numpy(generator.normal(size=(cameras, 3)) * np.radians(0.3) / np.sqrt(3))
    given[:, :3, :3] = rotations(off) @ true[:, :3, :3]
    given[:, :3, 3] += torch.from_numpy(generator.normal(size=(cameras, 3)) * 0.01)
    lens = torch.tensor([FOCAL, FOCAL, SIDE / 2, SIDE / 2], dtype=torch.float64).expand(cameras, 4)
    return TrackScene(true, given, lens.contiguous(), of_rows(camera, point, xy), torch.from_numpy(wrong))
