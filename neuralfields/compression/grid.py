"""The grid in which Gaussians' places are whole numbers: even near the middle, doubling its cells beyond.

Vocabulary
  cell   per axis: t = |x - centre| / step; below n cells of one step each, then n cells to each doubling of t
  place  cell numbers less `low`, 0 .. 2^bits - 1 on each axis

Far Gaussians are known as well as they are seen from the middle, and cost a few bits more than near ones.
"""

from dataclasses import dataclass

import numpy as np

MOST_BITS = 21  # per axis: three of them are a Morton code in 63 bits
FAR = 0.95  # share of the Gaussians that lie where cells are even
LEAST_EXTENT = 1e-9


@dataclass(frozen=True)
class Grid:
    """`centre` [3] and `step` in world units; `even`: cells of one step on either side; `low` [3], `bits` of places."""

    centre: tuple[float, float, float]
    step: float
    even: int
    low: tuple[int, int, int]
    bits: int

    def means(self, places: np.ndarray) -> np.ndarray:
        """Middles [N, 3] of the cells of places, float64: sums, products and powers of two alone."""
        cells = places.astype(np.int64) + np.array(self.low)
        size = np.where(cells < 0, -1 - cells, cells)
        doublings = np.maximum(size // self.even - 1, 0)
        x = np.ldexp((size - self.even * doublings + 0.5) * self.step, doublings)
        return np.where(cells < 0, -x, x) + np.array(self.centre)


def cells_of(means: np.ndarray, centre: np.ndarray, step: float, even: int) -> np.ndarray:
    """Cell numbers int64 [N, 3] of means."""
    t = np.abs(means - centre) / step
    doublings = np.where(t >= even, np.floor(np.log2(np.maximum(t, 1) / even)), 0).astype(np.int64).clip(0)
    size = np.floor(np.ldexp(t, -doublings)).astype(np.int64).clip(max=2 * even - 1) + even * doublings
    return np.where(means < centre, -1 - size, size)


def extent_of(means: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre [3] and half side of the part with even cells: all of a compact scene, FAR of one with a background."""
    centre = np.median(means, 0)
    reach = np.abs(means - centre).max(1)
    most, near = float(reach.max()), float(np.quantile(reach, FAR))
    return centre, max(
        (most if most < 2 * near else near) * (1 + 1e-6), LEAST_EXTENT * (1 + float(np.abs(centre).max()))
    )


def fit_grid(means: np.ndarray, step: float) -> tuple[Grid, np.ndarray]:
    """The grid of means [N, 3] with cells of about `step` at its middle, and their places int32 [N, 3]."""
    centre, reach = extent_of(means)
    even = max(2, min(2 ** (MOST_BITS - 2), round(reach / step)))
    while True:
        cells = cells_of(means, centre, reach / even, even)
        low = cells.min(0)
        bits = max(1, int((cells.max(0) - low).max()).bit_length())
        if bits <= MOST_BITS or even <= 2:
            break
        even //= 2
    middle = float(centre[0]), float(centre[1]), float(centre[2])
    corner = int(low[0]), int(low[1]), int(low[2])
    return Grid(middle, reach / even, even, corner, bits), (cells - low).astype(np.int32)


def morton(places: np.ndarray) -> np.ndarray:
    """Morton codes int64 [N] of places [N, 3]: bit 3 i + a is bit i of axis a."""
    code = np.zeros(len(places), np.int64)
    for axis in range(3):
        bits = places[:, axis].astype(np.int64)
        for shift, mask in _SPREADING:
            bits = (bits | bits << shift) & mask
        code |= bits << axis
    return code


def from_morton(codes: np.ndarray) -> np.ndarray:
    """Places int32 [N, 3] of Morton codes [N]."""
    found = np.empty((len(codes), 3), np.int32)
    for axis in range(3):
        bits = codes.astype(np.int64) >> axis & _SPREADING[-1][1]
        for (shift, _), (_, mask) in zip(_SPREADING[::-1], (*_SPREADING[-2::-1], (0, 0x1FFFFF)), strict=True):
            bits = (bits | bits >> shift) & mask
        found[:, axis] = bits
    return found


_SPREADING = (
    (32, 0x1F00000000FFFF), (16, 0x1F0000FF0000FF), (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3), (2, 0x1249249249249249),
)  # fmt: skip
