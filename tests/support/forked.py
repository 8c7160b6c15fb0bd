"""Processes of `nf` that need not import torch: copies of one that has.

A fresh interpreter imports torch and the package for two to four seconds of a core before it does anything. Where a
test is about signals, sudden death or what a process leaves, a copy (fork) of a process that has done just that shows
the same; what a fresh process does, the console script and `python -m`, is tested by `tests/test_cli.py` and others.
"""

import multiprocessing
import os
import runpy
import signal
import sys
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

LOADED = [
    "torch", "neuralfields.cli", "neuralfields.training.fit", "neuralfields.verbs.fit", "neuralfields.verbs.compress",
    "neuralfields.verbs.view", "neuralfields.verbs.poses", "neuralfields.fields.hash", "neuralfields.serving.server",
]  # fmt: skip


def _context() -> ForkServerContext:
    """The process that is copied is started by the first copy, once per worker, and ends with the worker."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    return context


def _run(words: list[str], streams: list[str], folder: str, environment: dict[str, str]) -> None:
    """What a copy does: `python WORDS`, where the words begin with -m MODULE or -c CODE."""
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["-c", *words[2:]]
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    if words[0] == "-m":
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})


class Forked:
    """`python WORDS` as a copy, used as `subprocess.Popen` is; what it says is in the files `out` and `err`."""

    def __init__(
        self, words: list[str], said: Path, cwd: Path | None = None, environment: dict[str, str] | None = None
    ) -> None:
        self.out, self.err = said.with_name(f"{said.name}.out"), said.with_name(f"{said.name}.err")
        folder, variables = str(cwd or Path.cwd()), {**os.environ, **(environment or {})}
        arguments = (list(map(str, words)), [str(self.out), str(self.err)], folder, variables)
        self._process = _context().Process(target=_run, args=arguments)
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        """Its exit code, None while it runs, -N if signal N ended it."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            raise TimeoutError(f"it still runs after {timeout} s")
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it said, once it has ended."""
        self.wait(timeout)
        return self.out.read_text(), self.err.read_text()

    def until_said(self, text: str, seconds: float = 60) -> list[str]:
        """The lines of its errors up to the first one that holds `text`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            lines = self.err.read_text().splitlines(keepends=True) if self.err.exists() else []
            for index, line in enumerate(lines):
                if text in line and line.endswith("\n"):
                    return [one.strip() for one in lines[: index + 1]]
            assert self.poll() is None, self.err.read_text()
            time.sleep(0.01)
        raise TimeoutError(f"{text!r} is not said within {seconds} s")
