"""Cameras put a little beside where they were, and how far off they are in pixels."""

from collections.abc import Sequence

import numpy as np
import torch

from neuralfields.cameras import Camera, project
from neuralfields.supervision.pose_refinement import Similarity, apply_motion


def disturbed(cameras: Sequence[Camera], degrees: float, shift: float, seed: int = 0) -> list[Camera]:
    """Every camera turned about a random axis through itself, and shifted."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.nn.functional.normalize(torch.randn(len(cameras), 3, generator=generator), dim=1)
    ways = torch.nn.functional.normalize(torch.randn(len(cameras), 3, generator=generator), dim=1)
    return apply_motion(cameras, torch.cat([axes * np.radians(degrees), ways * shift], 1))


def off_in_pixels(cameras: Sequence[Camera], true: Sequence[Camera]) -> float:
    """How far points of the scene are from where the true cameras see them, after the best similarity, on average."""
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (200, 3))
    similarity = Similarity.between(cameras, true)
    pairs = zip(map(similarity.moved, cameras), true, strict=True)
    apart = [project(one, points)[0] - project(other, points)[0] for one, other in pairs]
    return float(np.mean(np.linalg.norm(apart, axis=2)))
