"""Ablation of training on the fox, at equal steps: held-out PSNR as it is, and with one thing changed.

python benchmarks/ablation.py [--data FOLDER] [--steps 1500] [--seed 0]
"""

import argparse
import os
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from table import FOLDER, row, write

from neuralfields.captures.readers import read_scene
from neuralfields.options.fit import FitOptions
from neuralfields.rendering import occupancy
from neuralfields.scene import Scene
from neuralfields.training import radiance as training
from neuralfields.training.fit import fit_scene

# name: (constants to replace, options to replace, whether the scene is contracted)
CASES = {
    "as it is": ({}, {}, False),
    "no distortion": ({training: {"DISTORTION": 0.0}}, {}, False),
    "black background in training": ({}, {"background": "black"}, False),
    "occupancy threshold at the mean": ({occupancy: {"MEAN_SHARE": 1.0}}, {}, False),
    "occupancy forgets slowly (0.95)": ({occupancy: {"DECAY": 0.95}}, {}, False),
    "width 64": ({}, {"set": ("hidden=64",)}, False),
    "contraction, 5 cascades": ({}, {}, True),
}


def measure(name: str, scene: Scene, options: FitOptions, command: str) -> dict:
    """Runs one fit of a fixed number of steps."""
    constants, changed, contracted = CASES[name]
    if contracted:
        scene = replace(scene, bounds=replace(scene.bounds, contraction="cube", cascades=5))
    start = time.perf_counter()
    with ExitStack() as stack:
        for module, values in constants.items():
            for constant, value in values.items():
                stack.enter_context(patch.object(module, constant, value))
        model = fit_scene(scene, replace(options, **changed))
    print(name, model.metrics, flush=True)
    return row(
        command,
        case=name,
        psnr=round(model.metrics["psnr"], 2),
        seconds=round(model.made["seconds"], 1),
        wall=round(time.perf_counter() - start, 1),
        Msamples_per_second=round(model.metrics["samples_per_second"] / 1e6, 2),
    )


def main() -> None:
    """Runs all cases, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    scene = read_scene(given.data / "captures" / "ngp_fox")
    options = FitOptions(scene=scene.root, downscale=4, steps=given.steps, seed=given.seed, quiet=True, eval_every=0)
    command = f"python benchmarks/ablation.py --steps {given.steps} --seed {given.seed}"
    rows = []
    for name in CASES:
        rows.append(measure(name, scene, options, command))
        write("ablation", f"The fox after {given.steps} steps, one thing changed at a time (one seed)", rows)


if __name__ == "__main__":
    main()
