"""Benchmarks pose refinement and exposure compensation: the fox with poses and exposure disturbed on purpose.

python benchmarks/refine.py [case ...] [--data FOLDER] [--steps 1500] [--seed 0] [--threads 2]

Every camera, held-out ones too, is turned by 2 degrees about a random axis through itself and shifted by 2 % of the
scene's size (the largest distance between two training cameras) in a random direction. Every photo of the exposure
cases, held-out ones too, is multiplied by a gain of its own (a factor of 0.6 to 1.6, by up to 15 % another one in each
channel) and rounded to 8 bits. A row is measured twice on the same field: by the given cameras and exposure (`given`),
and after aligning each held-out camera to the field, and exposing each half of a photo like the other (`psnr`).
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from table import FOLDER, kept, row, write

from neuralfields.cameras import Camera
from neuralfields.captures.images import downscale, read_image
from neuralfields.captures.readers import read_scene
from neuralfields.evaluation.evaluate import evaluate
from neuralfields.models.model import Model
from neuralfields.options.fit import FitOptions
from neuralfields.pictures.panels import save_image
from neuralfields.scene import Frame, Scene
from neuralfields.supervision.alignment import rotations
from neuralfields.supervision.pose_refinement import Similarity
from neuralfields.training.fit import fit_scene

TURN, SHIFT = 2.0, 0.02  # degrees; share of the scene's size
GAIN, TINT = 1.6, 1.15
# name: (poses disturbed, exposure disturbed, options of the fit)
CASES = {
    "true poses": (False, False, {}),
    "true poses, refined": (False, False, {"refine_poses": True}),
    "disturbed poses": (True, False, {}),
    "disturbed poses, refined": (True, False, {"refine_poses": True}),
    "true exposure": (False, False, {"exposure": True}),
    "disturbed exposure": (False, True, {}),
    "disturbed exposure, learned": (False, True, {"exposure": True}),
    "both disturbed, both learned": (True, True, {"refine_poses": True, "exposure": True}),
}


def size_of(cameras: Sequence[Camera]) -> float:
    """The largest distance between two cameras."""
    centres = np.stack([camera.centre for camera in cameras])
    return float(np.linalg.norm(centres[:, None] - centres, axis=2).max())


def disturbed(frames: Sequence[Frame], size: float, seed: int) -> tuple[Frame, ...]:
    """The frames with every camera turned and shifted."""
    import torch

    random = np.random.default_rng(seed)
    axes, ways = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in random.normal(size=(2, len(frames), 3)))
    turns = rotations(torch.from_numpy(axes * np.radians(TURN))).numpy()
    changed = []
    for frame, turn, way in zip(frames, turns, ways, strict=True):
        pose = frame.camera.world_from_camera.copy()
        pose[:3, :3] = turn @ pose[:3, :3]
        pose[:3, 3] += SHIFT * size * way
        changed.append(replace(frame, camera=replace(frame.camera, world_from_camera=pose)))
    return tuple(changed)


def gains(count: int, seed: int) -> np.ndarray:
    """Factors of the photos' channels, [count, 3], the geometric mean of all being 1."""
    random = np.random.default_rng(seed + 1)
    logarithms = random.uniform(-np.log(GAIN), np.log(GAIN), (count, 1))
    logarithms = logarithms + random.uniform(-np.log(TINT), np.log(TINT), (count, 3))
    return np.exp(logarithms - logarithms.mean(0))


def prepared(scene: Scene, folder: Path, factor: int, changed: Callable[[int, np.ndarray], np.ndarray] | None) -> Scene:
    """The scene with photos `factor` times smaller, in a folder of their own, as `changed` makes them by index."""
    frames = []
    for index, frame in enumerate(scene.frames):
        small = downscale(read_image(frame.path), factor)
        if changed is not None:
            small = np.clip(changed(index, small) + 0.5, 0, 255).astype(np.uint8)
        path = folder / f"{index:04d}.png"
        save_image(path, small)
        camera = frame.camera.resized(small.shape[1], small.shape[0])
        frames.append(replace(frame, path=path, camera=camera))
    return replace(scene, frames=tuple(frames))


def pose_errors(cameras: Sequence[Camera], true: Sequence[Camera]) -> tuple[float, float]:
    """Mean angle in degrees and mean distance as a share of the scene's size, after the best similarity."""
    similarity = Similarity.between(cameras, true)
    angles, distances = [], []
    for camera, other in zip(map(similarity.moved, cameras), true, strict=True):
        turn = camera.world_from_camera[:3, :3].T @ other.world_from_camera[:3, :3]
        angles.append(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))
        distances.append(np.linalg.norm(camera.centre - other.centre))
    return float(np.mean(angles)), float(np.mean(distances)) / size_of(true)


def measure(name: str, scene: Scene, folder: Path, options: FitOptions, command: str) -> dict:
    """One fit of a fixed number of steps, measured in both ways."""
    poses, exposure, more = CASES[name]
    true = {frame.name: frame.camera for frame in scene.frames}
    size = size_of([scene.frames[index].camera for index in scene.train])
    factors = gains(len(scene.frames), options.seed) if exposure else None
    scene = prepared(scene, folder, 4, None if factors is None else lambda index, photo: photo * factors[index])
    if poses:
        scene = replace(scene, frames=disturbed(scene.frames, size, options.seed))
    train = [scene.frames[k] for k in scene.train]
    before = pose_errors([f.camera for f in train], [true[f.name] for f in train])
    model = fit_scene(scene, replace(options, downscale=1, **more))
    aligned = evaluate(replace(model, made=model.made | {"refine_poses": True, "exposure": exposure}), scene)
    trained = [k for k in range(len(model.cameras)) if k not in model.held_out]
    after = pose_errors([model.cameras[k] for k in trained], [true[model.camera_names[k]] for k in trained])
    figures = {
        "psnr": round(aligned.psnr, 2),
        "given": round(aligned.psnr_given or aligned.psnr, 2),
        "degrees_before": round(before[0], 3),
        "degrees_after": round(after[0], 3),
        "position_before_percent": round(100 * before[1], 3),
        "position_after_percent": round(100 * after[1], 3),
        **_gain_error(model, scene, factors),
        "seconds": round(model.made["seconds"], 1),
    }
    print(name, figures, flush=True)
    return row(command, case=name, **figures)


def _gain_error(model: Model, scene: Scene, factors: np.ndarray | None) -> dict[str, float]:
    """Mean relative error of the gains that were found, beside that of finding nothing."""
    found = model.made.get("exposure_gains")
    if not found:
        return {}
    true = np.ones((len(scene.frames), 3)) if factors is None else factors
    rows = [k for k, frame in enumerate(scene.frames) if frame.name in found]
    logarithms = np.log(true[rows])
    logarithms -= logarithms.mean(0)
    off = np.log([found[scene.frames[k].name] for k in rows]) - logarithms
    return {"gain_error_percent": round(100 * float(np.abs(off).mean()), 2),
            "gain_spread_percent": round(100 * float(np.abs(logarithms).mean()), 2)}  # fmt: skip


def main() -> None:
    """The cases that were named; those that the table has already are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=", ".join(CASES))
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    scene = read_scene(given.data / "captures" / "ngp_fox")
    options = FitOptions(
        scene=scene.root,
        steps=given.steps,
        seed=given.seed,
        threads=given.threads,
        quiet=True,
        eval_every=0,
        field="hash",
    )
    command = f"python benchmarks/refine.py --steps {given.steps} --seed {given.seed} --threads {given.threads}"
    for name in given.names or CASES:
        rows = {r["case"]: r for r in kept("refine", command)}
        if name in rows and not given.names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            new = measure(name, scene, Path(folder), options, command)
        rows = {r["case"]: r for r in kept("refine", command)} | {name: new}  # another process may have added some
        title = f"The fox after {given.steps} steps, poses and exposure disturbed on purpose (one seed)"
        write("refine", title, [rows[case] for case in CASES if case in rows])


if __name__ == "__main__":
    main()
