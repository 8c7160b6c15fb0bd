"""What a scene that stands still loses where it is fitted as one that moves: the same steps with and without times.

python benchmarks/still_in_time.py [--data FOLDER] [--names chair fox] [--cases gaussians ...] [--steps 1000]

The photos are given times in a random order, so that neighbours in time look from anywhere. One thread, fixed steps.
A fit finds out by itself whether anything moves (training/stillness.py); with --moving it does not ask.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from table import kept, row, write

from neuralfields.captures.readers import read_scene
from neuralfields.options.fit import FitOptions
from neuralfields.scene import Scene, time_range
from neuralfields.training.fit import fit_scene

CAPTURES = {"chair": ("synthetic_chair", 1), "fox": ("ngp_fox", 4)}
CASES = {  # field, its settings, --moving
    "gaussians": ("gaussians", ("most=40000",), False),
    "gaussians, --moving": ("gaussians", ("most=40000",), True),
    "hash": ("hash", (), False),
    "hash, --moving": ("hash", (), True),
    "kplanes, --moving": ("kplanes", (), True),
}


def in_time(scene: Scene) -> Scene:
    """The scene with a time for each photo, evenly apart and in a random order."""
    times = np.random.default_rng(0).permutation(len(scene.frames)) / (len(scene.frames) - 1)
    frames = tuple(
        replace(frame, camera=replace(frame.camera, time=float(time)))
        for frame, time in zip(scene.frames, times, strict=True)
    )
    return replace(scene, frames=frames, bounds=replace(scene.bounds, times=time_range(frames)))


def main() -> None:
    """All captures and cases that are not in the table yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("NEURALFIELDS_DATA"))
    parser.add_argument("--names", nargs="*", choices=list(CAPTURES), default=list(CAPTURES))
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES)[:2])
    parser.add_argument("--steps", type=int, default=1000)
    given = parser.parse_args()
    command = f"python benchmarks/still_in_time.py --steps {given.steps}"
    rows = kept("still_in_time", command)
    done = {(r["scene"], r["case"]) for r in rows}
    for name in given.names:
        folder, downscale = CAPTURES[name]
        scene = read_scene(Path(given.data) / "captures" / folder)
        for case in given.cases:
            if (name, case) in done:
                continue
            field, settings, moves = CASES[case]
            options = FitOptions(
                scene.root, field=field, set=settings, steps=given.steps, downscale=downscale, threads=1,
                quiet=True, eval_every=0, moving=moves,
            )  # fmt: skip
            models = [fit_scene(each, options) for each in (scene, in_time(scene))]
            still, moving = (model.metrics["psnr"] for model in models)
            rows.append(
                row(
                    command, scene=name, case=case, steps=given.steps, seed=0, still=round(still, 2),
                    moving=round(moving, 2), lost=round(still - moving, 2),
                found_still=models[1].bounds.times is None,
                )
            )  # fmt: skip
            print(rows[-1], flush=True)
            write("still_in_time", "Scenes that stand still, fitted as if they moved", rows)


if __name__ == "__main__":
    main()
