"""Gaussians as whole numbers, and back: what a .nfz holds, in Morton order.

Vocabulary
  class      of a Gaussian, 0 the most important: its steps are 2^class fine ones
  value      a whole number of fine steps
  turn       shift of a rotation beyond its class: a Gaussian that is nearly round may be turned freely
  rotations  xyz / (1 + w) of a unit quaternion, in which rotations near one another are near and none is singular
  opacities  -ln(opacity): an error of it counts as much in a faint Gaussian as in a solid one
  colours, harmonics   coefficients along axes of their own (Karhunen-Loeve), around their mean

`dequantised` uses sums, products, quotients and powers of two in float64 alone, whose results IEEE 754 fixes, and
sums of whole numbers that no order changes: the same float32 on every machine and in every language.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from neuralfields.compression.grid import Grid
from neuralfields.gaussians import COUNTS, LARGEST_LOG, Gaussians

MOST_CLASS = 6
ROUND, MOST_TURN, TURN = 4, 6, 0.25  # turn = 4 - log2(longest / geometric mean of the others) / 2, from 0 to 6
LEAST_TRANSPARENCY = 2.0**-20
AXIS = 127  # of an axis's numbers


@dataclass(frozen=True)
class Steps:
    """Fine steps: of scales (their logarithms), rotations, opacities (-ln), colours and harmonics."""

    scales: float
    rotations: float
    opacities: float
    colours: float
    harmonics: float


@dataclass(frozen=True)
class MostShifts:
    """The largest shift of each parameter: a class beyond it keeps that step, so that no error changes what is seen."""

    scales: int
    rotations: int
    opacities: int
    colours: int
    harmonics: int


@dataclass(frozen=True)
class Axes:
    """`mean` float32 [D] and `axes` int8 [m, D]: coefficients c [m] stand for mean + c axes / 127."""

    mean: np.ndarray
    axes: np.ndarray

    def spread(self, values: np.ndarray, step: float) -> np.ndarray:
        """What values [N, m] of a step stand for, float64 [N, D]. The sum is one of whole numbers, and so exact."""
        whole = values.astype(np.float64) @ self.axes.astype(np.float64)
        return whole * (step / AXIS) + self.mean.astype(np.float64)


@dataclass(frozen=True)
class Moving:
    """Motion of N Gaussians (neuralfields/motion.py), values int32: `lifetimes` [N, 2], `paths` [N, 3] each, `turns`.

    Steps: LIFETIME of centres, OCTAVE (an eighth of one) of log durations, `path` of paths, `turn` of turns.
    """

    lifetimes: np.ndarray
    paths: tuple[np.ndarray, np.ndarray, np.ndarray]
    turns: np.ndarray
    path: float
    turn: float

    def motion(self) -> np.ndarray:
        """What it stands for, float64 [N, 15]."""
        lives = self.lifetimes * np.array([LIFETIME, OCTAVE])
        return np.concatenate([lives, *(path * self.path for path in self.paths), self.turns * self.turn], 1)


LIFETIME, OCTAVE = 2.0**-10, 0.6931471805599453 / 8
BRIEFEST, MOST_PATH = 5, 8  # octaves under the scene's time that make a path's steps coarser; the largest shift of one


def path_shifts(classes: np.ndarray, lifetimes: np.ndarray, power: int) -> np.ndarray:
    """Shifts uint8 [N] of the paths of a power: an error of theirs counts as long as a Gaussian is there."""
    brief = np.clip(-lifetimes[:, 1].astype(np.int64) >> 3, 0, BRIEFEST)
    return np.minimum(np.minimum(classes, 2) + power * brief, MOST_PATH).astype(np.uint8)


@dataclass(frozen=True)
class Quantised:
    """N Gaussians in Morton order: `places` [N, 3] in a grid, `classes` uint8 [N], values int32 [N, C] of the rest."""

    grid: Grid
    places: np.ndarray
    classes: np.ndarray
    scales: np.ndarray
    rotations: np.ndarray
    opacities: np.ndarray
    colours: np.ndarray
    harmonics: np.ndarray
    steps: Steps
    most: MostShifts
    colour_axes: Axes
    harmonic_axes: Axes
    degree: int
    antialiased: bool
    moving: Moving | None = None

    def __len__(self) -> int:
        return len(self.places)


def shifts_of(classes: np.ndarray, most: int) -> np.ndarray:
    """Shifts uint8 [N] of a parameter by class, at most `most`."""
    return np.minimum(classes, most).astype(np.uint8)


def rotation_shifts(classes: np.ndarray, scales: np.ndarray, step: float, most: int) -> np.ndarray:
    """Shifts uint8 [N] of rotations: class and turn; the longer the longest scale beside the others, the finer.

    `scales` [N, 3] as values of their fine `step`.
    """
    excess = 3 * scales.astype(np.int64).max(1) - scales.astype(np.int64).sum(1)
    turn = np.clip(ROUND - (excess * turn_slope(step) >> 16), 0, MOST_TURN)
    return np.minimum(classes.astype(np.int64) + turn, most).astype(np.uint8)


def turn_slope(step: float) -> int:
    """65536ths of a turn for a fine step of scales."""
    return round(min(step, 1.0) * 65536 * TURN / math.log(2))


def dequantised(quantised: Quantised) -> Gaussians:
    """The Gaussians that quantised ones stand for."""
    q, steps, count = quantised, quantised.steps, len(quantised)
    harmonics = q.colour_axes.spread(q.colours, steps.colours).reshape(count, 1, 3)
    if q.degree:
        rest = q.harmonic_axes.spread(q.harmonics, steps.harmonics).reshape(count, COUNTS[q.degree] - 1, 3)
        harmonics = np.concatenate([harmonics, rest], 1)
    scales = np.clip(q.scales * steps.scales, -LARGEST_LOG, LARGEST_LOG)
    parts = (
        q.grid.means(q.places), scales, quaternions(q.rotations * steps.rotations),
        logits(np.maximum(q.opacities[:, 0], 0) * steps.opacities), harmonics,
    )  # fmt: skip
    motion = None if q.moving is None else torch.from_numpy(q.moving.motion().astype(np.float32))
    tensors = [torch.from_numpy(part.astype(np.float32)) for part in parts]
    return Gaussians(*tensors, antialiased=q.antialiased, motion=motion)


def quaternions(rotations: np.ndarray) -> np.ndarray:
    """Unit quaternions [N, 4] of xyz / (1 + w) [N, 3]."""
    x, y, z = rotations[:, 0], rotations[:, 1], rotations[:, 2]
    square = x * x + y * y + z * z
    return np.stack([1 - square, 2 * x, 2 * y, 2 * z], 1) / (1 + square)[:, None]


def logits(minus_log: np.ndarray) -> np.ndarray:
    """Logits of opacities from -ln(opacity) >= 0."""
    minus_log = np.minimum(minus_log, LARGEST_LOG)
    return -minus_log - _log(np.maximum(1 - exp_minus(minus_log), LEAST_TRANSPARENCY))


LN2 = 0.6931471805599453
_FACTORIALS = [1.0 / math.factorial(k) for k in range(15)]


def exp_minus(x: np.ndarray) -> np.ndarray:
    """exp(-x) of x >= 0: powers of two, and 15 terms of the series for the rest. libm's differs between machines."""
    whole = np.ceil(x / LN2)
    rest = whole * LN2 - x
    total = np.full_like(x, _FACTORIALS[14])
    for k in range(13, -1, -1):
        total = total * rest + _FACTORIALS[k]
    return np.ldexp(total, -whole.astype(np.int64))


def _log(x: np.ndarray) -> np.ndarray:
    """ln(x) of 0 < x <= 1: 2 artanh((m - 1) / (m + 1)) of its mantissa m by 14 terms, and its exponent."""
    mantissa, exponent = np.frexp(x)
    s = (mantissa - 1) / (mantissa + 1)
    square, total = s * s, np.full_like(x, 1.0 / 27)
    for k in range(25, 0, -2):
        total = total * square + 1.0 / k
    return 2 * s * total + exponent * LN2
