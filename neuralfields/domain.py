"""Domain and codomain of a field: the coordinates that it takes and the values that it gives.

  radiance   x [S, 3], in the unit cube after contraction (a fourth coordinate is time)  ->  density and colour
  image      x [S, 2]: u, v                 ->  colour [S, channels]
  shape      x [S, 3]                       ->  signed distance [S, 1], and colour where there is one
  video      x [S, 3]: u, v, time           ->  colour [S, channels]
  sound      x [S, 1]: time                 ->  amplitudes [S, channels]
All coordinates lie in [0, 1]; u grows to the right, v downwards.
"""

from dataclasses import dataclass
from typing import Literal

from neuralfields.settings import require_range

Kind = Literal["radiance", "image", "shape", "video", "sound"]
DIMENSIONS = {"radiance": (3, 4), "image": (2,), "shape": (3,), "video": (3,), "sound": (1,)}
MOST = 1 << 31  # samples along a coordinate
SEGMENTS = 8  # parts of the time of a scene that moves, each with occupancy bits of its own
CASCADE_WORDS = 32**3  # of an occupancy cascade: 128^3 cells in bricks of 4^3, one bit a cell (ops/occupancy_bits.py)


@dataclass(frozen=True)
class Domain:
    """The kind of function, the number of its coordinates, and the number of its values (density and colour: 4).

    `lengths`: samples along each coordinate (pixels, frames, samples of a sound) where the signal has them, else ().
    """

    kind: Kind = "radiance"
    dimensions: int = 3
    channels: int = 4
    lengths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "lengths", tuple(self.lengths))  # a file's list
        if self.lengths and not (len(self.lengths) == self.dimensions and all(1 <= n <= MOST for n in self.lengths)):
            raise ValueError(f"lengths {self.lengths}: must be none, or one from 1 to {MOST} a coordinate")
        if self.kind not in DIMENSIONS:
            raise ValueError(f"kind {self.kind!r}: must be one of {', '.join(DIMENSIONS)}")
        if self.dimensions not in DIMENSIONS[self.kind]:
            allowed = " or ".join(map(str, DIMENSIONS[self.kind]))
            raise ValueError(f"dimensions {self.dimensions}: {self.kind} needs {allowed}")
        require_range(self, channels=(4, 4) if self.radiance else (1, 64))

    @property
    def segments(self) -> int:
        """Parts of time with occupancy bits of their own: 1 where nothing moves."""
        return SEGMENTS if self.radiance and self.dimensions == 4 else 1

    @property
    def radiance(self) -> bool:
        """Whether the field has density and a colour that depends on direction."""
        return self.kind == "radiance"


RADIANCE = Domain()
MOVING = Domain(dimensions=4)
