"""Runs COLMAP in a child process (poses/colmap_child.py) for one job, with a time limit, and reports its crashes.

Vocabulary
  limit    seconds after which the child and everything that it started is killed
  failure  the child crashed, hung or was killed; the message says which, with the end of COLMAP's own log
"""

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from neuralfields.errors import PosesNotFoundError, UsageError
from neuralfields.files import atomic_write_bytes
from neuralfields.search_path import isolated

LOG_LINES = 3
CHILD = "neuralfields.poses.colmap_child"
DEATHS = {
    signal.SIGKILL: "was killed from outside, most likely because memory ran out",
    signal.SIGSEGV: "crashed (segmentation fault)",
    signal.SIGABRT: "crashed (abort)",
    signal.SIGBUS: "crashed (bus error)",
    signal.SIGFPE: "crashed (floating-point error)",
    signal.SIGILL: "crashed (this processor lacks an instruction that it needs)",
    signal.SIGTERM: "was ended from outside",
}


class ColmapFailure(PosesNotFoundError):
    """Raised when COLMAP ends without a result; the message says how and shows the end of its log."""


def run_job(
    job: dict[str, Any],
    folder: Path,
    limit: float,
    progress: Callable[[int, int], None],
    command: tuple[str, ...] | None = None,
) -> dict[str, Any]:
    """Runs a job in a child process and returns its result.

    The job and COLMAP's log lie in `folder` as <task>.json and <task>.log. `progress(done, total)` is called now and
    then. `command`: what runs it, for tests. Raises ColmapFailure, and UsageError when pycolmap is missing or of a
    broken release. Ctrl-C kills the child.
    """
    path, log = folder / f"{job['task']}.json", folder / f"{job['task']}.log"
    atomic_write_bytes(path, json.dumps(job, indent=1).encode())
    environment = {**os.environ, "OMP_NUM_THREADS": str(job.get("threads", 1)), "GLOG_logtostderr": "1"}
    with log.open("wb") as errors:
        child = subprocess.Popen(
            [*(command or isolated(CHILD)), str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )
    try:
        lines, timed_out = _follow(child, time.monotonic() + limit, progress)
    finally:
        kill_group(child)
    for message in reversed(lines):
        if "result" in message and not timed_out:
            return message["result"]
        if "refused" in message:
            raise UsageError(message["refused"])
    reason = f"did not end within {limit:g} s and was killed" if timed_out else _death(child.returncode)
    raise ColmapFailure(f"COLMAP ({job['task']}) {reason}{_last_lines(log)}")


def _follow(
    child: subprocess.Popen, deadline: float, progress: Callable[[int, int], None]
) -> tuple[list[dict[str, Any]], bool]:
    """Reads messages until the child closes its output or the deadline passes; also returns whether it passed."""
    messages: list[dict[str, Any]] = []
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(timeout=min(left, 1.0)):
                continue
            data = os.read(child.stdout.fileno(), 1 << 16)
            if not data:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=max(0.0, deadline - time.monotonic()))
                return messages, child.poll() is None
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                message = _message(line)
                if "total" in message:
                    progress(int(message["done"]), int(message["total"]))
                elif message:
                    messages.append(message)
    return messages, True


def _message(line: bytes) -> dict[str, Any]:
    """Parses a line as a message; empty for lines that a library printed."""
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def kill_group(child: subprocess.Popen) -> None:
    """Kills a child and its process group by SIGKILL; COLMAP may hang in its own handler of SIGTERM."""
    if child.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if child.stdout is not None:
        child.stdout.close()


def _death(code: int) -> str:
    if code < 0:
        known = next((text for number, text in DEATHS.items() if number == -code), None)
        return known or f"was ended by signal {-code}"
    return f"ended with code {code}" if code else "ended without a result"


def _last_lines(log: Path) -> str:
    with suppress(OSError):
        text = log.read_text(encoding="utf-8", errors="replace")
        lines = [" ".join(line.split())[:200] for line in text.splitlines() if line.strip()]
        if lines:
            return "; its last lines: " + " | ".join(lines[-LOG_LINES:])
    return ""
