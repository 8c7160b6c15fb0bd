"""Cache of the stages of finding poses: a stage's result is reused as long as its inputs are the same.

Vocabulary
  record   <stage>.done.json: digest and result of a finished stage, written whole or not at all
  digest   a hash of the stage's settings and of the digests of all stages before it

An interrupted run resumes after its last record; a changed setting invalidates its own stage and those after it.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from neuralfields.files import atomic_write_bytes, plain
from neuralfields.progress import StageDisplay, time_text


class Stages:
    """Runs stages one after another in a folder; those that are recorded there are not run again."""

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
        """Runs `work()`, or returns the recorded result where digest and `outputs` match; `summary` formats it.

        `settings` and the result are plain data. An exception of `work` passes through, and nothing is recorded.
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
        """The record of this digest; None where it is missing, unreadable or of another digest."""
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            fits = record["digest"] == self.digest and "seconds" in record and "result" in record
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return record if fits else None
