"""Coroutines run to their end from a test, whatever loop the test's own thread has."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def run_in_own_loop(work: Coroutine[object, object, T]) -> T:
    """What `work` gives, run by a loop in a thread of its own: in the test's thread the browser's loop is alive."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
