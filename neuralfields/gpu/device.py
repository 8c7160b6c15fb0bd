"""Where a command computes: on the CPU, or on a CUDA GPU if it is asked for or there is one that can be used."""

import ctypes
import sys
from functools import cache

import torch

from neuralfields.errors import UsageError
from neuralfields.gpu.launch import missing_for_cuda, require_gpu


def choose_device(name: str) -> torch.device:
    """--device: cpu, cuda (UsageError says what is missing), or auto: cuda where nothing is missing.

    A GPU that is there but cannot be used is told on standard error, since the slow path is never taken silently.
    """
    keep_memory()
    if name == "cuda":
        return require_gpu()
    if name not in ("auto", "cpu"):
        raise UsageError(f"--device {name}: must be auto, cpu or cuda")
    if name == "auto" and torch.cuda.is_available():
        missing = missing_for_cuda()
        if missing is None:
            return require_gpu()
        print(f"a GPU is here but is not used: {missing}", file=sys.stderr)
    return torch.device("cpu")


@cache
def keep_memory() -> None:
    """Lets the C library keep what tensors free, up to 1 GiB, where it is one that can be told (glibc).

    By itself it gives large blocks back at once, and a step of a coordinate network then spends a fifth of its time
    with the kernel's zeroing of pages that it had just given back (40,000 page faults in 15 steps; 2,000 with this).
    """
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(mmap_threshold, 1 << 25)
    mallopt(trim_threshold, 1 << 30)


def use_machine(device: str = "auto", threads: int | None = None) -> torch.device:
    """Sets the number of threads and gives the device; UsageError where that cannot be had."""
    if threads is not None:
        torch.set_num_threads(threads)
    return choose_device(device)
