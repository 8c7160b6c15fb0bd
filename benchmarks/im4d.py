"""Im4D beside its planes alone, on many cameras that film a moving scene together: `python benchmarks/im4d.py`.

The scene is scenes/moving.py's, with exact pictures: every eighth camera is held out with all its frames. At equal
steps: `im4d`, and `planes`, the same planes with their own colour (`--set views=0`). `psnr_all_cells`: the file drawn
with every cell of the occupancy grid open, so the difference is what the grid of each eighth of the time costs;
`psnr_no_photos`: the fitted im4d with its photos taken away. [--steps N] [--seeds ...] [--quick]
"""

import argparse
import runpy
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from table import FOLDER, kept, row, write

from neuralfields.captures.readers import read_scene
from neuralfields.evaluation.evaluate import evaluate
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load, save
from neuralfields.options.fit import FitOptions
from neuralfields.training.fit import fit_scene

PLANES = ("resolutions=16,32,64,128", "features=16", "moments=16")
CASES = {"im4d": (), "planes": ("views=0",)}


def measure(case: str, options: FitOptions, folder: Path) -> dict[str, Any]:
    """One fit, and its file with all cells open and without its photos."""
    model = fit_scene(read_scene(options.scene), options)
    save(model, folder / "a.nf")
    model = load(folder / "a.nf")
    report = evaluate(model)
    found = {
        "case": case, "seed": options.seed, "steps": options.steps, "seconds": round(model.made["seconds"], 1),
        "bytes": (folder / "a.nf").stat().st_size, "film_bytes": (model.field.config.sources or (0,))[-1],
        "psnr": round(report.psnr, 2), "ssim": round(report.ssim, 4), "worst_frame": round(report.worst.psnr, 2),
        "ms_a_frame": round(1000 * sum(view.seconds for view in report.views) / len(report.views)),
    }  # fmt: skip
    opened = replace(model, occupancy=torch.full_like(model.occupancy, -1))
    return found | {"psnr_all_cells": round(evaluate(opened).psnr, 2), "psnr_no_photos": without_photos(model)}


def without_photos(model: Model) -> float:
    """Held-out PSNR of a fitted field whose photos are taken away: its own colour is what is left."""
    model.field.photos = None
    return round(evaluate(model).psnr, 2)


def main() -> None:
    """All cases and seeds that are not in the table yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--samples", type=int, default=1 << 13, help="of a step")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="tiny pictures, 5 steps, nothing is written")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    steps, size, frames = (5, 24, 4) if given.quick else (given.steps, 64, 10)
    command = f"python benchmarks/im4d.py --steps {steps} --samples {given.samples}"
    rows = [] if given.quick else kept("im4d", command)
    done = {(r["case"], r["seed"]) for r in rows}
    with tempfile.TemporaryDirectory() as folder:
        script = FOLDER.parent / "scenes" / "moving.py"
        capture = runpy.run_path(str(script))["write"](Path(folder) / "capture", cameras=9, frames=frames, size=size)
        for seed in given.seeds:
            for case, settings in CASES.items():
                if (case, seed) in done:
                    continue
                options = FitOptions(
                    scene=capture, field="im4d", set=(*PLANES, *settings), steps=steps, seed=seed, quiet=True,
                    eval_every=0, threads=given.threads, recipe=(f"samples={given.samples}",),
                )  # fmt: skip
                start = time.perf_counter()
                rows.append(row(command, **measure(case, options, Path(folder))))
                print(rows[-1], f"{time.perf_counter() - start:.0f} s", flush=True)
                if not given.quick:
                    write("im4d", f"Im4D and its planes alone, {steps} steps", rows)


if __name__ == "__main__":
    main()
