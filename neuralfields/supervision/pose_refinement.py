"""Camera pose refinement during a fit (as in BARF, arXiv:2104.06405, but by image alignment).

After a warm-up every step moves the training cameras (alignment.py), from coarse to fine, at a rate that decays. The
gauge freedom, motions that all cameras could make together (shift, rotation, scale of the world), is projected out, so
that the scene stays where it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.options import training as training_options
from neuralfields.options.training import TrainingSettings
from neuralfields.rays import Render
from neuralfields.supervision.alignment import Alignment, rotations
from neuralfields.supervision.image_gradients import scales
from neuralfields.supervision.pixels import Batch, Pixels

# The finest scale from this fraction of a fit on; coarse ones pass faster.
FINEST_AT, COARSE_FASTER = 0.5, 1.3
PHOTO_TIMES = 3.0  # a photo that is seen whole, but rarely, moves so many times as far
FALL_FROM = 0.3  # fraction of the fit after which the rate decays


class PoseRefinement(Alignment):
    """Refines the poses of the training cameras; `refined` gives them."""

    def __init__(self, pixels: Pixels, cameras: Sequence[Camera], settings: TrainingSettings | None = None) -> None:
        super().__init__(pixels)
        self.settings = settings or training_options.DEFAULT
        self.cameras, self.scales = tuple(cameras), scales(pixels)
        self.together, self.size = (part.to(self.motion) for part in _common_motions(cameras))

    def follow(self, step: int, progress: float, batch: Batch, seen: Render, look: tuple[Tensor, Tensor]) -> None:
        """Moves the cameras by the render of a training step; `look`: the background and each ray's weight [R]."""
        if step >= self.settings.pose_warmup:
            self.set_scale(self._scale(progress))
            self.learn(batch, seen, *look, self._rate(progress))
            self._keep_frame()

    def follow_photo(self, step: int, progress: float, batch: Batch, seen: Render, look: tuple[Tensor, Tensor]) -> None:
        """As `follow`, for a step on one photo, whose camera alone moves."""
        if step >= self.settings.pose_warmup:
            self.set_scale(self._scale(progress))
            self.learn_photo(batch, seen, *look, PHOTO_TIMES * self._rate(progress))
            self._keep_frame()

    def _rate(self, progress: float) -> float:
        fallen = max(0.0, progress - FALL_FROM) / (1 - FALL_FROM)
        rate, last = self.settings.pose_rate, self.settings.pose_last_rate
        return rate * (last / rate) ** fallen

    def _scale(self, progress: float) -> int:
        share = min(1.0, progress / FINEST_AT) ** (1 / COARSE_FASTER)
        return self.scales[min(int(share * (len(self.scales) - 1) + 1e-6), len(self.scales) - 1)]

    def _keep_frame(self) -> None:
        unit = self.motion.new_ones(6)
        unit[:3] = self.size
        flat = (self.motion * unit).flatten()
        self.motion = (flat - self.together @ (self.together.T @ flat)).reshape(-1, 6) / unit

    def pose(self, photo: int) -> np.ndarray:
        """world_from_camera [4, 4] of one training camera by its refined pose."""
        return apply_motion(self.cameras[photo : photo + 1], self.motion[photo : photo + 1])[0].world_from_camera

    def refined(self) -> list[Camera]:
        """Training cameras by their refined poses."""
        return apply_motion(self.cameras, self.motion)

    def tensors(self) -> dict[str, Tensor]:
        """State that the next step depends on, for a checkpoint."""
        scale = 0 if self.slopes is None else self.slopes.scale
        known = torch.tensor([self.known, self.seen, scale], dtype=torch.float64)
        return {"poses.motion": self.motion, "poses.curvature": self.curvature, "poses.known": known}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The reverse of `tensors`."""
        device = self.motion.device
        self.motion, self.curvature = (tensors[f"poses.{name}"].to(device) for name in ("motion", "curvature"))
        self.known, self.seen, scale = tensors["poses.known"].tolist()
        self.slopes = None
        if scale:
            self.set_scale(int(scale))


def apply_motion(cameras: Sequence[Camera], motion: Tensor) -> list[Camera]:
    """Applies motions [N, 6] to cameras."""
    turns = rotations(motion[:, :3].double().cpu()).numpy()
    shifts = motion[:, 3:].double().cpu().numpy()
    moved = []
    for camera, turn, shift in zip(cameras, turns, shifts, strict=True):
        pose = camera.world_from_camera.copy()
        pose[:3, :3] = turn @ pose[:3, :3]
        pose[:3, 3] += shift
        moved.append(replace(camera, world_from_camera=pose))
    return moved


def _common_motions(cameras: Sequence[Camera]) -> tuple[Tensor, Tensor]:
    """Gauge freedom: orthonormal basis [6 N, 7] of motions by a similarity of the world, rotations times size; size."""
    centres = torch.from_numpy(np.stack([camera.centre for camera in cameras]))
    centres = centres - centres.mean(0)
    size = centres.norm(dim=1).mean().clamp(min=1e-9)
    zero = torch.zeros_like(centres)
    motions = [torch.cat([zero, centres], 1)]
    for axis in torch.eye(3, dtype=torch.float64):
        along = axis.expand_as(centres)
        motions += [torch.cat([zero, along], 1), torch.cat([along * size, torch.linalg.cross(along, centres)], 1)]
    basis, strength, _ = torch.linalg.svd(torch.stack(motions, 2).reshape(-1, len(motions)), full_matrices=False)
    return basis[:, strength > 1e-6 * strength[0]], size  # cameras in one place or line have fewer such motions


@dataclass(frozen=True)
class Similarity:
    """Similarity transform from one world to another: scale * rotation x + shift."""

    scale: float
    rotation: np.ndarray
    shift: np.ndarray

    @staticmethod
    def between(one: Sequence[Camera], other: Sequence[Camera]) -> "Similarity":
        """Fits the similarity of cameras to others in the same order: least squares of axes and centres."""
        a, b = (np.stack([camera.centre for camera in cameras]) for cameras in (one, other))
        mean_a, mean_b = a.mean(0), b.mean(0)
        a, b = a - mean_a, b - mean_b
        size = max(float(np.mean((a**2).sum(1))), 1e-18)
        axes = sum(q.world_from_camera[:3, :3] @ p.world_from_camera[:3, :3].T for p, q in zip(one, other, strict=True))
        u, _, vt = np.linalg.svd(b.T @ a + size * axes)
        rotation = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
        spread = float((a**2).sum())
        scale = float((b * (a @ rotation.T)).sum()) / spread if spread > 1e-12 else 1.0
        return Similarity(scale, rotation, mean_b - scale * rotation @ mean_a)

    def moved(self, camera: Camera) -> Camera:
        """The camera in the other world."""
        pose = camera.world_from_camera.copy()
        pose[:3, :3] = self.rotation @ pose[:3, :3]
        pose[:3, 3] = self.scale * self.rotation @ pose[:3, 3] + self.shift
        return replace(camera, world_from_camera=pose)
