"""Benchmarks what a fit learns of each photo's colours: nothing, gains (--exposure), affine maps (--appearance).

python benchmarks/appearance.py [--data FOLDER] [--capture ngp_fox] [--steps 600] [--seed 0] [--threads 1]

Gaussians, photos at a quarter of their size: as they are; each in gains of its own (refine.py: factors of 0.6 to
1.6); and each after an affine map of its own: gains of 0.8 to 1.25 in each channel, channels mixed by up to 0.1, an
offset of up to 0.03; held-out photos too. A row is one fit, measured thrice on the same model: `given` compares with
the photos as they are, `by_gain` and `by_map` by each half of a photo in the gain or map that its other half shows.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from refine import gains, prepared
from table import FOLDER, kept, row, write

from neuralfields.captures.readers import read_scene
from neuralfields.evaluation.evaluate import evaluate
from neuralfields.options.fit import FitOptions
from neuralfields.scene import Scene
from neuralfields.training.fit import fit_scene

GAIN, MIXED, OFFSET = 1.25, 0.1, 0.03
PHOTOS = ("maps", "plain", "gains")
LEARNED = ("appearance", "exposure", "")


def maps(count: int, seed: int) -> np.ndarray:
    """Maps [count, 3, 4] = (A | b)."""
    random = np.random.default_rng(seed + 2)
    found = random.uniform(-MIXED, MIXED, (count, 3, 4))
    found[..., 3] *= OFFSET / MIXED
    found[:, range(3), range(3)] = np.exp(random.uniform(-np.log(GAIN), np.log(GAIN), (count, 3)))
    return found


def true_maps(photos: str, count: int, seed: int) -> np.ndarray:
    """What each photo's colours go through."""
    if photos == "maps":
        return maps(count, seed)
    factors = gains(count, seed) if photos == "gains" else np.ones((count, 3))
    return np.pad(factors[:, :, None] * np.eye(3), ((0, 0), (0, 0), (0, 1)))


def changed(true: np.ndarray) -> Callable[[int, np.ndarray], np.ndarray]:
    """Photos uint8 [H, W, 3] by index, after their maps."""
    return lambda index, photo: 255 * (photo / 255 @ true[index, :, :3].T + true[index, :, 3])


def measure(scene: Scene, case: tuple[str, str], folder: Path, options: FitOptions, command: str) -> dict:
    """One fit, measured in three ways."""
    photos, learned = case
    true = true_maps(photos, len(scene.frames), options.seed)
    scene = prepared(scene, folder, 4, None if photos == "plain" else changed(true))
    model = fit_scene(scene, replace(options, **({learned: True} if learned else {})))
    plain = {name: value for name, value in model.made.items() if name not in LEARNED}
    protocols = {"given": {}, "by_gain": {"exposure": True}, "by_map": {"appearance": True}}
    figures = {
        "photos": photos,
        "learned": learned or "nothing",
        **{name: round(evaluate(replace(model, made=plain | how), scene).psnr, 2) for name, how in protocols.items()},
        "seconds": round(model.made["seconds"], 1),
    }
    print(figures, flush=True)
    return row(command, **figures)


def main() -> None:
    """Every case that the table does not have yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--capture", default="ngp_fox")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    scene = read_scene(given.data / "captures" / given.capture)
    options = FitOptions(scene.root, field="gaussians", steps=given.steps, seed=given.seed, threads=given.threads)
    options = replace(options, downscale=1, eval_every=0, quiet=True)
    words = f"--capture {given.capture} --steps {given.steps} --seed {given.seed} --threads {given.threads}"
    command = f"python benchmarks/appearance.py {words}"
    rows = kept("appearance", command)
    done = {(r["photos"], r["learned"]) for r in rows}
    for case in ((photos, learned) for photos in PHOTOS for learned in LEARNED):
        if (case[0], case[1] or "nothing") in done:
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(scene, case, Path(folder), options, command))
        write("appearance", f"Colours of photos learned: Gaussians after {given.steps} steps, one seed", rows)


if __name__ == "__main__":
    main()
