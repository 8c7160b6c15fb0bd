"""What the tests of every splat format ask: how far Gaussians are from others, and the outside judge."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.codecs.quantisation import morton_order
from neuralfields.gaussians import Gaussians

JUDGE = "NEURALFIELDS_SPLAT_TRANSFORM"


def apart(one: Gaussians, other: Gaussians) -> dict[str, float]:
    """The largest difference of each part: means, logarithms of scales, radians, opacity, harmonics by degree."""
    assert len(one) == len(other)
    q, p = (torch.nn.functional.normalize(g.rotations.double(), dim=1) for g in (one, other))
    chord = torch.minimum((q - p).norm(dim=1), (q + p).norm(dim=1))  # an angle's cosine is blind to small ones
    found = {
        "means": (one.means - other.means).abs().max(),
        "scales": (one.scales - other.scales).abs().max(),
        "angle": 4 * torch.asin((chord / 2).clamp(max=1)).max(),
        "opacity": (one.opacity() - other.opacity()).abs().max(),
    }
    for degree in range(min(one.degree, other.degree) + 1):
        band = slice(degree**2, (degree + 1) ** 2)
        found[f"degree {degree}"] = (one.harmonics[:, band] - other.harmonics[:, band]).abs().max()
    return {name: float(value) for name, value in found.items()}


def assert_within(one: Gaussians, other: Gaussians, **most: float) -> None:
    """No part is farther apart than it may be; parts that are not named must be the same to 1e-6."""
    for name, value in apart(one, other).items():
        allowed = most.get(name.replace(" ", "_"), 1e-6)
        assert value <= allowed, f"{name}: {value:.3g} apart, {allowed:.3g} allowed"


def along_the_curve(gaussians: Gaussians) -> Gaussians:
    """The order in which the formats that sort write them."""
    return gaussians.take(torch.from_numpy(morton_order(gaussians.means.numpy())))


def beside(gaussians: Gaussians, other: Gaussians) -> Gaussians:
    """Those of `other` in the order of the nearest of `gaussians`; each must be one's nearest."""
    index = torch.cdist(gaussians.means.double(), other.means.double()).argmin(1)
    assert len(set(index.tolist())) == len(gaussians) == len(other)
    return other.take(index)


def extent(values: torch.Tensor) -> float:
    """Greatest less least."""
    return float(values.max() - values.min())


def judge() -> str:
    """The command of splat-transform; the test is skipped where it or Node is not there."""
    command = os.environ.get(JUDGE) or shutil.which("splat-transform")
    if command is None or shutil.which("node") is None or not Path(command).exists():
        pytest.skip(f"no splat-transform: npm install @playcanvas/splat-transform@2.7.1, its command's path in {JUDGE}")
    return command


def judged(command: str, source: Path, target: Path, *options: str) -> Path:
    """`source` converted to `target` by splat-transform, on the processor."""
    words = ["node", command, "-w", "-q", "-g", "cpu", *options, str(source), str(target)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (done.stdout + done.stderr)[-800:]
    return target


def rows(*columns: np.ndarray) -> bytes:
    """Little-endian bytes of columns one after another."""
    return b"".join(np.ascontiguousarray(column).tobytes() for column in columns)
