"""Photos of a cube by ray casting, for the tests of poses: every side with one texture, or each with its own.

With one texture on all sides the photos show the same thing four times: COLMAP registers all of them, with small
reprojection errors, at poses that are folded onto one quarter of the circle.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

RADIUS = 4.0  # of the cameras' circle about a cube of side 2
TANGENT = 0.9  # half a picture's width over its focal length
SKY = 0.75


@dataclass(frozen=True)
class Shoot:
    """How photos are taken: their number, the arc in degrees, size in pixels, one texture for all, a rich ground."""

    count: int = 20
    arc: float = 360.0
    size: tuple[int, int] = (480, 360)
    same: bool = False
    ground: bool = False

    @property
    def centres(self) -> np.ndarray:
        """The cameras' true positions [count, 3]."""
        return np.stack([self.pose(index)[1] for index in range(self.count)])

    def pose(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Rotation (columns right, down, forward) and centre of a camera, a little above the middle."""
        angle = np.radians(self.arc) * index / self.count
        wobble = 0.08 * np.random.default_rng(index).standard_normal(2)
        centre = np.array([RADIUS * np.cos(angle), RADIUS * np.sin(angle), 1.2 + wobble[0]])
        forward = np.array([0.0, 0.0, wobble[1]]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(forward, right), forward], axis=1), centre

    def write(self, folder: Path) -> Path:
        """Photos cube_00.png ... in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        faces = [texture(0 if self.same else face) for face in range(6)]
        floor = texture(99, 512) if self.ground else None
        for index in range(self.count):
            Image.fromarray(photo(self, index, faces, floor)).save(folder / f"cube_{index:02d}.png")
        return folder


def texture(seed: int, size: int = 256) -> np.ndarray:
    """A rich random texture, float32 [size, size, 3]: noise at five scales."""
    generator = np.random.default_rng(seed)
    total = np.zeros((size, size, 3))
    for cells in (4, 8, 16, 32, 64):
        total += np.kron(generator.random((cells, cells, 3)), np.ones((size // cells, size // cells, 1)))
    total -= total.min()
    return (total / total.max()).astype(np.float32)


def photo(shoot: Shoot, index: int, faces: list[np.ndarray], floor: np.ndarray | None) -> np.ndarray:
    """One photo, uint8 [H, W, 3], averaged over 2x2 rays a pixel."""
    width, height = 2 * shoot.size[0], 2 * shoot.size[1]
    rotation, centre = shoot.pose(index)
    u, v = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    rays = np.stack([u, v, np.full_like(u, width / (2 * TANGENT))], axis=-1)
    rays = (rays / np.linalg.norm(rays, axis=-1, keepdims=True)) @ rotation.T
    rays = np.where(np.abs(rays) < 1e-9, 1e-9, rays)
    colour = np.full((height, width, 3), SKY, np.float32)
    if floor is not None:
        down = (-1.0 - centre[2]) / rays[..., 2]
        place = centre + down[..., None] * rays
        on = (down > 0) & (np.abs(place[..., :2]).max(-1) < 3)
        colour[on] = sample(floor, place[..., 0][on] / 3, place[..., 1][on] / 3)
    near = np.minimum((-1 - centre) / rays, (1 - centre) / rays)
    far = np.maximum((-1 - centre) / rays, (1 - centre) / rays)
    hit, axis = near.max(-1), near.argmax(-1)
    seen = (hit < far.min(-1)) & (hit > 0)
    place = centre + hit[..., None] * rays
    for k, (a, b) in enumerate([(1, 2), (0, 2), (0, 1)]):
        for side in (-1, 1):
            on = seen & (axis == k) & (np.sign(rays[..., k]) == -side)
            # As it is seen from outside: to the right on every side.
            across = place[..., a] * (side, -side, 1)[k]
            colour[on] = sample(faces[2 * k + (side > 0)], across[on], place[..., b][on])
    return (colour.reshape(shoot.size[1], 2, shoot.size[0], 2, 3).mean((1, 3)) * 255 + 0.5).astype(np.uint8)


def sample(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear values of a texture at x, y in [-1, 1]."""
    last = len(image) - 1
    u, v = np.clip((x + 1) / 2, 0, 1) * last, np.clip((1 - y) / 2, 0, 1) * last
    i, j = np.minimum(u.astype(int), last - 1), np.minimum(v.astype(int), last - 1)
    s, t = (u - i)[:, None], (v - j)[:, None]
    top = image[j, i] * (1 - s) + image[j, i + 1] * s
    return top * (1 - t) + (image[j + 1, i] * (1 - s) + image[j + 1, i + 1] * s) * t


def position_errors(ours: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Distances [N] between camera positions [N, 3] after the similarity that brings ours nearest to the true ones."""
    a, b = ours - ours.mean(0), true - true.mean(0)
    u, stretch, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = (stretch * sign).sum() / (a * a).sum()
    return np.linalg.norm(scale * a @ ((u * sign) @ vt).T - b, axis=1)
