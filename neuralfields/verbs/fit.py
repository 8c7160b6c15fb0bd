"""`nf fit`: fits a field to a posed capture or a signal (training/fit.py)."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from neuralfields import ranks
from neuralfields.files import atomic_write_bytes, companion, set_aside
from neuralfields.models.model import Model
from neuralfields.options.fit import FitOptions
from neuralfields.progress import Progress
from neuralfields.scene import Scene
from neuralfields.signals.signal import Signal
from neuralfields.training.fit import fit_to_file
from neuralfields.training.loop import Loop
from neuralfields.training.photos import prepare_scene
from neuralfields.training.plan import FitPlan, plan_fit

SIGNAL_FIGURES = ("psnr", "ssim", "iou", "chamfer", "snr")


def run(options: FitOptions) -> dict[str, Any]:
    """Reads the input, fits a field, saves the model; returns path, seconds, steps, psnr (held out) and other metrics.

    Processes that torchrun started train in parallel (ranks.py); the first one writes.
    """
    with ranks.joined(options.device):
        return _run_verb(options)


def _run_verb(options: FitOptions) -> dict[str, Any]:
    plan = plan_fit(options)
    source, out = plan.source, options.out or Path(f"{plan.source.name}.nf")
    if options.dry_run:
        return _dry_run(plan, out)
    first, log = ranks.rank() == 0, companion(out, ".log.jsonl")
    progress = Progress(
        plan.budget.steps,
        plan.budget.seconds,
        log if first else None,
        options.quiet or not first,
        append=options.resume,
        replace=options.overwrite,
    )
    watching: list[Any] = []
    watch = partial(_watch, watching) if options.view else None
    model = fit_to_file(replace(plan, options=replace(plan.options, out=out)), progress, watch)
    if first:
        record = companion(out, ".options.json")
        if not (options.overwrite or options.resume):
            set_aside(record)
        atomic_write_bytes(record, _options_json(options))
    for view in watching:
        view.linger(model, out)
    made = {key: model.made[key] for key in ("seconds", "steps", "field", "scene")}
    signal = isinstance(source, Signal)
    kind = {"kind": source.domain.kind} if signal else {}
    found = {} if signal else {"warnings": model.made.get("warnings", [])}
    return {"path": str(out), **kind, **made, **model.metrics, **found}


def _watch(
    watching: list[Any], scene: Scene, options: FitOptions, loop: Loop, model: Callable[[], Model]
) -> AbstractContextManager:
    """Serves the live view of --view, from which the fit can be paused, saved and stopped; put into `watching`."""
    from neuralfields.serving.watch import watch_fit

    watching.append(watch_fit(scene, options, loop, model, stays=True))
    return watching[-1]


def text(result: dict[str, Any]) -> str:
    """Formats the result for people."""
    if "dry_run" in result:
        return "\n".join(f"{name:<12} {value}" for name, value in result.items())
    if "kind" in result:
        return signal_text(result)
    score = f", held-out PSNR {result['psnr']:.2f} dB" if result.get("psnr") else ""
    if "psnr_given" in result:
        score += f" (adjusted; {result['psnr_given']:.2f} dB by the given cameras and exposure)"
    path = result["path"]
    warnings = "".join(f"\nwarning: {line}" for line in result.get("warnings", []))
    return (
        f"wrote {path}: {result['steps']} steps in {result['seconds']:.1f} s{score}\n"
        f"look at it with: nf view {path}     render it with: nf render {path} turn.mp4 --path orbit     "
        f"measure it with: nf eval {path}{warnings}"
    )


def signal_text(result: dict[str, Any]) -> str:
    """Formats the result of a signal for people: the metrics of its kind, and the next commands."""
    name, path = {"shape": "mesh.ply", "sound": "sound.wav", "video": "clip.mp4"}.get(result["kind"]), result["path"]
    figures = ", ".join(f"{key} {result[key]:.4g}" for key in SIGNAL_FIGURES if key in result)
    return (
        f"wrote {path}: {result['steps']} steps in {result['seconds']:.1f} s, {figures}\n"
        f"get it back with: nf export {path} {name or 'image.png'}     measure it with: nf eval {path}"
    )


def _dry_run(plan: FitPlan, out: Path) -> dict[str, Any]:
    """Describes the fit that --dry-run plans."""
    source, options = plan.source, plan.options
    if isinstance(source, Signal):
        facts = {"kind": source.domain.kind, **msgspec.to_builtins(source.facts)}
    else:
        source = prepare_scene(source, options)
        facts = {"kind": source.kind, "photos": f"{len(source.train)} to train on, {len(source.test)} held out"}
        masks = [frame for frame in source.frames if frame.mask_path is not None]
        if masks:
            ignored = "white" if any(frame.mask_ignores for frame in masks) else "black"
            fate = "empty" if any(frame.mask_cuts for frame in masks) else "ignored"
            facts["masks"] = f"{len(masks)}, {ignored} is {fate}"
    return {
        "dry_run": True,
        "scene": source.name,
        **facts,
        "field": f"{options.field} {plan.config}",
        "path": str(out),
        "warnings": list(source.warnings),
    }


def _options_json(options: FitOptions) -> bytes:
    values = {item.name: getattr(options, item.name) for item in fields(options)}
    return json.dumps(values, default=str, indent=1).encode()
