"""What follows the size of the pictures that a student is to show: how many numbers it has, and its steps.

Vocabulary
  side   of a model's pictures: that of a square of as many pixels, in pixels; the median of its cameras

A picture of twice the side shows detail of half the size. A grid of points has it where its cells are as small, a
network where it has as many more weights, and both learn it where they have seen as many more points.
"""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from neuralfields.cameras import Camera
from neuralfields.fields.field import Field
from neuralfields.fields.gaussians import GaussianField

USUAL_STEPS, USUAL_SIDE = 3000, 128.0  # steps for pictures of at most so many pixels a side
USUAL_POINTS, LARGE_POINTS, LARGE_SIDE = 0.68, 0.83, 180.0
MOST_DOUBLINGS = 1.5  # of the steps: beyond, time would be spent that --steps should ask for


def picture_side(cameras: Sequence[Camera]) -> float:
    """Side in pixels of a square with as many pixels as the cameras' pictures have, their median; 0 of no cameras."""
    return median(math.sqrt(camera.width * camera.height) for camera in cameras) if cameras else 0.0


def steps_for(kind: type[Field], side: float) -> int:
    """Steps of a student by default, for pictures of that side; Gaussians take what small ones do: they see whole
    pictures in a step.
    """
    if kind is GaussianField:
        return USUAL_STEPS
    doublings = math.log2(max(side, USUAL_SIDE) / USUAL_SIDE)
    return round(USUAL_STEPS * 2 ** min(doublings / 2, MOST_DOUBLINGS))


def points_for(side: float) -> float:
    """Fraction of a distillation's steps in which points are compared (Recipe.points).

    The fine texture of large pictures is learned from points: in as many steps, hash to triplane is 0.5 dB nearer to
    the chair at 400x400 by 0.90 in all than by 0.75, and by 0.37 it is 2.1 dB further away.
    """
    return LARGE_POINTS if side >= LARGE_SIDE else USUAL_POINTS


def settings_for(kind: type[Field], side: float) -> dict[str, Any]:
    """Settings of a student's Config for pictures of that side: `Field.FINER` of the largest side that they reach."""
    reached = [least for least in kind.FINER if side >= least]
    return kind.FINER[max(reached)] if reached else {}
