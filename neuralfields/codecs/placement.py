"""What a checkpoint of another program does not say: where its scene is, where it is empty, and who looked at it.

Vocabulary
  place    the cube that holds the scene, the distance before which nothing is, and the colour behind it
  look     one evaluation of the density per cell, or per 2^3 cells, at a random point in it
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import Camera, focal_from_angle, look_at
from neuralfields.captures.readers import read_scene
from neuralfields.errors import UsageError
from neuralfields.models.model import Model
from neuralfields.ops.occupancy_bits import BRICKS, bricks_of, cells_of
from neuralfields.rendering.occupancy import UNSEEN, Occupancy
from neuralfields.rendering.volume import Volume
from neuralfields.scene import Bounds
from neuralfields.settings import check_range

COARSE_LOOKS, FINE_LOOKS = 2, 3
# Bricks whose coarse looks all stay below this (in 1/inner cube), as do their neighbours', are not looked at again.
EMPTY = 0.05
CAMERAS, RADIUS, SIZE, ANGLE = 100, 4.0, 800, 0.6911112070083618  # those of the synthetic scenes of NeRF


@dataclass(frozen=True)
class Placement:
    """Where a scene is that does not say so itself; None leaves it to the format."""

    centre: tuple[float, float, float] | None = None
    """middle of the cube that holds the scene, in its own units"""
    side: float | None = None
    """side of that cube"""
    near: float | None = None
    """distance from a camera before which nothing is sampled"""
    background: tuple[float, float, float] | None = None
    """colour behind the scene, three numbers in [0, 1]"""

    def __post_init__(self) -> None:
        check_range(self, side=(1e-6, 1e9), near=(0, 1e9))
        for name, limit in (("centre", 1e9), ("background", 1.0)):
            value = getattr(self, name)
            if value is not None and not (len(value) == 3 and all(abs(v) <= limit for v in value)):
                raise UsageError(f"{name} {value}: three numbers up to {limit:g} are needed")
        if self.background is not None and min(self.background) < 0:
            raise UsageError(f"background {self.background}: three numbers in [0, 1] are needed")


def synthetic_cameras() -> tuple[Camera, ...]:
    """Cameras as of the synthetic scenes: spread evenly over the upper half of a sphere, looking at its middle."""
    focal, cameras = focal_from_angle(ANGLE, SIZE), []
    for index in range(CAMERAS):
        height = (index + 0.5) / CAMERAS
        turn = index * math.pi * (3 - math.sqrt(5))
        around = math.sqrt(1 - height * height)
        centre = RADIUS * np.array([around * math.cos(turn), around * math.sin(turn), height])
        pose = look_at(centre, np.zeros(3), np.array([0.0, 0.0, 1.0]))
        cameras.append(Camera(pose, SIZE, SIZE, focal, focal, SIZE / 2, SIZE / 2))
    return tuple(cameras)


def with_scene(model: Model, scene: Path | str | None) -> Model:
    """The model with a capture's own cameras, names and held-out views in place of what it had."""
    if scene is None:
        return model
    found = read_scene(scene).about(model.bounds.origin)
    return replace(
        model,
        cameras=tuple(frame.camera for frame in found.frames),
        camera_names=tuple(frame.name for frame in found.frames),
        held_out=found.test,
        made=model.made
        | {"scene": str(Path(scene).resolve()), "format": found.kind.partition("/")[0], "cameras": "the capture's"},
    )


@torch.no_grad()
def find_occupied(volume: Volume, seed: int = 0) -> Tensor:
    """Occupancy [cascades, 32768] of a field that has none, found by looking at its density in every cell.

    Coarsely first; then, in the bricks where something was found and in those beside them, at every cell a few times.
    Cells beside occupied ones count too: a few looks miss thin parts, which costs a real chair up to 0.26 dB a view.
    """
    generator = torch.Generator().manual_seed(seed)
    occupancy = Occupancy(volume.bounds.cascades)
    for _ in range(COARSE_LOOKS):
        occupancy.update(volume.density, generator, 1.0, coarse=True)
    density = occupancy.density
    bricks = (density.amax(2) > EMPTY).reshape(-1, BRICKS, BRICKS, BRICKS)
    density[~_with_neighbours(bricks).flatten(1)] = UNSEEN
    occupancy.restore(density, occupancy.bits, 0)
    for _ in range(FINE_LOOKS):
        occupancy.update(volume.density, generator, 1.0, coarse=False)
    occupancy.pack()
    return bricks_of(_with_neighbours(cells_of(occupancy.bits)))


def _with_neighbours(cubes: Tensor) -> Tensor:
    """Cubes [cascades, n, n, n] bool, and all that touch them."""
    return torch.nn.functional.max_pool3d(cubes.float(), 3, 1, 1) > 0


def box(place: Placement, side: float, near: float) -> Bounds:
    """One cascade around the place's centre, with the format's own side and near where it says none."""
    centre = tuple(float(v) for v in place.centre or (0.0, 0.0, 0.0))
    chosen = side if place.side is None else place.side
    return Bounds(centre, float(chosen), near=float(near if place.near is None else place.near))
