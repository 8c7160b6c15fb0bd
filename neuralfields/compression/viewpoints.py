"""Cameras drawn around Gaussians that bring none: what importance and quality are measured by without photos."""

import math

import numpy as np

from neuralfields.cameras import Camera, look_at
from neuralfields.scene import Bounds

TURN = math.pi * (3 - math.sqrt(5))  # golden angle: directions spread evenly over the sphere
DISTANCES = (1.7, 0.85)  # in half sides of the scene's cube, in turn: the whole of it, and a close look
FOCAL = 0.9  # of a picture's side


def drawn(bounds: Bounds, count: int, side: int, seed: int = 0) -> list[Camera]:
    """`count` pinholes of `side` x `side` pixels all around a scene, towards its middle; other seeds, other places."""
    centre, reach = np.array(bounds.centre, dtype=np.float64), bounds.side / 2
    start = np.random.default_rng(seed).uniform(0, 2 * math.pi)
    cameras = []
    for i in range(count):
        height = 1 - 2 * (i + 0.5) / count
        azimuth, level = start + TURN * i, math.sqrt(1 - height * height)
        away = np.array([level * math.cos(azimuth), height, level * math.sin(azimuth)])
        pose = look_at(centre + DISTANCES[i % len(DISTANCES)] * reach * away, centre, np.array([0.0, 1.0, 0.0]))
        cameras.append(Camera(pose, side, side, FOCAL * side, FOCAL * side, side / 2, side / 2))
    return cameras
