"""Distils a hash field, which the page draws itself, in place of a field that no shader of the page draws.

It begins when a page that could draw it asks, in a process of its own with one thread, below everything else; the page
shows it while the eye moves. The server's picture of the field itself is shown as soon as the eye rests.
"""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from neuralfields.errors import NeuralfieldsError
from neuralfields.models.nf_file import load, save
from neuralfields.search_path import isolated
from neuralfields.serving.field import refusal
from neuralfields.serving.stage import Stage
from neuralfields.serving.subjects import Subject

WORDS = ("--minutes", "1")  # of nf convert
NICE = 10
DISTILLED = "; a hash field is distilled, to stand in while the view moves"
STANDS_IN = "; a hash field that was distilled from it stands in while the view moves"


class StandIns:
    """Stand-ins of a stage's subjects. `changed` is called when the page has to be told anew what is there."""

    def __init__(self, stage: Stage, changed: Callable[[], None], words: Sequence[str] = WORDS) -> None:
        self.stage, self.changed, self.words = stage, changed, tuple(words)
        self._tasks: dict[int, asyncio.Task] = {}
        self._turn = asyncio.Lock()  # one at a time: there are few cores

    def begin(self, index: int) -> None:
        """Begins to distil a stand-in of a subject, if it can have one and none was begun."""
        subject = self.stage.subjects[index]
        if index not in self._tasks and subject.may_stand_in:
            self._tasks[index] = asyncio.ensure_future(self._distil(subject))

    async def end(self) -> None:
        """Stops what is in work, and its processes."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _distil(self, subject: Subject) -> None:
        why = subject.why
        async with self._turn:
            self._tell(subject, why + DISTILLED)
            with tempfile.TemporaryDirectory(prefix="neuralfields-stand-in-", ignore_cleanup_errors=True) as folder:
                made = Path(folder) / "stand-in.nf"
                await asyncio.to_thread(save, subject.model, Path(folder) / "field.nf")
                failed = await self._converted(Path(folder) / "field.nf", made)
                if failed:
                    self._tell(subject, f"{why}, and none could be distilled to stand in ({failed})")
                    return
                try:
                    volume = (await asyncio.to_thread(load, made)).renderable()
                except NeuralfieldsError as error:
                    self._tell(subject, f"{why}, and what was distilled cannot be read ({error})")
                    return
        if not refusal(volume):
            subject.volume, subject.stands_in = lambda: volume, True
            self._tell(subject, why + STANDS_IN)

    async def _converted(self, given: Path, made: Path) -> str:
        """Runs nf convert; its last words where it fails, else empty."""
        words = ("convert", str(given), "-o", str(made), "--to", "hash", *self.words)
        child = await asyncio.create_subprocess_exec(
            *isolated("neuralfields"), *words, "--threads", "1", "--quiet", "--force", "--device", "cpu",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, child.pid, NICE)
        try:
            said = (await child.communicate())[1].decode(errors="replace").strip()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
            raise
        return "" if child.returncode == 0 else (said.splitlines() or [f"exit code {child.returncode}"])[-1][:200]

    def _tell(self, subject: Subject, why: str) -> None:
        subject.why = why
        self.changed()
