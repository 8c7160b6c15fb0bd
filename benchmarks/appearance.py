"""Benchmarks what a fit learns of each photo's colours: nothing, gains (--exposure), affine maps (--appearance).

python benchmarks/appearance.py [--data FOLDER] [--capture ngp_fox] [--steps 600] [--seed 0] [--threads 1]

Gaussians, photos at a quarter of their size: as they are; each in gains of its own (refine.py: factors of 0.6 to
1.6); and each after an affine map of its own: gains of 0.8 to 1.25 in each channel, channels mixed by up to 0.1, an
offset of up to 0.03; held-out photos too. A row is one fit, measured thrice on the same model: `given` compares with
the photos as they are, `by_gain` and `by_map` by each half of a photo in the gain or map that its other half shows.
`colour_error` is how far the training photos' colours by the learned maps are from those by the true ones, whose mean
is made the identity: a mean of differences, in levels of 255; `learning_nothing` is that of no maps. The maps' own
numbers say less: the channels of most scenes go together, so that other maps make nearly the same colours.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from refine import gains, prepared
from table import FOLDER, kept, row, write

from neuralfields.captures.images import downscale, read_image
from neuralfields.captures.readers import read_scene
from neuralfields.evaluation.evaluate import evaluate
from neuralfields.models.model import Model
from neuralfields.options.fit import FitOptions
from neuralfields.scene import Scene
from neuralfields.supervision.colour_maps import about_mean
from neuralfields.training.fit import fit_scene

GAIN, MIXED, OFFSET = 1.25, 0.1, 0.03
PHOTOS = ("plain", "gains", "maps")
LEARNED = ("", "exposure", "appearance")


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
    undisturbed = [downscale(read_image(scene.frames[index].path), 16) for index in scene.train]
    scene = prepared(scene, folder, 4, None if photos == "plain" else changed(true))
    model = fit_scene(scene, replace(options, **({learned: True} if learned else {})))
    plain = {name: value for name, value in model.made.items() if name not in LEARNED}
    protocols = {"given": {}, "by_gain": {"exposure": True}, "by_map": {"appearance": True}}
    figures = {
        "photos": photos,
        "learned": learned or "nothing",
        **{name: round(evaluate(replace(model, made=plain | how), scene).psnr, 2) for name, how in protocols.items()},
        **_colour_errors(model, scene, true, undisturbed),
        "seconds": round(model.made["seconds"], 1),
    }
    print(figures, flush=True)
    return row(command, **figures)


def _colour_errors(model: Model, scene: Scene, true: np.ndarray, undisturbed: list[np.ndarray]) -> dict[str, float]:
    train = [scene.frames[index].name for index in scene.train]
    factors, found = model.made.get("exposure_gains"), model.made.get("appearance_maps")
    if factors is not None:
        found = {name: np.pad(np.diag(factors[name]), ((0, 0), (0, 1))) for name in train}
    wanted = about_mean(torch.from_numpy(true[list(scene.train)])).numpy()
    nothing = np.eye(3, 4)

    def off(maps: list[np.ndarray]) -> float:
        parts = [
            np.abs(photo @ (one - other)[:, :3].T + 255 * (one - other)[:, 3]).mean()
            for photo, one, other in zip(undisturbed, maps, wanted, strict=True)
        ]
        return round(float(np.mean(parts)), 2)

    none = [nothing] * len(train)
    learned = none if found is None else [np.asarray(found[name]) for name in train]
    return {"colour_error": off(learned), "learning_nothing": off(none)}


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
