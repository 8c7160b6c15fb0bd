"""Loops of steps (models/loops.py) with a checkpoint beside an output: kept now and then, and at SIGINT and SIGTERM."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from neuralfields.errors import InterruptedFit
from neuralfields.models.loops import Loops
from neuralfields.training.checkpoint import Checkpoint
from neuralfields.training.loop import ending_at_signals


class _Keeper:
    """What is done after every step; `stop`: a signal has asked for an end."""

    def __init__(self, loops: Loops, checkpoint: Checkpoint, every: float) -> None:
        self.loops, self.checkpoint, self.every = loops, checkpoint, every
        self.start = time.perf_counter() - loops.seconds
        self.saved, self.stop = time.perf_counter(), False

    def after_step(self) -> None:
        """Saves where the time has come. Raises InterruptedFit after a signal, the checkpoint written."""
        if not self.stop and time.perf_counter() - self.saved < self.every:
            return
        self.checkpoint.save(self.loops, time.perf_counter() - self.start)
        self.saved = time.perf_counter()
        if self.stop:
            raise InterruptedFit(
                f"interrupted at step {self.loops.step_count}; the checkpoint {self.checkpoint.path} is written, go on"
                " with the same command and --resume"
            )


@contextmanager
def kept_loops(checkpoint: Checkpoint, resume: bool, every: float) -> Iterator[Loops]:
    """Loops whose steps are kept every so many seconds; with `resume` they go on from the checkpoint.

    Raises as Checkpoint.load does. The checkpoint stays: who has written the result removes it.
    """
    loops = Loops()
    if resume:
        loops.seconds = checkpoint.load(loops)
    keeper = _Keeper(loops, checkpoint, every)
    loops.after = keeper.after_step
    with ending_at_signals(keeper):
        yield loops
