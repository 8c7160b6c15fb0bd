"""Scene bounds: the inner cube, the number of cascades around it, and the near distance.

Vocabulary
  layout        around, forward or outward, see arrangement.py
  reach         largest distance along any world axis (L-infinity), because the inner cube is axis-aligned
  common part   of the frusta: the ball about the common point that every camera sees whole
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuralfields.cameras import Camera, project
from neuralfields.captures.arrangement import Arrangement, arrange
from neuralfields.scene import Bounds

BLENDER_SIDE = 3.0  # instant-ngp trains the synthetic scenes in [-1.5, 1.5]^3
NGP_SCALE, NGP_OFFSET = 0.33, 0.5
MARGIN = 1.1
MOST_CASCADES, FEWEST_CASCADES = 7, 4
NEAR_SHARE = 0.02
NEAR_GAP = 0.25  # of the way from the nearest camera to the inner cube: nothing is sampled before
FEWEST_POINTS = 100
MOST_POINTS, MOST_CAMERAS = 20_000, 60


@dataclass(frozen=True)
class Hints:
    """Bounds stated by a capture: instant-ngp's `aabb_scale`, `scale` and `offset` [3] (unit cube = scale x + offset),
    and the `near` and `far` depths of its content in world units; None if it states none.
    """

    aabb_scale: float | None = None
    scale: float | None = None
    offset: tuple[float, float, float] | None = None
    near: float | None = None
    far: float | None = None


def points_in_view(camera: Camera, points: np.ndarray) -> np.ndarray:
    """Whether each of `points` [P, 3] projects into the image, bool [P]."""
    found = _about_in_view(camera, points)  # most are not, and the lens takes longer than this
    found[found] = _inside(camera, project(camera, points[found])[0])
    return found


def _about_in_view(camera: Camera, points: np.ndarray) -> np.ndarray:
    """Which points lie before a camera and, of a perspective one, in the pyramid about its image, bool [P].

    Far outside the image a lens polynomial folds back; such points only seem to be inside.
    """
    x, y, depth = ((points - camera.centre) @ camera.world_from_camera[:3, :3]).T
    if camera.model != "perspective":
        return depth > 0
    limit_x = 1.5 * max(camera.cx, camera.width - camera.cx) / camera.fx
    limit_y = 1.5 * max(camera.cy, camera.height - camera.cy) / camera.fy
    return (depth > 0) & (np.abs(x) <= limit_x * depth) & (np.abs(y) <= limit_y * depth)


def count_views(cameras: Sequence[Camera], points: np.ndarray, enough: int) -> np.ndarray:
    """How many cameras have each of `points` [P, 3] in their image, counted to `enough`, int64 [P]."""
    count, left = np.zeros(len(points), dtype=np.int64), np.arange(len(points))
    for camera in cameras:
        count[left] += points_in_view(camera, points[left])
        left = left[count[left] < enough]
        if not len(left):
            break
    return count


def in_view(camera: Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which points project into the image, and the pixels [P, 2] and depths [P] of all of them."""
    pixels, depth = project(camera, points)
    return _inside(camera, pixels) & _about_in_view(camera, points), pixels, depth


def _inside(camera: Camera, pixels: np.ndarray) -> np.ndarray:
    x, y = pixels.T
    return (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)


def estimate_bounds(cameras: Sequence[Camera], points: np.ndarray | None, kind: str, hints: Hints = Hints()) -> Bounds:
    """Estimates the scene's bounds from its format's conventions, its cameras, and sparse points [P, 3] if any.

    Blender scenes and instant-ngp scenes with an aabb_scale are boxes as their authors meant them; everything else is
    unbounded: an inner cube with the outside contracted into it, reaching at most 64 sides.
    """
    return find_bounds(cameras, points, kind, hints)[0]


def find_bounds(
    cameras: Sequence[Camera], points: np.ndarray | None, kind: str, hints: Hints = Hints()
) -> tuple[Bounds, str]:
    """The bounds of `estimate_bounds`, and in words what the inner cube follows."""
    if kind == "transforms/blender":
        return _blender(cameras)
    if hints.aabb_scale is not None:
        return _instant_ngp(hints), f"the file's aabb_scale of {hints.aabb_scale:g}"
    arrangement = arrange(cameras)
    seen = None if points is None else _seen(cameras, points)
    if seen is not None and len(seen.depths) < FEWEST_POINTS:
        seen = None
    centre, half, why = _INNER[arrangement.layout](cameras, arrangement, seen, hints)
    half = max(half, 1e-6)
    near = NEAR_SHARE * 2 * half
    if seen is not None:
        near = 0.5 * float(np.percentile(seen.depths, 0.5))
    elif hints.near is not None:
        near = 0.9 * hints.near
    if arrangement.layout != "forward":
        near = min(near, 0.1 * 2 * half)  # sparse points miss textureless surfaces, such as the ground nearby
    return around_cube(cameras, centre, half, near, 0.0 if seen is None else seen.reach(centre)), why


def around_cube(
    cameras: Sequence[Camera], centre: np.ndarray, half: float, near: float | None = None, far: float = 0.0
) -> Bounds:
    """Bounds of an inner cube with the outside contracted into it, that hold all cameras and content up to `far`.

    `near`. Default: a part of the way from the nearest camera to the cube.
    """
    if near is None:
        near = max(NEAR_SHARE * 2 * half, NEAR_GAP * _gap(cameras, centre, half))
    cascades = _cascades(cameras, centre, half, far)
    return Bounds(tuple(float(v) for v in centre), 2 * half, cascades, "cube", near)


def _gap(cameras: Sequence[Camera], centre: np.ndarray, half: float) -> float:
    """Distance from the cube to the nearest camera, the nearest twentieth of the cameras left out."""
    away = np.maximum(np.abs(np.stack([camera.centre for camera in cameras]) - centre) - half, 0.0)
    return float(np.percentile(np.linalg.norm(away, axis=1), 5))


def _cascades(cameras: Sequence[Camera], centre: np.ndarray, half: float, far: float) -> int:
    """Number of cascades (doublings) that hold all cameras, and the sparse points if any; `far` 0 means unknown."""
    reach = max(float(np.abs(camera.centre - centre).max()) for camera in cameras)
    wanted = MOST_CASCADES if far == 0.0 else 1 + int(np.ceil(np.log2(max(far / half, 1.0))))
    holding = 1 + int(np.ceil(np.log2(max(reach / half, 1.0))))
    return max(min(max(wanted, holding), MOST_CASCADES), FEWEST_CASCADES)


def _blender(cameras: Sequence[Camera]) -> tuple[Bounds, str]:
    """[-1.5, 1.5]^3, unless the cameras clearly frame a scene of another size or position."""
    arrangement = arrange(cameras)
    distance = np.array([np.linalg.norm(camera.centre - arrangement.point) for camera in cameras])
    widths = [d * max(c.width / c.fx, c.height / c.fy) for d, c in zip(distance, cameras, strict=True)]
    width = float(np.median(widths))
    usual = BLENDER_SIDE / 4 < width < BLENDER_SIDE * 2 and np.abs(arrangement.point).max() < BLENDER_SIDE / 4
    if usual or arrangement.layout != "around":
        return Bounds((0.0, 0.0, 0.0), BLENDER_SIDE), "the usual cube of Blender's synthetic scenes"
    return Bounds(tuple(float(v) for v in arrangement.point), MARGIN * width), "what the cameras see together"


def _instant_ngp(hints: Hints) -> Bounds:
    """instant-ngp's unit cube in the file's axes: it maps x to scale x + offset, and cycles the axes after that."""
    scale = hints.scale if hints.scale is not None else NGP_SCALE
    offset = hints.offset if hints.offset is not None else (NGP_OFFSET,) * 3
    centre = tuple((0.5 - o) / scale for o in offset)
    cascades = 1 + int(np.ceil(np.log2(max(hints.aabb_scale or 1.0, 1.0))))
    return Bounds(centre, 1 / scale, cascades, "box", NEAR_SHARE / scale)


@dataclass(frozen=True)
class _Seen:
    """Points in the view of some camera, [P, 3], and the pooled depths of points in all views, [n]."""

    points: np.ndarray
    depths: np.ndarray

    def reach(self, centre: np.ndarray) -> float:
        """Twice the reach of nearly all points from a centre."""
        return 2 * float(np.percentile(np.abs(self.points - centre).max(axis=1), 99.5))


def _seen(cameras: Sequence[Camera], points: np.ndarray) -> _Seen:
    chosen = points[:: max(1, len(points) // MOST_POINTS)].astype(np.float64)
    hit = np.zeros(len(chosen), dtype=bool)
    depths = [np.zeros(0)]
    for camera in cameras[:: max(1, -(-len(cameras) // MOST_CAMERAS))]:
        inside = points_in_view(camera, chosen)
        depths.append((chosen[inside] - camera.centre) @ camera.forward)
        hit |= inside
    return _Seen(chosen[hit], np.concatenate(depths))


Inner = tuple[np.ndarray, float, str]  # centre, half side, what they follow


def _around(cameras: Sequence[Camera], arrangement: Arrangement, seen: _Seen | None, hints: Hints) -> Inner:
    """Centre on the common point; all cameras inside, except outliers more than three times as far as most.

    What the cameras see together is smaller, and better only where nothing else counts (see `common_cube`).
    """
    return arrangement.point, MARGIN * _reach(cameras, arrangement.point), "the cameras, which it holds"


def _reach(cameras: Sequence[Camera], point: np.ndarray) -> float:
    """Reach of the cameras from a point; those more than three times as far as most do not count."""
    reach = np.array([np.abs(camera.centre - point).max() for camera in cameras])
    return float(reach[reach <= 3 * np.median(reach)].max())


def common_cube(cameras: Sequence[Camera]) -> tuple[np.ndarray, float]:
    """Centre and half side of what cameras that look inward see together: where an object is looked for.

    The common part of the frusta about the common point: half side = tangent of half the field of view x distance to
    the point, of the median camera, and no more than holds the cameras.
    """
    point = arrange(cameras).point
    tangents = [max(c.width / c.fx, c.height / c.fy) / 2 for c in cameras]
    common = [t * np.linalg.norm(c.centre - point) for t, c in zip(tangents, cameras, strict=True)]
    return point, MARGIN * min(float(np.median(common)), _reach(cameras, point))


def _forward(cameras: Sequence[Camera], arrangement: Arrangement, seen: _Seen | None, hints: Hints) -> Inner:
    """Centre in the middle of the content's depth range; near, central content is inside."""
    middle = np.mean([camera.centre for camera in cameras], axis=0)
    axis = np.mean([camera.forward for camera in cameras], axis=0)
    axis /= np.linalg.norm(axis)
    if seen is not None:
        depth = (seen.points - middle) @ axis
        low, high = np.percentile(depth, [2, 90])
        # A far background must not dominate the cube: the harmonic mean favours near content, which shows parallax.
        low, high = max(low, 0.0), min(high, 3 / float(np.mean(1 / depth[depth > 0])))
        inner = seen.points[(depth >= low) & (depth <= high)]
        aside = np.median(inner - middle, axis=0)
        aside -= (aside @ axis) * axis
        centre = middle + 0.5 * (low + high) * axis + aside
        return centre, MARGIN * float(np.percentile(np.abs(inner - centre).max(axis=1), 90)), "the nearer sparse points"
    reach = max(float(np.abs(camera.centre - middle).max()) for camera in cameras)
    if hints.near is not None and hints.far is not None:
        low, high = hints.near, min(hints.far, 6 * hints.near)
        depth = 0.5 * (low + high)
        tangent = np.median([max(c.width / c.fx, c.height / c.fy) for c in cameras]) / 2
        return middle + depth * axis, MARGIN * max(0.5 * (high - low), tangent * depth, reach), "the file's depths"
    depth = float((arrangement.point - middle) @ axis)
    if not 2 * reach < depth < 50 * reach:  # the axes are too parallel for a depth; scenes are a few baselines away
        depth = 5 * reach if reach > 0 else 1.0
    return middle + depth * axis, MARGIN * max(depth, reach), "where the cameras look, and how far they are apart"


def _outward(cameras: Sequence[Camera], arrangement: Arrangement, seen: _Seen | None, hints: Hints) -> Inner:
    """Centre among the cameras; most points inside, or twice the cameras' own reach without points."""
    centres = np.stack([camera.centre for camera in cameras])
    centre = 0.5 * (centres.min(axis=0) + centres.max(axis=0))
    reach = float(np.abs(centres - centre).max())
    if seen is not None:
        walls = float(np.percentile(np.abs(seen.points - centre).max(axis=1), 80))
        return centre, MARGIN * max(reach, walls), "the cameras and most sparse points"
    return centre, 2 * reach if reach > 0 else 1.0, "the cameras, twice as far as they are apart"


_INNER = {"around": _around, "forward": _forward, "outward": _outward}


def describe_bounds(
    bounds: Bounds, cameras: Sequence[Camera], points: np.ndarray | None, because: str = ""
) -> list[str]:
    """Describes bounds in lines of text: layout, inner cube, what it follows, extent, shares of cameras and points."""
    arrangement = arrange(cameras)
    says = {
        "around": "cameras look inward at a common point",
        "forward": "cameras look the same way",
        "outward": "cameras look in many directions without a common point ahead",
    }[arrangement.layout]
    centre = np.array(bounds.centre)
    inside = np.mean([np.abs(camera.centre - centre).max() <= bounds.side / 2 for camera in cameras])
    place = ", ".join(f"{v:.3g}" for v in bounds.centre)
    extent = bounds.side * 2 ** (bounds.cascades - 1)
    outside = "nothing outside" if bounds.cascades == 1 else f"content up to {extent:.3g} across"
    lines = [
        f"layout: {says} (directions spread over {arrangement.spread:.0f} degrees)",
        f"inner cube: centre ({place}), side {bounds.side:.3g}, {inside:.0%} of the cameras inside; {outside}"
        f" ({bounds.contraction}), nothing nearer than {bounds.near:.3g}",
    ]
    if because:
        lines.append(f"it follows {because}; --box sets another")
    if bounds.times is not None:
        first, last = bounds.times
        lines.append(f"times: from {first:.6g} to {last:.6g}, in which the scene moves; nf fit --still takes none")
    if any(bounds.origin):
        about = ", ".join(f"{v:.10g}" for v in bounds.origin)
        lines.append(f"positions are kept about ({about}), in double precision; exports are in the capture's own")
    if points is not None and len(points):
        distance = np.abs(points - centre).max(axis=1)
        lines.append(
            f"sparse points: {len(points)}, {np.mean(distance <= bounds.side / 2):.0%} in the inner cube,"
            f" {np.mean(distance <= extent / 2):.0%} in the whole extent"
        )
    return lines
