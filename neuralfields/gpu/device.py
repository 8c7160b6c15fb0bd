"""Selects the device and the number of threads: the CPU, or a CUDA GPU if asked for or if a usable one is there."""

import ctypes
import sys
from functools import cache

import torch

from neuralfields.errors import UsageError
from neuralfields.gpu.launch import missing_for_cuda, require_gpu


def choose_device(name: str) -> torch.device:
    """The device of --device: cpu, cuda (UsageError names what is missing), or auto: cuda if nothing is missing.

    A GPU that is there but unusable is reported on standard error, since the slow path is never taken silently.
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
    """Makes glibc keep up to 1 GiB of freed memory instead of returning it to the kernel. No effect elsewhere.

    By default it returns large blocks at once, and a step of a coordinate network then spends a fifth of its time with
    the kernel's zeroing of pages that it had just returned (40,000 page faults in 15 steps; 2,000 with this).
    """
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(mmap_threshold, 1 << 25)
    mallopt(trim_threshold, 1 << 30)


def use_machine(device: str = "auto", threads: int | None = None) -> torch.device:
    """Sets the number of threads and returns the device; UsageError if it is not available."""
    if threads is not None:
        torch.set_num_threads(threads)
    return choose_device(device)
