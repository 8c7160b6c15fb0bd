"""Camera layout of a capture: the common point of the optical axes, inward or forward or outward, the up direction.

Vocabulary
  optical axis  the line through a camera along its viewing direction
  point         the point of the world nearest to all optical axes, in least squares
  around        cameras look inward at a common point
  forward       cameras look the same way, as at a facade
  outward       cameras look in many directions, away from where they stand, as in a room
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from neuralfields.cameras import Camera, unit_vector
from neuralfields.scene import Bounds

Layout = Literal["around", "forward", "outward"]
FORWARD_SPREAD = 35.0  # degrees within which nine of ten optical axes lie in a forward-facing capture


@dataclass(frozen=True)
class Arrangement:
    """The camera layout: `point` [3]; `ahead`, the share of cameras with it in front; `miss`, the median angle in
    degrees between viewing direction and the point; `spread`, the 90th percentile of the angles to the mean direction.
    """

    layout: Layout
    point: np.ndarray
    ahead: float
    miss: float
    spread: float


def arrange(cameras: Sequence[Camera]) -> Arrangement:
    """Finds the common point of the optical axes and classifies the layout; needs one camera or more."""
    centres = np.stack([camera.centre for camera in cameras])
    forwards = np.stack([camera.forward for camera in cameras])
    point = nearest_point(centres, forwards)
    to_point = point - centres
    distance = np.maximum(np.linalg.norm(to_point, axis=1), 1e-12)
    cosine = np.einsum("nd,nd->n", to_point, forwards) / distance
    spread = direction_spread(forwards)
    miss = float(np.median(np.degrees(np.arccos(np.clip(cosine, -1, 1)))))
    ahead = float(np.mean(cosine > 0))
    layout: Layout = "outward"
    if spread < FORWARD_SPREAD:
        layout = "forward"
    elif ahead >= 0.7 and miss < 35.0:
        layout = "around"
    return Arrangement(layout, point, ahead, miss, spread)


def nearest_point(centres: np.ndarray, forwards: np.ndarray) -> np.ndarray:
    """The point nearest to all optical axes: argmin_p sum_i w_i |(I - f_i f_i^T)(p - c_i)|^2, [3].

    Five rounds of iteratively reweighted least squares (weights 1 / distance) keep outlier cameras from dragging it.
    Along a direction that the axes leave undetermined (all parallel) it stays beside the mean camera.
    """
    across = np.eye(3) - forwards[:, :, None] * forwards[:, None, :]
    origin = centres.mean(axis=0)
    local = centres - origin
    size = max(float(np.abs(local).max()), 1e-9)
    weights = np.ones(len(centres))
    point = np.zeros(3)
    for _ in range(5):
        matrix = np.einsum("n,nij->ij", weights, across)
        right = np.einsum("n,nij,nj->i", weights, across, local)
        point = np.linalg.pinv(matrix, rcond=1e-6, hermitian=True) @ right
        miss = np.linalg.norm(np.einsum("nij,nj->ni", across, point - local), axis=1)
        weights = 1.0 / np.maximum(miss, 1e-3 * size)
        weights /= weights.max()
    return point + origin


def common_up(cameras: list[Camera]) -> np.ndarray:
    """Estimates the world's up direction from the cameras, unit [3].

    It starts as the mean of the cameras' -y axes. A camera that is held level has its x axis at right angles to up, so
    up is then refined as the smallest eigenvector of the sum of x x^T, rolled cameras weighing less, held near its
    start where the x axes say little. Photos stored sideways (x axes agree, y axes do not) count by their x axes;
    cameras that look down decide between x and -x, and x is taken if they look level.
    """
    x, down, forward = (np.stack([c.world_from_camera[:3, axis] for c in cameras]) for axis in range(3))
    level, up = x, -down.mean(0)
    if np.linalg.norm(x.mean(0)) > np.linalg.norm(up) + 0.3:
        level, up = down, x.mean(0)
        up = -up if float((forward @ unit_vector(up)).mean()) > 0.15 else up
    if np.linalg.norm(up) < 0.05:  # cameras that look straight down, all ways round
        up = -forward.mean(0)
    up = unit_vector(up) if np.linalg.norm(up) > 1e-6 else -down[0]
    for _ in range(6):
        weight = 1.0 / (1.0 + ((level @ up) / 0.15) ** 2)
        scatter = (level * weight[:, None]).T @ level / weight.sum() + 0.05 * (np.eye(3) - np.outer(up, up))
        refined = np.linalg.eigh(scatter)[1][:, 0]
        up = refined if refined @ up >= 0 else -refined
    return up


def focus_point(cameras: list[Camera], bounds: Bounds) -> np.ndarray:
    """The point nearest to all optical axes [3]; the centre of the bounds if the axes do not meet in front.

    Minimises the sum of |(I - f f^T)(p - c)|^2, with a weak pull to the centre of the bounds for parallel axes.
    """
    forward, centre = np.stack([c.forward for c in cameras]), np.stack([c.centre for c in cameras])
    away = np.eye(3) - forward[:, :, None] * forward[:, None, :]
    pull, middle = 1e-3, np.asarray(bounds.centre, dtype=np.float64)
    right = np.einsum("nij,nj->i", away, centre) / len(cameras) + pull * middle
    point = np.linalg.solve(away.mean(0) + pull * np.eye(3), right)
    in_front = ((point - centre) * forward).sum(1) > 0
    return point if in_front.mean() >= 0.8 else middle


def is_forward_facing(cameras: Sequence[Camera]) -> bool:
    """Whether a capture is forward-facing: nine of ten cameras look within 35 degrees of their mean direction."""
    return direction_spread(np.stack([camera.forward for camera in cameras])) <= FORWARD_SPREAD


def direction_spread(forwards: np.ndarray) -> float:
    """The 90th percentile of the angles between directions [N, 3] and their mean, in degrees."""
    mean = forwards.mean(axis=0)
    cosine = forwards @ mean / max(float(np.linalg.norm(mean)), 1e-12)
    return float(np.percentile(np.degrees(np.arccos(np.clip(cosine, -1, 1))), 90))
