"""Motion and lifetime of Gaussians in a scene that moves, and the still Gaussians of one moment.

  dt         = t - centre
  fade       = -(dt / duration)^2                      logarithm of what is left of the opacity
  opacity(t) = opacity exp(fade)
  mean(t)    = mean + path_1 dt + path_2 dt^2 + path_3 dt^3
  rotation(t) = rotation + turn dt                     a quaternion of any length, normalised where it is used
(Li et al., "Spacetime Gaussian Feature Splatting", CVPR 2024, arXiv:2312.16812, Eq. 5 to 8; colours do not change.)

Vocabulary
  N        Gaussians
  moment   t in [0, 1], from the first to the last of the scene's times (scene.Bounds.times)
  motion   [N, 15]: centre; natural logarithm of the duration; path [3, 3], world units a moment to the power of its
           degree; turn [4]
What stands still has no path, no turn, and a duration of many times the scene's.
"""

import math

import torch
from torch import Tensor

from neuralfields.options.training import PHOTOS_OF_A_MOMENT

MOTION = 15
CENTRE, DURATION, PATH, TURN = 0, 1, slice(2, 11), slice(11, 15)
POWERS = 3
FOR_EVER = math.log(32.0)  # duration of what is always there: its opacity changes by a thousandth
LARGEST_OPACITY = 40.0  # logit beyond which exp in float32 overflows in a product
SHORTEST = math.log(1e-3)
OF_A_GAP = 0.75  # the least duration, in largest gaps between photos


def motionless(count: int, like: Tensor) -> Tensor:
    """The motion [N, 15] of what stands still for ever."""
    motion = like.new_zeros(count, MOTION)
    motion[:, CENTRE], motion[:, DURATION] = 0.5, FOR_EVER
    return motion


def fade(motion: Tensor, moment: float) -> Tensor:
    """Logarithm of what is left of each opacity at a moment, [N], at most 0."""
    return -((moment - motion[:, CENTRE]) * torch.exp(-motion[:, DURATION])).square()


def moved_means(means: Tensor, motion: Tensor, moment: float) -> Tensor:
    """Means [N, 3] at a moment."""
    dt = (moment - motion[:, CENTRE])[:, None]
    one, two, three = motion[:, PATH].unflatten(1, (POWERS, 3)).unbind(1)
    return means + dt * (one + dt * (two + dt * three))


def turned(rotations: Tensor, motion: Tensor, moment: float) -> Tensor:
    """Quaternions [N, 4] at a moment, of any length."""
    return rotations + (moment - motion[:, CENTRE])[:, None] * motion[:, TURN]


def faded(opacities: Tensor, motion: Tensor, moment: float) -> Tensor:
    """Logits [N] of the opacities at a moment: logit(sigmoid(o) T) = o + log T - log(1 + e^o (1 - T))."""
    log_left = fade(motion, moment)
    held = opacities.clamp(max=LARGEST_OPACITY)
    return held + log_left - torch.log1p(held.exp() * -torch.expm1(log_left))


def briefest(moments: Tensor, photos: float = PHOTOS_OF_A_MOMENT) -> float:
    """Logarithm of the least duration of a fit to photos of these moments [N] in [0, 1].

    Half way through the largest gap between them one of either side is left at over a half; and it is no less than
    `photos` of them take on average, so that cameras that film together, which see a moment from many sides, allow for
    less.
    """
    ordered = moments.unique()
    gap = float((ordered[1:] - ordered[:-1]).max()) if len(ordered) > 1 else 0.0
    least = max(OF_A_GAP * gap, photos / len(moments) if gap else 0.0, 1e-12)
    return min(max(math.log(least), SHORTEST), 0.0)
