"""What each part of a fit of Gaussians is worth: held-out PSNR after the same steps, one part changed at a time.

python benchmarks/gaussians_ablation.py [--names fox chair] [--rows ROW ...] [--steps 1000] [--seeds 0] [--data FOLDER]

Steps are fixed and one thread computes, so that the machine's load changes no figure but `core_seconds` (processor time
of the fit with its beginning). Each row is a fit in a process of its own.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from table import FOLDER, row, write

CAPTURES = {
    "fox": ("ngp_fox", 4),
    "chair": ("synthetic_chair", 1),
    "fern": ("llff_fern", 1),
    "desk": ("desk_colmap", 2),
    "statue": ("saharov_statue_32", 4),
    "tanks": ("tanks_train", 2),
}
# By row: constants of modules that differ from what stands in them, and the beginning.
ROWS: dict[str, tuple[dict[str, object], str]] = {
    "default": ({}, "auto"),
    "round, not flat on the surface": ({"splatting.initial.FLAT": 1.0}, "auto"),
    "whole photos from the first step": ({"training.splats.SIZES": ()}, "auto"),
    "half size until 0.7 of the fit": ({"training.splats.SIZES": ((0.7, 2),)}, "auto"),
    "means slower, to a fiftieth": ({"training.splats.MEANS_RATE": 4e-4, "training.splats.MEANS_LAST": 0.02}, "auto"),
    "scales at a quarter of the rate": ({"training.splats.SCALES_RATE": 5e-3}, "auto"),
    "higher harmonics every 16th step": (
        {"training.splats.HARMONICS_EVERY": 16, "training.splats.HARMONICS_RATE": 5e-4},
        "auto",
    ),
    "gradients' mean over ten steps, not five": ({"training.splats.BETAS": (0.9, 0.999)}, "auto"),
    "second moments kept when photos grow": ({"training.splats.SECOND_KEPT": 1.0}, "auto"),
    "no mean of the last tenth": ({"training.splats.AVERAGED": 1.0}, "auto"),
    "no growth": ({"training.splats.GROW_UNTIL": 0.0}, "auto"),
    "beginning at random": ({}, "random"),
    "beginning at sparse points": ({}, "points"),
}
MOST = 40_000
FIT = """
import importlib, json, sys, time
from pathlib import Path
from neuralfields.captures.readers import read_scene
from neuralfields.options.fit import FitOptions
from neuralfields.training.fit import fit_scene
given = json.loads(sys.argv[1])
for name, value in given["constants"].items():
    module, constant = name.rsplit(".", 1)
    setattr(importlib.import_module("neuralfields." + module), constant, value)
capture = Path(given["capture"])
scene, begin = read_scene(capture), time.process_time()
options = FitOptions(
    capture, field="gaussians", steps=given["steps"], downscale=given["downscale"], seed=given["seed"], threads=1,
    quiet=True, eval_every=0, set=("most=%d" % given["most"], "beginning=" + given["beginning"]),
)
model = fit_scene(scene, options)
print(json.dumps({
    "psnr": round(model.metrics["psnr"], 2), "gaussians": len(model.field.gaussians()),
    "core_seconds": round(time.process_time() - begin, 1),
}))
"""  # fmt: skip


def measure(name: str, part: str, steps: int, seed: int, data: Path) -> dict:
    """One fit of a capture with one part changed."""
    (folder, downscale), (constants, beginning) = CAPTURES[name], ROWS[part]
    given = {"capture": str(data / "captures" / folder), "downscale": downscale, "most": MOST}
    given |= {"constants": constants, "beginning": beginning, "steps": steps, "seed": seed}
    done = subprocess.run([sys.executable, "-c", FIT, json.dumps(given)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    command = f"python benchmarks/gaussians_ablation.py --names {name} --steps {steps} --seeds {seed}"
    return row(command, case=name, part=part, seed=seed, steps=steps, **json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measures what is asked for, and writes the table after each row; other rows stay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", nargs="*", default=["fox", "chair"])
    parser.add_argument("--rows", nargs="*", default=[part for part in ROWS if "sparse" not in part])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("NEURALFIELDS_DATA"))
    asked = parser.parse_args()
    known = FOLDER / "gaussians_ablation.json"
    rows = json.loads(known.read_text()) if known.is_file() else []
    for name in asked.names:
        for part in asked.rows:
            for seed in asked.seeds:
                made = measure(name, part, asked.steps, seed, Path(asked.data))
                print(made, flush=True)
                rows = [r for r in rows if any(r[key] != made[key] for key in ("case", "part", "seed", "steps"))]
                write("gaussians_ablation", "Parts of a fit of Gaussians, at equal steps", rows := [*rows, made])


if __name__ == "__main__":
    main()
