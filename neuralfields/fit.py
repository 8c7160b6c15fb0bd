"""`nf fit`: a posed capture in, a fitted field out.

  scene -> pixels -> steps (training.py) -> model, with a checkpoint now and then, and looks at held-out views

A fit of a given number of steps depends on capture, options, seed and thread count alone: interrupted and resumed it
ends in the same bits. A fit of a given time follows the clock.
"""

import hashlib
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuralfields.checkpoint import Checkpoint
from neuralfields.domain import RADIANCE, Domain
from neuralfields.errors import InputError, UsageError
from neuralfields.fields import field_class
from neuralfields.fields.field import Field
from neuralfields.files import OutputLock, atomic_write_bytes, check_writable
from neuralfields.images import LoadedFrames, load_frames
from neuralfields.loop import Budget, Loop
from neuralfields.metrics import psnr_from_mse
from neuralfields.model import Model, field_name, save
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
TARGETS = 10  # photos that a field may choose its settings by


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
    pixels = _look_pixels(held_out)
    look = None if pixels is None else _Look(training, pixels)
    loop = Loop(training, Budget.of(options), options, progress, look)
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


class _Look:
    """A quick look at the held-out views: some fixed pixels of each."""

    def __init__(self, training: Training, pixels: Pixels) -> None:
        self.training, self.pixels = training, pixels

    @torch.no_grad()
    def __call__(self) -> float:
        """Mean over the held-out views of the PSNR of their pixels."""
        batch = self.pixels.every(LOOK_PIXELS)
        colour = torch.tensor(self.training.background.colour)
        render = finish(render_sums(self.training.volume, batch.rays), colour, 1.0)
        rounded = (render.rgb.clamp(0, 1) * 255).round() / 255
        error = (rounded - batch.over(colour)).square().mean(1)
        count = torch.bincount(batch.camera)
        views = (torch.bincount(batch.camera, weights=error)[count > 0] / count[count > 0]).tolist()
        return sum(psnr_from_mse(view) for view in views) / len(views)


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
    field = make_field(field_class(options.field), config, RADIANCE, options.seed, _targets(loaded))
    pixels = Pixels(loaded.images, loaded.cameras, loaded.masks)
    if not len(pixels):
        raise InputError(f"{scene.root}: the masks leave no pixel to train on; check their polarity (black is ignored)")
    training = Training(field, scene.bounds, pixels, _background(scene, options), options.seed)
    training.occupancy.hide_unseen(loaded.cameras, scene.bounds.centre, scene.bounds.side)
    return training


def make_field(kind: type[Field], config: Any, domain: Domain, seed: int, targets: list[torch.Tensor]) -> Field:
    """A new field of that kind, the same for the same seed; what its Config leaves to the data comes from `targets`."""
    if domain.kind not in kind.DOMAINS:
        raise UsageError(f"--field {field_name(kind)}: serves {', '.join(kind.DOMAINS)}, not {domain.kind}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(kind.tuned(config, domain, targets, seed), domain)


def _targets(loaded: LoadedFrames) -> list[torch.Tensor]:
    """Some photos, evenly over the capture, as a field's `tuned` takes them: over grey where they have alpha."""
    chosen = loaded.images[:: max(1, len(loaded.images) // TARGETS)][:TARGETS]
    pictures = [torch.from_numpy(image).to(torch.float32) / 255 for image in chosen]
    return [p[..., :3] if p.shape[2] == 3 else p[..., :3] * p[..., 3:] + 0.5 * (1 - p[..., 3:]) for p in pictures]


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
    loop: Loop,
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
