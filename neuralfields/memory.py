"""Refuses work that does not fit into memory before it begins, with an estimate of what it needs.

A process that asks for too much is not told so on Linux: it is killed later, with what it learned.
"""

from contextlib import suppress
from pathlib import Path

from neuralfields.errors import ResourceError
from neuralfields.files import size_text

KEPT_FREE = 200_000_000  # bytes for what no estimate counts


def available() -> int | None:
    """Bytes that this process can still take: of the machine, its control group and its own limits; None if unknown."""
    found = [*_machine(), *_control_group(), *_own_limit()]
    return max(0, min(found)) if found else None


def require(needed: int, what: str, remedy: str) -> None:
    """Raises ResourceError where `what` needs more bytes than there are; `remedy`: what to do instead."""
    free = available()
    if free is not None and needed + KEPT_FREE > free:
        raise ResourceError(
            f"{what}: needs about {size_text(needed)} of memory and {size_text(free)} are free; {remedy}"
        )


def _machine() -> list[int]:
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return [1024 * int(line.split()[1])]
    return []


def _control_group() -> list[int]:
    """What a container's limit leaves; the kernel's cache of files counts as free."""
    root = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):
        limit = (root / "memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            cached = 0
            for line in (root / "memory.stat").read_text(encoding="ascii").splitlines():
                if line.startswith(("inactive_file ", "active_file ")):
                    cached += int(line.split()[1])
            return [int(limit) - int((root / "memory.current").read_text(encoding="ascii")) + cached]
    return []


def _own_limit() -> list[int]:
    """What `ulimit -v` leaves."""
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
            return [limit - taken]
    return []
