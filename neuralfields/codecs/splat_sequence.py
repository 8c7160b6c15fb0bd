"""A folder of splat files, one for each instant by the order of their names, as a model that moves."""

import os
import re
from pathlib import Path

import torch

from neuralfields.codecs.splats import is_splat_file, read_gaussians
from neuralfields.errors import InputError
from neuralfields.models.model import Model
from neuralfields.rendering.splat_sequence import SequenceField
from neuralfields.scene import Bounds

NUMBERED = re.compile(r"(.*?)(\d+)(\D*)")
MOST = 100_000  # files of a sequence
LOOKED_AT = 16  # instants that say where the scene is


def sequence_files(folder: Path) -> list[Path]:
    """The splat files of a folder in the order of their numbers; none where it is no sequence of at least two.

    Names differ by their last number alone: 0000.ply, 0001.ply ... or dance-1.splat, dance-2.splat ...
    """
    if not os.path.isdir(folder) or is_splat_file(folder):  # a name too long is none
        return []
    found: dict[tuple[str, str], list[tuple[int, Path]]] = {}
    for path in list(folder.iterdir())[:MOST]:
        if path.is_file() and (match := NUMBERED.fullmatch(path.name)):
            head, number, tail = match.groups()
            found.setdefault((head, tail), []).append((int(number), path))
    most = max(found.values(), key=len, default=[])
    ordered = [path for _, path in sorted(most)]
    return ordered if len(ordered) > 1 and is_splat_file(ordered[0]) else []


def sequence_model(folder: Path, files: list[Path]) -> Model:
    """The sequence as a model that renders, at times 0, 1, 2 ...; each file is read where it is looked at.

    Raises InputError for a file that holds no Gaussians, now for some of them and later for the others.
    """
    chosen = sorted({round(i) for i in torch.linspace(0, len(files) - 1, min(LOOKED_AT, len(files))).tolist()})
    means = torch.cat([read_gaussians(files[index]).means for index in chosen])
    if not len(means):
        raise InputError(f"{folder}: its files hold no Gaussians; export them again")
    centre = means.median(0).values
    away = (means - centre).abs().amax(1)
    reach = float(torch.quantile(away[:: -(-len(away) // 1_000_000)], 0.9))
    bounds = Bounds(tuple(centre.tolist()), max(2 * reach, 1e-6), times=(0.0, float(len(files) - 1)))
    field = SequenceField(lambda index: read_gaussians(files[index]), len(files))
    return Model(field, bounds, background=(0.0, 0.0, 0.0), made={"scene": None, "notes": []})


def describe_sequence(folder: Path, files: list[Path]) -> dict[str, object]:
    """What a sequence holds, as plain data: of its files and of the first of them."""
    first = read_gaussians(files[0])
    return {
        "path": str(folder),
        "bytes": sum(path.stat().st_size for path in files),
        "kind": f"sequence of {len(files)} files of splats",
        "gaussians": len(first),
        "degree": first.degree,
        "times": [0.0, float(len(files) - 1)],
    }
