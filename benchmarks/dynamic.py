"""Scenes that move: fields in time on five scenes, after equal minutes or steps; CAM with and without its grids.

python benchmarks/dynamic.py [--quick] [--data DIR] [--minutes 1] [--steps N] [--scenes ...] [--cases ...] [--keep DIR]

Writes dynamic_by_time.md, or dynamic.md with --steps; rows of other minutes, scenes and cases stay.

Photos are at a quarter of the width unless --downscale says otherwise. PSNR, SSIM and the worst frame are of the frames
held out in time, as `nf eval` says them of the file; milliseconds are those of one of these frames. `still`: the hash
field without time. `gaussians, many`: up to 38 thousand, where by the number of photos it is 5 to 7 (rows of commits
b8fcb93 and 23ee3b3: by the pixels, 34 to 41). `gaussians, brief`, of commits before 81f6c36: lives that may be as short
as three quarters of the largest gap between photos, paths of twice the rate, each photo drawn at its very moment (no
option makes these). `hash`, `kplanes` and `cam`, before: before silhouettes carved what no photo shows, K-Planes were
smoother in time and `cam` had a native op. `cam, bare`: the network of `cam` without its modulation, of as many numbers
within a thousandth. `alone`: from the photos, without the hash field that teaches (trainers/taught.py). `own times`:
each ray at the time of its photo, where it is seen at those of photos near by. `linear` and `square`, of commits before
e4f249b: how far these are falls with what is left of a fit, or with its square, where it also halves in 500 steps now
(no option makes these).
The data are for local tests only: --data or NEURALFIELDS_DATA names the folder that holds `dynamic/`.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from table import FOLDER, kept, row, write

from neuralfields.captures.readers import read_scene
from neuralfields.evaluation.evaluate import evaluate
from neuralfields.models.nf_file import load, save
from neuralfields.options.fit import FitOptions
from neuralfields.scene import Scene
from neuralfields.training.fit import fit_scene

RECIPES = {"alone": ("teacher_share=0",), "own times": ("time_jitter=0",)}  # by what a case's name ends with
SCENES = ("texture", "topology", "occlusion", "collision", "deformation")
CASES: dict[str, tuple[str, tuple[str, ...], bool]] = {
    "hash": ("hash", (), False),
    "hash, warp": ("hash", ("motion=warp",), False),
    "kplanes": ("kplanes", (), False),
    "cam": ("cam", ("width=128", "layers=4"), False),
    "cam, bare": ("cam", ("width=128", "layers=4", "modulation=false"), False),
    "cam, alone": ("cam", ("width=128", "layers=4"), False),
    "cam, bare, alone": ("cam", ("width=128", "layers=4", "modulation=false"), False),
    "hash, own times": ("hash", (), False),
    "cam, own times": ("cam", ("width=128", "layers=4"), False),
    "gaussians": ("gaussians", (), False),
    "gaussians, many": ("gaussians", ("most=38000",), False),
    "still": ("hash", (), True),
}


def measure(case: str, scene: Scene, options: FitOptions, keep: Path | None = None) -> dict[str, Any]:
    """One fit and its file, left in `keep`; `cores`: what it had, user and system time over wall time."""
    begin, worked = time.perf_counter(), sum(os.times()[:2])
    model = fit_scene(scene, options)
    cores = (sum(os.times()[:2]) - worked) / (time.perf_counter() - begin)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder if keep is None else keep) / f"{scene.name}_{case.replace(', ', '_').replace(' ', '_')}.nf"
        save(model, path)
        report = evaluate(load(path))
        return {
            "scene": scene.name, "case": case, "seed": options.seed, "steps": model.made["steps"],
            "seconds": round(model.made["seconds"], 1), "cores": round(cores, 2),
            "parameters": sum(p.numel() for p in model.field.parameters()), "bytes": path.stat().st_size,
            "psnr": round(report.psnr, 2), "ssim": round(report.ssim, 4), "worst_frame": round(report.worst.psnr, 2),
            "ms_a_frame": round(1000 * sum(view.seconds for view in report.views) / len(report.views)),
        }  # fmt: skip


def main() -> None:
    """All scenes and cases that are not in the table yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--steps", type=int, help="instead of minutes: the same number of steps for every field")
    parser.add_argument("--downscale", type=int, default=4)
    parser.add_argument("--samples", type=int, default=1 << 15, help="of a step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scenes", nargs="*", choices=SCENES, default=list(SCENES))
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--keep", type=Path, help="a folder for the models, to be looked at")
    parser.add_argument("--quick", action="store_true", help="one scene, tiny photos, 5 steps, nothing is written")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)  # before a fit, not after it
    length = f"--minutes {given.minutes:g}" if given.steps is None else f"--steps {given.steps}"
    command = f"python benchmarks/dynamic.py {length} --downscale {given.downscale} --samples {given.samples}"
    command += f" --threads {given.threads}"
    claim = "dynamic_by_time" if given.steps is None else "dynamic"
    rows = [] if given.quick else kept(claim, None)  # any minutes, or any steps, in one table
    done = {(r["scene"], r["case"]) for r in rows if r["command"] == command}
    for name in given.scenes[:1] if given.quick else given.scenes:
        scene = read_scene(given.data / "dynamic" / name)
        for case in given.cases:
            field, settings, still = CASES[case]
            if (scene.name, case) in done:
                continue
            fixed = 5 if given.quick else given.steps
            options = FitOptions(
                scene=scene.root, field=field, set=settings, still=still, quiet=True, eval_every=0, steps=fixed,
                minutes=None if fixed else given.minutes, downscale=40 if given.quick else given.downscale,
                threads=given.threads, recipe=(f"samples={given.samples}", *RECIPES.get(case.rpartition(", ")[2], ())),
            )  # fmt: skip
            start = time.perf_counter()
            rows.append(row(command, **measure(case, scene, options, given.keep)))
            print(rows[-1], f"{time.perf_counter() - start:.0f} s", flush=True)
            if not given.quick:
                write(claim, f"Scenes that move, by {'time' if given.steps is None else 'steps'}", rows)


if __name__ == "__main__":
    main()
