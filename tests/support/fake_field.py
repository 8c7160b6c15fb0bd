"""A very small field for tests of the model file: a grid, a network, a buffer of every other kind."""

import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from neuralfields import fields
from neuralfields.cameras import Camera
from neuralfields.domain import RADIANCE, Domain
from neuralfields.models import model
from neuralfields.scene import Bounds


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the fake."""

    levels: int = 2
    log2_size: int = 4
    scale: float = 1.5
    activation: str = "relu"
    linear: bool = False
    sizes: tuple[int, ...] = (8, 4)

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= 32:
            raise ValueError(f"levels {self.levels}: must be between 1 and 32")
        if not 1 <= self.log2_size <= 26:
            raise ValueError(f"log2_size {self.log2_size}: must be between 1 and 26")


class FakeField(torch.nn.Module):
    """Holds parameters and computes nothing."""

    Config = Config
    DOMAINS = ("radiance",)
    FORMER: ClassVar[dict[str, object]] = {}

    def __init__(self, config: Config, domain: Domain = RADIANCE) -> None:
        super().__init__()
        self.config, self.domain = config, domain
        self.table = torch.nn.Parameter(torch.randn(config.levels, 2**config.log2_size, 2))
        self.network = torch.nn.Linear(2 * config.levels, config.sizes[0])
        self.register_buffer("mask", torch.tensor([True, False, True]))
        self.register_buffer("scalar", torch.tensor(3.0, dtype=torch.float64))

    def stages(self) -> tuple[float, ...]:
        """None."""
        return ()

    def groups(self) -> list[SimpleNamespace]:
        """Grid and network, as every field names them."""
        grid = SimpleNamespace(role="grid", parameters=[self.table])
        return [grid, SimpleNamespace(role="network", parameters=list(self.network.parameters()))]


FakeField.__module__ = "neuralfields.fields.fake"


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `fake` a known field."""
    module = ModuleType("neuralfields.fields.fake")
    module.FakeField = FakeField  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(fields, "field_names", lambda: ["fake", "hash"], raising=False)
    monkeypatch.setattr(fields, "field_class", lambda name: FakeField, raising=False)


def camera(index: int = 0) -> Camera:
    """A camera turned by its index, with numbers that float32 could not hold."""
    angle = 0.1 + index
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    pose[:3, 3] = [index + 1 / 3, -2.0, 1e-9]
    distortion = (0.01 / 3, -0.002, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    kind = "fisheye" if index % 2 else "perspective"
    return Camera(pose, 40 + index, 30, 50 / 3, 51.0, 20.25, 15.5, kind, distortion)


def sample(seed: int = 0, **config: object) -> model.Model:
    """A model with everything in it, and values that are easy to lose: -0.0, a subnormal, a bit pattern of 64 bits."""
    torch.manual_seed(seed)
    field = FakeField(Config(**config))  # type: ignore[arg-type]
    with torch.no_grad():
        field.table.view(-1)[:3] = torch.tensor([-0.0, 1e-42, 3.0])
    occupancy = torch.randint(-(2**62), 2**62, (2, 32768))
    occupancy[0, 0] = -1
    return model.Model(
        field=field,  # type: ignore[arg-type]
        bounds=Bounds((0.1, 1 / 3, -2.0), 2.5, cascades=2, contraction="cube", near=0.05),
        occupancy=occupancy,
        cameras=tuple(camera(index) for index in range(5)),
        held_out=(0, 3),
        camera_names=tuple(f"images/ä {index}.png" for index in range(5)),
        background=(1.0, 0.5, 0.25),
        made={"command": 'nf fit "a b"', "version": "0.1.0", "steps": 100, "seconds": 1.5, "seed": 0, "scene": "fox"},
        metrics={"psnr": 27.5, "per_view": [27.0, 28.0]},
        lineage=[{"from": "photos"}],
    )
