"""Depth supervision by depth maps of the photos: pixels whose depth was measured, with their distances along the rays.

Vocabulary
  stored   the numbers of the files (captures/depth_files.py)
  unit     of a stored number, in units of the capture

Maps state no unit, and captures from photos alone have none: it is stated by the capture (Instant-NGP's
`integer_depth_scale`), found by the capture's sparse points, or that of 1 and 1/1000 (metres, millimetres) by which
depth is as far away as the scene. The loss is that of sparse points (sparse_depth.py).
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuralfields.cameras import Camera, project
from neuralfields.captures.depth_files import read_depth
from neuralfields.captures.images import LoadedFrames
from neuralfields.ops.pixel_rays import camera_table, pixel_rays
from neuralfields.scene import Scene
from neuralfields.supervision.sparse_depth import DepthRays

PIXELS = 4096  # of a map at most, drawn once
CHECKED = 40  # maps at most that the unit is found by
LEAST_POINTS = 100  # sparse points with a depth, from which on they tell the unit
USUAL, SAME = (1.0, 1e-3), 1.25  # units, and by how much one found by points may be off one of them
PLAUSIBLE = 30.0  # how many times the scene's distance the median depth may be, or less


@dataclass(frozen=True)
class MapRays:
    """Rays of depth maps, None where the maps cannot be used; `line` says what was found; `digest` of all numbers."""

    rays: DepthRays | None
    line: str
    digest: str = ""


def depth_map_rays(scene: Scene, loaded: LoadedFrames) -> MapRays | None:
    """Draws measured pixels of the training photos' depth maps; None for a capture without any.

    Raises InputError for a map that cannot be read.
    """
    frames = [scene.frames[index] for index in loaded.indices]
    named = [i for i, frame in enumerate(frames) if frame.depth_path is not None]
    if not named:
        return None
    maps = {i: read_depth(frames[i].depth_path) for i in named}
    whole = any(integers for _, integers in maps.values())
    unit, how = _unit(scene, loaded, {i: stored for i, (stored, _) in maps.items()}, frames[named[0]].depth_unit, whole)
    if unit is None:
        return MapRays(None, f"{len(named)} depth maps are not used: {how}")
    parts = [_rays(i, maps[i][0] * unit, loaded.cameras[i]) for i in named]
    camera, pixel, distance = (torch.cat(part) for part in zip(*parts, strict=True))
    if not len(camera):
        return MapRays(None, f"{len(named)} depth maps are not used: nothing in them is measured")
    rays = DepthRays(camera, pixel, distance, torch.ones(len(camera)), camera_table(loaded.cameras))
    middle = float(distance.median())
    line = f"{len(named)} depth maps teach the depth, {how}; half is nearer than {middle:.3g} units"
    return MapRays(rays, line, hashlib.sha256(distance.numpy().tobytes()).hexdigest())


def _rays(index: int, depth: np.ndarray, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
    """Photo [K], pixels [K, 2] of the camera's size and distances [K] of some measured pixels of a map."""
    known = np.column_stack(np.nonzero(depth))
    known = known[np.random.default_rng(index).permutation(len(known))[:PIXELS]]
    scale = camera.width / depth.shape[1], camera.height / depth.shape[0]
    return rays_through(index, torch.from_numpy(known), torch.from_numpy(depth), scale, camera)


def rays_through(
    index: int, known: Int[Tensor, "K 2"], depth: Float[Tensor, "h w"], scale: tuple[float, float], camera: Camera
) -> tuple[Int[Tensor, " R"], Float[Tensor, "R 2"], Float[Tensor, " R"]]:
    """Rays through pixels of a map of depths along the axis: the photo of each, its pixel, the distance along it.

    `known`: rows and columns; `scale`: pixels of the photo in one of the map, across and down. Without those that a
    fisheye sees beside itself.
    """
    pixel = ((known.flip(1) + 0.5) * torch.tensor(scale, dtype=torch.float64)).to(torch.float32)
    owner = torch.zeros(len(known), dtype=torch.int64)
    _, direction = pixel_rays(camera_table([camera]), owner, pixel)
    along = direction @ torch.from_numpy(camera.forward).to(torch.float32)
    ahead = along > 0.05  # beyond it a depth along the axis says nothing
    distance = depth[known[:, 0], known[:, 1]].to(torch.float32) / along.clamp(min=0.05)
    return owner[ahead] + index, pixel[ahead], distance[ahead]


def _unit(
    scene: Scene, loaded: LoadedFrames, maps: dict[int, np.ndarray], stated: float | None, whole: bool
) -> tuple[float | None, str]:
    """The maps' unit in the capture's, None for none that can be; and how it was found, in words."""
    if stated is not None:
        return stated, f"in units of {stated:g} as the capture states"
    some = list(maps)[:: max(1, len(maps) // CHECKED)]
    if (found := _by_points(scene, loaded, maps, some)) is not None:
        near = min(USUAL, key=lambda unit: abs(np.log(found / unit)))
        if max(found / near, near / found) < SAME:
            return near, f"in units of {near:g} by the sparse points"
        return found, f"in units of {found:.4g} by the sparse points"
    known = np.concatenate([maps[i][maps[i] > 0] for i in some])
    middle = float(np.median(known)) if len(known) else 0.0
    centre = np.array(scene.bounds.centre)
    away = [np.linalg.norm(camera.centre - centre) for camera in loaded.cameras]
    usual = max(float(np.median(away)), 0.25 * scene.bounds.side)
    if middle <= 0:
        return None, "nothing in them is measured"
    order = USUAL[::-1] if whole else USUAL
    unit = min(order, key=lambda unit: abs(np.log(middle * unit / usual)))
    if not 1 / PLAUSIBLE < middle * unit / usual < PLAUSIBLE:
        return None, (
            f"their median, {middle:.3g}, is no distance of this scene ({usual:.3g} units) in metres or in millimetres"
        )
    return unit, f"in {'units of the capture' if unit == 1 else 'thousandths of its units'} by its size"


def _by_points(scene: Scene, loaded: LoadedFrames, maps: dict[int, np.ndarray], some: list[int]) -> float | None:
    """The median of sparse points' depth over the stored depth where they are seen; None for too few of them."""
    if scene.points is None:
        return None
    ratios = []
    for index in some:
        stored, camera = maps[index], loaded.cameras[index]
        pixel, depth = project(camera, scene.points.astype(np.float64))
        inside = (depth > 0) & (pixel >= 0).all(1) & (pixel < (camera.width, camera.height)).all(1)
        scale = np.array([stored.shape[1] / camera.width, stored.shape[0] / camera.height])
        column, row = (pixel[inside] * scale).astype(int).T
        there = stored[row.clip(0, stored.shape[0] - 1), column.clip(0, stored.shape[1] - 1)]
        ratios.append(depth[inside][there > 0] / there[there > 0])
    found = np.concatenate(ratios) if ratios else np.zeros(0)
    return float(np.median(found)) if len(found) >= LEAST_POINTS else None
