"""Renders a small scene that moves, seen by many cameras at once: `python scenes/moving.py FOLDER` (seconds).

  a ball on a circle about the middle, turning about its own axis        a ball that rests        a floor with squares

Every picture is exact: the nearest hit of each ray in closed form, colours from sines in the body's own frame, light
from one direction without shadows. Pictures are RGBA with straight alpha; a transforms.json in Blender's axes (OpenGL,
Z up) gives each frame its camera and its `time` in [0, 1]. With --one each instant is seen by one camera alone, which
take turns, as in a film of a single moving camera.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

Array = np.ndarray

ANGLE_X, SUPER = 0.75, 2  # field of view in radians; samples along a pixel's side
LIGHT = np.array([0.4, -0.5, 0.77]) / np.linalg.norm([0.4, -0.5, 0.77])
FLOOR, HALF, SQUARE = -0.5, 1.0, 0.25
REST = np.array([-0.45, 0.35, -0.15])
RADIUS, ORBIT, TURNS = 0.35, 0.55, 0.75


@dataclass(frozen=True)
class Ball:
    """A textured ball: centre [3], rotation about z in radians, and the seed of its colours."""

    centre: Array
    turn: float
    seed: int

    def hit(self, origins: Array, directions: Array) -> Array:
        """Distances [R] along rays [R, 3] to the ball, infinite for a miss or behind the origin."""
        offset = origins - self.centre
        along = (offset * directions).sum(1)
        inside = along**2 - (offset**2).sum(1) + RADIUS**2
        t = -along - np.sqrt(np.maximum(inside, 0))
        return np.where((inside > 0) & (t > 0), t, np.inf)

    def colour(self, x: Array) -> Array:
        """Lit colours [R, 3] of points on the ball."""
        local = (x - self.centre) / RADIUS
        c, s = np.cos(-self.turn), np.sin(-self.turn)
        body = np.stack([c * local[:, 0] - s * local[:, 1], s * local[:, 0] + c * local[:, 1], local[:, 2]], 1)
        waves = np.random.default_rng(self.seed).normal(0.0, 4.0, (3, 3))
        return (0.55 + 0.4 * np.sin(body @ waves + self.seed)) * (0.65 + 0.35 * np.clip(local @ LIGHT, 0, 1))[:, None]


def balls(time: float) -> tuple[Ball, Ball]:
    """The moving ball and the resting one at a time in [0, 1]."""
    angle = 2 * np.pi * TURNS * time
    centre = np.array([ORBIT * np.cos(angle), ORBIT * np.sin(angle), 0.1 + 0.15 * np.sin(2 * angle)])
    return Ball(centre, 2 * angle, 1), Ball(REST, 0.0, 2)


def trace(origins: Array, directions: Array, time: float) -> tuple[Array, Array, Array]:
    """Colours [R, 3], opacity [R] (0 or 1) and distance [R] (0 where nothing is) along unit rays at a time."""
    bodies = balls(time)
    with np.errstate(divide="ignore", invalid="ignore"):
        down = (FLOOR - origins[:, 2]) / directions[:, 2]
        spot = origins + directions * down[:, None]
        on_floor = (down > 0) & (abs(spot[:, :2]) < HALF).all(1)
    depths = np.stack([ball.hit(origins, directions) for ball in bodies] + [np.where(on_floor, down, np.inf)])
    nearest, t = depths.argmin(0), depths.min(0)
    solid = np.isfinite(t)
    x = origins + directions * np.where(solid, t, 0.0)[:, None]
    rgb = np.zeros_like(origins)
    for index, ball in enumerate(bodies):
        mine = solid & (nearest == index)
        rgb[mine] = ball.colour(x[mine])
    mine = solid & (nearest == len(bodies))
    odd = np.floor(x[mine, :2] / SQUARE).sum(1) % 2
    rgb[mine] = np.where(odd[:, None] > 0, [0.75, 0.7, 0.6], [0.25, 0.3, 0.4])
    return rgb, solid.astype(float), np.where(solid, t, 0.0)


def pose(index: int, count: int) -> Array:
    """Camera-to-world [4, 4] with OpenGL axes of one of `count` cameras on an arc around the scene, at two heights."""
    azimuth, height = 2 * np.pi * index / count, (0.75, 1.3)[index % 2]
    eye = np.array([2.9 * np.cos(azimuth), 2.9 * np.sin(azimuth), height])
    back = (eye - [0, 0, -0.1]) / np.linalg.norm(eye - [0, 0, -0.1])
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3] = np.stack([right, np.cross(back, right), back, eye], axis=1)
    return matrix


def picture(matrix: Array, time: float, size: int) -> Array:
    """The picture of a camera at a time, uint8 [size, size, 4]."""
    side = size * SUPER
    u = ((np.arange(side) + 0.5) / side - 0.5) * 2 * np.tan(ANGLE_X / 2)
    local = np.stack([*np.meshgrid(u, -u), -np.ones((side, side))], -1).reshape(-1, 3)
    directions = local @ matrix[:3, :3].T
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rgb, alpha, _ = trace(np.broadcast_to(matrix[:3, 3], directions.shape), directions, time)
    parts = [a.reshape(size, SUPER, size, SUPER, -1).mean((1, 3)) for a in (rgb * alpha[:, None], alpha)]
    straight = parts[0] / np.maximum(parts[1], 1e-9)
    return (np.concatenate([straight, parts[1]], 2).clip(0, 1) * 255).round().astype(np.uint8)


def write(folder: Path, cameras: int = 8, frames: int = 10, size: int = 64, one: bool = False) -> Path:
    """Writes the capture; the frames of a camera are in a folder of its own."""
    listed = []
    for index in range(cameras):
        matrix = pose(index, cameras)
        for frame in range(frames):
            if one and frame % cameras != index:
                continue
            name, time = f"cam{index:02d}/{frame:04d}.png", frame / max(frames - 1, 1)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(matrix, time, size)).save(folder / name)
            listed.append({"file_path": name, "time": time, "transform_matrix": matrix.tolist()})
    document = {"camera_angle_x": ANGLE_X, "frames": listed}
    (folder / "transforms.json").write_text(json.dumps(document, indent=1))
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--size", type=int, default=64, help="of a picture, in pixels")
    parser.add_argument("--one", action="store_true", help="each instant is seen by one camera alone")
    given = parser.parse_args()
    write(given.folder, given.cameras, given.frames, given.size, given.one)
