"""NeuralGS (arXiv:2503.23162) step by step on a fit of a capture: what each part of the method is worth.

python benchmarks/neuralgs.py NAME=FILE.nf [--data FOLDER] [--seeds 0 1 2] [--steps 100] [--regression 400]
    [--clusters K] [--width W] [--rows NAME ...] [--gaussians 60000]

Writes neuralgs.md, and neuralgs_seeds.md: mean and spread over the seeds. NAME: a capture in the folder; FILE.nf: `nf
fit CAPTURE --field gaussians`, fitted first with so many `--gaussians` where it is not there. An interrupted run goes
on after its last row. Rows, in the paper's order: what is left by pruning 10, 20 and 40 % as it is, one
network without importance, one a cluster, weighted by importance, fine-tuned against the photos of training, with the
frequency loss; then what this repository adds: Gaussians refined after pruning and before networks are fitted, and,
for comparison, the same bytes coded without networks (`nf compress --max-bytes`). `psnr` is against the original by
held-out cameras, `photos` against held-out photos, `lost` dB of these. `seconds`: processor time of one thread.
"""

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from table import FOLDER, kept, row, write

import neuralfields
from neuralfields.codecs import load_any
from neuralfields.compression import neuralgs
from neuralfields.compression.compress import Goal, compress
from neuralfields.compression.neural_fit import FREQUENCIES
from neuralfields.compression.neuralgs import Recipe, global_importance
from neuralfields.compression.original import CaptureCameras, Original
from neuralfields.models.model import Model
from neuralfields.verbs.compress import cameras_of, photos_of

TITLE = "NeuralGS: what each part is worth"
PRUNED = 0.4
SHARES = (0.1, 0.2, PRUNED)  # of the Gaussians, that rows without networks leave out
CODED = "coded, as many bytes"
FIT_STEPS = 4000  # of a fit that is not there yet


def recipes(options: argparse.Namespace) -> dict[str, tuple[Recipe, bool]]:
    """Name, recipe and whether it is fine-tuned of each row with networks."""
    plain = Recipe(1, options.width, PRUNED, 0.0, False, 0.0, options.regression)
    clustered = replace(plain, clusters=options.clusters)
    weighted = replace(clustered, weighted=True)
    full = replace(weighted, frequencies=FREQUENCIES)
    return {
        "one network": (plain, False),
        "+ clusters": (clustered, False),
        "+ importance": (weighted, False),
        "+ fine-tuning": (weighted, True),
        "+ frequency loss": (full, True),
        "+ refined before": (replace(full, refine=1.0), True),
    }


def pruned(model: Model, cameras: CaptureCameras, share: float) -> dict[str, object]:
    """Figures of the Gaussians that pruning leaves, nothing tuned."""
    gaussians = model.field.gaussians()
    original = Original(gaussians, model.bounds, model.background, cameras)
    order = np.argsort(-global_importance(gaussians, original.importance()), kind="stable")
    left = order[: round(len(order) * (1 - share))]
    return original.figures(gaussians.take(torch.from_numpy(np.sort(left))))


def name_of(share: float) -> str:
    """Name of a row that leaves out a share."""
    return f"pruned {share:.0%}".replace("%", " %")


def fitted(capture: Path, path: Path, count: int) -> None:
    """Fits Gaussians to a capture where the file is not there."""
    if not path.is_file():
        print(f"{path}: fitted first, {count} Gaussians at most", flush=True)
        neuralfields.fit(capture, field="gaussians", out=path, max_gaussians=count, steps=FIT_STEPS, threads=1)


def spread(rows: list[dict], command: str) -> list[dict]:
    """Mean over seeds of each row's figures, and how far the largest is from the least."""
    groups: dict[tuple, list[dict]] = {}
    for found in rows:
        groups.setdefault((found["scene"], found["gaussians"], found["step"], found["tuned"]), []).append(found)
    result = []
    for (scene, count, step, tuned), group in groups.items():
        if len(group) < 2:  # one seed has no spread
            continue
        figures: dict[str, object] = {"scene": scene, "gaussians": count, "step": step, "tuned": tuned}
        figures["seeds"] = len({found["seed"] for found in group})
        for name, digits in (("bytes", None), ("psnr", 2), ("photos", 2), ("lost", 2)):
            values = [found[name] for found in group if found[name] is not None]
            figures[name] = round(fmean(values), digits) if values else None
            figures[f"{name} apart"] = round(max(values) - min(values), digits) if values else None
        result.append(row(command, **figures))
    return result


def measure(name: str, path: Path, options: argparse.Namespace, seed: int, done: dict, command: str):  # noqa: ANN201
    """Rows of a capture that are not done."""
    capture = options.data / "captures" / name
    model = load_any(path, capture)
    cameras = replace(cameras_of(model, seed), photos=photos_of(model, capture))
    gaussians = model.field.gaussians()
    sizes = {step: size for (scene, step, other), size in done.items() if (scene, other) == (name, seed) and size}

    def described(step: str, figures: dict, size: int | None, seconds: float) -> dict:
        return row(
            command, scene=name, gaussians=len(gaussians), step=step, seed=seed, bytes=size,
            psnr=round(figures["psnr"], 2), ssim=round(figures["ssim"], 4), photos=round(figures["photos"]["psnr"], 2),
            lost=round(figures["photos"]["lost"], 2), clusters=figures.get("clusters"), width=figures.get("width"),
            tuned=figures.get("steps"), seconds=round(seconds, 1),
        )  # fmt: skip

    for share in SHARES:
        if (name, name_of(share), seed) not in done and name_of(share) in options.rows:
            yield described(name_of(share), pruned(model, cameras, share), None, 0.0)
    scene = gaussians, model.bounds
    for step, (recipe, tuned) in recipes(options).items():
        if (name, step, seed) in done or step not in options.rows:
            continue
        begin = time.process_time()
        goal = Goal(steps=options.steps if tuned else 0, seed=seed)
        made = neuralgs.compress(*scene, goal, model.background, cameras, recipe=recipe)
        sizes[step] = len(made.data)
        yield described(step, made.report, len(made.data), time.process_time() - begin)
    step = CODED
    if sizes.keys() & recipes(options).keys() and (name, step, seed) not in done and step in options.rows:
        begin, most = time.process_time(), sizes[[n for n in recipes(options) if n in sizes][-1]]
        goal = Goal(most_bytes=most, steps=400, seed=seed)
        made = compress(*scene, goal, model.background, cameras)
        yield described(step, made.report, len(made.data), time.process_time() - begin)


def main() -> None:
    """Writes the table."""
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fits", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--regression", type=int, default=400)
    parser.add_argument("--clusters", type=int, default=4)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--gaussians", type=int, default=60000, help="of a fit that is not there yet")
    parser.add_argument("--dry", action="store_true", help="nothing is written")
    parser.add_argument("--rows", nargs="*", help="only these rows")
    options = parser.parse_args()
    options.rows = options.rows or [*map(name_of, SHARES), *recipes(options), CODED]
    torch.set_num_threads(1)
    command = "python benchmarks/neuralgs.py"
    rows = [] if options.dry else kept("neuralgs", command)
    done = {(r["scene"], r["step"], r["seed"]): r["bytes"] for r in rows}
    for seed in options.seeds:
        for fit in options.fits:
            name, path = fit.split("=", 1)
            fitted(options.data / "captures" / name, Path(path), options.gaussians)
            for found in measure(name, Path(path), options, seed, done, command):
                rows.append(found)
                print({key: value for key, value in found.items() if key not in ("machine", "command")}, flush=True)
                if not options.dry:
                    write("neuralgs", TITLE, rows)
                    if over_seeds := spread(rows, command):
                        write("neuralgs_seeds", f"{TITLE}, over seeds", over_seeds)


if __name__ == "__main__":
    main()
