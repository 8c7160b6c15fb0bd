"""The scene: photos with their cameras, its bounds, and the split into training and held-out photos.

Vocabulary
  frame      one photo on disk with its camera (at the size of the file)
  bounds     where the scene is: an inner cube, and the space around it
  held out   frames kept for validation and evaluation, never trained on (the test split)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Integer

from neuralfields.cameras import Camera
from neuralfields.domain import MOVING, RADIANCE, Domain

ContractionKind = Literal["box", "cube"]


@dataclass(frozen=True)
class Bounds:
    """Bounds of a scene: its inner cube (AABB), and how the space around it is contracted into the unit cube.

    `centre` [3] and `side` (world units) give the inner cube: u = (x - centre) / side + 0.5 lies in [0, 1]^3 there.
    The scene extends to `2 ** (cascades - 1)` times the side. `contraction`: "box" scales that whole extent linearly
    to the unit cube; "cube" folds everything outside the inner cube into it (see ops/contract.py).
    `near`: distance from a camera, in world units, before which nothing is sampled. `origin` [3]: the point of the
    capture's world that is (0, 0, 0) here; other than zero where float32 could not hold the capture's own positions.
    `times`: the first and the last moment of a scene that moves, in the capture's own unit; None if it stands still.
    """

    centre: tuple[float, float, float]
    side: float
    cascades: int = 1
    contraction: ContractionKind = "box"
    near: float = 0.0
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    times: tuple[float, float] | None = None

    @property
    def domain(self) -> Domain:
        """The domain of a radiance field of the scene: space, and time where it moves."""
        return RADIANCE if self.times is None else MOVING

    def moment(self, time: float) -> float:
        """A time of the capture's as a field takes it: in [0, 1], what lies outside the scene's times at their ends."""
        first, last = self.times or (0.0, 1.0)
        return min(max((time - first) / (last - first), 0.0), 1.0)

    def apart(self, time: float | None, other: float | None) -> float:
        """How far two times are apart, as a share of the scene's times; 0 where one is not known."""
        return 0.0 if time is None or other is None else abs(self.moment(time) - self.moment(other))


FURTHEST = 10_000.0  # sides of the inner cube: all of it is then far less than a pixel


def kept_near(camera: Camera, bounds: Bounds) -> Camera:
    """The camera, moved straight towards the bounds' centre where it is more than `FURTHEST` sides away from it.

    Ray marching resolves no steps at such distances (ops/march.py), and float32 no pixels.
    """
    centre = np.asarray(bounds.centre, dtype=np.float64)
    away = camera.centre - centre
    distance, most = float(np.linalg.norm(away)), FURTHEST * bounds.side
    if distance <= most:
        return camera
    pose = camera.world_from_camera.copy()
    pose[:3, 3] = centre + away * (most / distance)
    return replace(camera, world_from_camera=pose)


@dataclass(frozen=True)
class Sightings:
    """Sparse points that are visible in a photo: `points` [K] indices, `errors` [K] of reprojection in pixels."""

    points: Integer[np.ndarray, " K"]
    errors: Float[np.ndarray, " K"]


@dataclass(frozen=True)
class Frame:
    """A photo on disk: `name` (its path relative to the capture), its camera at the file's size, an optional mask.

    A mask is black where pixels are ignored, or white there where `mask_ignores`; with `mask_cuts` they are no longer
    ignored, but empty, as where a photo is transparent. `sightings`: of the sparse points.
    `depth_path`: a map of depth along the camera's axis, `depth_unit` its unit in the capture's where that is stated.
    """

    name: str
    path: Path
    camera: Camera
    mask_path: Path | None = None
    mask_ignores: bool = False
    mask_cuts: bool = False
    sightings: Sightings | None = None
    depth_path: Path | None = None
    depth_unit: float | None = None


def time_range(frames: Sequence[Frame]) -> tuple[float, float] | None:
    """The times of a field's first and last moment, or None where the scene stands still.

    Times in [0, 1], as D-NeRF writes them, are of a scene that lasts from 0 to 1. A scene moves if every frame has a
    time and not all have the same.
    """
    times = [frame.camera.time for frame in frames]
    if None in times or len(set(times)) < 2:
        return None
    first, last = min(times), max(times)
    return (0.0, 1.0) if 0 <= first and last <= 1 else (first, last)


@dataclass(frozen=True)
class Scene:
    """A posed capture. Pixels stay on disk until they are asked for (captures/images.py).

    `because`: what the bounds follow, in words. `backdrop` [3] in [0, 1]: the one colour behind an object in opaque
    photos, where they have one.
    """

    name: str
    root: Path
    kind: str
    frames: tuple[Frame, ...]
    train: tuple[int, ...]
    test: tuple[int, ...]
    bounds: Bounds
    has_alpha: bool = False
    points: Float[np.ndarray, "N 3"] | None = None
    warnings: tuple[str, ...] = ()
    because: str = ""
    backdrop: tuple[float, float, float] | None = None

    def still(self) -> "Scene":
        """The same scene without its times: what moves in it is then blurred."""
        frames = tuple(replace(frame, camera=replace(frame.camera, time=None)) for frame in self.frames)
        return replace(self, frames=frames, bounds=replace(self.bounds, times=None))

    def about(self, origin: tuple[float, float, float]) -> "Scene":
        """The same scene with another origin: that of a model, whose frame cameras and points must share."""
        if origin == self.bounds.origin:
            return self
        by = np.subtract(self.bounds.origin, origin)
        centre = tuple(float(v) for v in np.add(self.bounds.centre, by))
        return replace(
            self,
            frames=tuple(replace(frame, camera=frame.camera.moved(by)) for frame in self.frames),
            bounds=replace(self.bounds, centre=centre, origin=origin),
            points=None if self.points is None else (self.points.astype(np.float64) + by).astype(np.float32),
        )
