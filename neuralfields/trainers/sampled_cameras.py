"""Samples camera viewpoints like those of a capture, from the cameras that a model records; no photo is needed.

Vocabulary
  focus     the point nearest to all optical axes (arrangement.focus_point)
  around    cameras around an object (inward-facing): distance, elevation and the miss of the axis are sampled between
            the 5th and 95th percentile of those recorded, the azimuth anywhere between recorded ones
  between   all other captures (forward-facing, rooms, streets): poses interpolated between a camera and one of its
            nearest, with a jitter of a fraction of their distance
Lenses are those of recorded cameras.

PVD-AL (arXiv:2304.04012) found that sampling from measured percentiles, not from a fixed sphere, matters on real
captures.
"""

from dataclasses import replace

import numpy as np

from neuralfields.cameras import Camera, look_at, quaternion, rotation_from_quaternion
from neuralfields.captures.arrangement import common_up, focus_point, is_forward_facing
from neuralfields.errors import InputError
from neuralfields.pictures.camera_paths import rings
from neuralfields.scene import Bounds

LOW, HIGH = 5, 95  # percentiles of the recorded cameras
NEIGHBOURS = 4
JITTER = 0.2  # of the distance between neighbours
TURN = 9.0  # degrees about each axis, for hard examples


class Viewpoints:
    """Sampler of cameras like those of a capture. Raises InputError where there are none."""

    def __init__(self, cameras: list[Camera], bounds: Bounds) -> None:
        if not cameras:
            raise InputError("the model records no cameras, so no viewpoints can be sampled from it; give --scene")
        self.cameras = cameras
        self.up, self.focus = common_up(cameras), focus_point(cameras, bounds)
        self._centres = np.stack([camera.centre for camera in cameras])
        away = self._centres - self.focus
        distance = np.linalg.norm(away, axis=1)
        level = away - (away @ self.up)[:, None] * self.up
        self.elevation = np.degrees(np.arctan2(away @ self.up, np.linalg.norm(level, axis=1)))
        self.distance = distance
        self._aims = aim = np.stack([camera.forward for camera in cameras])
        along = (-away * aim).sum(1)
        self.miss = np.linalg.norm(-away - along[:, None] * aim, axis=1)
        self.around = (
            not is_forward_facing(cameras)
            and len(cameras) >= 8
            and float((along > 0).mean()) > 0.95
            and float(np.median(self.miss / distance)) < 0.25
        )
        first = _perpendicular(self.up)
        self._axes = first, np.cross(self.up, first)
        self.azimuth = np.sort(np.arctan2(away @ self._axes[1], away @ self._axes[0]))
        self._elevations, self._distances = (np.percentile(of, (LOW, HIGH)) for of in (self.elevation, distance))
        self._most_missed = np.percentile(self.miss, HIGH)
        self._gaps = np.diff(self.azimuth, append=self.azimuth[0] + 2 * np.pi)
        self._gaps_to = np.cumsum(np.where(self._gaps > np.radians(120), 0.0, self._gaps))  # larger ones are left out

    def draw(self, count: int, random: np.random.Generator) -> list[Camera]:
        """Samples `count` new cameras."""
        one = self._around if self.around else self._between
        return [one(random) for _ in range(count)]

    def _lens(self, random: np.random.Generator) -> Camera:
        return self.cameras[random.integers(len(self.cameras))]

    def _around(self, random: np.random.Generator) -> Camera:
        elevation, distance = np.radians(random.uniform(*self._elevations)), random.uniform(*self._distances)
        azimuth = self._azimuth(random)
        level = np.cos(azimuth) * self._axes[0] + np.sin(azimuth) * self._axes[1]
        centre = self.focus + distance * (np.cos(elevation) * level + np.sin(elevation) * self.up)
        miss = random.uniform(0, self._most_missed) * _unit(random.standard_normal(3))
        return replace(self._lens(random), world_from_camera=look_at(centre, self.focus + miss, self.up))

    def _azimuth(self, random: np.random.Generator) -> float:
        """Samples an azimuth between two neighbouring recorded ones; gaps of over 120 degrees are left out."""
        which = np.searchsorted(self._gaps_to / self._gaps_to[-1], random.random(), side="right")
        return float(self.azimuth[which] + self._gaps[which] * random.random())

    def _between(self, random: np.random.Generator) -> Camera:
        index = int(random.integers(len(self.cameras)))
        camera = self.cameras[index]
        if len(self.cameras) == 1:
            return camera
        distance = np.linalg.norm(self._centres - camera.centre, axis=1)
        turned = 1 - self._aims @ camera.forward
        near = np.argsort(distance + turned * np.median(distance))[1 : NEIGHBOURS + 1]
        other = self.cameras[int(random.choice(near))]
        pose = _partway(camera, other, random.random())
        reach = np.linalg.norm(other.centre - camera.centre)
        pose[:3, 3] += JITTER * reach * random.uniform(-1, 1, 3)
        return replace(camera, world_from_camera=pose)


def ringed(bounds: Bounds) -> list[Camera]:
    """Rings of cameras round a scene; where it moves, each looks at another of its times."""
    cameras = rings(bounds)
    if bounds.times is None:
        return cameras
    times = np.random.default_rng(0).permutation(np.linspace(*bounds.times, len(cameras)))
    return [replace(camera, time=float(time)) for camera, time in zip(cameras, times, strict=True)]


def jittered(camera: Camera, random: np.random.Generator, reach: float = 0.0) -> Camera:
    """Jitters a camera: turns it by up to 9 degrees about each axis, moves it by up to `reach` (world) along each."""
    pose = camera.world_from_camera.copy()
    for axis, angle in enumerate(np.radians(random.uniform(-TURN, TURN, 3))):
        turn, (a, b) = np.eye(3), [(1, 2), (2, 0), (0, 1)][axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        pose[:3, :3] = pose[:3, :3] @ turn
    pose[:3, 3] += reach * random.uniform(-1, 1, 3)
    return replace(camera, world_from_camera=pose)


def _partway(one: Camera, other: Camera, share: float) -> np.ndarray:
    """Interpolates two camera poses: positions linearly, rotations by normalised quaternions along the shorter arc."""
    a, b = quaternion(one.world_from_camera[:3, :3]), quaternion(other.world_from_camera[:3, :3])
    pose = np.eye(4)
    pose[:3, :3] = rotation_from_quaternion((1 - share) * a + share * (b if a @ b >= 0 else -b))
    pose[:3, 3] = (1 - share) * one.centre + share * other.centre
    return pose


def _perpendicular(direction: np.ndarray) -> np.ndarray:
    return _unit(np.cross(direction, np.eye(3)[int(np.argmin(np.abs(direction)))]))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
