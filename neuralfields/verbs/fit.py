"""`nf fit`: a posed capture or a signal (signals/signal.py) in, a fitted field out.

  scene -> pixels -> steps (training/radiance.py) -> model, with a checkpoint now and then, and looks at held-out views
  signal         -> steps (training/signal_training.py) -> model

A fit of a given number of steps depends on capture, options, seed and thread count alone: interrupted and resumed it
ends in the same bits. A fit of a given time follows the clock.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from neuralfields import ranks
from neuralfields.captures.readers import read_scene
from neuralfields.fields import field_class
from neuralfields.files import OutputLock, atomic_write_bytes, check_writable
from neuralfields.gpu.device import choose_device
from neuralfields.models.model import Model, save
from neuralfields.ops import backend
from neuralfields.options.common import DEFAULT_STEPS
from neuralfields.options.fit import FitOptions
from neuralfields.poses.find import accepted
from neuralfields.progress import Progress
from neuralfields.scene import Scene
from neuralfields.settings import parse_settings
from neuralfields.signals.readers import read_signal, signal_format
from neuralfields.signals.signal import Signal
from neuralfields.training.checkpoint import Checkpoint
from neuralfields.training.loop import Budget
from neuralfields.training.photos import fit_photos, prepared
from neuralfields.training.signal_training import steps_of
from neuralfields.training.signals import fit_signal
from neuralfields.verbs.fit_unposed import posed_scene, unposed

SIGNAL_FIGURES = ("psnr", "ssim", "iou", "chamfer", "snr")


def run(options: FitOptions) -> dict[str, Any]:
    """The verb: reads, fits, saves. Returns path, seconds, steps, psnr (held out) and what else there is to report.

    Processes that torchrun started work on it together (ranks.py); the first one writes.
    """
    with ranks.joined(options.device):
        return _run_verb(options)


def _run_verb(options: FitOptions) -> dict[str, Any]:
    with backend.using(options.backend, options.marcher, choose_device(options.device).type):
        parse_settings(options.set, field_class(options.field).Config)  # what cannot be is said before anything is read
    scene = read_input(options)
    out = options.out or Path(f"{scene.name}.nf")
    if options.dry_run:
        return _plan(scene, options, out)
    budget, log = Budget.of(options, _default_steps(scene, options)), out.with_suffix(".log.jsonl")
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
    if unposed(options.scene, options.format):
        return posed_scene(options)
    if signal_format(options.scene, options.format) is not None:
        return read_signal(options.scene, options.format, options.downscale)
    accepted(options.scene, options.accept_doubtful_poses)
    return read_scene(options.scene, options.format, options.allow_outside)


def _default_steps(scene: Scene | Signal, options: FitOptions) -> int:
    return steps_of(field_class(options.field)) if isinstance(scene, Signal) else DEFAULT_STEPS


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
        with backend.using(options.backend, options.marcher, "cpu"):
            return fit_signal(scene, options, config, progress)
    if unposed(options.scene, options.format):  # what is recorded is the capture, which can be read again
        options = replace(options, scene=scene.root, format=None)
    with backend.using(options.backend, options.marcher, device.type):
        return fit_photos(scene, options, config, progress, device)


def text(result: dict[str, Any]) -> str:
    """What the verb prints."""
    if "dry_run" in result:
        return "\n".join(f"{name:<12} {value}" for name, value in result.items())
    if "kind" in result:
        return signal_text(result)
    score = f", held-out PSNR {result['psnr']:.2f} dB" if result.get("psnr") else ""
    if "psnr_given" in result:
        score += f" (adjusted; {result['psnr_given']:.2f} dB by the given cameras and exposure)"
    path = result["path"]
    return (
        f"wrote {path}: {result['steps']} steps in {result['seconds']:.1f} s{score}\n"
        f"look at it with: nf render {path} turn.mp4 --path orbit     measure it with: nf eval {path}"
    )


def signal_text(result: dict[str, Any]) -> str:
    """What the verb prints of a signal: its kind's figures, and what to do next."""
    name, path = {"shape": "mesh.ply", "sound": "sound.wav", "video": "clip.mp4"}.get(result["kind"]), result["path"]
    figures = ", ".join(f"{key} {result[key]:.4g}" for key in SIGNAL_FIGURES if key in result)
    return (
        f"wrote {path}: {result['steps']} steps in {result['seconds']:.1f} s, {figures}\n"
        f"get it back with: nf export {path} {name or 'image.png'}     measure it with: nf eval {path}"
    )


def _plan(scene: Scene | Signal, options: FitOptions, out: Path) -> dict[str, Any]:
    """--dry-run: what would be done."""
    config = parse_settings(options.set, field_class(options.field).Config)
    if isinstance(scene, Signal):
        what = {"kind": scene.domain.kind, **msgspec.to_builtins(scene.facts)}
    else:
        scene = prepared(scene, options)
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
