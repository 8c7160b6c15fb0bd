"""What the processes of one run of the tests share (pytest -n 2): a folder, what is made once, whose turn it is.

Vocabulary
  run folder   a folder of this run alone; the process that starts the others makes it and takes it away
  alone        a test marked `serial`: it measures time or memory, so no other test runs beside it
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = "NEURALFIELDS_TEST_RUN"


def begin_run() -> Callable[[], None]:
    """Makes the run folder, which processes started from here on know; returns what removes it."""
    folder = tempfile.mkdtemp(prefix="neuralfields-tests-")
    os.environ[FOLDER] = folder
    return lambda: shutil.rmtree(folder, ignore_errors=True)


def made_once(name: str, make: Callable[[Path], object], kept: Path | None = None) -> Path:
    """The file or folder `name` of the run folder; `make(path)` makes it where it is not there yet.

    Other processes wait for it meanwhile. What `make` raises goes through, and the next process tries anew. `kept`: a
    folder that outlives the run, to be used instead; the name then tells all that the content depends on.
    """
    target = (kept or Path(os.environ[FOLDER])) / name
    with _locked(f"{name}.lock", fcntl.LOCK_EX):
        if not target.exists():
            part = target.with_name(f"part-{os.getpid()}-{name}")
            make(part)
            part.replace(target)
    return target


@contextmanager
def _locked(name: str, kind: int) -> Iterator[None]:
    with open(Path(os.environ[FOLDER]) / name, "w") as file:
        fcntl.flock(file, kind)
        yield


class Turns:
    """Lets tests run beside each other, and those that are to be alone one after another with nothing beside them.

    A lock on the room, shared by tests that mind no company. Who wants it alone holds the door while it waits: else
    the others, who leave and enter all the time, would never let it in. The kernel frees the locks of a process that
    died.
    """

    def __init__(self) -> None:
        folder = Path(os.environ[FOLDER])
        self.door, self.room = (os.open(folder / name, os.O_CREAT | os.O_RDWR) for name in ("door", "room"))
        self.holds_alone = False

    def enter(self, alone: bool) -> None:
        """Waits for the turn; who is alone already stays so."""
        if self.holds_alone and alone:
            return
        self.leave()
        fcntl.flock(self.door, fcntl.LOCK_EX)
        fcntl.flock(self.room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self.door, fcntl.LOCK_UN)
        self.holds_alone = alone

    def leave(self) -> None:
        """Others may enter."""
        fcntl.flock(self.room, fcntl.LOCK_UN)
        self.holds_alone = False
