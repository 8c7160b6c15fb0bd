"""Benchmarks transient rejection (--robust) and sparse depth supervision (--sparse-depth), at equal steps.

python benchmarks/adjustments.py [case ...] [--data FOLDER] [--steps 1500] [--seed 0] [--threads 2]

Walked through: in four of five training photos of the fox a block of one colour and a little noise, a sixth of the
photo wide and a third of it high, stands somewhere; the held-out photos are clean. Sparse depth: the castle, whose
COLMAP model says which photo saw which point; the fox has none.
"""

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from refine import prepared
from table import FOLDER, kept, row, write

from neuralfields.captures.images import read_image
from neuralfields.captures.readers import read_scene
from neuralfields.options.fit import FitOptions
from neuralfields.pictures.panels import save_image
from neuralfields.scene import Scene
from neuralfields.training.fit import fit_scene

# name: (capture, times smaller, walked through, options of the fit)
CASES = {
    "fox": ("ngp_fox", 4, False, {}),
    "fox, robust": ("ngp_fox", 4, False, {"robust": True}),
    "fox, walked through": ("ngp_fox", 4, True, {}),
    "fox, walked through, robust": ("ngp_fox", 4, True, {"robust": True}),
    "castle": ("sceaux_castle_11", 8, False, {}),
    "castle, sparse depth": ("sceaux_castle_11", 8, False, {"sparse_depth": True}),
}
SHARE = 0.8


def walked_through(scene: Scene, seed: int) -> Scene:
    """Paints a block, a synthetic transient, over some training photos, which lie in a folder of their own."""
    random = np.random.default_rng(seed)
    for index in scene.train:
        image = read_image(scene.frames[index].path)
        height, width = image.shape[:2]
        high, wide = height // 3, width // 6
        row, column = random.integers(0, height - high), random.integers(0, width - wide)
        colour, noise = random.uniform(0, 255, 3), random.normal(0, 10, (high, wide, 1))
        if random.random() < SHARE:
            image[row : row + high, column : column + wide, :3] = np.clip(colour + noise, 0, 255)
        save_image(scene.frames[index].path, image)
    return scene


def measure(name: str, data: Path, folder: Path, options: FitOptions, command: str) -> dict:
    """Runs one fit of a fixed number of steps."""
    capture, factor, walked, more = CASES[name]
    scene = read_scene(data / "captures" / capture)
    if more.get("sparse_depth"):
        options = replace(options, downscale=factor)
    else:
        scene, options = prepared(scene, folder, factor, None), replace(options, downscale=1)
    scene = walked_through(scene, options.seed) if walked else scene
    model = fit_scene(scene, replace(options, scene=scene.root, **more))
    figures = {"psnr": round(model.metrics["psnr"], 2), "left_out": model.made.get("left_out", "")}
    figures["seconds"] = round(model.made["seconds"], 1)
    print(name, figures, flush=True)
    return row(command, case=name, **figures)


def main() -> None:
    """Runs the named cases; other rows of the table are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=", ".join(CASES))
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    options = FitOptions(
        scene=given.data,
        steps=given.steps,
        seed=given.seed,
        threads=given.threads,
        quiet=True,
        eval_every=0,
        field="hash",
    )
    command = f"python benchmarks/adjustments.py --steps {given.steps} --seed {given.seed} --threads {given.threads}"
    for name in given.names or CASES:
        rows = {r["case"]: r for r in kept("adjustments", command)}
        if name in rows and not given.names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            new = measure(name, given.data, Path(folder), options, command)
        rows = {r["case"]: r for r in kept("adjustments", command)} | {name: new}  # another process may have added some
        title = f"What moves left out, and depth from sparse points: {given.steps} steps, one seed"
        write("adjustments", title, [rows[case] for case in CASES if case in rows])


if __name__ == "__main__":
    main()
