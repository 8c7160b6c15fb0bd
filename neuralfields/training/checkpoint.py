"""The checkpoint of a fit: a safetensors file beside the output, `<output>.checkpoint`, whole or not at all.

It holds everything the next step depends on (radiance.py), a description of the fit it belongs to (only the same fit
resumes from it), and what else the model needs that it would be now (models/checkpoint_file.py). Nothing replaces or
removes it but --resume, --overwrite and the end of its fit.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import torch

from neuralfields import ranks
from neuralfields.errors import InputError, UsageError
from neuralfields.files import atomic_write_bytes, companion
from neuralfields.models.checkpoint_file import VERSION, State, hash_of, read_state, standing
from neuralfields.models.model import Model

LONGEST_VALUE = 400


class Steps(Protocol):
    """What a checkpoint is of: a trainer, or the loops of a compression."""

    step_count: int

    def tensors(self) -> dict[str, torch.Tensor]:
        """Tensors that the next step depends on."""
        ...

    def counters(self) -> dict[str, int]:
        """Plain numbers that the next step depends on."""
        ...

    def restore(self, tensors: dict[str, torch.Tensor], counters: dict[str, int]) -> None:
        """The reverse of both."""
        ...


@dataclass(frozen=True)
class Checkpoint:
    """Path of a fit's checkpoint, and the description (`fit`) that a resumed fit must share, but for keys in `free`.

    `model`: makes the model as it stands; without it the file resumes but cannot be shown.
    """

    path: Path
    fit: dict[str, Any]
    free: frozenset[str] = frozenset()
    model: Callable[[], Model] | None = None

    @staticmethod
    def beside(output: Path, fit: dict[str, Any], model: Callable[[], Model] | None = None) -> "Checkpoint":
        """The checkpoint of an output file; `model`: makes the model as it stands, not measured."""
        return Checkpoint(companion(output, ".checkpoint"), fit, model=model)

    def require_free(self, overwrite: bool) -> None:
        """Checks, before a fit starts anew, that no work would be lost.

        Raises UsageError where a checkpoint is there without `overwrite`, and for any file that is none of ours.
        """
        if not os.path.lexists(self.path):
            return
        try:
            state = read_state(self.path)
        except InputError:
            raise UsageError(
                f"{self.path}: is in the place of the checkpoint and is no readable one; move it away, or choose"
                " another name with --out"
            ) from None
        if not overwrite:
            raise UsageError(
                f"{self.path}: holds {state.step} steps of an interrupted {state.kind}; go on with --resume, or start"
                " anew with --overwrite"
            )

    def save(self, training: Steps, seconds: float) -> None:
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
        if self.model is not None:
            state.model, cameras = standing(self.model(), self.path.parent)
            tensors |= cameras
        state.sha256 = hash_of(tensors, state)
        atomic_write_bytes(self.path, save(tensors, {"neuralfields": msgspec.json.encode(state).decode()}))

    def load(self, training: Steps) -> float:
        """Restores the state in a new trainer; returns the seconds trained. Raises InputError if it cannot be used."""
        if not self.path.is_file():
            raise InputError(f"{self.path}: no checkpoint to resume; run without --resume")
        tensors: dict[str, torch.Tensor] = {}
        state = read_state(self.path, tensors)
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
        steps = read_state(self.path).fit.get("steps")
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
