"""A scene that moves, in small: fields with closed forms in time, and the capture of scenes/moving.py."""

from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from neuralfields.domain import MOVING
from neuralfields.fields.field import Field
from neuralfields.rendering.volume import Volume
from neuralfields.scene import Bounds
from tests.support.side_by_side import made_once
from tests.test_scenes import load

TIMES = (10.0, 30.0)
BOUNDS = Bounds((0.5, 0.5, 0.5), 1.0, times=TIMES)
SIGMA, RADIUS = 4.0, 0.12


def moving_scene() -> ModuleType:
    """The script of the moving scene."""
    return load("moving")


def moving_capture() -> Path:
    """A capture of 8 cameras that take turns: 24 instants of 32 x 32 pixels. Made once a run; not to be changed."""
    return made_once("moving", lambda folder: moving_scene().write(folder, frames=24, size=32, one=True))


class ThickeningFog(Field):
    """The same density everywhere, SIGMA times the moment; grey, as bright as the moment."""

    domain = MOVING

    def features(self, x: Tensor) -> Tensor:
        return x

    def decode(self, f: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        return (SIGMA * f[:, 3]).clamp(min=1e-12).log(), f[:, 3:].expand(-1, 3)


class MovingBall(Field):
    """An opaque ball that moves along x, from 0.2 to 0.8."""

    domain = MOVING

    def features(self, x: Tensor) -> Tensor:
        return x

    def decode(self, f: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        offset = f[:, :3] - torch.stack([0.2 + 0.6 * f[:, 3], *torch.full((2, len(f)), 0.5).to(f)], 1)
        return torch.where(offset.norm(dim=1) < RADIUS, 500.0, 1e-12).log().to(f), torch.ones_like(f[:, :3])


def volume(field: Field, segments: int = 1) -> Volume:
    """A volume of such a field, occupied everywhere."""
    return Volume(field, BOUNDS, torch.full((segments, 32768), -1, dtype=torch.int64))
