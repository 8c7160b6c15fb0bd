"""Coordinate-Aware Modulation as a small radiance field, beside the hash field in as many bytes.

python benchmarks/cam_radiance.py [--quick] [--data FOLDER] [--minutes 1] [--seeds 3] [--threads 2]

Every field has 541 thousand numbers of 8 bits; its file, with occupancy, cameras and header, takes 0.45 to 0.59 MB (the
paper's 0.58). The fits have equal time, on photos of a quarter of the width, and are rounded in turn over their last
tenth (`nf fit --bits 8`). PSNR is of the views held out, as `nf eval` says it of the file.
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
from neuralfields.models.nf_header import describe
from neuralfields.options.fit import FitOptions
from neuralfields.scene import Scene
from neuralfields.training.fit import fit_scene

SCENES = ("synthetic_chair", "synthetic_materials")
# Every case stores 541 thousand numbers within half a percent.
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "hash": ("hash", ("levels=9", "table=14", "finest=512")),
    "cam, large planes": ("cam", ("layers=3", "width=64", "nodes=170")),
    "cam, by direction": ("cam", ("layers=5", "width=346", "coordinates=direction")),
    "plain network": ("mlp", ("layers=5", "width=346")),
}


def measure(case: str, scene: Scene, options: FitOptions) -> dict[str, Any]:
    """One fit and its file."""
    model = fit_scene(scene, options)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nf"
        save(model, path, bits=8)
        report, parts = evaluate(load(path)), describe(path)["parts"]
        field = sum(size for name, size in parts.items() if name not in ("header", "occupancy", "cameras"))
        return {
            "scene": scene.name, "case": case, "seed": options.seed, "steps": model.made["steps"],
            "parameters": sum(p.numel() for p in model.field.parameters()),
            "bytes": path.stat().st_size, "bytes_of_field": field, "psnr": round(report.psnr, 2),
            "worst_view": round(report.worst.psnr, 2), "seconds": round(model.made["seconds"], 1),
        }  # fmt: skip


def main() -> None:
    """All scenes, cases and seeds that are not in the table yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--quick", action="store_true", help="one scene, tiny photos, 5 steps, nothing is written")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    command = f"python benchmarks/cam_radiance.py --minutes {given.minutes:g}"
    rows = [] if given.quick else kept("cam_radiance", command)
    done = {(r["scene"], r["case"], r["seed"]) for r in rows}
    for seed in range(1 if given.quick else given.seeds):
        for name in SCENES[:1] if given.quick else SCENES:
            scene = read_scene(given.data / "captures" / name)
            for case in given.cases:
                field, settings = CASES[case]
                if (scene.name, case, seed) in done:
                    continue
                options = FitOptions(
                    scene=scene.root, field=field, set=settings, seed=seed, bits=8, quiet=True, eval_every=0,
                    steps=5 if given.quick else None, minutes=None if given.quick else given.minutes,
                    downscale=32 if given.quick else 4,
                )  # fmt: skip
                start = time.perf_counter()
                rows.append(row(command, **measure(case, scene, options)))
                print(rows[-1], f"{time.perf_counter() - start:.0f} s", flush=True)
                if not given.quick:
                    title = f"Radiance fields of 541 thousand numbers of 8 bits, minutes of training: {given.minutes:g}"
                    write("cam_radiance", title, rows)


if __name__ == "__main__":
    main()
