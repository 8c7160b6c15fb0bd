"""Where the viewer renders: one thread, whose queue all pages share."""

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import torch

FIRST_SECONDS = 0.07


class Worker(Protocol):
    """Executor of functions one after the other, in a thread of its own.

    `first_seconds`: time budget of a first level; `most_seconds`: of a finest level.
    """

    first_seconds: float

    @property
    def most_seconds(self) -> float:
        """Time budget of a finest level in seconds, infinite where nothing else runs."""

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a function and returns its result."""


class ThreadWorker:
    """Worker with a thread of its own."""

    first_seconds, most_seconds = FIRST_SECONDS, math.inf

    def __init__(self, threads: int | None = None) -> None:
        count = threads or torch.get_num_threads()
        self.pool = ThreadPoolExecutor(1, "viewer-render", torch.set_num_threads, (count,))

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a function and returns its result; functions of all pages take turns."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, function, *arguments)

    def close(self) -> None:
        """Cancels waiting functions and lets the running one end."""
        self.pool.shutdown(wait=False, cancel_futures=True)
