"""Ablation of training of the hash field, at equal steps: held-out PSNR as it is, and with one thing changed.

python benchmarks/ablation.py [--names fox fern chair] [--cases CASE ...] [--steps 1500] [--seed 0] [--data FOLDER]

One thread computes, so that the machine's load changes no figure but `core_seconds`, processor time of the fit.
"""

import argparse
import json
import os
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from table import FOLDER, row, write

from neuralfields.captures.readers import read_scene
from neuralfields.options.fit import FitOptions
from neuralfields.rendering import occupancy
from neuralfields.scene import Scene
from neuralfields.trainers import optimiser
from neuralfields.training.fit import fit_scene

CAPTURES = {"fox": ("ngp_fox", 4), "fern": ("llff_fern", 4), "chair": ("synthetic_chair", 2)}
# name: (constants to replace, options to replace, whether the scene is contracted)
CASES = {
    "as it is": ({}, {}, False),
    "gradients' mean over ten steps, not five": ({optimiser: {"BETAS": (0.9, 0.99)}}, {}, False),
    "no distortion": ({}, {"recipe": ("distortion=0",)}, False),
    "black background in training": ({}, {"background": "black"}, False),
    "occupancy threshold at the mean": ({occupancy: {"MEAN_SHARE": 1.0}}, {}, False),
    "occupancy forgets slowly (0.95)": ({occupancy: {"DECAY": 0.95}}, {}, False),
    "width 64": ({}, {"set": ("hidden=64",)}, False),
    "contraction, 5 cascades": ({}, {}, True),
}


def measure(case: str, scene: Scene, options: FitOptions) -> dict:
    """Runs one fit of a fixed number of steps."""
    constants, changed, contracted = CASES[case]
    if contracted:
        scene = replace(scene, bounds=replace(scene.bounds, contraction="cube", cascades=5))
    start = time.process_time()
    with ExitStack() as stack:
        for module, values in constants.items():
            for constant, value in values.items():
                stack.enter_context(patch.object(module, constant, value))
        model = fit_scene(scene, replace(options, **changed))
    return {"psnr": round(model.metrics["psnr"], 2), "core_seconds": round(time.process_time() - start, 1)}


def main() -> None:
    """Measures what is asked for, and writes the table after each row; other rows stay."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--names", nargs="*", choices=list(CAPTURES), default=["fox"])
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    known = FOLDER / "ablation.json"
    rows = json.loads(known.read_text()) if known.is_file() else []
    for name in given.names:
        folder, downscale = CAPTURES[name]
        scene = read_scene(given.data / "captures" / folder)
        options = FitOptions(
            scene.root,
            downscale=downscale,
            steps=given.steps,
            seed=given.seed,
            threads=1,
            quiet=True,
            eval_every=0,
            field="hash",
        )
        command = f"python benchmarks/ablation.py --names {name} --steps {given.steps} --seed {given.seed}"
        for case in given.cases:
            made = row(command, capture=name, case=case, steps=given.steps, **measure(case, scene, options))
            print(made, flush=True)
            rows = [r for r in rows if (r["command"], r["case"]) != (command, case)]
            write("ablation", "The hash field, one thing changed at a time (one seed)", rows := [*rows, made])


if __name__ == "__main__":
    main()
