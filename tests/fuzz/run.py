"""Feeds changed inputs to a reader: all that may come of one is a result, or the package's own error in one line.

Vocabulary
  target   a reader with a sound input (targets.py)
  finding  an input that is met otherwise: another exception, too much processor time, a crash
"""

import random
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from neuralfields.errors import NeuralfieldsError
from tests.fuzz.mutate import Change

SECONDS = 10.0  # of processor time for one input


@dataclass(frozen=True)
class Target:
    """`make(folder)` writes a sound input; of its `files` (a glob) one is changed; `use(folder)` reads it all."""

    make: Callable[[Path], object]
    files: str
    use: Callable[[Path], object]
    change: Change


@dataclass
class Outcome:
    """How many inputs were read, how many refused, processor seconds, and what was found: (number, text)."""

    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    findings: list[tuple[int, str]] = field(default_factory=list)


class TooSlow(BaseException):
    """An input took more processor time than one may."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises TooSlow after so many seconds of this process's own time; a pause of the process does not count."""

    def late(number: int, frame: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def changed_input(target: Target, folder: Path, sound: dict[Path, bytes], seed: int, number: int) -> Path:
    """Writes the input of that number beside the sound rest; gives the changed file."""
    rng = random.Random(f"{seed} {number}")
    path = rng.choice(sorted(sound))
    path.write_bytes(target.change(sound[path], rng))
    return path


def fuzz(
    target: Target, folder: Path, count: int, seed: int = 0, first: int = 0, note: Callable[[int], object] = int
) -> Outcome:
    """Feeds `count` inputs from number `first` on; `note(number)` is told before each, for who watches for crashes."""
    outcome = Outcome()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target.make(folder)
        sound = {path: path.read_bytes() for path in folder.glob(target.files)}
        if not sound:
            raise AssertionError(f"no {target.files} in {sorted(folder.rglob('*'))}")
        target.use(folder)  # the sound input must be read
        for number in range(first, first + count):
            note(number)
            path = changed_input(target, folder, sound, seed, number)
            begin = time.process_time()
            if text := _met(target, folder, outcome):
                outcome.findings.append((number, text))
            taken = time.process_time() - begin
            outcome.inputs += 1
            outcome.seconds += taken
            outcome.slowest = max(outcome.slowest, taken)
            path.write_bytes(sound[path])
    return outcome


def _met(target: Target, folder: Path, outcome: Outcome) -> str | None:
    """Uses the input; what is wrong with how it is met, or None."""
    try:
        with within(SECONDS):
            target.use(folder)
    except NeuralfieldsError as error:
        outcome.refused += 1
        return None if str(error).strip() else f"{type(error).__name__} without a word"
    except TooSlow:
        return f"more than {SECONDS:g} s of processor time"
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        import traceback

        place = traceback.extract_tb(error.__traceback__)
        ours = [f for f in place if "neuralfields" in f.filename and "/tests/" not in f.filename] or list(place)
        where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        return f"{type(error).__name__} at {where}: {str(error)[:160]}"
    return None
