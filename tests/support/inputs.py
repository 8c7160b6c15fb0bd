"""Arguments for every op that has a CUDA schedule: what the emulated kernels and a GPU are both judged on.

A new op needs no entry here: ARGUMENTS of its tests/ops/test_<op>.py gives them by the op's name, from `Inputs`.
"""

import importlib
import math
from typing import Any

import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.gpu.schedules import SCHEDULES
from neuralfields.ops import composite
from neuralfields.ops.hash_grid import HashGeometry
from neuralfields.ops.pixel_rays import camera_table
from neuralfields.ops.register import every_op
from tests.support.lenses import LENSES

# How the CPU's op makes its outputs, which a schedule is given.
ALLOCATE = {name: op.allocate for name, op in every_op().items()}
IN_PLACE = ("adam",)
# Ops whose outputs are compared one by one; networks and Gaussians have tests of their own.
PLAIN = [name for name in SCHEDULES if not name.startswith(("network", "splat"))]


def arguments(name: str, dtype: torch.dtype, widths: tuple[int, ...] = (20, 32, 5)) -> list[Any]:
    """Arguments of the op `name` on the CPU, the same for the same dtype; `widths` are a network's."""
    return Inputs(dtype, widths).of(name)


class Inputs:
    """Tensors of one dtype, the same each time."""

    def __init__(self, dtype: torch.dtype, widths: tuple[int, ...]) -> None:
        self.dtype, self.widths, self.generator = dtype, widths, torch.Generator().manual_seed(5)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64).to(self.dtype)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, dtype=torch.float64).to(self.dtype)

    def unit(self, *shape: int) -> Tensor:
        return torch.nn.functional.normalize(self.normal(*shape), dim=1)

    def of(self, name: str) -> list[Any]:
        tests = importlib.import_module(every_op()[name].module.replace("neuralfields.ops.", "tests.ops.test_"))
        if name in getattr(tests, "ARGUMENTS", {}):
            return tests.ARGUMENTS[name](self)
        for ending, own in (("_backward", self._backward), ("", self._forward)):
            if name.endswith(ending):
                return own(name.removesuffix(ending))
        raise AssertionError(name)

    def _forward(self, name: str) -> list[Any]:
        return getattr(self, f"_{name}")()

    def _backward(self, name: str) -> list[Any]:
        given = self._forward(name)
        if name == "spherical_harmonics":
            return [given[0], self.normal(len(given[0]), given[1] ** 2), given[1]]
        if name == "composite":
            sums = composite.composite(*given)[0]
            return [given, sums, self.normal(*sums.shape)]
        if name == "hash_encode":
            return [*given, self.normal(len(given[0]), given[2].shape[0] * given[1].shape[1]), [True, True]]
        if name == "grid_interpolate":
            return [*given, self.normal(len(given[0]), given[1].shape[-1]), [True, True]]
        if name == "rbf":
            return [*given[:3], self.normal(len(given[0]), len(given[1])), given[3], True]
        assert name == "network"
        return [*given, self.normal(len(given[0]), self.widths[-1]), True]

    def _pixel_rays(self) -> list[Any]:
        cameras: list[Camera] = list(LENSES.values())
        sides = torch.tensor([[c.width, c.height] for c in cameras], dtype=self.dtype)
        camera = torch.randint(0, len(cameras), (300,), generator=self.generator)
        middle = 0.5 + 0.5 * (self.uniform(300, 2) - 0.5)  # away from where a strong lens folds
        return [camera_table(cameras, self.dtype), camera, middle * sides[camera]]

    def _march(self) -> list[Any]:
        words = torch.randint(-(2**63), 2**63 - 1, (2, 32768), generator=self.generator)
        occupancy = words * (torch.rand(words.shape, generator=self.generator) < 0.1)
        origins, target = self.uniform(70, 3) * 4 - 1.5, self.uniform(70, 3)
        directions = torch.nn.functional.normalize(target - origins, dim=1)
        return [origins, directions, self.uniform(70), occupancy, [1 / 300, 1 / 8, 1 / 128, 0.05]]

    def _spherical_harmonics(self) -> list[Any]:
        return [self.unit(300, 3), 4]

    def _composite(self) -> list[Any]:
        counts = torch.randint(0, 40, (50,), generator=self.generator)
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        samples = int(offsets[-1])
        density = torch.exp(self.normal(samples) * 2)
        return [density, self.uniform(samples) * 0.2, self.uniform(samples) * 5, self.uniform(samples, 3), offsets]

    def _hash_encode(self) -> list[Any]:
        geometry = HashGeometry.of(level_count=4, table_log2=8, base=4, finest=32)
        x = self.uniform(300, 3) * 1.2 - 0.1
        return [x, self.normal(geometry.entries, 4), geometry.scales, geometry.levels]

    def _grid_interpolate(self) -> list[Any]:
        return [self.uniform(200, 3) * 1.2 - 0.1, self.normal(5, 7, 1, 6)]

    def _rbf(self) -> list[Any]:
        return [self.normal(700, 6), self.normal(13, 6), self.normal(13, 6) * 0.3, 0]

    def _network(self) -> list[Any]:
        shapes = zip(self.widths, self.widths[1:], strict=False)
        return [self.normal(150, self.widths[0]), [self.normal(b, a) / math.sqrt(a) for a, b in shapes]]

    def _adam(self) -> list[Any]:
        gradient = self.normal(1000) * (self.uniform(1000) < 0.5)
        return [self.normal(1000), gradient, self.normal(1000), self.uniform(1000), [0.01, 0.9, 0.99, 1e-10], True]


def copied(value: Any) -> Any:
    """Tensors in nested lists, cloned."""
    if isinstance(value, Tensor):
        return value.clone()
    return [copied(v) for v in value] if isinstance(value, list) else value


def moved(value: Any, device: str) -> Any:
    """Tensors in nested lists, on a device; a hash grid's geometry stays on the CPU, where the op wants it."""
    if isinstance(value, Tensor):
        return value.to(device)
    return [moved(v, device) for v in value] if isinstance(value, list) else value


def tensors(value: Any) -> list[Tensor]:
    """The tensors in nested lists and tuples, in order."""
    if isinstance(value, Tensor):
        return [value]
    return [t for v in value for t in tensors(v)] if isinstance(value, list | tuple) else []
