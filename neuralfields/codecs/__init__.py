"""Model files but for .nf, read as models that render, evaluate and can be distilled from.

A file is recognised by its content, never by its name; nothing in it is ever run.

  nerf_pytorch   checkpoints of vanilla NeRF (torch.save): teachers only, they cannot be saved as .nf
  instant_ngp    snapshots of Instant-NGP (.ingp, .msgpack): become the `hash` field and are saved like any other
  nerfstudio     checkpoints of nerfstudio: recognised; see nerfstudio.py for what is read
  nfz            ours, compressed: fields as they were, or Gaussians
  splat_sequence a folder of numbered splat files, one for each instant of a scene that moves
  checkpoints of a fit of ours (models/checkpoint_file.py): the field as it stood
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from neuralfields.codecs import instant_ngp, nerf_pytorch, nerfstudio, nfz
from neuralfields.codecs.placement import Placement, with_scene
from neuralfields.codecs.splat_sequence import describe_sequence, sequence_files, sequence_model
from neuralfields.codecs.splats import describe_splats, is_splat_file, splat_model
from neuralfields.codecs.torch_weights import is_checkpoint, read_checkpoint
from neuralfields.errors import InputError
from neuralfields.files import printable
from neuralfields.models import nf_file
from neuralfields.models.checkpoint_file import describe_checkpoint, is_fit_checkpoint, load_checkpoint
from neuralfields.models.model import Model
from neuralfields.models.nf_header import PREFIX, open_model

__all__ = ["READABLE", "Placement", "describe_any", "is_foreign", "load_any"]

READABLE = ".nf files, vanilla NeRF checkpoints (nerf-pytorch) and Instant-NGP snapshots (.ingp, .msgpack)"
HEAD = 64


@dataclass(frozen=True)
class _Opened:
    """A file of another program: its name in words, what it holds, and the function that makes a model of it."""

    kind: str
    about: Callable[[], dict[str, Any]]
    read: Callable[[Placement], Model]


def load_any(
    path: Path | str,
    scene: Path | str | None = None,
    place: Placement | None = None,
    device: torch.device | str = "cpu",
) -> Model:
    """The model in a file, of ours or of another program's; `scene` gives it that capture's cameras.

    `place` says where a foreign scene is when its file does not. Raises InputError naming what can be read.
    """
    path = Path(path)
    if files := sequence_files(path):
        read = sequence_model(path, files)
        read.field.to(device)
        return with_scene(read, scene)
    if is_splat_file(path):
        read = splat_model(path)
        read.field.to(device)
        return with_scene(read, scene)
    if path.is_file() and nfz.is_field(path):
        read = nfz.read_field(path)
        read.field.to(device)
        return with_scene(replace(read, occupancy=None if read.occupancy is None else read.occupancy.to(device)), scene)
    if not is_foreign(path):
        return with_scene(nf_file.load(path, device), scene)
    if is_fit_checkpoint(_head(path)):
        read, line = load_checkpoint(path, device)
        print(printable(line), file=sys.stderr)
        return with_scene(read, scene)
    read = _open(path).read(place or Placement())
    read.field.to(device)
    return with_scene(replace(read, occupancy=read.occupancy.to(device)), scene)


def is_foreign(path: Path) -> bool:
    """Whether the content of a file is not that of a .nf; raises InputError where there is no such file."""
    if is_splat_file(path) or sequence_files(path):
        return True
    return path.suffix.lower() != ".nf" and _head(path)[8 : 8 + len(PREFIX)] != PREFIX


def describe_any(path: Path) -> dict[str, Any]:
    """What a file of another program is, as plain data: path, bytes, kind and what it holds."""
    if files := sequence_files(path):
        return describe_sequence(path, files)
    if is_splat_file(path):
        return describe_splats(path)
    if path.is_file() and nfz.is_field(path):
        return nfz.describe_field(path)
    if is_fit_checkpoint(_head(path)):
        return describe_checkpoint(path)
    opened = _open(path)
    return {"path": str(path), "bytes": path.stat().st_size, "kind": opened.kind, **opened.about()}


def _head(path: Path) -> bytes:
    with open_model(path) as file:
        return file.read(HEAD)


def _open(path: Path) -> _Opened:
    head = _head(path)
    if is_checkpoint(head):
        return _open_checkpoint(path)
    if instant_ngp.is_snapshot(head):
        snapshot = instant_ngp.decode(path)
        return _Opened(
            "Instant-NGP snapshot",
            lambda: instant_ngp.describe(snapshot),
            lambda place: instant_ngp.read(path, snapshot, place),
        )
    raise InputError(f"{path}: is no radiance field that is known here; {READABLE} can be read")


def _open_checkpoint(path: Path) -> _Opened:
    checkpoint = read_checkpoint(path)
    for kind, reader in (("vanilla NeRF checkpoint", nerf_pytorch), ("nerfstudio checkpoint", nerfstudio)):
        if reader.layout_of(checkpoint) is not None:
            return _Opened(
                kind,
                lambda: reader.describe(path, checkpoint),  # noqa: B023  returned at once
                lambda place: reader.read(path, checkpoint, place),  # noqa: B023
            )
    keys = ", ".join(sorted(map(str, checkpoint))[:6])[:160]
    raise InputError(f"{path}: a checkpoint of torch with {keys or 'nothing'}, but of no known field; {READABLE} are")
