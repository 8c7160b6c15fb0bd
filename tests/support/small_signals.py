"""Small signals that every kind of test uses, and fits of few samples."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neuralfields.options.fit import FitOptions
from neuralfields.signals import shape as signal_shape
from tests.support.settings import set_training

SMALL = ("levels=4", "table=10", "base=4", "hidden=16", "code=8")

FEW = {
    "NEAR": ((0.02, 1 << 13), (0.005, 1 << 13)), "ANYWHERE": 1 << 12,
    "IOU_POINTS": 1 << 12, "VALIDATION_POINTS": 1 << 10, "CHAMFER_RESOLUTION": 32, "CHAMFER_POINTS": 1 << 10,
}  # fmt: skip


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch):
    """Steps of few samples in one thread; shapes are sampled and measured at few points."""
    set_training(monkeypatch, signal_samples=1 << 11)
    for name, value in FEW.items():
        monkeypatch.setattr(signal_shape, name, value)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def scene_picture(width: int = 48, height: int = 32) -> np.ndarray:
    """Nothing in it is symmetric: red grows to the right, green downwards, a blue block stands at the top left."""
    v, u = np.mgrid[0:height, 0:width]
    pixels = np.stack([255 * u / width, 255 * v / height, 0 * u], -1)
    pixels[2:10, 3:15] = (20, 40, 240)
    return pixels.round().astype(np.uint8)


def chosen(path: Path, steps: int = 250, **others) -> FitOptions:
    return FitOptions(scene=path, steps=steps, set=SMALL, threads=1, quiet=True, eval_every=0, **others)


def tone(seconds: float = 0.05, rate: int = 8000) -> np.ndarray:
    """Two channels [T, 2] that differ, at a quarter of full scale."""
    t = np.arange(round(seconds * rate)) / rate
    return 0.25 * np.stack([np.sin(2 * np.pi * 220 * t), np.sin(2 * np.pi * 330 * t) * np.exp(-20 * t)], 1)


def saved(folder: Path, pixels: np.ndarray, name: str = "a.png") -> Path:
    Image.fromarray(pixels).save(folder / name)
    return folder / name
