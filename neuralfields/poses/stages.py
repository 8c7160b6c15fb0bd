"""Stages of finding poses: each one's result is kept and used again as long as what it was made from is the same.

Vocabulary
  record   <stage>.done.json: digest and result of a finished stage, written whole or not at all
  digest   a hash of the stage's settings and of the digests of all stages before it

A run that was cut short goes on after its last record; a changed setting invalidates its own stage and those after it.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from neuralfields.files import atomic_write_bytes, plain
from neuralfields.progress import time_text

LINE_EVERY = 10.0  # seconds of the clock, where there is no terminal


class StageDisplay:
    """Which stage runs and how far it is: a bar on a terminal, plain lines elsewhere; on standard error."""

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.quiet = quiet
        self.console = Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._name, self._begin, self._line_at = "", 0.0, 0.0

    def begin(self, name: str) -> None:
        """A stage begins."""
        self._name, self._begin, self._line_at = name, time.monotonic(), time.monotonic()
        if not self.quiet and self.console.is_terminal and not self.console.is_dumb_terminal:
            columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._bar.add_task(name, total=None)
            self._bar.start()

    def update(self, done: int, total: int) -> None:
        """So much of the stage is done."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)
        elif time.monotonic() - self._line_at >= LINE_EVERY:
            self._line_at = time.monotonic()
            self.note(f"{self._name:<10} {done}/{total}  {time_text(self._line_at - self._begin)}")

    def end(self, line: str | None) -> None:
        """The stage is over; `line` says what came of it, None after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if line is not None:
            self.note(f"{self._name:<10} {line}")

    def note(self, text: str) -> None:
        """A remark of one line."""
        if not self.quiet:
            with suppress(OSError):  # a closed terminal does not stop the work
                self.console.print(text, markup=False)


class Stages:
    """Runs stages one after another in a folder; those that are recorded there already are not run again."""

    def __init__(self, folder: Path, display: StageDisplay) -> None:
        self.folder, self.display = folder, display
        self.digest = ""
        self.seconds: dict[str, float] = {}
        self.cached: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)

    def run(
        self,
        name: str,
        settings: dict[str, Any],
        work: Callable[[], dict[str, Any]],
        outputs: Sequence[Path] = (),
        summary: Callable[[dict[str, Any]], str] = lambda result: "done",
    ) -> dict[str, Any]:
        """The result of `work()`, or the recorded one where digest and `outputs` are there; `summary` words it.

        `settings` and the result are plain data. What `work` raises goes through, and nothing is recorded.
        """
        self.digest = hashlib.sha256((self.digest + json.dumps(plain(settings), sort_keys=True)).encode()).hexdigest()
        path = self.folder / f"{name}.done.json"
        record = self._record(path)
        self.display.begin(name)
        if record is not None and all(output.exists() for output in outputs):
            self.seconds[name] = record["seconds"]
            self.cached.append(name)
            self.display.end(f"{summary(record['result'])} (kept from an earlier run)")
            return record["result"]
        path.unlink(missing_ok=True)
        begin, line = time.monotonic(), None
        try:
            result = plain(work())
            self.seconds[name] = round(time.monotonic() - begin, 2)
            record = {"digest": self.digest, "seconds": self.seconds[name], "result": result}
            atomic_write_bytes(path, json.dumps(record).encode())
            line = f"{summary(result)}  {time_text(self.seconds[name])}"
        finally:
            self.display.end(line)
        return result

    def _record(self, path: Path) -> dict[str, Any] | None:
        """The record of this digest, None where there is none or it is of something else."""
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            fits = record["digest"] == self.digest and "seconds" in record and "result" in record
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return record if fits else None
