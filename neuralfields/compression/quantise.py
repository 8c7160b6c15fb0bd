"""Chooses the whole numbers that stand for Gaussians at given steps; what is chosen here the decoder need not know.

Classes: a Gaussian's errors count by the pixels that it fills, its importance W (sum of blending weights in pictures).
At a given size the file is best where W step^2 is equal, so that steps grow with 1 / sqrt(W): a class doubles them.
"""

import itertools
import math
from dataclasses import dataclass, fields, replace

import numpy as np
from torch import Tensor

from neuralfields.cameras import quaternion
from neuralfields.compression.coder import LARGEST, MOST_SHIFT, align, nearest_before
from neuralfields.compression.grid import Grid, fit_grid, morton
from neuralfields.compression.quantised import (
    AXIS,
    LIFETIME,
    MOST_CLASS,
    OCTAVE,
    Axes,
    MostShifts,
    Moving,
    Quantised,
    Steps,
    path_shifts,
    quaternions,
    rotation_shifts,
    shifts_of,
)
from neuralfields.errors import InputError
from neuralfields.gaussians import Gaussians
from neuralfields.motion import PATH, POWERS, TURN

IMPORTANT = 0.98  # quantile of the importance at which the classes begin
LEAST_OPACITY = 1e-4
DEAD_ZONE = 0.4  # a harmonic is rounded up from 0.6 of a step: zeros are the cheapest
# The coarsest steps, however unimportant a Gaussian is: beyond them it would be seen where it was not before.
COARSEST = Steps(scales=0.5, rotations=0.5, opacities=0.7, colours=1.0, harmonics=1.0)
PATH_STEP, TURN_STEP = 2.0, 4.0  # of a path and a turn, in steps of places and rotations
WORTH = 1e-3  # share of the Gaussians that a harmonic's axis must serve


@dataclass(frozen=True)
class Settings:
    """Steps of a quantisation: `places` in world units at the scene's middle, the others fine ones of class 0."""

    places: float
    scales: float
    rotations: float
    opacities: float
    colours: float
    harmonics: float

    def placed(self, step: float) -> "Settings":
        """The same with another step of places."""
        return replace(self, places=step)

    def times(self, factor: float) -> "Settings":
        """All steps larger by a factor."""
        return replace(self, **{f.name: getattr(self, f.name) * factor for f in fields(self)})


def axis_turns() -> tuple[np.ndarray, np.ndarray]:
    """The 24 quaternions [24, 4] that take axes to axes, and which axis each one puts first, second, third [24, 3]."""
    turns, orders = [], []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[list(order), range(3)] = signs
            if np.linalg.det(matrix) > 0:
                turns.append(quaternion(matrix))
                orders.append(order)
    return np.array(turns), np.array(orders)


@dataclass(frozen=True)
class Placed:
    """Gaussians in the order of a grid, their rotations and scales as their neighbours have them by `turns` [N, 4]."""

    grid: Grid
    order: np.ndarray
    places: np.ndarray
    scales: np.ndarray
    rotations: np.ndarray
    turns: np.ndarray


def arranged(means: np.ndarray, scales: np.ndarray, rotations: np.ndarray, step: float) -> Placed:
    """Gaussians in Morton order of a grid of cells of `step`; unit quaternions [N, 4] described as near ones are."""
    grid, places = fit_grid(means, step)
    order = np.argsort(morton(places), kind="stable")
    places = np.ascontiguousarray(places[order])
    turns, axes = axis_turns()
    found, chosen = align(rotations[order], turns, nearest_before(places))
    return Placed(grid, order, places, np.take_along_axis(scales[order], axes[chosen], 1), found, turns[chosen])


class Quantiser:
    """Quantises one set of Gaussians with any steps; `importance` [N] decides the classes, None puts all in class 0."""

    def __init__(self, gaussians: Gaussians, importance: np.ndarray | None) -> None:
        count = len(gaussians)
        self.degree, self.antialiased = gaussians.degree, gaussians.antialiased
        self.means, self.scales = (_array(part) for part in (gaussians.means, gaussians.scales))
        rotations = _array(gaussians.rotations)
        lengths = np.linalg.norm(rotations, axis=1, keepdims=True)
        self.rotations = rotations / lengths
        self.motion = None if gaussians.motion is None else _array(gaussians.motion)
        if self.motion is not None:
            self.motion[:, TURN] /= lengths
        opacity = 1 / (1 + np.exp(-_array(gaussians.opacities)))
        self.opacities = -np.log(np.clip(opacity, LEAST_OPACITY, 1))[:, None]
        harmonics = _array(gaussians.harmonics)
        self.classes = np.zeros(count, np.uint8) if importance is None else classes_of(importance)
        weight = np.ones(count) if importance is None else importance + 1e-3 * float(importance.mean()) + 1e-12
        self.colours, self.harmonics = harmonics[:, 0], harmonics[:, 1:].reshape(count, -1)
        self.colour_axes, self.harmonic_axes = _axes(self.colours, weight), _axes(self.harmonics, weight)
        self._placed: tuple[float, Placed] | None = None

    def __len__(self) -> int:
        return len(self.means)

    def placed(self, grid: Grid) -> "Placed":
        """Order, scales and rotations of the quantisation in this grid."""
        placed = self._place(grid.step)
        if placed.grid != grid:
            raise ValueError(f"a step of {grid.step} leads to another grid")
        return placed

    def _place(self, step: float) -> Placed:
        if self._placed is None or self._placed[0] != step:
            self._placed = step, arranged(self.means, self.scales, self.rotations, step)
        return self._placed[1]

    def quantise(self, settings: Settings) -> Quantised:
        """The whole numbers at these steps. Raises InputError where they are too many for the steps."""
        placed, s = self._place(settings.places), settings
        order, classes = placed.order, self.classes[placed.order]
        steps = Steps(s.scales, s.rotations, s.opacities, s.colours, s.harmonics)
        most = most_shifts(steps)
        scales = rounded(placed.scales, s.scales, shifts_of(classes, most.scales))
        turned = rotation_shifts(classes, scales, s.scales, most.rotations)
        colours = along(self.colours, self.colour_axes)[order]
        harmonics, axes = self._harmonics(s.harmonics, order, shifts_of(classes, most.harmonics))
        return Quantised(
            grid=placed.grid,
            places=placed.places,
            classes=classes,
            scales=scales,
            rotations=rounded(placed.rotations, s.rotations, turned),
            opacities=rounded(self.opacities[order], s.opacities, shifts_of(classes, most.opacities)),
            colours=rounded(colours, s.colours, shifts_of(classes, most.colours)),
            harmonics=harmonics,
            steps=steps,
            most=most,
            colour_axes=self.colour_axes,
            harmonic_axes=axes,
            degree=self.degree,
            antialiased=self.antialiased,
            moving=self._moving(placed, settings),
        )

    def _moving(self, placed: Placed, settings: Settings) -> Moving | None:
        """The motion at these steps, in the order of the grid."""
        if self.motion is None:
            return None
        motion, classes = self.motion[placed.order], self.classes[placed.order]
        none, path, turn = np.zeros(len(motion), np.uint8), PATH_STEP * settings.places, TURN_STEP * settings.rotations
        lives = rounded(motion[:, :2] / [LIFETIME, OCTAVE], 1.0, none)
        paths = [
            rounded(motion[:, PATH][:, 3 * k : 3 * k + 3], path, path_shifts(classes, lives, k + 1))
            for k in range(POWERS)
        ]
        unit = quaternions(placed.rotations)
        same = np.sign((quaternion_product(self.rotations[placed.order], placed.turns) * unit).sum(1, keepdims=True))
        turns = same * quaternion_product(motion[:, TURN], placed.turns)
        return Moving(lives, tuple(paths), rounded(turns, turn, path_shifts(classes, lives, 1)), path, turn)

    def _harmonics(self, step: float, order: np.ndarray, shifts: np.ndarray) -> tuple[np.ndarray, Axes]:
        """Values along the axes that are worth their bytes, strongest first."""
        values = rounded(along(self.harmonics, self.harmonic_axes)[order], step, shifts, DEAD_ZONE)
        used = np.flatnonzero((values != 0).mean(0) > WORTH) if values.shape[1] else np.empty(0, np.int64)
        many = int(used[-1]) + 1 if len(used) else 0
        axes = Axes(self.harmonic_axes.mean, self.harmonic_axes.axes[:many])
        if 0 < many < values.shape[1]:  # axes of 8 bits are not quite orthogonal
            values = rounded(along(self.harmonics, axes)[order], step, shifts, DEAD_ZONE)
        return np.ascontiguousarray(values[:, :many]), axes


def quaternion_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Products [N, 4] of quaternions w, x, y, z: first b, then a."""
    (aw, ax, ay, az), (bw, bx, by, bz) = a.T, b.T
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        1,
    )


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy().astype(np.float64)


def most_shifts(steps: Steps) -> MostShifts:
    """The largest shifts at which no step is coarser than COARSEST."""
    limits = {f.name: math.log2(getattr(COARSEST, f.name) / getattr(steps, f.name)) for f in fields(Steps)}
    return MostShifts(**{name: min(max(math.floor(limit), 0), MOST_SHIFT) for name, limit in limits.items()})


def classes_of(importance: np.ndarray) -> np.ndarray:
    """Classes uint8 [N] of importances [N]: one more for each quarter of the importance."""
    top = max(float(np.quantile(importance, IMPORTANT)), 1e-12)
    ratio = top / np.maximum(importance, top * 4.0**-MOST_CLASS)
    return np.clip(np.rint(0.5 * np.log2(ratio)), 0, MOST_CLASS).astype(np.uint8)


def _axes(values: np.ndarray, weight: np.ndarray) -> Axes:
    """Principal axes of weighted values [N, D], strongest first, their numbers in 127ths."""
    width = values.shape[1]
    if not width:
        return Axes(np.empty(0, np.float32), np.empty((0, 0), np.int8))
    mean = np.average(values, axis=0, weights=weight).astype(np.float32)
    off = values - mean
    _, vectors = np.linalg.eigh((off * weight[:, None]).T @ off)
    return Axes(mean, np.rint(vectors.T[::-1] * AXIS).astype(np.int8))


def along(values: np.ndarray, axes: Axes) -> np.ndarray:
    """Coefficients [N, m] of values [N, D] that come nearest to them."""
    if not axes.axes.size:
        return np.zeros((len(values), 0))
    return (values - axes.mean) @ np.linalg.pinv(axes.axes.astype(np.float64) / AXIS)


def rounded(values: np.ndarray, step: float, shifts: np.ndarray, up: float = 0.5) -> np.ndarray:
    """Values [N, C] in fine steps, each a multiple of its row's own step; rounded up from 1 - `up`."""
    own = shifts.astype(np.int64)[:, None]
    whole = np.floor(np.abs(values) / np.ldexp(step, own) + up) * np.sign(values)
    most = LARGEST >> own
    if len(values) and bool((np.abs(whole) > most).any()):
        raise InputError(
            f"values up to {np.abs(values).max():.3g} in steps of {step:.3g} do not fit; ask for less quality"
        )
    return (whole.astype(np.int64) << own).astype(np.int32)
