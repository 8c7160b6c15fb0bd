"""Takes fewer threads while other processes use the machine, for steps whose result is the same with any number.

A thread that waits for a core holds the others up at the next barrier, several times a step: beside one busy process
two threads can take twice the time of one. So the processor time of some steps is compared with their wall time; where
threads had to wait, one thread is tried for as many steps, and the faster number is kept for a while.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

WINDOW = 8  # steps that are measured together
HAD = 0.8  # share of the cores' time that a process has which is not held up
KEEP = 12  # windows until the other number is tried again


class SpareThreads:
    """Chooses the number of threads of each step: all that the fit was given, or one."""

    def __init__(
        self,
        wall: Callable[[], float] = time.perf_counter,
        processor: Callable[[], float] = time.process_time,
    ) -> None:
        self.wall, self.processor = wall, processor
        self.one = False
        self.taken: dict[bool, float] = {}  # wall seconds of the last window, by whether it had one thread
        self.steps = self.kept = 0
        self.began = (0.0, 0.0)

    @contextmanager
    def step(self) -> Iterator[None]:
        """A step with the number of threads that is best now; the number of before stands again behind it."""
        most = torch.get_num_threads()
        if most == 1:
            yield
            return
        if not self.steps:
            self.began = self.wall(), self.processor()
        if self.one:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(most)
        self.steps += 1
        if self.steps == WINDOW:
            self.steps = 0
            self._choose(self.wall() - self.began[0], self.processor() - self.began[1], most)

    def _choose(self, wall: float, processor: float, most: int) -> None:
        self.taken[self.one] = wall
        if not self.one and processor > HAD * most * wall:  # every thread had its core
            self.taken, self.kept = {}, 0
            return
        other = not self.one
        self.kept += 1
        if other not in self.taken or self.kept >= KEEP:
            self.one, self.kept = other, 0
        elif self.taken[other] < wall:
            self.one, self.kept = other, 0
