"""Where a command computes: on the CPU, or on a CUDA GPU if it is asked for or there is one that can be used."""

import sys

import torch

from neuralfields.errors import UsageError
from neuralfields.ops.cuda_launch import missing_for_cuda, require_gpu


def choose_device(name: str) -> torch.device:
    """--device: cpu, cuda (UsageError says what is missing), or auto: cuda where nothing is missing.

    A GPU that is there but cannot be used is told on standard error, since the slow path is never taken silently.
    """
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
