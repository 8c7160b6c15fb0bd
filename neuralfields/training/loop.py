"""A fit as it runs: steps until the budget is spent, with looks, checkpoints, an ear for signals, and a watcher."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from neuralfields import ranks
from neuralfields.errors import InterruptedFit
from neuralfields.options.common import DEFAULT_STEPS
from neuralfields.options.fit import FitOptions
from neuralfields.options.models import ConvertOptions
from neuralfields.progress import Progress
from neuralfields.training.checkpoint import Checkpoint
from neuralfields.training.trainer import StepReport, Trainer

LOOK_SHARE = 0.05  # of the time that looks may take: rarer than asked for where the field is slow to render


@dataclass(frozen=True)
class Budget:
    """Where a fit ends: after `steps`, or after `seconds` of training."""

    steps: int | None
    seconds: float | None

    @staticmethod
    def of(options: FitOptions | ConvertOptions, default: int = DEFAULT_STEPS) -> "Budget":
        """From --steps and --minutes; with neither the default number of steps."""
        if options.steps is None and options.minutes is None:
            return Budget(default, None)
        return Budget(options.steps, None if options.minutes is None else options.minutes * 60)

    def progress(self, step: int, seconds: float) -> float:
        """How far the fit is, 0 to 1; 1 ends it."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = seconds / self.seconds if self.seconds else 0.0
        return min(max(by_steps, by_time), 1.0)


class Loop:
    """Steps until the budget is spent.

    `look`: measures the held-out PSNR in dB. `watch`: called after every step, in the fit's own thread, with the loop;
    it may block, look at `training`, `report` (the last step's), `seconds` and `held_out` (the last look's), ask for
    an early but complete end by `finish`, or for an interruption by `stop`. Its time is not the fit's.
    """

    def __init__(
        self,
        training: Trainer,
        budget: Budget,
        options: FitOptions | ConvertOptions,
        progress: Progress,
        look: Callable[[], float] | None,
    ) -> None:
        self.training, self.budget, self.options, self.progress, self.look = training, budget, options, progress, look
        self.watch: Callable[[Loop], None] | None = None
        self.report: StepReport | None = None
        self.held_out: float | None = None
        self.seconds = 0.0
        self.samples = 0
        self.stop = self.finish = False

    def run(self, checkpoint: Checkpoint | None) -> None:
        """To the end of the budget. Raises InterruptedFit after SIGINT or SIGTERM, the checkpoint written."""
        training, start = self.training, time.perf_counter() - self.seconds
        looked = saved = self.seconds
        pause = self.options.eval_every
        with _signals(self):
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
                if pause and self.look and self.seconds - looked >= pause:
                    self.held_out = self.look()
                    self.progress.held_out(training.step_count, self.held_out)
                    looked = time.perf_counter() - start
                    pause = max(self.options.eval_every, (looked - self.seconds) / LOOK_SHARE)
                if self.watch is not None:
                    before = time.perf_counter()
                    self.watch(self)
                    start += time.perf_counter() - before
            training.advance(1.0)

    def _done(self) -> float:
        """How far the fit is, the same in all its processes; 1 ends it."""
        return max(ranks.most(self.budget.progress(self.training.step_count, self.seconds), self.finish))

    def _interrupt(self, checkpoint: Checkpoint | None) -> None:
        step = self.training.step_count
        if checkpoint is None:
            raise InterruptedFit(f"interrupted at step {step}; nothing is kept without an output")
        checkpoint.save(self.training, self.seconds)
        raise InterruptedFit(
            f"interrupted at step {step}; the checkpoint {checkpoint.path} is written, go on with the same command and"
            " --resume"
        )


@contextmanager
def _signals(loop: Loop) -> Iterator[None]:
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
