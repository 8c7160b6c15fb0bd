"""What a signal is: a function of few coordinates whose values are known, and that a field learns by them.

Vocabulary
  S  samples     D  coordinates     C  channels
  x  [S, D] in the unit cube; y  [S, C], what the field should give there
  facts          plain data that is needed to give a signal back: its size, rate, ...; kept in `Model.signal`

  image   signals/image.py     pixels, u to the right, v downwards, each at its centre
  video   signals/video.py     pixels and frames
  sound   signals/sound.py     amplitudes over time
  shape   signals/shape.py     distance to a surface, negative inside, or which side of it

A field's values are used as they are: no activation bends them, and what leaves [0, 1] is clamped where it is saved.
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
    """What every kind of signal offers to a fit (signal_training.py) and to `nf eval`; each kind is a frozen dataclass.

    `root`: the file or folder it came from; `warnings`: one line each.
    """

    name: str
    root: Path
    domain: Domain
    facts: msgspec.Struct
    bounds: Bounds
    warnings: tuple[str, ...]

    def batch(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """About `count` samples x, y of a step; the same ones for a generator in the same state."""
        raise NotImplementedError

    def loss(self, values: Tensor, y: Tensor) -> Tensor:
        """What a field's values [S, C] cost, [S]; nothing is added up."""
        raise NotImplementedError

    def targets(self) -> list[Tensor]:
        """What `Field.tuned` may look at: some pictures, or the sound; none of a shape."""
        return []

    def held_out(self, field: Field) -> float | None:
        """How well the field does where it was not trained, in dB; None where it was trained everywhere."""
        return None

    def measure(self, field: Field) -> dict[str, float]:
        """The figures of its kind, by name; the first one is what counts."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """A hash of everything that a fit depends on."""
        raise NotImplementedError

    def views(self) -> tuple[Camera, ...]:
        """Cameras to look at it from, if it is a thing in space."""
        return ()


def facts_of(signal: dict, kind: type[Facts], where: str = "model") -> Facts:
    """`Model.signal` as the facts of a kind. Raises InputError for what does not fit: it comes from a file."""
    try:
        return msgspec.convert(signal, kind)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: signal: {str(error)[:160].lower()}; fit it again or restore a backup") from None
