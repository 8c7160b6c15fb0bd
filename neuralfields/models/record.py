"""Provenance of a model: plain data that is stored with it.

In memory the record holds absolute paths and the command line. A file is passed on, so it holds neither: its capture is
named relative to the file, as `portable` makes it, and found again by `located` when the file is read.
"""

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch

from neuralfields.version import VERSION

PATHS = ("scene", "masks")


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


def portable(made: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The record without the command line, its paths relative to the folder of the model's file."""
    kept = {name: value for name, value in made.items() if name != "command"}
    for name in PATHS:
        path = kept.get(name)
        if isinstance(path, str) and os.path.isabs(path):
            try:
                kept[name] = Path(os.path.relpath(path, os.path.realpath(folder))).as_posix()
            except ValueError:  # another drive
                kept[name] = os.path.basename(path)
    return kept


def portable_lineage(lineage: list[Any], folder: Path) -> list[Any]:
    """The ancestors of a converted model, their records made portable likewise."""
    return [
        item | {"made": portable(item["made"], folder)}
        if isinstance(item, dict) and isinstance(item.get("made"), dict)
        else item
        for item in lineage
    ]


def located(made: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The record of a file in `folder`, with the paths of what is still there made absolute."""
    found = dict(made)
    for name in PATHS:
        path = made.get(name)
        if isinstance(path, str) and path and not os.path.isabs(path):
            there = os.path.normpath(os.path.join(os.path.realpath(folder), path))
            if "\0" not in there and os.path.exists(there):
                found[name] = there
    return found
