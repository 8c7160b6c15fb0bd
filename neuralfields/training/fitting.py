"""What fits of scenes and of signals share: the new field, the loop with checkpoint and watcher, the record."""

import platform
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from neuralfields.domain import Domain
from neuralfields.errors import UsageError
from neuralfields.fields.field import Field
from neuralfields.models.model import Model, field_name, save
from neuralfields.models.quantise import round_parameters
from neuralfields.options.common import DEFAULT_STEPS
from neuralfields.options.fit import FitOptions
from neuralfields.scene import Scene
from neuralfields.training.checkpoint import Checkpoint
from neuralfields.training.loop import Loop
from neuralfields.training.trainer import Trainer
from neuralfields.version import VERSION


def make_field(
    kind: type[Field], config: Any, domain: Domain, seed: int, targets: list[torch.Tensor], taught: bool = False
) -> Field:
    """A new field of that kind, the same for the same seed; what its Config leaves to the data comes from `targets`.

    `taught`: see `Field.tuned`.
    """
    if domain.kind not in kind.DOMAINS:
        raise UsageError(f"--field {field_name(kind)}: serves {', '.join(kind.DOMAINS)}, not {domain.kind}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(kind.tuned(config, domain, targets, seed, taught), domain)


def watched(scene: Scene, options: FitOptions, loop: Loop, model: Callable[[], Model]) -> AbstractContextManager:
    """With --view a page beside the loop, from which it can be paused, saved and ended."""
    if not options.view:
        return nullcontext()
    from neuralfields.serving.watch import Watch, Watching

    out = options.out or Path(f"{scene.name}.nf")

    def save_now() -> str:
        path = out.with_name(f"{out.stem}-{loop.training.step_count}.nf")
        save(model(), path, half=options.half)
        return str(path)

    return Watching(Watch(loop, scene, save_now))


def run_loop(loop: Loop, options: FitOptions, description: dict[str, Any]) -> None:
    """To the end of the budget, with the checkpoint that belongs to the output."""
    training, progress = loop.training, loop.progress
    training.bits, checkpoint = options.bits, None
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


def description(options: FitOptions, config: Any, name: str, data: str) -> dict[str, Any]:
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


def rate(loop: Loop) -> dict[str, Any]:
    """Samples of training a second, as a model records them."""
    return {"samples_per_second": round(loop.samples / max(loop.seconds, 1e-9))}


def record(options: FitOptions, training: Trainer, loop: Loop) -> dict[str, Any]:
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
