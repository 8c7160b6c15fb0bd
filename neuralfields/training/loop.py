"""The training loop: steps until the budget is spent, with validation, checkpoints, SIGINT and SIGTERM, and a watcher.

Vocabulary
  validation  a quick measurement on held-out views while the fit runs
  watcher     a callback after every step in the fit's own thread: the live viewer, which may pause, save and end it
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from neuralfields import ranks
from neuralfields.errors import InterruptedFit, UsageError
from neuralfields.fields import field_name
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load
from neuralfields.models.quantise import round_parameters
from neuralfields.options.common import DEFAULT_STEPS
from neuralfields.options.fit import FitOptions
from neuralfields.options.models import ConvertOptions
from neuralfields.options.training import TrainingSettings
from neuralfields.progress import Progress
from neuralfields.trainers.trainer import StepReport, Trainer
from neuralfields.training.checkpoint import Checkpoint
from neuralfields.version import VERSION

VALIDATION_SHARE = 0.05  # largest fraction of the time for validation: it is rarer where rendering is slow


@dataclass(frozen=True)
class Budget:
    """Training budget: the fit ends after `steps`, or after `seconds` of training."""

    steps: int | None
    seconds: float | None

    @staticmethod
    def of(options: FitOptions | ConvertOptions, default: int = DEFAULT_STEPS) -> "Budget":
        """Reads --steps and --minutes. Default: `default` steps."""
        if options.steps is None and options.minutes is None:
            return Budget(default, None)
        return Budget(options.steps, None if options.minutes is None else options.minutes * 60)

    def shorter_than(self, other: "Budget") -> bool:
        """Whether it has fewer steps, or fewer seconds, than another that has both."""
        few = self.steps is not None and self.steps < other.steps
        return few or (self.seconds is not None and self.seconds < other.seconds)

    def progress(self, step: int, seconds: float) -> float:
        """Progress of the fit, 0 to 1; 1 ends it."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = seconds / self.seconds if self.seconds else 0.0
        return min(max(by_steps, by_time), 1.0)


class Loop:
    """Runs training steps until the budget is spent.

    `validate`: measures the held-out PSNR in dB. `watch`: callback after every step, in the fit's own thread, with the
    loop; it may block, read `training`, `report` (of the last step), `seconds` and `held_out` (of the last validation),
    ask for an early but complete end by `finish`, or for an interruption by `stop`. Its time does not count.
    """

    def __init__(
        self,
        training: Trainer,
        budget: Budget,
        options: FitOptions | ConvertOptions,
        progress: Progress,
        validate: Callable[[], float] | None,
    ) -> None:
        self.training, self.budget, self.options = training, budget, options
        self.progress, self.validate = progress, validate
        self.watch: Callable[[Loop], None] | None = None
        self.report: StepReport | None = None
        self.held_out: float | None = None
        self.seconds = 0.0
        self.samples = 0
        self.stop = self.finish = False

    def run(self, checkpoint: Checkpoint | None) -> None:
        """Trains to the end of the budget. Raises InterruptedFit after SIGINT or SIGTERM, the checkpoint written."""
        training, start = self.training, time.perf_counter() - self.seconds
        validated = saved = self.seconds
        pause = self.options.eval_every
        with ending_at_signals(self):
            while (done := self._done()) < 1:
                report = self.report = training.step(done)
                self.samples += report.samples
                self.seconds = time.perf_counter() - start
                seen = report.rays, report.samples, report.psnr, report.loss, report.stage
                self.progress.update(training.step_count, self.seconds, *seen)
                if ranks.most(self.stop)[0]:
                    self._interrupt(checkpoint)
                if checkpoint is not None and self.seconds - saved >= self.options.checkpoint_every:
                    checkpoint.save(training, self.seconds)
                    saved = time.perf_counter() - start
                if pause and self.validate and self.seconds - validated >= pause:
                    self.held_out = self.validate()
                    self.progress.held_out(training.step_count, self.held_out)
                    validated = time.perf_counter() - start
                    pause = max(self.options.eval_every, (validated - self.seconds) / VALIDATION_SHARE)
                if self.watch is not None:
                    before = time.perf_counter()
                    self.watch(self)
                    start += time.perf_counter() - before
            training.advance(1.0)

    def _done(self) -> float:
        """Progress of the fit, the same in all its processes; 1 ends it."""
        return max(ranks.most(self.budget.progress(self.training.step_count, self.seconds), self.finish))

    def _interrupt(self, checkpoint: Checkpoint | None) -> None:
        step = self.training.step_count
        if checkpoint is None:
            raise InterruptedFit(f"interrupted at step {step}; nothing is kept without an output")
        checkpoint.save(self.training, self.seconds)
        raise InterruptedFit(
            f"interrupted at step {step}; the checkpoint {checkpoint.path} is written, go on with the same command and"
            f" --resume (and --steps {max(step, 1)} to end it here)"
        )


def run_with_checkpoint(
    loop: Loop, options: FitOptions, identity: dict[str, Any], standing: Callable[[], Model]
) -> None:
    """Trains to the end of the budget with a checkpoint beside the output; `identity`: see `checkpoint_identity`.

    `standing`: makes the model as it is now, not measured, by which a checkpoint can be looked at.
    """
    training = loop.training
    training.bits, checkpoint = options.bits, None
    if options.out is not None:
        checkpoint = Checkpoint.beside(options.out, identity | _machine_identity(training, options), standing)
    if options.resume:
        if checkpoint is None:
            raise UsageError("--resume needs the output it goes on with: give --out")
        if os.path.lexists(checkpoint.path) or options.out is None or not options.out.exists():
            _go_on(loop, options, checkpoint)
        else:
            _prolong(loop, options, options.out)
    loop.run(checkpoint)
    if options.bits == 8:
        round_parameters(training.field)  # metrics are of the stored values


def _go_on(loop: Loop, options: FitOptions, checkpoint: Checkpoint) -> None:
    """Goes on from the checkpoint of an interrupted fit, with the --steps that are asked for, if any."""
    if options.steps is not None:  # asked for by name: a fit may be prolonged, or ended early
        checkpoint = replace(checkpoint, free=frozenset({"steps"}))
    loop.seconds = checkpoint.load(loop.training)
    planned, other = checkpoint.budget(), ""
    if options.steps is not None and planned != options.steps:
        other = f", of {options.steps} in place of {planned or 'a time'}; an unbroken fit would differ a little"
    loop.progress.note(f"resumed at step {loop.training.step_count}{other}")


def _prolong(loop: Loop, options: FitOptions, out: Path) -> None:
    """Goes on from a finished model, whose checkpoint is gone: its parameters and steps, and a new optimiser."""
    training = loop.training
    model = load(out, device=training.device)
    mine, theirs = field_name(training.field), field_name(model.field)
    if mine != theirs or not training.continues(model):
        raise UsageError(
            f"{out}: is finished, and holds a field {theirs} of other settings than the {mine} asked for; give the"
            " same, or start anew with --overwrite"
        )
    training.adopt(model)
    loop.seconds = float(model.made.get("seconds", 0.0))
    loop.progress.note(f"{out.name} is finished: goes on from its {training.step_count} steps, with a new optimiser")


def checkpoint_identity(
    options: FitOptions, config: Any, settings: TrainingSettings, data: dict[str, str]
) -> dict[str, Any]:
    """Description of a fit that a checkpoint must share to be resumed; `data`: hash of the input, by name."""
    return {
        "field": options.field,
        "config": asdict(config),
        "training": asdict(settings),
        "seed": options.seed,
        "steps": options.steps if options.steps or options.minutes else DEFAULT_STEPS,
        "background": options.background,
        **data,
        "threads": torch.get_num_threads(),
    }


def _machine_identity(training: Trainer, options: FitOptions) -> dict[str, Any]:
    """The rest of that description: who computes the next step, and how the result will be stored."""
    return {
        "version": VERSION,
        "device": training.device.type,
        "backend": options.backend,
        "marcher": options.marcher,
        "bits": options.bits,
        "half": options.half,
    }


class Stopped(Protocol):
    """What runs steps, and ends after the one at which it finds `stop` set."""

    stop: bool


@contextmanager
def ending_at_signals(loop: Stopped) -> Iterator[None]:
    """Handles SIGINT and SIGTERM: the first asks for a clean end, a second one ends at once."""

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
