"""A scene that moves, in small: fields with closed forms in time, and the capture of scenes/moving.py."""

from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import Camera, look_at
from neuralfields.captures.readers import read_scene
from neuralfields.domain import MOVING
from neuralfields.fields.field import Field
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load, save
from neuralfields.options.fit import FitOptions
from neuralfields.rendering.occupancy import Occupancy
from neuralfields.rendering.volume import Volume
from neuralfields.scene import Bounds
from neuralfields.training.fit import fit_scene
from tests.support.settings import training_settings
from tests.support.side_by_side import made_once
from tests.test_scenes import load as load_script

TIMES = (10.0, 30.0)
BOUNDS = Bounds((0.5, 0.5, 0.5), 1.0, times=TIMES)
SIGMA, RADIUS = 4.0, 0.12
SMALL = ("resolutions=16", "features=16", "moments=12", "hidden=16", "smoothness=0.001")


def moving_scene() -> ModuleType:
    """The script of the moving scene."""
    return load_script("moving")


def moving_capture() -> Path:
    """A capture of 8 cameras that take turns: 24 instants of 32 x 32 pixels. Made once a run; not to be changed."""
    return made_once("moving", lambda folder: moving_scene().write(folder, frames=24, size=32, one=True))


def moving_file_path() -> Path:
    """A file of a small field fitted to the moving capture. Made once a run; not to be changed."""
    return made_once("moving.nf", lambda path: save(_fitted(), path))


def moving_model() -> Model:
    """The model of that file."""
    return load(moving_file_path())


def _fitted() -> Model:
    folder, threads = moving_capture(), torch.get_num_threads()
    options = FitOptions(scene=folder, field="kplanes", steps=100, eval_every=0, quiet=True, threads=1, set=SMALL)
    with training_settings(samples=1 << 12):
        model = fit_scene(read_scene(folder), options)
    torch.set_num_threads(threads)
    return model


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


def ball_model() -> Model:
    """The moving ball before black, seen by 6 cameras of 48 x 32 pixels at different times; quick to render."""
    grid = Occupancy(1, moves=True)
    grid.hide_empty(torch.tensor([[0.05, 0.35, 0.35]]), torch.tensor([[0.95, 0.65, 0.65]]))
    cameras = []
    for index in range(6):
        place = np.array([0.5 + 0.4 * np.sin(index), 0.5 - 1.6 * np.cos(0.3 * index), 0.7])
        pose = look_at(place, np.full(3, 0.5), np.array([0.0, 0.0, 1.0]))
        cameras.append(Camera(pose, 48, 32, 48.0, 48.0, 24.0, 16.0, time=TIMES[0] + 4.0 * index))
    return Model(MovingBall(), BOUNDS, grid.bits.repeat(8, 1), tuple(cameras), background=(0.0, 0.0, 0.0))


def volume(field: Field, segments: int = 1) -> Volume:
    """A volume of such a field, occupied everywhere."""
    return Volume(field, BOUNDS, torch.full((segments, 32768), -1, dtype=torch.int64))
