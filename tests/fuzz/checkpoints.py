"""Checkpoints as inputs of the readers: of a trainer's state alone, and of a model that is still to grow."""

import json
import random
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from neuralfields.cameras import Camera
from neuralfields.codecs import describe_any
from neuralfields.domain import RADIANCE
from neuralfields.fields.voxels import Config as VoxelConfig
from neuralfields.fields.voxels import VoxelField
from neuralfields.models import checkpoint_file as stored
from neuralfields.models.model import Model
from neuralfields.scene import Bounds
from neuralfields.trainers.trainer import Trainer
from neuralfields.training import checkpoint
from tests.fuzz.mutate import change_bytes, change_json

BALL = Bounds((0.0, 0.0, 0.0), 2.0)


def resealed(data: bytes, rng: random.Random) -> bytes:
    """A checkpoint with other numbers under a hash that is right, or any change of its bytes."""
    if rng.random() < 0.4:
        return change_bytes(data, rng)
    tensors = load_tensors(data)
    length = int.from_bytes(data[:8], "little")
    state = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["neuralfields"])
    if rng.random() < 0.3:
        name = rng.choice([*tensors, "field.weight", "adam.weight", ""])
        kind = rng.choice([torch.float64, torch.int64, torch.float16, torch.bool])
        kept = tensors if rng.random() < 0.5 else {}
        tensors = kept | {name: torch.ones(rng.choice([(), (3,), (0,), (3, 1), (10_000,)]), dtype=kind)}
    else:
        state = json.loads(change_json(json.dumps(state).encode(), rng))
    with suppress(msgspec.ValidationError):
        typed = msgspec.convert(state, stored.State)
        state = state | {"sha256": stored.hash_of(tensors, typed)}
    return save_tensors(tensors, {"neuralfields": json.dumps(state)})


class _Small(torch.nn.Module):
    """Stands for a trainer: what a checkpoint restores."""

    def __init__(self) -> None:
        super().__init__()
        self.step_count, self.weight = 7, torch.zeros(3)

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"field.weight": self.weight}

    def counters(self) -> dict[str, int]:
        return {"step": 7, "adam_steps": 7, "stage": 0, "rounded": 0}

    def restore(self, tensors: dict[str, torch.Tensor], counters: dict[str, int]) -> None:
        self.weight = tensors["field.weight"] + counters["step"]


def bare(folder: Path) -> None:
    checkpoint.Checkpoint(folder / "a.checkpoint", {"field": "hash", "steps": 9}).save(_Small(), 1.5)


def resumed(folder: Path) -> None:
    found = checkpoint.Checkpoint(folder / "a.checkpoint", {"field": "hash", "steps": 9})
    found.load(_Small())
    found.budget()
    found.require_free(True)


def of_a_model(folder: Path) -> None:
    """One of a field that is still to grow."""
    field = VoxelField(VoxelConfig(resolution=5, colour_resolution=5, degree=1), RADIANCE)
    cameras = (Camera(np.eye(4), 8, 6, 9.0, 9.0, 4.0, 3.0),)
    model = Model(field, BALL, cameras=cameras, camera_names=("a",), made={"field": "voxels"})
    whole = checkpoint.Checkpoint(folder / "a.checkpoint", {"field": "voxels", "steps": 9}, model=lambda: model)
    whole.save(Trainer(field, 0), 1.5)


def shown(folder: Path) -> None:
    path = next(folder.iterdir())
    describe_any(path)
    model, _ = stored.load_checkpoint(path)
    assert all(torch.isfinite(p).all() for p in model.field.parameters()) and model.bounds.side > 0
