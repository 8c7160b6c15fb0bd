"""Cleans a field of floaters: what few cameras see and what touches nothing else becomes empty; all else stays.

Vocabulary
  cell    of the occupancy grid (rendering/occupancy.py); the field itself is not changed, and nothing is trained
  sees    a camera has the cell's middle in its image, whatever stands before it
  few     two cameras, or 3 % of them if that is more
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.captures.bounds import count_views
from neuralfields.codecs import load_any
from neuralfields.errors import InputError, UsageError
from neuralfields.files import OutputLock, check_writable
from neuralfields.gpu.device import use_machine
from neuralfields.models.model import Model
from neuralfields.models.nf_file import save
from neuralfields.models.nf_header import describe
from neuralfields.ops.occupancy_bits import CELLS, bricks_of, cells_of
from neuralfields.options.models import EditOptions
from neuralfields.scene import Bounds

FEW, FEW_SHARE = 2, 0.03
LEAST_NEIGHBOURS = 3  # of 27, itself among them: one or two cells alone are specks, whoever sees them


def clean(model: Model) -> tuple[Model, dict[str, Any]]:
    """The model without its floaters, and how many cells that were: `cleaned` of `occupied`, seen by `few` cameras.

    Raises UsageError for a model without an occupancy grid or cameras.
    """
    trained = [c for k, c in enumerate(model.cameras) if k not in set(model.held_out)]
    if model.occupancy is None or not trained:
        raise UsageError("--clean: needs a field with its occupancy grid and the cameras of its fit; this has none")
    few = max(FEW, round(FEW_SHARE * len(trained)))
    occupancy, counts = torch.zeros_like(model.occupancy), [0, 0]
    for cascade in range(len(model.occupancy)):
        cells = cells_of(model.occupancy[cascade : cascade + 1])[0].cpu()
        seen = _views(cells, model.bounds, cascade, trained, few + 1)
        kept = connected(cells, cells & (seen > few) & (_neighbours(cells) >= LEAST_NEIGHBOURS))
        counts = [counts[0] + int((cells & ~kept).sum()), counts[1] + int(cells.sum())]
        occupancy[cascade] = bricks_of(kept[None])[0].to(occupancy.device)
    facts = {"cleaned": counts[0], "occupied": counts[1], "few": few, "cameras": len(trained)}
    return replace(model, occupancy=occupancy, made=model.made | {"cleaned": counts[0]}), facts


def connected(cells: Tensor, seeds: Tensor) -> Tensor:
    """Those of `cells` [128, 128, 128] bool that are connected with seeds through others; corners connect too."""
    whole, where = torch.zeros_like(cells), cells.nonzero()
    if not len(where):
        return whole
    part = tuple(slice(int(low), int(high) + 1) for low, high in zip(where.amin(0), where.amax(0), strict=True))
    cells, reached = cells[part], seeds[part]
    while True:
        grown = torch.nn.functional.max_pool3d(reached[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
        grown &= cells
        if torch.equal(grown, reached):
            whole[part] = reached
            return whole
        reached = grown


def _neighbours(cells: Tensor) -> Tensor:
    """How many of the 27 cells of its neighbourhood are occupied, of each cell."""
    mean = torch.nn.functional.avg_pool3d(cells[None, None].float(), 3, stride=1, padding=1)[0, 0]
    return (27 * mean).round()


def _views(cells: Tensor, bounds: Bounds, cascade: int, cameras: list[Camera], enough: int) -> Tensor:
    """How many cameras see each occupied cell, counted to `enough`, [128, 128, 128] by z, y, x."""
    where = cells.nonzero()
    middle = (where.flip(1).double() + 0.5) / CELLS - 0.5
    points = middle.numpy() * 2.0**cascade * bounds.side + np.asarray(bounds.centre)
    seen = torch.zeros(cells.shape, dtype=torch.int64)
    seen[cells] = torch.from_numpy(count_views(cameras, points, enough))
    return seen


def clean_to_file(options: EditOptions) -> dict[str, Any]:
    """Cleans the file `options.model` and writes the result, as exactly as it was stored; reports `clean`'s numbers."""
    out = options.out or Path(f"{options.model.stem}-clean.nf")
    check_writable(out, options.overwrite)
    device = use_machine(options.device, options.threads)
    with OutputLock(out):
        model, facts = clean(load_any(options.model, device=device))
        if not facts["cleaned"] < facts["occupied"]:
            raise InputError(f"{options.model}: no part of it is seen by more than {facts['few']} cameras; not cleaned")
        stored = describe(options.model) if options.model.suffix.lower() == ".nf" else {"half": False, "bits": 32}
        bits = min(options.bits, stored["bits"])
        save(model, out, half=bits == 32 and (options.half or stored["half"]), bits=bits)
    return {"path": str(out), **facts}


def clean_text(result: dict[str, Any]) -> str:
    """Formats the report for people."""
    share = result["cleaned"] / max(result["occupied"], 1)
    return (
        f"wrote {result['path']}: {result['cleaned']} of {result['occupied']} occupied cells emptied ({share:.2%}),"
        f" which touch nothing that more than {result['few']} of {result['cameras']} cameras see"
    )
