"""FreSh against a grid search on small pictures: PSNR at the setting it picks, at the grid's best, and its cost.

python benchmarks/fresh.py [--quick] [--data FOLDER] [--rows 24] [--choose-again]

Crops of 128 x 128 of scikit-image's bundled pictures, from their centre or from [top, left], and of four of Kodak's.
The choice's constants (layers/fresh.py, GRAIN) were tuned on the first twelve; the others are held out. A network of
3 x 64 (64 Gaussian frequencies), 400 steps of 2048 random pixels, trained as `nf fit` trains. FreSh chooses among the
grid's own 11 settings. PSNR is of all pixels, in 8 bits. Times are those of the process on one thread, so that other
processes do not count.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from cam import SIZE, photo, places
from table import FOLDER, kept, row, write

from neuralfields.domain import Domain
from neuralfields.fields.field import Field
from neuralfields.fields.mlp import Config, Mlp
from neuralfields.layers import fresh
from neuralfields.pictures.metrics import psnr
from neuralfields.trainers.trainer import StepReport, Trainer

PICTURES = (
    "astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "moon", "coins", "rocket", "page", "cell",
    "kodim01", "kodim03", "kodim05", "kodim23", "astronaut 0 0", "chelsea 20 20", "rocket 280 100", "coffee 10 400",
)  # fmt: skip
GRIDS = {
    "gaussian": (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0, 15.0, 18.0, 20.0),
    "siren": (10.0, 20.0, 30.0, 45.0, 60.0, 80.0, 100.0, 125.0, 150.0, 175.0, 200.0),
    "finer": (0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1, 2.4, 2.7, 3.0),
}
USUAL = {"gaussian": 1.0, "siren": 30.0, "finer": 0.0}  # the papers' own
SEEDS = {"gaussian": 3, "siren": 1, "finer": 1}
BATCH, STEPS = 2048, 400
ORIGIN = ("command", "commit", "machine", "date")
IMAGE = Domain("image", 2, 3)


def picture(name: str, data: Path) -> torch.Tensor:
    """Part of a bundled picture or of one of Kodak's, [SIZE, SIZE, 3] in [0, 1]; grey ones three times."""
    import skimage.data

    if name.startswith("kodim"):
        return torch.from_numpy(photo(name, data)).float()
    name, *corner = name.split()
    pixels = np.atleast_3d(getattr(skimage.data, name)())[..., :3]
    top, left = map(int, corner) if corner else ((n - SIZE) // 2 for n in pixels.shape[:2])
    crop = torch.from_numpy(pixels[top : top + SIZE, left : left + SIZE].copy()).float() / 255
    return crop.expand(-1, -1, 3)


class Fit(Trainer):
    """A field on random pixels of a picture [SIZE, SIZE, 3]."""

    def __init__(self, field: Field, target: torch.Tensor, seed: int) -> None:
        super().__init__(field, seed)
        self.x, self.y = places(), target.reshape(-1, 3)

    def step(self, progress: float) -> StepReport:
        """One step."""
        index = torch.randint(0, len(self.x), (BATCH,), generator=self.generator())
        loss = (self.field.values(self.field.features(self.x[index])) - self.y[index]).square().mean()
        self.descend(loss, progress)
        return StepReport(BATCH, BATCH, float(loss.detach()))

    @torch.no_grad()
    def score(self) -> float:
        """PSNR of all pixels in dB."""
        shown = self.field.values(self.field.features(self.x)).reshape(SIZE, SIZE, 3)
        return psnr(shown, self.y.reshape(SIZE, SIZE, 3))


def fitted(make: Callable[[], Field], target: torch.Tensor, steps: int, seed: int) -> float:
    """PSNR of a new field after that many steps."""
    torch.manual_seed(seed)
    fit = Fit(make(), target, seed)
    for step in range(steps):
        fit.step(step / steps)
    return fit.score()


def choice(target: torch.Tensor, encoding: str, seed: int) -> tuple[float, float]:
    """The setting that FreSh picks of the grid, and the seconds it takes."""

    def untrained(setting: float) -> Callable[[torch.Tensor], torch.Tensor]:
        return Mlp(Config(encoding=encoding, layers=3, width=64, frequencies=setting), IMAGE).look

    start = time.process_time()
    chosen = fresh.choose(GRIDS[encoding], untrained, IMAGE, [target], seed)
    return chosen, time.process_time() - start


def chosen_again(old: dict[str, Any], data: Path) -> dict[str, Any]:
    """A row with the choice made again; the results of the settings are kept."""
    chosen, seconds = choice(picture(old["picture"], data), old["encoding"], old["seed"])
    score = float(old["grid"].split()[GRIDS[old["encoding"]].index(chosen)])
    return old | {"chosen": chosen, "psnr_chosen": score, "seconds_chosen": round(seconds, 2)}


def measure(name: str, encoding: str, seed: int, steps: int, data: Path) -> dict[str, Any]:
    """One picture and seed: the whole grid, and what FreSh picks of it."""
    target, grid = picture(name, data), GRIDS[encoding]
    config = Config(encoding=encoding, layers=3, width=64)
    chosen, seconds = choice(target, encoding, seed)
    selected = time.process_time()
    scores = {
        setting: fitted(lambda setting=setting: Mlp(replace(config, frequencies=setting), IMAGE), target, steps, seed)
        for setting in grid
    }
    searched = time.process_time()
    best = max(grid, key=scores.__getitem__)
    return {
        "picture": name, "encoding": encoding, "seed": seed, "chosen": chosen, "best": best,
        "psnr_chosen": round(scores[chosen], 3), "psnr_best": round(scores[best], 3),
        "psnr_default": round(scores[USUAL[encoding]], 3), "seconds_chosen": round(seconds, 2),
        "seconds_grid": round(searched - selected, 2), "grid": " ".join(f"{scores[s]:.2f}" for s in grid),
    }  # fmt: skip


def summary(rows: list[dict[str, Any]], command: str) -> list[dict[str, Any]]:
    """Means over seeds, picture by picture."""
    found = []
    for encoding, name in dict.fromkeys((r["encoding"], r["picture"]) for r in rows):
        mine = [r for r in rows if (r["encoding"], r["picture"]) == (encoding, name)]
        gaps = [r["psnr_best"] - r["psnr_chosen"] for r in mine]
        seconds, grid_seconds = (sum(r[key] for r in mine) for key in ("seconds_chosen", "seconds_grid"))
        found.append(
            row(
                command,
                encoding=encoding,
                picture=name,
                seeds=len(mine),
                chosen=" ".join(f"{r['chosen']:g}" for r in mine),
                best=" ".join(f"{r['best']:g}" for r in mine),
                psnr_chosen=round(mean(r["psnr_chosen"] for r in mine), 2),
                psnr_best=round(mean(r["psnr_best"] for r in mine), 2),
                psnr_default=round(mean(r["psnr_default"] for r in mine), 2),
                gap=round(mean(gaps), 2),
                worst_gap=round(max(gaps), 2),
                share_of_grid_time=f"{seconds / grid_seconds:.1%}",
            )
        )
    return found


def written(rows: list[dict[str, Any]], command: str) -> None:
    """Writes both tables."""
    write("fresh-runs", f"FreSh and the grid, {STEPS} steps: every picture and seed", rows)
    write("fresh", f"FreSh against the best of 11 settings, {STEPS} steps", summary(rows, command))


def main() -> None:
    """All pictures and seeds; the tables are written after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one picture, 20 steps, nothing is written")
    parser.add_argument("--rows", type=int, default=1000, help="stop after this many; the same command goes on")
    parser.add_argument("--choose-again", action="store_true", help="only choose anew for what is in the table")
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.quick:
        for encoding in GRIDS:
            print(measure("coffee", encoding, 0, 20, given.data), flush=True)
        return
    command = "python benchmarks/fresh.py"
    rows = kept("fresh-runs", command)
    if given.choose_again:
        again = [chosen_again(old, given.data) for old in rows]
        written([row(command, **{k: v for k, v in r.items() if k not in ORIGIN}) for r in again], command)
        return
    done = {(r["encoding"], r["picture"], r["seed"]) for r in rows}
    for encoding, seeds in SEEDS.items():
        for seed in range(seeds):
            for name in PICTURES if encoding == "gaussian" else PICTURES[:8]:
                if (encoding, name, seed) in done or len(rows) - len(done) >= given.rows:
                    continue
                rows.append(row(command, **measure(name, encoding, seed, STEPS, given.data)))
                print({k: v for k, v in rows[-1].items() if k not in ("command", "commit", "machine")}, flush=True)
                written(rows, command)


if __name__ == "__main__":
    main()
