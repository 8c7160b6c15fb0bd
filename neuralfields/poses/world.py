"""World frame of a capture whose poses were found: up direction, origin and scale, which photos alone leave open.

By convention z is up, the origin is the centre of interest, and the cameras' median distance from it is 4, as in the
synthetic scenes that other tools are tuned to.

Vocabulary
  common up  up direction by the cameras (captures/arrangement.py); people hold cameras level
  floor      a plane with many sparse points as inliers, nearly level, with nearly all others above it
"""

from dataclasses import dataclass

import numpy as np

from neuralfields.cameras import Camera
from neuralfields.captures.arrangement import arrange, common_up

DISTANCE = 4.0
LEVEL = 25.0  # degrees between floor and common up
FLOOR_SHARE, BELOW_SHARE = 0.15, 0.05
TRIALS, THICKNESS, MOST_POINTS = 400, 0.01, 4000


@dataclass(frozen=True)
class World:
    """World frame: `similarity` [3, 4] takes the model's points to it.

    `up_from`: "cameras" or "floor"; `tilt` between the two in degrees; `layout` as in captures/arrangement.py.
    """

    similarity: np.ndarray
    scale: float
    up_from: str
    tilt: float
    layout: str


def find_world(poses: np.ndarray, points: np.ndarray) -> World:
    """Chooses the world frame of cameras `poses` [N, 4, 4] (world_from_camera, OpenCV) and sparse `points` [P, 3]."""
    cameras = [Camera(pose, 2, 2, 2.0, 2.0, 1.0, 1.0) for pose in poses]
    arrangement = arrange(cameras)
    up, source, tilt = common_up(cameras), "cameras", 0.0
    plane = floor(points, up, poses[:, :3, 3])
    if plane is not None:
        source, tilt, up = "floor", float(np.degrees(np.arccos(np.clip(plane @ up, -1, 1)))), plane
    centres = poses[:, :3, 3]
    middle = arrangement.point if arrangement.layout == "around" else _middle(poses, points, arrangement.layout)
    distance = float(np.median(np.linalg.norm(centres - middle, axis=1)))
    scale = DISTANCE / distance if distance > 0 else 1.0
    rotation = _level(up, poses)
    similarity = np.concatenate([scale * rotation, (-scale * rotation @ middle)[:, None]], axis=1)
    return World(similarity, scale, source, tilt, arrangement.layout)


def _middle(poses: np.ndarray, points: np.ndarray, layout: str) -> np.ndarray:
    """Median of the points; for a capture that looks outward, of the cameras."""
    if layout == "outward" or not len(points):
        return np.median(poses[:, :3, 3], axis=0)
    return np.median(points, axis=0)


def floor(points: np.ndarray, up: np.ndarray, centres: np.ndarray) -> np.ndarray | None:
    """Fits the floor: its upward unit normal [3], or None where no plane is clearly one.

    RANSAC with a fixed seed over triples of points; a floor must lie below the cameras.
    """
    if len(points) < 100:
        return None
    generator = np.random.default_rng(0)
    chosen = points[generator.permutation(len(points))[:MOST_POINTS]]
    size = float(np.median(np.linalg.norm(chosen - np.median(chosen, axis=0), axis=1)))
    best: tuple[int, np.ndarray | None] = (0, None)
    for triple in generator.integers(0, len(chosen), (TRIALS, 3)):
        a, b, c = chosen[triple]
        normal = np.cross(b - a, c - a)
        length = np.linalg.norm(normal)
        if length < 1e-9 * size * size:
            continue
        normal *= np.sign(normal @ up) / length
        if normal @ up < np.cos(np.radians(LEVEL)):
            continue
        near = np.abs((chosen - a) @ normal) < THICKNESS * size
        if near.sum() > best[0]:
            best = (int(near.sum()), near)
    count, near = best
    if near is None or count < FLOOR_SHARE * len(chosen):
        return None
    centre = chosen[near].mean(axis=0)
    normal = np.linalg.svd(chosen[near] - centre, full_matrices=False)[2][2]
    normal *= 1.0 if normal @ up >= 0 else -1.0
    below = ((chosen - centre) @ normal < -3 * THICKNESS * size).mean()
    above = ((centres - centre) @ normal > 0).mean()
    level = normal @ up >= np.cos(np.radians(LEVEL))
    return normal if level and below <= BELOW_SHARE and above >= 0.9 else None


def _level(up: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Rotation [3, 3] that takes `up` to z and the mean viewing direction, made level, to y."""
    ahead = poses[:, :3, 2].mean(axis=0) if np.linalg.norm(poses[:, :3, 2].mean(axis=0)) > 0.3 else poses[0, :3, 2]
    y = ahead - (ahead @ up) * up
    if np.linalg.norm(y) < 1e-3:
        y = poses[0, :3, 0] - (poses[0, :3, 0] @ up) * up
    y /= np.linalg.norm(y)
    return np.stack([np.cross(y, up), y, up])
