"""Loops of steps that can be interrupted: what those that have ended left, and where the one that runs stands.

Vocabulary
  loop    steps of one kind; its state is the tensors that its next step depends on
  result  the state of a loop that has ended, without its moments: all that what follows depends on

A run that goes on repeats everything but the steps of its loops, which are as if they had been taken: it ends in the
bits of an unbroken one, if everything between them is a function of its input. The file is training/checkpoint.py's.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
MOMENT = "moment."  # before the names of what only the next step of the same loop depends on
PREFIX = "loop."


class Loops:
    """The loops of one run, in the order in which they are run.

    `after`: called after every step; `seconds`: those that were spent before an interruption.
    """

    def __init__(self, after: Callable[[], None] = lambda: None) -> None:
        self.after = after
        self.step_count, self.seconds = 0, 0.0
        self._ended = self._at = self._begun = 0
        self._kept: dict[str, Tensor] = {}
        self._running: Callable[[], dict[str, Tensor]] = dict

    def run(
        self,
        turns: Iterable[T],
        state: Callable[[], dict[str, Tensor]],
        restored: Callable[[dict[str, Tensor]], None] = lambda _: None,
    ) -> Iterator[T]:
        """The turns of the next loop that are still to take.

        `state`: the tensors themselves, by name, into which what was kept is copied; `restored` is then told of it.
        """
        number, self._begun = self._begun, self._begun + 1
        prefix = f"{number}."
        found = {name.removeprefix(prefix): t for name, t in self._kept.items() if name.startswith(prefix)}
        if found:
            _copy(found, state())
            restored(found)
        if number < self._ended:
            return
        self._running, done = state, self._at
        for i, turn in enumerate(turns):
            if i < done:
                continue
            yield turn
            self._at, self.step_count = i + 1, self.step_count + 1
            self.after()
        self._kept = {name: t for name, t in self._kept.items() if not name.startswith(prefix)}
        self._kept |= {prefix + name: t.detach().clone() for name, t in state().items() if not name.startswith(MOMENT)}
        self._ended, self._at, self._running = number + 1, 0, dict

    def tensors(self) -> dict[str, Tensor]:
        """Results, and the state of the loop that runs, for a checkpoint."""
        running = {f"{self._ended}.{name}": t.detach() for name, t in self._running().items()}
        return {PREFIX + name: t for name, t in (self._kept | running).items()}

    def counters(self) -> dict[str, int]:
        """Plain numbers, for a checkpoint."""
        return {"step": self.step_count, "ended": self._ended, "at": self._at}

    def restore(self, tensors: dict[str, Tensor], counters: dict[str, int]) -> None:
        """The reverse of `tensors` and `counters`, before the first loop is run."""
        self._kept = {name.removeprefix(PREFIX): t for name, t in tensors.items() if name.startswith(PREFIX)}
        self.step_count, self._ended, self._at = (counters[name] for name in ("step", "ended", "at"))


@torch.no_grad()
def _copy(found: dict[str, Tensor], into: dict[str, Tensor]) -> None:
    for name, tensor in found.items():
        into[name].copy_(tensor)
