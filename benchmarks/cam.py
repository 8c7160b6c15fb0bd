"""Coordinate-Aware Modulation against the plain network on small pictures, at equal parameters and equal steps.

python benchmarks/cam.py [--quick] [--data FOLDER] [--steps 1000] [--seeds 3] [--pictures NAME ...]

Centre crops of 128 x 128: 49,152 values for 18 thousand parameters, the paper's ratio. 64 Gaussian frequencies of
deviation 10, three hidden layers, a sigmoid; Adam 1e-3 (grids 1e-2) on all pixels, a tenth of it from half and a
hundredth from three quarters of the steps. PSNR is of the fitted pixels, in 8 bits. `cost_of_8_bits`: what the fit
loses as a file of 8 bits if its tensors are rounded in turn over its last tenth, as `nf fit --bits 8` does;
`rounded_after`: if all are rounded at its end.
"""

import argparse
import itertools
import os
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from table import FOLDER, kept, row, write

from neuralfields.domain import Domain
from neuralfields.fields import cam, mlp
from neuralfields.fields.field import Field
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load, save
from neuralfields.models.quantise import freeze_rounded, round_in_turn
from neuralfields.pictures.metrics import psnr
from neuralfields.scene import Bounds
from neuralfields.trainers.trainer import ROUNDED

SIZE, SIGMA, RATE = 128, 10.0, 1e-3
PICTURES = ("astronaut", "text", "coffee", "kodim23")
SIDE_PICTURES = ("astronaut", "kodim23")  # the variants between the two ends are measured on these
PLAIN = mlp.Config(layers=3, width=68, frequencies=SIGMA, learning_rate=RATE)
FULL = cam.Config(layers=3, width=64, nodes=16, frequencies=SIGMA, learning_rate=RATE)
VARIANTS: dict[str, Any] = {
    "plain": PLAIN,
    "normalised": cam.Config(layers=3, width=68, frequencies=SIGMA, learning_rate=RATE, modulation=False),
    "modulated": replace(FULL, normalise=False),
    "modulated, normalised": FULL,
}
ENDS = ("plain", "modulated, normalised")
IMAGE = Domain("image", 2, 3)


def photo(name: str, data: Path) -> np.ndarray:
    """The centre of a public photo, [SIZE, SIZE, 3] in [0, 1], or the `text`."""
    if name == "text":
        return text()
    if name.startswith("kodim"):
        pixels = np.asarray(Image.open(data / "signals" / "images" / "kodak" / f"{name}.png").convert("RGB"))
    else:
        import skimage.data

        pixels = getattr(skimage.data, name)()[..., :3]
    top, left = (pixels.shape[0] - SIZE) // 2, (pixels.shape[1] - SIZE) // 2
    return pixels[top : top + SIZE, left : left + SIZE] / 255.0


def text() -> np.ndarray:
    """Draws lines of coloured letters on white: an image of edges."""
    page = Image.new("RGB", (SIZE, SIZE), "white")
    draw = ImageDraw.Draw(page)
    words = "The scale and shift of a layer are read from small grids at the place where it is asked 0123456789".split()
    colours = ("black", (160, 20, 30), (20, 60, 150), (10, 110, 50))
    x, y = 4, 3
    for index, word in enumerate(words):
        font = ImageFont.load_default(size=11 + 4 * (index % 3))
        width = draw.textlength(word, font=font)
        if x + width > SIZE - 4:
            x, y = 4, y + 19
        draw.text((x, y), word, fill=colours[index % 4], font=font)
        x += int(width) + 5
    return np.asarray(page) / 255.0


def places() -> torch.Tensor:
    """Pixel centres, [SIZE * SIZE, 2]."""
    centres = (torch.arange(SIZE) + 0.5) / SIZE
    v, u = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([u, v], -1).reshape(-1, 2)


def predicted(field: Field, x: torch.Tensor) -> torch.Tensor:
    """[S, 3] in [0, 1]."""
    return torch.sigmoid(field.values(field.features(x)))


Learner = tuple[Field, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]


def learner(config: Any, steps: int, seed: int) -> Learner:
    """A new field with its optimiser and schedule."""
    torch.manual_seed(seed)
    field = (cam.Cam if isinstance(config, cam.Config) else mlp.Mlp)(config, IMAGE)
    optimiser = torch.optim.Adam([{"params": list(g.parameters), "lr": g.learning_rate} for g in field.groups()])
    return field, optimiser, torch.optim.lr_scheduler.MultiStepLR(optimiser, [steps // 2, 3 * steps // 4])


def learn(learner: Learner, target: torch.Tensor, steps: int, rounded: bool = False) -> None:
    """Takes `steps` steps on all pixels; `rounded`: tensors are rounded to 8 bits one by one, as in trainer.py."""
    field, optimiser, schedule = learner
    x, done = places(), 0
    for step in range(steps):
        done = round_in_turn(field, step / steps, done) if rounded else 0
        optimiser.zero_grad()
        (0.5 * (predicted(field, x) - target).square().mean()).backward()
        freeze_rounded(field, done)
        optimiser.step()
        schedule.step()


@torch.no_grad()
def score(field: Field, target: torch.Tensor) -> float:
    """PSNR in dB."""
    return psnr(predicted(field, places()).reshape(SIZE, SIZE, 3), target.reshape(SIZE, SIZE, 3))


def in_eight_bits(field: Field, target: torch.Tensor) -> tuple[float, int]:
    """PSNR after a trip through an 8-bit file, and the file's bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nf"
        save(Model(field, Bounds((0.0, 0.0, 0.0), 1.0)), path, bits=8)
        return score(load(path).field, target), path.stat().st_size


@torch.no_grad()
def identity() -> float:
    """The largest difference at the start between a layer with grids and the same without: 0 is exact."""
    worst = 0.0
    for normalise in (True, False):
        outputs = []
        for modulation in (True, False):
            torch.manual_seed(0)
            field = cam.Cam(replace(FULL, normalise=normalise, modulation=modulation), IMAGE)
            outputs.append(field.values(field.features(places())))
        worst = max(worst, float((outputs[0] - outputs[1]).abs().max()))
    return worst


def measure(name: str, variant: str, seed: int, pixels: np.ndarray, steps: int) -> dict[str, Any]:
    """One fit."""
    target = torch.from_numpy(pixels.reshape(-1, 3)).float()
    first = round(ROUNDED * steps)
    exact = learner(VARIANTS[variant], steps, seed)
    learn(exact, target, first)
    rounded = deepcopy(exact)
    learn(exact, target, steps - first)
    learn(rounded, target, steps - first, rounded=True)
    field = exact[0]
    figures = {
        "picture": name, "variant": variant, "seed": seed, "steps": steps,
        "parameters": sum(p.numel() for p in field.parameters()), "psnr": round(score(field, target), 3),
    }  # fmt: skip
    after, _ = in_eight_bits(field, target)
    small, size = in_eight_bits(rounded[0], target)
    return figures | {"psnr_8_bit": round(small, 3), "psnr_rounded_after": round(after, 3), "bytes_8_bit": size}


def summary(rows: list[dict[str, Any]], command: str) -> list[dict[str, Any]]:
    """Means over seeds: the gain over the plain network, and what 8 bits cost."""
    found = []
    names, variants = (list(dict.fromkeys(r[key] for r in rows)) for key in ("picture", "variant"))
    for name in names:
        plain = mean(r["psnr"] for r in rows if (r["picture"], r["variant"]) == (name, "plain"))
        for variant in variants:
            mine = [r for r in rows if (r["picture"], r["variant"]) == (name, variant)]
            if not mine:
                continue
            scores = [r["psnr"] for r in mine]
            found.append(
                row(
                    command,
                    picture=name,
                    variant=variant,
                    parameters=mine[0]["parameters"],
                    seeds=len(mine),
                    psnr=round(mean(scores), 2),
                    spread=round(stdev(scores), 2) if len(mine) > 1 else 0.0,
                    over_plain=round(mean(scores) - plain, 2),
                    cost_of_8_bits=round(mean(r["psnr"] - r["psnr_8_bit"] for r in mine), 3),
                    rounded_after=round(mean(r["psnr"] - r["psnr_rounded_after"] for r in mine), 3),
                    bytes_8_bit=round(mean(r["bytes_8_bit"] for r in mine)),
                )
            )
    return found


def run(
    pictures: dict[str, Callable[[], np.ndarray]], steps: int, seeds: int, most: int, command: str, table: str
) -> list[dict[str, Any]]:
    """Runs at most `most` of the fits that are not in the table yet; the table is written after each."""
    rows = kept(table, command)
    done = {(r["picture"], r["variant"], r["seed"]) for r in rows}
    every = itertools.product(range(seeds), pictures, VARIANTS)
    left = [
        (name, variant, seed)
        for seed, name, variant in every
        if (name, variant, seed) not in done and (variant in ENDS or name in SIDE_PICTURES)
    ]
    left.sort(key=lambda case: (case[2], case[1] not in ENDS))  # the claim first, what explains it after
    for name, variant, seed in left[:most]:
        rows.append(row(command, **measure(name, variant, seed, pictures[name](), steps)))
        print(name, variant, seed, rows[-1]["psnr"], rows[-1]["psnr_8_bit"], flush=True)
        write(table, "Coordinate-Aware Modulation on pictures: every fit", rows)
    return rows


def main() -> None:
    """All pictures, seeds and variants, then their means."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pictures", nargs="+", choices=PICTURES, default=PICTURES)
    parser.add_argument("--most", type=int, default=1000, help="fits of this call; the next call goes on")
    parser.add_argument("--quick", action="store_true", help="two pictures, 20 steps, one seed, nothing is written")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("largest difference at the start:", identity(), flush=True)
    pictures = {name: (lambda name=name: photo(name, given.data)) for name in given.pictures}
    if given.quick:
        for name in ("astronaut", "text"):
            for variant in VARIANTS:
                print(measure(name, variant, 0, photo(name, given.data), 20), flush=True)
        return
    command = f"python benchmarks/cam.py --steps {given.steps} --seeds {given.seeds}"
    which = "" if given.steps == parser.get_default("steps") else f"-{given.steps}"
    if given.pictures != PICTURES:
        command += " --pictures " + " ".join(given.pictures)
        which += "-" + "-".join(given.pictures)
    rows = run(pictures, given.steps, given.seeds, given.most, command, f"cam-runs{which}")
    title = f"Coordinate-Aware Modulation on pictures of {SIZE} x {SIZE}, {given.steps} steps (means over seeds)"
    write(f"cam{which}", title, summary(rows, command))


if __name__ == "__main__":
    main()
