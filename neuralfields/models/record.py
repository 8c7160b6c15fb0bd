"""Provenance of a model: plain data that is stored with it."""

import platform
import sys
import time
from typing import Any

import torch

from neuralfields.version import VERSION


def provenance(field: str, steps: int, seconds: float, seed: int) -> dict[str, Any]:
    """The command, version, time and machine of a fit or a conversion, with its field, steps, seconds and seed."""
    return {
        "command": " ".join(sys.argv),
        "version": VERSION,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "field": field,
        "steps": steps,
        "seconds": round(seconds, 3),
        "seed": seed,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }


def throughput(samples: int, seconds: float) -> dict[str, Any]:
    """Training samples per second, for a model's metrics."""
    return {"samples_per_second": round(samples / max(seconds, 1e-9))}
