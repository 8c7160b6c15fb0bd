"""`nf fit`: a posed capture or a signal (signals.py) in, a fitted field out.

  scene -> pixels -> steps (training.py) -> model, with a checkpoint now and then, and looks at held-out views
  signal         -> steps (signal_training.py) -> model

A fit of a given number of steps depends on capture, options, seed and thread count alone: interrupted and resumed it
ends in the same bits. A fit of a given time follows the clock.
"""

import hashlib
import platform
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from neuralfields import ranks
from neuralfields.checkpoint import Checkpoint
from neuralfields.domain import RADIANCE, Domain
from neuralfields.errors import InputError, UsageError
from neuralfields.fields import field_class
from neuralfields.fields.field import Field
from neuralfields.files import OutputLock, atomic_write_bytes, check_writable
from neuralfields.images import LoadedFrames, load_frames
from neuralfields.loop import Budget, Loop
from neuralfields.machine import choose_device
from neuralfields.metrics import psnr_from_mse
from neuralfields.model import Model, field_name, save
from neuralfields.options import DEFAULT_STEPS, FitOptions
from neuralfields.pixels import Pixels
from neuralfields.progress import Progress
from neuralfields.quantise import round_parameters
from neuralfields.readers import read_scene
from neuralfields.scene import Scene
from neuralfields.settings import parse_settings
from neuralfields.signal_files import read_signal, signal_format
from neuralfields.signal_training import STEPS as SIGNAL_STEPS
from neuralfields.signal_training import SignalTraining
from neuralfields.signals import Signal
from neuralfields.trainer import Trainer
from neuralfields.training import Background, Training
from neuralfields.version import VERSION
from neuralfields.volume import finish, render_sums

BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}
# Pixels of all held-out views together that a look during training takes: an estimate, the end measures them all.
LOOK_PIXELS = 1 << 16
SLOWER = 8  # times fewer for fields without a fused path
SIGNAL_FIGURES = ("psnr", "ssim", "iou", "chamfer", "snr")
TARGETS = 10  # photos that a field may choose its settings by


def run(options: FitOptions) -> dict[str, Any]:
    """The verb: reads, fits, saves. Returns path, seconds, steps, psnr (held out) and what else there is to report.

    Processes that torchrun started work on it together (ranks.py); the first one writes.
    """
    with ranks.joined(options.device):
        return _run_verb(options)


def _run_verb(options: FitOptions) -> dict[str, Any]:
    choose_device(options.device)
    parse_settings(options.set, field_class(options.field).Config)
    scene = read_input(options)
    out = options.out or Path(f"{scene.name}.nf")
    if options.dry_run:
        return _plan(scene, options, out)
    budget, log = Budget.of(options, _default_steps(scene)), out.with_suffix(".log.jsonl")
    first = ranks.rank() == 0
    progress = Progress(
        budget.steps, budget.seconds, log if first else None, options.quiet or not first, append=options.resume
    )
    model = fit_to_file(scene, replace(options, out=out), progress)
    if first:
        atomic_write_bytes(out.with_suffix(".options.json"), _options_json(options))
    made = {key: model.made[key] for key in ("seconds", "steps", "field", "scene")}
    kind = {"kind": scene.domain.kind} if isinstance(scene, Signal) else {}
    return {"path": str(out), **kind, **made, **model.metrics}


def read_input(options: FitOptions) -> Scene | Signal:
    """The capture, or the image, mesh, video or sound, that is to be fitted."""
    if signal_format(options.scene, options.format) is not None:
        return read_signal(options.scene, options.format, options.downscale)
    return read_scene(options.scene, options.format, options.allow_outside)


def _default_steps(scene: Scene | Signal) -> int:
    return SIGNAL_STEPS if isinstance(scene, Signal) else DEFAULT_STEPS


def fit_to_file(scene: Scene | Signal, options: FitOptions, progress: Progress | None = None) -> Model:
    """`fit_scene` with its output written to `options.out`, which no other process may write meanwhile."""
    out, progress = options.out, progress or Progress(options.steps, None, quiet=True)
    if ranks.rank():
        return fit_scene(scene, options, progress)
    check_writable(out, options.overwrite or options.resume)
    with OutputLock(out):
        with progress:
            model = fit_scene(scene, options, progress)
        save(model, out, half=options.half, bits=options.bits)
        Checkpoint.beside(out, {}).remove()
    return model


def text(result: dict[str, Any]) -> str:
    """What the verb prints."""
    if "dry_run" in result:
        return "\n".join(f"{name:<12} {value}" for name, value in result.items())
    if "kind" in result:
        return signal_text(result)
    score = f", held-out PSNR {result['psnr']:.2f} dB" if result.get("psnr") else ""
    path = result["path"]
    return (
        f"wrote {path}: {result['steps']} steps in {result['seconds']:.1f} s{score}\n"
        f"look at it with: nf render {path} turn.mp4 --path orbit     measure it with: nf eval {path}"
    )


def fit_scene(scene: Scene | Signal, options: FitOptions, progress: Progress | None = None) -> Model:
    """Fits a field to a scene or a signal; nothing is written but checkpoints beside `options.out`, if that is set.

    Raises InputError for pixels that cannot be used, InterruptedFit after SIGINT or SIGTERM (checkpoint written).
    """
    device = choose_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    progress = progress or Progress(options.steps, None, quiet=True)
    for line in scene.warnings:
        progress.note(line)
    config = parse_settings(options.set, field_class(options.field).Config)
    if isinstance(scene, Signal):
        return _fit_signal(scene, options, config, progress)
    loaded = load_frames(scene, scene.train, options.downscale)
    held_out = load_frames(scene, scene.test, _factor(scene, loaded)) if scene.test else None
    for line in loaded.warnings:
        progress.note(line)
    training = _start(scene, options, config, loaded, device)
    pixels = _look_pixels(held_out)
    look = None if pixels is None else _Look(training, pixels.to(device))
    loop = Loop(training, Budget.of(options), options, progress, look)
    with _watched(scene, options, loop, lambda: _model(scene, options, training, loop, loaded, held_out)):
        _run(loop, options, _description(options, config, "photos", _photos_hash(scene, loaded)))
    return _model(scene, options, training, loop, loaded, held_out)


def _fit_signal(signal: Signal, options: FitOptions, config: Any, progress: Progress) -> Model:
    if options.view:
        raise UsageError(f"--view shows scenes; {options.scene} is a field of {signal.domain.kind}: leave it out")
    if options.device == "cuda":
        raise UsageError(f"--device cuda: signals ({signal.domain.kind}) are fitted on the CPU; use --device cpu")
    field = make_field(field_class(options.field), config, signal.domain, options.seed, signal.targets())
    training = SignalTraining(field, signal, options.seed)
    held_out = signal.held_out(field) is not None
    look = (lambda: signal.held_out(field)) if held_out else None
    loop = Loop(training, Budget.of(options, SIGNAL_STEPS), options, progress, look)
    _run(loop, options, _description(options, config, "signal", signal.fingerprint()))
    views = signal.views()
    return Model(
        field=training.field,
        bounds=signal.bounds,
        cameras=views,
        held_out=(0,) if views else (),
        camera_names=tuple(f"view {index:02d}" for index in range(len(views))),
        made=_made(options, training, loop) | {"downscale": options.downscale},
        metrics=signal.measure(field) | _rate(loop),
        signal=msgspec.to_builtins(signal.facts),
    )


def signal_text(result: dict[str, Any]) -> str:
    """What the verb prints of a signal: its kind's figures, and what to do next."""
    name, path = {"shape": "mesh.ply", "sound": "sound.wav", "video": "clip.mp4"}.get(result["kind"]), result["path"]
    figures = ", ".join(f"{key} {result[key]:.4g}" for key in SIGNAL_FIGURES if key in result)
    return (
        f"wrote {path}: {result['steps']} steps in {result['seconds']:.1f} s, {figures}\n"
        f"get it back with: nf export {path} {name or 'image.png'}     measure it with: nf eval {path}"
    )


def _watched(scene: Scene, options: FitOptions, loop: Loop, model: Callable[[], Model]) -> AbstractContextManager:
    """With --view a page beside the loop, from which it can be paused, saved and ended."""
    if not options.view:
        return nullcontext()
    from neuralfields.view_fit import Watch, Watching

    out = options.out or Path(f"{scene.name}.nf")

    def save_now() -> str:
        path = out.with_name(f"{out.stem}-{loop.training.step_count}.nf")
        save(model(), path, half=options.half)
        return str(path)

    return Watching(Watch(loop, scene, save_now))


def _run(loop: Loop, options: FitOptions, description: dict[str, Any]) -> None:
    """To the end of the budget, with the checkpoint that belongs to the output."""
    training, progress = loop.training, loop.progress
    checkpoint = None
    if options.out is not None:
        checkpoint = Checkpoint.beside(options.out, description)
    if options.resume:
        if checkpoint is None:
            raise UsageError("--resume needs the output it goes on with: give --out")
        loop.seconds = checkpoint.load(training)
        progress.note(f"resumed at step {training.step_count}")
    loop.run(checkpoint)
    if options.bits == 8:
        round_parameters(training.field)  # what is measured is what is stored


class _Look:
    """A quick look at the held-out views: some fixed pixels of each."""

    def __init__(self, training: Training, pixels: Pixels) -> None:
        self.training, self.pixels = training, pixels

    @torch.no_grad()
    def __call__(self) -> float:
        """Mean over the held-out views of the PSNR of their pixels."""
        fused = self.training.field.fused() is not None
        batch = self.pixels.every(LOOK_PIXELS if fused else LOOK_PIXELS // SLOWER)
        colour = torch.tensor(self.training.background.colour, device=self.training.device)
        render = finish(render_sums(self.training.volume, batch.rays), colour, 1.0)
        rounded = (render.rgb.clamp(0, 1) * 255).round() / 255
        error = (rounded - batch.over(colour)).square().mean(1)
        count = torch.bincount(batch.camera)
        views = (torch.bincount(batch.camera, weights=error)[count > 0] / count[count > 0]).tolist()
        return sum(psnr_from_mse(view) for view in views) / len(views)


def _background(scene: Scene, options: FitOptions) -> Background:
    """Random colours behind the scene in training, unless one is asked for: a ray must become opaque to be right.

    Pictures are then measured over white where photos have alpha, and over black where they have not.
    """
    colour = BACKGROUNDS.get(options.background, (1.0, 1.0, 1.0) if scene.has_alpha else (0.0, 0.0, 0.0))
    return Background(colour, options.background in ("auto", "random"))


def _start(
    scene: Scene, options: FitOptions, config: Any, loaded: LoadedFrames, device: torch.device
) -> Training:
    field = make_field(field_class(options.field), config, RADIANCE, options.seed, _targets(loaded))
    pixels = Pixels(loaded.images, loaded.cameras, loaded.masks)
    if not len(pixels):
        raise InputError(f"{scene.root}: the masks leave no pixel to train on; check their polarity (black is ignored)")
    training = Training(field.to(device), scene.bounds, pixels.to(device), _background(scene, options), options.seed)
    training.occupancy.hide_unseen(loaded.cameras, scene.bounds.centre, scene.bounds.side)
    training.occupancy.to(device)
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


def _photos_hash(scene: Scene, loaded: LoadedFrames) -> str:
    pixels = hashlib.sha256()
    pixels.update(repr(scene.bounds).encode())
    for image, camera, mask in zip(loaded.images, loaded.cameras, loaded.masks, strict=True):
        pixels.update(repr((image.shape, camera)).encode() + camera.world_from_camera.tobytes())
        pixels.update(np.ascontiguousarray(image))
        pixels.update(b"" if mask is None else np.packbits(mask).tobytes())
    return pixels.hexdigest()


def _description(options: FitOptions, config: Any, name: str, data: str) -> dict[str, Any]:
    """What must be the same for a checkpoint to be of this fit; `data` is the hash of what is fitted."""
    return {
        "field": options.field,
        "config": {name: getattr(config, name) for name in config.__dataclass_fields__},
        "seed": options.seed,
        "steps": options.steps if options.steps or options.minutes else DEFAULT_STEPS,
        "background": options.background,
        name: data,
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
    metrics: dict[str, Any] = _rate(loop)
    if loop.look:
        metrics |= _mean_psnr(training, held_out)
    others = held_out.cameras if held_out else []
    indices = loaded.indices + (held_out.indices if held_out else [])
    made = _made(options, training, loop) | {"scene_kind": scene.kind, "downscale": _factor(scene, loaded)}
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


def _rate(loop: Loop) -> dict[str, Any]:
    return {"samples_per_second": round(loop.samples / max(loop.seconds, 1e-9))}


def _made(options: FitOptions, training: Trainer, loop: Loop) -> dict[str, Any]:
    """How the model came to be."""
    return {
        "command": " ".join(sys.argv),
        "version": VERSION,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "field": options.field,
        "scene": str(Path(options.scene).resolve()),
        "format": options.format,
        "steps": training.step_count,
        "seconds": round(loop.seconds, 3),
        "seed": options.seed,
        "background": options.background,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }


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


def _plan(scene: Scene | Signal, options: FitOptions, out: Path) -> dict[str, Any]:
    """--dry-run: what would be done."""
    config = parse_settings(options.set, field_class(options.field).Config)
    if isinstance(scene, Signal):
        what = {"kind": scene.domain.kind, **msgspec.to_builtins(scene.facts)}
    else:
        what = {"kind": scene.kind, "photos": f"{len(scene.train)} to train on, {len(scene.test)} held out"}
    return {
        "dry_run": True,
        "scene": scene.name,
        **what,
        "field": f"{options.field} {config}",
        "path": str(out),
        "warnings": list(scene.warnings),
    }


def _options_json(options: FitOptions) -> bytes:
    import json

    values = {name: getattr(options, name) for name in options.__dataclass_fields__}
    return json.dumps(values, default=str, indent=1).encode()
