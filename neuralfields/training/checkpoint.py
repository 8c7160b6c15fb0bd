"""The checkpoint of a fit: a safetensors file beside the output, `<output>.checkpoint`, whole or not at all.

It holds everything the next step depends on (radiance.py) and a description of the fit it belongs to; only the same fit
resumes from it. Nothing replaces or removes it but --resume, --overwrite and the end of its fit.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from neuralfields import ranks
from neuralfields.errors import InputError, UsageError
from neuralfields.files import atomic_write_bytes, companion
from neuralfields.training.trainer import Trainer

VERSION = 1
LONGEST_VALUE = 400


class State(msgspec.Struct, forbid_unknown_fields=True):
    """JSON header of a checkpoint: plain numbers, and the description of its fit."""

    version: int
    counters: dict[str, int]
    seconds: float
    fit: dict[str, Any]
    sha256: str


@dataclass(frozen=True)
class Checkpoint:
    """Path of a fit's checkpoint, and the description (`fit`) that a resumed fit must share, but for keys in `free`."""

    path: Path
    fit: dict[str, Any]
    free: frozenset[str] = frozenset()

    @staticmethod
    def beside(output: Path, fit: dict[str, Any]) -> "Checkpoint":
        """The checkpoint of an output file."""
        return Checkpoint(companion(output, ".checkpoint"), fit)

    def require_free(self, overwrite: bool) -> None:
        """Checks, before a fit starts anew, that no work would be lost.

        Raises UsageError where a checkpoint is there without `overwrite`, and for any file that is none of ours.
        """
        if not os.path.lexists(self.path):
            return
        try:
            steps = _state_of(self.path).counters.get("step", 0)
        except InputError:
            raise UsageError(
                f"{self.path}: is in the place of the checkpoint and is no readable one; move it away, or choose"
                " another name with --out"
            ) from None
        if not overwrite:
            raise UsageError(
                f"{self.path}: holds {steps} steps of an interrupted fit; go on with --resume, or start anew with"
                " --overwrite"
            )

    def save(self, training: Trainer, seconds: float) -> None:
        """Writes the state after the last step. Raises InputError for a parameter that is not finite.

        Of several processes (ranks.py) the first one writes.
        """
        if ranks.rank():
            return
        from safetensors.torch import save

        tensors = {name: tensor.cpu().contiguous() for name, tensor in training.tensors().items()}
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise InputError(
                    f"{name} is not finite at step {training.step_count}; the last checkpoint is kept,"
                    " go on from it with --resume and a lower --set learning_rate=..."
                )
        state = State(VERSION, training.counters(), seconds, self.fit, "")
        state.sha256 = _hash(tensors, state)
        atomic_write_bytes(self.path, save(tensors, {"neuralfields": msgspec.json.encode(state).decode()}))

    def load(self, training: Trainer) -> float:
        """Restores the state in a new trainer; returns the seconds trained. Raises InputError if it cannot be used."""
        if not self.path.is_file():
            raise InputError(f"{self.path}: no checkpoint to resume; run without --resume")
        tensors: dict[str, torch.Tensor] = {}
        state = _state_of(self.path, tensors)
        if state.version > VERSION:
            raise InputError(f"{self.path}: checkpoint format {state.version}, this version reads up to {VERSION}")
        if state.sha256 != _hash(tensors, state):
            raise InputError(f"{self.path}: checkpoint is damaged; remove it and run without --resume")
        self._require_same_fit(state.fit)
        try:
            training.restore(tensors, state.counters)
        except (KeyError, IndexError, TypeError, ValueError, OverflowError, RuntimeError):
            raise InputError(
                f"{self.path}: checkpoint lacks what this fit needs; remove it and run without --resume"
            ) from None
        return state.seconds

    def budget(self) -> int | None:
        """The number of steps that its fit was to take. Raises InputError for a file that is none."""
        steps = _state_of(self.path).fit.get("steps")
        return steps if isinstance(steps, int) else None

    def _require_same_fit(self, other: dict[str, Any]) -> None:
        mine = json.loads(json.dumps(self.fit))
        for key in sorted((mine.keys() | other.keys()) - self.free):
            if mine.get(key) != other.get(key):
                raise UsageError(
                    f"{self.path}: was made with {key} {_short(other.get(key))}, now it is {_short(mine.get(key))};"
                    " resume with the same, or start anew with --overwrite"
                )

    def remove(self) -> None:
        """Removes the checkpoint, after the model is saved."""
        self.path.unlink(missing_ok=True)


def _short(value: Any) -> str:
    """A value in a message; a file may say anything, of any length."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]} ..."


def _state_of(path: Path, tensors: dict[str, torch.Tensor] | None = None) -> State:
    """Reads a checkpoint's JSON header, and its tensors into `tensors` if given. Raises InputError for other files."""
    from safetensors import SafetensorError, safe_open

    try:
        if not path.is_file():
            raise OSError
        with safe_open(path, framework="pt") as file:
            state = msgspec.json.decode((file.metadata() or {}).get("neuralfields", ""), type=State)
            if tensors is not None:
                tensors |= {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, msgspec.MsgspecError, OSError, RecursionError):
        raise InputError(f"{path}: not a readable checkpoint; remove it and run without --resume") from None
    return state


def _hash(tensors: dict[str, torch.Tensor], state: State) -> str:
    """SHA-256 of everything: the tensors and the numbers beside them."""
    plain = [state.version, state.counters, state.seconds, state.fit]
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
