"""Exports a scene that moves as a sequence: a file for each of some times, numbered in their order."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from neuralfields.evaluation.export import MeshForm, export
from neuralfields.files import check_writable
from neuralfields.models.model import Model
from neuralfields.signals.writers import OutputSize

SUFFIX = ".ply"  # of splats, and of meshes, where the output is a folder


def sequence_paths(out: Path, frames: int) -> list[Path]:
    """Files of a sequence: `out`/0000.ply ... where it has no suffix, else out-0000.suffix ... beside it."""
    digits = max(4, len(str(frames - 1)))
    if not out.suffix:
        return [out / f"{index:0{digits}d}{SUFFIX}" for index in range(frames)]
    stem, _, suffix = out.name.partition(".")
    return [out.with_name(f"{stem}-{index:0{digits}d}.{suffix}") for index in range(frames)]


def export_sequence(
    model: Model, out: Path, frames: int, form: MeshForm | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """Writes a file for each of so many times, evenly from the first to the last; errors as of `export`.

    Keys: path, kind, files_of (how many), times (the first and the last), bytes, seconds.
    """
    paths = sequence_paths(out, frames)
    for path in paths:
        if out.suffix or out.is_dir():
            check_writable(path, overwrite)
    if not out.suffix:
        out.mkdir(parents=True, exist_ok=True)
    begin, size = time.perf_counter(), 0
    times = np.linspace(*model.bounds.times, frames).tolist()
    for moment, path in zip(times, paths, strict=True):
        export(model.at(moment), path, OutputSize(), form, overwrite)
        size += path.stat().st_size
    return {
        "path": str(out),
        "kind": model.field.domain.kind,
        "files_of": frames,
        "times": [times[0], times[-1]],
        "bytes": size,
        "seconds": time.perf_counter() - begin,
    }
