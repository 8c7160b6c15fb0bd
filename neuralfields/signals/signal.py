"""The contract of signals: functions of few coordinates with known values, by which a field is supervised.

Vocabulary
  S  samples     D  coordinates     C  channels
  x  [S, D] in the unit cube; y  [S, C], the target values there
  facts          plain data that is needed to write a signal from its field: size, rate, ...; kept in `Model.signal`

  image   signals/image.py     pixels, u to the right, v downwards, each at its centre
  video   signals/video.py     pixels and frames
  sound   signals/sound.py     amplitudes over time
  shape   signals/shape.py     signed distance to a surface, negative inside, or occupancy

A field's values have no activation; values outside [0, 1] are clamped when they are saved.
"""

from pathlib import Path
from typing import TypeVar

import msgspec
import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.domain import Domain
from neuralfields.errors import InputError
from neuralfields.fields.field import Field
from neuralfields.scene import Bounds

UNIT = Bounds((0.5, 0.5, 0.5), 1.0)
Facts = TypeVar("Facts", bound=msgspec.Struct)


class Signal:
    """The interface of a signal for training (training/signals.py) and `nf eval`; each kind is a frozen dataclass.

    `root`: the file or folder it came from; `warnings`: one line each.
    """

    name: str
    root: Path
    domain: Domain
    facts: msgspec.Struct
    bounds: Bounds
    warnings: tuple[str, ...]

    def batch(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws a batch of about `count` samples x, y; the same ones for a generator in the same state."""
        raise NotImplementedError

    def loss(self, values: Tensor, y: Tensor) -> Tensor:
        """Loss of a field's values [S, C], unreduced [S]."""
        raise NotImplementedError

    def targets(self) -> list[Tensor]:
        """Targets for `Field.tuned`: some images, or the sound; none of a shape."""
        return []

    def held_out(self, field: Field) -> float | None:
        """Validation score in dB at held-out points; None if the field was trained everywhere."""
        return None

    def measure(self, field: Field) -> dict[str, float]:
        """Metrics of its kind, by name, the main one first."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Hash of all of the signal that a fit depends on."""
        raise NotImplementedError

    def views(self) -> tuple[Camera, ...]:
        """Viewpoints to render it from, if it is a shape."""
        return ()


def facts_of(signal: dict, kind: type[Facts], where: str = "model") -> Facts:
    """Converts `Model.signal` to the facts of a kind. Raises InputError if it does not fit: it comes from a file."""
    try:
        return msgspec.convert(signal, kind)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: signal: {str(error)[:160].lower()}; fit it again or restore a backup") from None
