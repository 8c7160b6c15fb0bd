"""`nf fit`: a posed capture in, a fitted field out.

  scene -> pixels -> steps (training.py) -> model, with a checkpoint now and then, and looks at held-out views

A fit of a given number of steps depends on capture, options, seed and thread count alone: interrupted and resumed it
ends in the same bits. A fit of a given time follows the clock.
"""

import hashlib
import platform
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuralfields.checkpoint import Checkpoint
from neuralfields.errors import InputError, InterruptedFit, UsageError
from neuralfields.fields import field_class
from neuralfields.files import OutputLock, atomic_write_bytes, check_writable
from neuralfields.images import LoadedFrames, load_frames
from neuralfields.metrics import psnr_from_mse
from neuralfields.model import Model, save
from neuralfields.options import DEFAULT_STEPS, FitOptions, parse_settings
from neuralfields.pixels import Pixels
from neuralfields.progress import Progress
from neuralfields.readers import read_scene
from neuralfields.scene import Scene
from neuralfields.training import Background, Training
from neuralfields.version import VERSION
from neuralfields.volume import finish, render_sums

BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}
# Pixels of all held-out views together that a look during training takes: an estimate, the end measures them all.
LOOK_PIXELS = 1 << 16


@dataclass(frozen=True)
class Budget:
    """Where a fit ends: after `steps`, or after `seconds` of training."""

    steps: int | None
    seconds: float | None

    @staticmethod
    def of(options: FitOptions) -> "Budget":
        """From --steps and --minutes; with neither the default number of steps."""
        if options.steps is None and options.minutes is None:
            return Budget(DEFAULT_STEPS, None)
        return Budget(options.steps, None if options.minutes is None else options.minutes * 60)

    def progress(self, step: int, seconds: float) -> float:
        """How far the fit is, 0 to 1; 1 ends it."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = seconds / self.seconds if self.seconds else 0.0
        return min(max(by_steps, by_time), 1.0)


def run(options: FitOptions) -> dict[str, Any]:
    """The verb: reads, fits, saves. Returns path, seconds, steps, psnr (held out) and what else there is to report."""
    _choose_device(options)
    parse_settings(options.set, field_class(options.field).Config)
    scene = read_scene(options.scene, options.format, options.allow_outside)
    out = options.out or Path(f"{scene.name}.nf")
    if options.dry_run:
        return _plan(scene, options, out)
    budget, log = Budget.of(options), out.with_suffix(".log.jsonl")
    progress = Progress(budget.steps, budget.seconds, log, options.quiet, append=options.resume)
    model = fit_to_file(scene, replace(options, out=out), progress)
    atomic_write_bytes(out.with_suffix(".options.json"), _options_json(options))
    made = {key: model.made[key] for key in ("seconds", "steps", "field", "scene")}
    return {"path": str(out), **made, **model.metrics}


def fit_to_file(scene: Scene, options: FitOptions, progress: Progress | None = None) -> Model:
    """`fit_scene` with its output written to `options.out`, which no other process may write meanwhile."""
    out, progress = options.out, progress or Progress(options.steps, None, quiet=True)
    check_writable(out, options.overwrite or options.resume)
    with OutputLock(out):
        with progress:
            model = fit_scene(scene, options, progress)
        save(model, out, half=options.half)
        Checkpoint.beside(out, {}).remove()
    return model


def text(result: dict[str, Any]) -> str:
    """What the verb prints."""
    if "dry_run" in result:
        return "\n".join(f"{name:<12} {value}" for name, value in result.items())
    score = f", held-out PSNR {result['psnr']:.2f} dB" if result.get("psnr") else ""
    path = result["path"]
    return (
        f"wrote {path}: {result['steps']} steps in {result['seconds']:.1f} s{score}\n"
        f"look at it with: nf render {path} turn.mp4 --path orbit     measure it with: nf eval {path}"
    )


def fit_scene(scene: Scene, options: FitOptions, progress: Progress | None = None) -> Model:
    """Fits a field to a scene and returns it; nothing is written but checkpoints beside `options.out`, if that is set.

    Raises InputError for pixels that cannot be used, InterruptedFit after SIGINT or SIGTERM (checkpoint written).
    """
    _choose_device(options)
    if options.threads:
        torch.set_num_threads(options.threads)
    progress = progress or Progress(options.steps, None, quiet=True)
    for line in scene.warnings:
        progress.note(line)
    config = parse_settings(options.set, field_class(options.field).Config)
    loaded = load_frames(scene, scene.train, options.downscale)
    held_out = load_frames(scene, scene.test, _factor(scene, loaded)) if scene.test else None
    for line in loaded.warnings:
        progress.note(line)
    training = _start(scene, options, config, loaded)
    loop = _Loop(training, Budget.of(options), options, progress, _look_pixels(held_out))
    checkpoint = None
    if options.out is not None:
        checkpoint = Checkpoint.beside(options.out, _description(scene, options, config, loaded))
    if options.resume:
        if checkpoint is None:
            raise UsageError("--resume needs the output it goes on with: give --out")
        loop.seconds = checkpoint.load(training)
        progress.note(f"resumed at step {training.step_count}")
    loop.run(checkpoint)
    return _model(scene, options, training, loop, loaded, held_out)


class _Loop:
    """Steps until the budget is spent, with looks at held-out pixels, checkpoints, and an ear for signals."""

    def __init__(
        self, training: Training, budget: Budget, options: FitOptions, progress: Progress, look: Pixels | None
    ) -> None:
        self.training, self.budget, self.options, self.progress, self.look = training, budget, options, progress, look
        self.seconds = 0.0
        self.samples = 0
        self.stop = False

    def run(self, checkpoint: Checkpoint | None) -> None:
        training, start = self.training, time.perf_counter() - self.seconds
        looked = saved = self.seconds
        with _signals(self):
            while (done := self.budget.progress(training.step_count, self.seconds)) < 1:
                report = training.step(done)
                self.samples += report.samples
                self.seconds = time.perf_counter() - start
                self.progress.update(
                    training.step_count, self.seconds, report.rays, report.samples, report.psnr, report.loss
                )
                if self.stop:
                    self._interrupt(checkpoint)
                if checkpoint is not None and self.seconds - saved >= self.options.checkpoint_every:
                    checkpoint.save(training, self.seconds)
                    saved = time.perf_counter() - start
                if self.options.eval_every and self.look and self.seconds - looked >= self.options.eval_every:
                    self.progress.held_out(training.step_count, self.held_out_psnr())
                    looked = time.perf_counter() - start

    def _interrupt(self, checkpoint: Checkpoint | None) -> None:
        step = self.training.step_count
        if checkpoint is None:
            raise InterruptedFit(f"interrupted at step {step}; nothing is kept without an output")
        checkpoint.save(self.training, self.seconds)
        raise InterruptedFit(
            f"interrupted at step {step}; the checkpoint {checkpoint.path} is written, go on with the same command and"
            " --resume"
        )

    @torch.no_grad()
    def held_out_psnr(self) -> float:
        """Mean over the held-out views of the PSNR of some fixed pixels of each."""
        batch = self.look.every(LOOK_PIXELS)
        colour = torch.tensor(self.training.background.colour)
        render = finish(render_sums(self.training.volume, batch.rays), colour, 1.0)
        rounded = (render.rgb.clamp(0, 1) * 255).round() / 255
        error = (rounded - batch.over(colour)).square().mean(1)
        count = torch.bincount(batch.camera)
        views = (torch.bincount(batch.camera, weights=error)[count > 0] / count[count > 0]).tolist()
        return sum(psnr_from_mse(view) for view in views) / len(views)


@contextmanager
def _signals(loop: _Loop) -> Iterator[None]:
    """The first SIGINT or SIGTERM asks for a clean end; a second one ends at once."""

    def ask(number: int, frame: object) -> None:
        if loop.stop:
            raise KeyboardInterrupt
        loop.stop = True

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _choose_device(options: FitOptions) -> None:
    if options.device == "cuda":
        raise UsageError("--device cuda: the CUDA path is not there yet; use --device cpu")


def _background(scene: Scene, options: FitOptions) -> Background:
    """Random colours behind the scene in training, unless one is asked for: a ray must become opaque to be right.

    Pictures are then measured over white where photos have alpha, and over black where they have not.
    """
    colour = BACKGROUNDS.get(options.background, (1.0, 1.0, 1.0) if scene.has_alpha else (0.0, 0.0, 0.0))
    return Background(colour, options.background in ("auto", "random"))


def _start(scene: Scene, options: FitOptions, config: Any, loaded: LoadedFrames) -> Training:
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(options.seed)
    field = field_class(options.field)(config)
    torch.random.set_rng_state(generator_state)
    pixels = Pixels(loaded.images, loaded.cameras, loaded.masks)
    if not len(pixels):
        raise InputError(f"{scene.root}: the masks leave no pixel to train on; check their polarity (black is ignored)")
    training = Training(field, scene.bounds, pixels, _background(scene, options), options.seed)
    training.occupancy.hide_unseen(loaded.cameras, scene.bounds.centre, scene.bounds.side)
    return training


def _look_pixels(held_out: LoadedFrames | None) -> Pixels | None:
    if held_out is None or not held_out.images:
        return None
    pixels = Pixels(held_out.images, held_out.cameras, held_out.masks)
    return pixels if len(pixels) else None


def _factor(scene: Scene, loaded: LoadedFrames) -> int:
    """The factor by which the training photos were made smaller, so that the others are made smaller alike."""
    return max(1, round(scene.frames[loaded.indices[0]].camera.width / loaded.cameras[0].width))


def _description(scene: Scene, options: FitOptions, config: Any, loaded: LoadedFrames) -> dict[str, Any]:
    """What must be the same for a checkpoint to be of this fit."""
    pixels = hashlib.sha256()
    pixels.update(repr(scene.bounds).encode())
    for image, camera, mask in zip(loaded.images, loaded.cameras, loaded.masks, strict=True):
        pixels.update(repr((image.shape, camera)).encode() + camera.world_from_camera.tobytes())
        pixels.update(np.ascontiguousarray(image))
        pixels.update(b"" if mask is None else np.packbits(mask).tobytes())
    return {
        "field": options.field,
        "config": {name: getattr(config, name) for name in config.__dataclass_fields__},
        "seed": options.seed,
        "steps": options.steps if options.steps or options.minutes else DEFAULT_STEPS,
        "background": options.background,
        "photos": pixels.hexdigest(),
        "threads": torch.get_num_threads(),
    }


def _model(
    scene: Scene,
    options: FitOptions,
    training: Training,
    loop: _Loop,
    loaded: LoadedFrames,
    held_out: LoadedFrames | None,
) -> Model:
    metrics: dict[str, Any] = {"samples_per_second": round(loop.samples / max(loop.seconds, 1e-9))}
    if loop.look:
        metrics |= _mean_psnr(training, held_out)
    others = held_out.cameras if held_out else []
    indices = loaded.indices + (held_out.indices if held_out else [])
    made = {
        "command": " ".join(sys.argv),
        "version": VERSION,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "field": options.field,
        "scene": str(Path(options.scene).resolve()),
        "scene_kind": scene.kind,
        "format": options.format,
        "downscale": _factor(scene, loaded),
        "steps": training.step_count,
        "seconds": round(loop.seconds, 3),
        "seed": options.seed,
        "background": options.background,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }
    return Model(
        field=training.field,
        bounds=scene.bounds,
        occupancy=training.occupancy.bits,
        cameras=(*loaded.cameras, *others),
        held_out=tuple(range(len(loaded.cameras), len(loaded.cameras) + len(others))),
        camera_names=tuple(scene.frames[i].name for i in indices),
        background=training.background.colour,
        made=made,
        metrics=metrics,
        lineage=[],
    )


def _mean_psnr(training: Training, held_out: LoadedFrames) -> dict[str, float]:
    """Mean over the held-out views of each view's PSNR: the figure that `nf eval` gives too."""
    from neuralfields.evaluate import measure

    views = zip(held_out.images, held_out.cameras, held_out.masks, strict=True)
    colour = training.background.colour
    scores = [
        measure(training.volume, image, camera, colour, mask, structure=False).psnr
        for image, camera, mask in views
        if mask is None or mask.any()
    ]
    return {"psnr": sum(scores) / len(scores)} if scores else {}


def _plan(scene: Scene, options: FitOptions, out: Path) -> dict[str, Any]:
    """--dry-run: what would be done."""
    config = parse_settings(options.set, field_class(options.field).Config)
    return {
        "dry_run": True,
        "scene": scene.name,
        "kind": scene.kind,
        "photos": f"{len(scene.train)} to train on, {len(scene.test)} held out",
        "field": f"{options.field} {config}",
        "path": str(out),
        "warnings": list(scene.warnings),
    }


def _options_json(options: FitOptions) -> bytes:
    import json

    values = {name: getattr(options, name) for name in options.__dataclass_fields__}
    return json.dumps(values, default=str, indent=1).encode()
