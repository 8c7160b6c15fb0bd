"""How much memory a piece of work takes at its worst moment.

ru_maxrss does not say: a process inherits the peak of the one that started it, and a large peak of before hides a
smaller one of now. The kernel's VmHWM is the process's own and can be begun anew.
"""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# Runs a command, whose parent is then a small process, and prints its peak in bytes as the last line of its errors.
MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def of_this_process(name: str) -> int:
    """VmRSS, what it has now, or VmHWM, its peak; bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


@contextmanager
def at_most(extra: float) -> Iterator[None]:
    """Fails where this process has more than `extra` bytes beyond what it had before, at any moment."""
    if not CLEAR.exists():
        pytest.skip("this system does not tell a process's own peak")
    gc.collect()
    gc.freeze()  # what lives now, modules above all, is not walked again by the next, which takes a tenth of a second
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)  # what the C library keeps of freed memory would be used again unseen
    CLEAR.write_text("5")  # forgets the peak so far
    before = of_this_process("VmRSS")
    yield
    grown = of_this_process("VmHWM") - before
    assert grown < extra, f"{grown / 1e6:.0f} MB"
