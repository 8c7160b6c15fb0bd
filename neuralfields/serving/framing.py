"""Home view of Gaussians: an eye from which the whole of them is seen, whatever the shape of the picture.

Of `SIDES` directions around the vertical that one is taken from which most detail is seen (edges of a small picture):
a wall is seen from its front. The usual one has the `BONUS` on its side.

Vocabulary
  weight   of a Gaussian: opacity times its mean standard deviation, at most that of `COMMON` of all others
  core     box along the view's axes from the 5th to the 95th percentile by weight: sky, haze and strays do not count
  extent   (left, right, top, bottom) of what is seen on the plane z = 1; the page fits it into any window
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from neuralfields.cameras import Camera, look_at
from neuralfields.gaussians import Gaussians
from neuralfields.rays import Render
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.splat import Splats
from neuralfields.scene import Bounds
from neuralfields.serving.crop import Box

SHARES = (0.05, 0.95)
COMMON = 0.75  # quantile of sizes beyond which a Gaussian weighs no more: a few huge ones are the background
LARGE = 0.95  # and beyond which it is not seen farther
GROWN, TIMES = 0.5, 2  # of the core's sides, to either side: what lies within belongs to the scene; done twice
LEAST_OPACITY = 0.1
MARGIN = 1.06
MOST = 100_000  # Gaussians that are looked at, evenly taken
FOV = 45.0  # degrees
SIDES, BONUS = 8, 1.25
RATIO = 4.0  # between the sides of cubes beyond which two scenes are of different worlds
SMALL = 96  # pixels of the pictures that are compared

Rendering = Callable[[Camera, Colour, Box | None], Render]
Extent = tuple[float, float, float, float]
Home = tuple[np.ndarray, Extent, np.ndarray]


def home_view(splats: Splats, away: np.ndarray, up: np.ndarray) -> Home:
    """Pose, extent and pivot as of `framed`, from that side which shows most; `away` is the usual one."""
    few = replace(splats, gaussians=splats.gaussians.take(slice(None, None, -(-max(1, len(splats.gaussians)) // MOST))))
    best, most = framed(few.gaussians, away, up), -1.0
    for turn in range(SIDES):
        angle = 2 * math.pi * turn / SIDES
        side = away * math.cos(angle) + np.cross(up, away) * math.sin(angle) + up * (up @ away) * (1 - math.cos(angle))
        view = framed(few.gaussians, side, up)
        detail = _detail(few, view) * (1.0 if turn else BONUS)
        best, most = (view, detail) if detail > most else (best, most)
    return best


def camera_of(home: Home, side: int) -> Camera:
    """A pinhole that sees a view's extent, the same to either side of its axis; its longer side has `side` pixels."""
    pose, (left, right, top, bottom), _ = home
    right, bottom = max(-left, right), max(-top, bottom)
    scale = side / max(right, bottom)
    width, height = max(8, round(scale * right)), max(8, round(scale * bottom))
    return Camera(pose, width, height, width / 2 / right, height / 2 / bottom, width / 2, height / 2)


def same_place(render: Rendering, own: Bounds, page: Bounds) -> tuple[Rendering, bool] | None:
    """A renderer that shows a scene where the page's is, and whether it had to be made as large; None: it is there.

    Scenes of one world that count from different origins are moved; one whose inner cube is elsewhere, or of a quite
    different size, is seen as if its cube were the page's. Depth is in units of the page.
    """
    middle, here = (np.add(bounds.centre, bounds.origin) for bounds in (own, page))
    ratio = own.side / page.side
    apart = np.linalg.norm(middle - here) > 0.5 * (own.side + page.side) or not 1 / RATIO < ratio < RATIO
    scale = ratio if apart else 1.0
    shift = np.subtract(own.centre, np.multiply(page.centre, scale)) if apart else np.subtract(page.origin, own.origin)
    if not apart and np.abs(shift).max() <= 1e-9 * page.side:
        return None

    def seen(camera: Camera, background: Colour, box: Box | None) -> Render:
        pose = camera.world_from_camera.copy()
        pose[:3, 3] = pose[:3, 3] * scale + shift
        moved = box and tuple(tuple(float(v) for v in np.multiply(corner, scale) + shift) for corner in box)
        found = render(replace(camera, world_from_camera=pose), background, moved)
        return replace(found, depth=found.depth / scale)

    return seen, bool(apart)


def _detail(splats: Splats, view: Home) -> float:
    """Mean difference between neighbouring pixels of a small picture, those of opacity left out."""
    seen = splats.render(camera_of(view, SMALL), (0.5, 0.5, 0.5))
    solid = seen.opacity[1:, 1:] * seen.opacity[:-1, :-1]
    across, down = seen.rgb.diff(dim=1)[1:].abs(), seen.rgb.diff(dim=0)[:, 1:].abs()
    return float(((across + down).mean(2) * solid).mean())


def framed(gaussians: Gaussians, away: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, Extent, np.ndarray]:
    """Pose [4, 4] (world from camera, OpenCV axes), extent and pivot [3] of a view from the direction `away`."""
    means, weight, opacity, radius = _looked_at(gaussians)
    axes = look_at(away, np.zeros(3), up)[:3, :3]  # columns: right, down, forward
    local = means @ axes
    low, high = (np.array([_percentile(local[:, k], weight, share) for k in range(3)]) for share in SHARES)
    for _ in range(TIMES):
        side = np.maximum(high - low, 1e-6 * max(1.0, float(np.abs(high).max())))
        within = ((local >= low - GROWN * side) & (local <= high + GROWN * side)).all(1)
        solid = within & (opacity >= LEAST_OPACITY)
        seen = solid if solid.any() else within
        low, high = local[seen].min(0), local[seen].max(0)
    local, radius = local[seen], radius[seen]
    middle = ((local - radius).min(0) + (local + radius).max(0)) / 2
    off = local - middle
    reach = np.abs(off[:, :2]) + radius
    tangent = math.tan(math.radians(FOV / 2))
    distance = float(np.max(reach / tangent - off[:, 2:], initial=float(side.max()) * 0.1)) * MARGIN
    across, down = np.max(reach / (distance + off[:, 2:]), axis=0, initial=1e-3) * MARGIN
    pivot = axes @ middle
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = axes, pivot - distance * axes[:, 2]
    return pose, (-float(across), float(across), -float(down), float(down)), pivot


def _looked_at(gaussians: Gaussians) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means [N, 3], weights and opacities [N], and how far they are seen [N, 1]: two standard deviations."""
    few = gaussians.to("cpu")
    size, opacity = few.scales.exp().mean(1).double(), few.opacity().double()
    common, most = torch.quantile(size, torch.tensor([COMMON, LARGE], dtype=size.dtype)).tolist()
    weight, radius = opacity * size.clamp(max=common), 2 * size.clamp(max=most)
    return few.means.double().numpy(), weight.numpy(), opacity.numpy(), radius.numpy()[:, None]


def _percentile(values: np.ndarray, weight: np.ndarray, share: float) -> float:
    """The value below which a share of all weight lies."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weight[order])
    return float(values[order[min(int(np.searchsorted(total, share * total[-1])), len(order) - 1)]])
