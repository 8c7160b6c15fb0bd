"""The Gaussians' part of gpu.py: a view and a training step by size, and fits of the fox and the chair to a quality.

Gaussians are those of splat_speed.py: around points of the fox, fitted for some hundred steps so that they overlap as
those of a fit do. Fits are `nf fit --field gaussians` without its files: the beginning (a hash field's, on the CPU) and
every step count as time, validation does not.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from splat_speed import BLACK, beginning, fit, step_of

from neuralfields.cameras import Camera, fitted
from neuralfields.captures.images import LoadedFrames, load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.evaluation.evaluate import measure
from neuralfields.ops.image_loss import image_loss
from neuralfields.ops.project import View
from neuralfields.ops.splat_pass import Packed, SplatPass
from neuralfields.options.fit import FitOptions
from neuralfields.rendering.splat import near_of, pinhole
from neuralfields.splatting.photos import training_photos
from neuralfields.trainers.splats import SplatTrainer, budget
from neuralfields.training.photos import choose_background, prepare_scene
from neuralfields.training.plan import plan_fit
from neuralfields.training.splat_fit import beginning as first_gaussians


class Size(NamedTuple):
    """Gaussians, the picture's width and height, steps of the fit before."""

    count: int
    width: int
    height: int
    steps: int


class Case(NamedTuple):
    """Capture, downscale, the qualities to reach in dB."""

    capture: str
    downscale: int
    targets: tuple[float, ...]


SIZES = (Size(60_000, 270, 480, 400), Size(1_000_000, 1920, 1080, 100))
CASES = {
    "fox quarter": Case("ngp_fox", 4, (27.0, 29.0, 30.5)),
    "chair": Case("synthetic_chair", 1, (33.0, 36.0)),
}
QUICK_SIZES = (Size(3_000, 90, 160, 10),)
QUICK_CASES = {"fox": Case("ngp_fox", 16, (12.0,))}
LOOK_VIEWS, VALIDATE_EVERY = 4, 1.2
Tell = Callable[..., None]


def tell_all(captures: Path, machine: Any, limit: float, quick: bool, tell: Tell) -> None:
    """All rows of Gaussians; `machine` is gpu.py's, `limit` the seconds of a fit."""
    for size in QUICK_SIZES if quick else SIZES:
        tell(f"{size.count} Gaussians at {size.width}x{size.height}", **speed(captures / "ngp_fox", size, machine))
    for name, case in (QUICK_CASES if quick else CASES).items():
        tell(f"Gaussians on {name}", **time_to(captures, case, machine, limit))


def speed(capture: Path, size: Size, machine: Any) -> dict[str, Any]:
    """Milliseconds of a view, of a step and of its parts."""
    scene = read_scene(capture)
    box = np.asarray(scene.bounds.centre) + scene.bounds.side * (np.random.default_rng(0).random((4000, 3)) - 0.5)
    packed = beginning(box if scene.points is None else scene.points, size.count, torch.Generator().manual_seed(0))
    run = SplatPass(Packed(packed.core.to(machine.device), packed.rest.to(machine.device)))
    views, targets = [], []
    for index in scene.train[:8]:
        camera = fitted(pinhole(scene.frames[index].camera), (size.width, size.height))
        views.append(View.of(camera, near_of(scene.bounds)))
    loaded = load_frames(scene, scene.train[:8], None)
    for image in loaded.images:
        values = torch.from_numpy(np.ascontiguousarray(image[..., :3])).to(machine.device).float() / 255
        resized = torch.nn.functional.interpolate(values.permute(2, 0, 1)[None], (size.height, size.width), mode="area")
        targets.append(resized[0].permute(1, 2, 0).contiguous())
    fit(run, views, targets, size.steps, scene.bounds.side)
    step, number = step_of(run, views[0], targets[0]), iter(range(1, 10**6))
    rgb = run.render(views[0], BLACK, 3).rgb
    seconds = {
        "ms a view": machine.seconds(lambda: run.render(views[0], BLACK, 3)),
        "ms a step": machine.seconds(lambda: step(next(number)), 32),
        "ms of the loss": machine.seconds(lambda: image_loss(rgb, targets[0])),
        "ms backward": machine.seconds(lambda: run.backward(rgb)),
    }
    seen, pairs = int(run.kept("totals")[0]), int(run.kept("tile_offset")[-1])
    bytes_ = floor_bytes(seen, pairs, size)
    figures = {name: round(1000 * value, 3) for name, value in seconds.items()}
    return {"visible": seen, "pairs": pairs, **figures, "floor ms a step": 1000 * bytes_ / machine.bandwidth}


def floor_bytes(seen: int, pairs: int, size: Size) -> float:
    """Bytes that a step moves at least: Gaussians, harmonics, moments, rows and their gradients, pairs, pictures.

    Cores are read twice and written, moments read and written, harmonics read twice; rows and their gradients are
    written and read; keys pass the sort's eight digits; a pair's gradient is written and read.
    """
    gaussians = seen * (3 * 64 + 4 * 64 + 2 * 180 + 4 * 64)
    return gaussians + pairs * (8 * 2 * 16 + 2 * 32 + 2 * 64) + size.width * size.height * 4 * (3 + 3 + 9 * 2 + 3)


def time_to(captures: Path, case: Case, machine: Any, limit: float) -> dict[str, Any]:
    """One fit: seconds until each quality, and what it ends with."""
    source = captures / case.capture
    options = FitOptions(
        source, field="gaussians", downscale=case.downscale, minutes=limit / 60, device=machine.device.type
    )
    plan = plan_fit(options, read_scene(source))
    scene = prepare_scene(plan.source, options)
    loaded, views = (load_frames(scene, which, case.downscale) for which in (scene.train, scene.test))
    background = choose_background(scene, options)
    start = time.perf_counter()
    photos, given = training_photos(loaded, scene.bounds, plan.config.antialiased)
    most = budget(sum(image.shape[0] * image.shape[1] for image in given.images), limit)
    gaussians, how = first_gaussians(scene, plan, loaded, given, most)
    moved = [photo.to(machine.device) for photo in photos]
    training = SplatTrainer(gaussians.to(machine.device), moved, scene.bounds, background, most, 0)
    machine.wait()
    first = seconds = time.perf_counter() - start
    reached: dict[float, float] = {}
    limit = max(limit, 1.2 * seconds)  # a slow beginning is followed by some steps all the same
    next_look = 1.1 * seconds
    while seconds < limit:
        start = time.perf_counter()
        while seconds + (time.perf_counter() - start) < min(next_look, limit):
            training.step(min(1.0, (seconds + time.perf_counter() - start) / limit))
        machine.wait()
        seconds += time.perf_counter() - start
        psnr = quality(training, views, LOOK_VIEWS)
        for target in case.targets:
            if psnr >= target and target not in reached and quality(training, views) >= target:
                reached[target] = round(seconds, 2)
        next_look = VALIDATE_EVERY * seconds
    figures = {f"s to {target:g} dB": reached.get(target, "not reached") for target in case.targets}
    figures |= {"dB at the end": round(quality(training, views), 2), "steps": training.step_count}
    view: Camera = pinhole(views.cameras[0])
    frame = machine.seconds(lambda: training.volume.render(view, (0.0, 0.0, 0.0)), 5)
    counted = {"Gaussians": len(training.state.values), "begun": how, "s of the beginning": round(first, 2)}
    return {**figures, **counted, "ms a view with sorting": round(1000 * frame, 2)}


def quality(training: SplatTrainer, views: LoadedFrames, count: int | None = None) -> float:
    """Mean held-out PSNR, of some views evenly chosen or of all."""
    every = max(1, len(views.images) // count) if count else 1
    colour, volume = training.background.colour, training.volume
    chosen = list(zip(views.images, views.cameras, views.masks, strict=True))[::every]
    scores = [measure(volume, *view[:2], colour, view[2], structure=False).psnr for view in chosen]
    return sum(scores) / len(scores)
