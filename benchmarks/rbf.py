"""Radial basis functions as a decoder against small networks, on one and the same hash grid, at equal steps.

python benchmarks/rbf.py [--quick] [--steps 3000] [--seeds 3]

Picture: 256 x 256, 8192 pixels a step, L1. Shape: the distance to an analytic shape, 8192 points a step, half of them
near the surface, squared error over (|distance| + 0.1); IoU of the inside on 128^3 points. Adam, 1e-2 for grids and
centres and 3e-2 for every other weight of every decoder, both falling tenfold. The grid is small (16 thousand
parameters in the picture), so that the decoder matters. `multiply_adds` are of the decoder, for one point; 64
exponentials come on top of those of the units.

  network 1 wide   one hidden layer, as many parameters as rbf      network 3 x 64   three hidden layers
  rbf              64 Gaussian units, data-driven centres and widths, linear bypass
  rbf 119 units    at most 0.78 of the multiply-adds of three layers, the paper's share
  rbf released     as the paper's code begins
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from statistics import mean, pstdev
from typing import Any

import torch
from table import kept, row, write
from torch import Tensor

from neuralfields.domain import Domain
from neuralfields.fields import hash as hash_field
from neuralfields.fields import rbf as rbf_field
from neuralfields.fields.field import Field
from neuralfields.ops.rbf import rbf, rbf_products, rbf_reference
from neuralfields.trainers.trainer import StepReport, Trainer

SIDE, SAMPLES, LATTICE = 256, 1 << 13, 128
IMAGE, SHAPE = Domain("image", 2, 3), Domain("shape", 3, 1)
WIDE = {IMAGE: 125, SHAPE: 127}
GRID = {IMAGE: {"table": 9, "finest": 256}, SHAPE: {"table": 11, "finest": 128}}
DECODERS: dict[str, dict[str, Any]] = {
    "network 1 wide": {"density_layers": 0, "colour_layers": 1},
    "network 3 x 64": {"hidden": 64, "density_layers": 1, "colour_layers": 2},
    "rbf": {},
    "rbf 119 units": {"units": 119},
    "rbf released": {"initialisation": "released", "bypass": False},
}


def made(decoder: str, domain: Domain) -> Field:
    """A field of that decoder on the domain's grid."""
    module = rbf_field if decoder.startswith("rbf") else hash_field
    settings = GRID[domain] | DECODERS[decoder]
    if decoder == "network 1 wide":
        settings["hidden"] = WIDE[domain]
    return module.FIELD(module.Config(**settings), domain)


class Decoded(Trainer):
    """A fit in which networks learn at the rate of the units' readers: at the grid's own 1e-2 they come to less."""

    def __init__(self, field: Field, seed: int) -> None:
        super().__init__(field, seed)
        if not isinstance(field, rbf_field.RbfField):
            rate = rbf_field.Config().reader_learning_rate
            groups = self.optimiser.groups
            self.optimiser.groups = [replace(g, learning_rate=rate) if g.role == "network" else g for g in groups]


def decoder_size(field: Field) -> tuple[int, int]:
    """Parameters and multiply-adds a point of what comes after the grid."""
    parameters = sum(p.numel() for name, p in field.named_parameters() if name != "table")
    if isinstance(field, rbf_field.RbfField):
        return parameters, 2 * field.centres.numel() + field.weights.numel()
    widths = [field.heads.value[0].shape[1], *(weight.shape[0] for weight in field.heads.value)]
    return parameters, sum(a * b for a, b in pairwise(widths))


class Picture(Decoded):
    """Pixels [SIDE, SIDE, 3] in [0, 1]."""

    def __init__(self, field: Field, pixels: Tensor, seed: int) -> None:
        super().__init__(field, seed)
        self.pixels = pixels.reshape(-1, 3)

    def values(self, index: Tensor) -> Tensor:
        """Evaluates the field at pixels."""
        x = (torch.stack([index % SIDE, index // SIDE], 1) + 0.5) / SIDE
        return self.field.values(self.field.features(x))

    def step(self, progress: float) -> StepReport:
        """L1 on random pixels."""
        self.advance(progress)
        index = torch.randint(0, len(self.pixels), (SAMPLES,), generator=self.generator())
        loss = (self.values(index) - self.pixels[index]).abs().mean()
        self.descend(loss, progress)
        return StepReport(SAMPLES, SAMPLES, float(loss.detach()))

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """PSNR of all pixels, in 8 bits."""
        found = self.values(torch.arange(len(self.pixels))).clamp(0, 1).mul(255).round() / 255
        return {"psnr": float(-10 * (found - self.pixels).square().mean().log10())}


def distance(x: Tensor) -> Tensor:
    """Signed distance of a ring, three rods and a ball, x [S, 3] -> [S]: exact outside of them."""
    p = x - 0.5
    ring = torch.hypot(torch.hypot(p[:, 0], p[:, 1]) - 0.3, p[:, 2]) - 0.05
    rods = [torch.hypot(p[:, (a + 1) % 3] - 0.06 * a, p[:, (a + 2) % 3] + 0.05) for a in range(3)]
    rods = [torch.maximum(rod - 0.025, p[:, a].abs() - 0.4) for a, rod in enumerate(rods)]
    ball = (p - torch.tensor([0.15, 0.1, 0.2])).norm(dim=1) - 0.12
    return torch.stack([ring, *rods, ball]).amin(0)


class Shape(Decoded):
    """The distance in the unit cube."""

    def __init__(self, field: Field, near: Tensor, seed: int) -> None:
        super().__init__(field, seed)
        self.near = near

    def values(self, x: Tensor) -> Tensor:
        """Evaluates the field at points."""
        return self.field.values(self.field.features(x))[:, 0]

    def step(self, progress: float) -> StepReport:
        """Relative squared error on points everywhere and near the surface."""
        self.advance(progress)
        generator = self.generator()
        index = torch.randint(0, len(self.near), (SAMPLES // 2,), generator=generator)
        jitter = 0.02 * torch.randn(SAMPLES // 2, 3, generator=generator)
        x = torch.cat([torch.rand(SAMPLES // 2, 3, generator=generator), (self.near[index] + jitter).clamp(0, 1)])
        y = distance(x)
        loss = ((self.values(x) - y).square() / (y.abs() + 0.1)).mean()
        self.descend(loss, progress)
        return StepReport(SAMPLES, SAMPLES, float(loss.detach()))

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Intersection over union of the insides on LATTICE^3 points."""
        axis = (torch.arange(LATTICE) + 0.5) / LATTICE
        both = either = 0
        for z in axis:
            x = torch.stack([*torch.meshgrid(axis, axis, indexing="ij"), z.expand(LATTICE, LATTICE)], -1).reshape(-1, 3)
            a, b = self.values(x) < 0, distance(x) < 0
            both, either = both + int((a & b).sum()), either + int((a | b).sum())
        return {"iou": both / either}


def picture() -> Tensor:
    """The astronaut at 256 x 256."""
    import skimage.data
    import skimage.transform

    pixels = skimage.transform.resize(skimage.data.astronaut(), (SIDE, SIDE), anti_aliasing=True)
    return torch.from_numpy(pixels).float()


def surface() -> Tensor:
    """Points near the shape's surface."""
    x = torch.rand(1 << 20, 3, generator=torch.Generator().manual_seed(0))
    return x[distance(x).abs() < 0.01]


def numeric() -> dict[str, float]:
    """The largest error of both forms of the distances, of activations in [0, 1], 10 deviations from the origin."""
    generator = torch.Generator().manual_seed(0)
    f, centres = (torch.randn(n, 18, generator=generator) + 10 for n in (4096, 64))
    b = torch.randn(64, 18, generator=generator) * 0.5 - 3
    want = rbf_reference(f.double(), centres.double(), b.double())
    forms = {"products": rbf_products, "native": rbf}
    return {name: float((form(f, centres, b) - want).abs().max()) for name, form in forms.items()}


def measure(case: tuple[str, str, int], trainers: dict[str, Callable[[str, int], Trainer]], steps: int) -> dict:
    """One fit."""
    task, decoder, seed = case
    torch.manual_seed(seed)
    trainer = trainers[task](decoder, seed)
    start = time.process_time()
    for step in range(steps):
        trainer.step(step / steps)
    seconds = time.process_time() - start
    parameters, operations = decoder_size(trainer.field)
    return {
        "task": task, "decoder": decoder, "seed": seed, "parameters": parameters, "multiply_adds": operations,
        **{name: round(value, 4) for name, value in trainer.measure().items()}, "cpu_seconds": round(seconds, 1),
    }  # fmt: skip


def summary(rows: list[dict[str, Any]], command: str) -> list[dict[str, Any]]:
    """Means over seeds, and what they are over the network of as many parameters."""
    found = []
    for task, figure in (("picture", "psnr"), ("shape", "iou")):
        mine = {d: [r for r in rows if (r["task"], r["decoder"]) == (task, d)] for d in DECODERS}
        base = mean(r[figure] for r in mine["network 1 wide"])
        for decoder, of in mine.items():
            scores, operations = [r[figure] for r in of], of[0]["multiply_adds"]
            figures = {"task": task, "decoder": decoder, "parameters": of[0]["parameters"], "multiply_adds": operations}
            figures["of_3_x_64"] = round(operations / mine["network 3 x 64"][0]["multiply_adds"], 2)
            figures |= {"figure": figure, "mean": round(mean(scores), 4), "spread": round(pstdev(scores), 4)}
            found.append(row(command, **figures, over_1_wide=round(mean(scores) - base, 4), seeds=len(scores)))
    for form, error in numeric().items():
        figures = {"task": "distances", "decoder": form, "figure": "largest error of phi", "mean": error}
        found.append(row(command, **figures))
    return found


def main() -> None:
    """The numeric check, every fit, then the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000, help="of the picture; the shape takes a third")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="50 steps, one seed, nothing is written")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("largest error of the distances:", numeric(), flush=True)
    pixels, near = picture(), surface()
    trainers = {
        "picture": lambda decoder, seed: Picture(made(decoder, IMAGE), pixels, seed),
        "shape": lambda decoder, seed: Shape(made(decoder, SHAPE), near, seed),
    }
    steps = {"picture": 50, "shape": 50} if given.quick else {"picture": given.steps, "shape": given.steps // 3}
    command = f"python benchmarks/rbf.py --steps {given.steps} --seeds {given.seeds}"
    rows = [] if given.quick else kept("rbf-runs", command)
    done = {(r["task"], r["decoder"], r["seed"]) for r in rows}
    for case in ((t, d, s) for s in range(1 if given.quick else given.seeds) for t in trainers for d in DECODERS):
        if case in done:
            continue
        rows.append(row(command, **measure(case, trainers, steps[case[0]])))
        print({k: v for k, v in rows[-1].items() if k not in ("command", "machine")}, flush=True)
        if not given.quick:
            write("rbf-runs", "Radial basis functions as a decoder: every fit", rows)
    if not given.quick:
        write("rbf", "Radial basis functions as a decoder, on the same grid at equal steps", summary(rows, command))


if __name__ == "__main__":
    main()
