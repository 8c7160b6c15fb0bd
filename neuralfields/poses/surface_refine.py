"""Refines poses by a surface (Level-S2fM, Xiao et al., CVPR 2023), on top of poses and matches that are there.

  given poses -> points -> surface on them -> traced keypoint rays -> outliers -> poses, points, surface together -> ...

A match is an outlier where neither the point that its track's rays meet on the surface nor the triangulated point, as
long as that lies on the surface, projects near its keypoint. A tenth of the keypoints is held out of everything: if
their reprojection error does not fall, the given poses stay. The paper optimises poses, points and network by one
gradient; here poses and points take Gauss-Newton steps with the surface as a term (adjust.py) and the surface Adam's
between them, which is converged after seconds.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neuralfields.poses.adjust import Bundle, adjusted, seen_twice
from neuralfields.poses.surface_points import PointSurface, fit_surface, surface_about
from neuralfields.poses.tracks import Tracks, rays, reprojection, triangulated

ROUNDS = 3
FIRST_STEPS, STEPS = 200, 80  # of the surface, in the first round and in later ones
HELD_OUT, HELD_LENGTH = 0.1, 4  # share of keypoints, of tracks of so many or more
LEAST_LIMIT, SIGMAS, SIGMA = 2.0, 4.0, 1.4826 / 1.2  # an inlier's largest error in pixels; median of |error| to sigma
CAP = 10.0  # pixels at which a held-out error is clipped: outliers are among them
ROBUST_PIXELS = 2.0
LEAST_GAIN = 1e-3


@dataclass(frozen=True)
class Refined:
    """The bundle after refinement, or as given; `inliers` [M] of all observations; the surface; and the report."""

    bundle: Bundle
    inliers: Bool[Tensor, " M"]
    surface: PointSurface
    report: dict[str, Any]


def refine(poses: Float[Tensor, "N 4 4"], pinhole: Float[Tensor, "N 4"], tracks: Tracks, seed: int = 0) -> Refined:
    """Refines world_from_camera `poses` by the tracks of their keypoints; see the module.

    The report: refined (whether the poses changed), held_out_before and held_out_after (mean reprojection error in
    pixels, clipped at 10), held_out and observations (numbers), outliers, surface (median distance of points from it,
    in pixels).
    """
    poses, pinhole = poses.double(), pinhole.double()
    held = _held_out(tracks, seed)
    known = tracks.take(~held)
    begun = Bundle(poses, pinhole, triangulated(poses, pinhole, known, ROBUST_PIXELS))
    bundle, surface = begun, None
    for number in range(ROUNDS):
        errors = reprojection(bundle.poses, pinhole, known, bundle.points).norm(dim=1)
        good = seen_twice(known, errors < 2 * _limit(errors))
        surface = _on_surface(surface, bundle, known.take(good), FIRST_STEPS if number == 0 else STEPS, seed)
        inlier = seen_twice(known, _inliers(surface, bundle, known))
        bundle = adjusted(bundle, known.take(inlier), surface, ROBUST_PIXELS)
        fresh = triangulated(bundle.poses, pinhole, known, ROBUST_PIXELS)
        lost = known.lengths(inlier) < 2
        bundle = Bundle(bundle.poses, pinhole, torch.where(lost[:, None], fresh, bundle.points))
    before, after = (_held_error(each, pinhole, known, tracks.take(held)) for each in (poses, bundle.poses))
    better = bool(after < before * (1 - LEAST_GAIN))
    chosen = bundle if better else begun
    inliers = _inliers(surface, chosen, tracks)
    report = {
        "refined": better,
        "held_out_before": before,
        "held_out_after": after,
        "held_out": int(held.sum()),
        "observations": len(tracks),
        "outliers": int((~inliers).sum()),
        "surface": _off_surface(surface, chosen, known),
    }
    return Refined(chosen, inliers, surface, report)


def _held_out(tracks: Tracks, seed: int) -> Bool[Tensor, " M"]:
    """At most one observation of each long track, a tenth of all."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(tracks), generator=generator)
    long = (tracks.lengths() >= HELD_LENGTH)[tracks.point[order]]
    order = order[long]
    first = torch.full((tracks.points,), len(tracks), dtype=torch.int64)
    first.scatter_reduce_(0, tracks.point[order], torch.arange(len(order)), "amin")
    chosen = order[first[first < len(tracks)].sort().values[: max(1, round(HELD_OUT * len(tracks)))]]
    held = torch.zeros(len(tracks), dtype=torch.bool)
    held[chosen] = True
    return held


def _limit(errors: Float[Tensor, " M"]) -> float:
    """Largest error of an inlier in pixels, by the errors' median."""
    return max(LEAST_LIMIT, SIGMAS * SIGMA * float(errors.median()))


def _held_error(poses: Tensor, pinhole: Tensor, known: Tracks, held: Tracks) -> float:
    """Mean clipped reprojection error of held-out observations of points that the others triangulate, in pixels."""
    points = triangulated(poses, pinhole, known, ROBUST_PIXELS)
    return float(reprojection(poses, pinhole, held, points).norm(dim=1).clamp(max=CAP).mean()) if len(held) else 0.0


def _on_surface(surface: PointSurface | None, bundle: Bundle, tracks: Tracks, steps: int, seed: int) -> PointSurface:
    """The surface, fitted to the points that tracks see."""
    seen = bundle.points[tracks.lengths() > 0]
    surface = surface or surface_about(seen, seed)
    origins, _ = rays(bundle.poses, bundle.pinhole, tracks)
    fit_surface(surface, seen, origins, bundle.points[tracks.point], steps)
    return surface


def _inliers(surface: PointSurface, bundle: Bundle, tracks: Tracks) -> Bool[Tensor, " M"]:
    """Mask of observations that agree with the surface: see the module."""
    origins, directions = rays(bundle.poses, bundle.pinhole, tracks)
    traced, hit = surface.traced(origins, directions)
    traced = torch.where(hit[:, None], traced, torch.nan)
    meeting = _medians(traced, tracks)
    by_surface = reprojection(bundle.poses, bundle.pinhole, tracks, meeting).norm(dim=1).nan_to_num(nan=1e9)
    by_point = reprojection(bundle.poses, bundle.pinhole, tracks, bundle.points).norm(dim=1)
    with torch.no_grad():
        unit = surface.unit(bundle.points)
        level = surface.level(unit.clamp(0, 1)).abs().double()
    level = torch.where(((unit > 0) & (unit < 1)).all(1), level, torch.inf)
    near = level < max(5 * 1.4826 * float(level.median()), 0.005)
    by_point = torch.where(near[tracks.point], by_point, torch.inf)
    return torch.minimum(by_surface, by_point) < _limit(torch.minimum(by_point, by_surface))


def _medians(points: Float[Tensor, "M 3"], tracks: Tracks) -> Float[Tensor, "P 3"]:
    """Medians of each track's points, coordinate by coordinate, those that are NaN left out; [P, 3]."""
    columns = []
    for values in points.unbind(1):
        known = ~values.isnan()
        order = values[known].argsort(stable=True)
        point = tracks.point[known][order]
        order = order[point.argsort(stable=True)]
        lengths = tracks.lengths(known)
        starts = lengths.cumsum(0) - lengths
        sorted_values = torch.cat([values[known][order], values.new_full((1,), torch.nan)])
        middle = torch.where(lengths > 0, starts + (lengths - 1) // 2, len(sorted_values) - 1)
        columns.append(sorted_values[middle])
    return torch.stack(columns, 1)


def _off_surface(surface: PointSurface, bundle: Bundle, tracks: Tracks) -> float:
    """Median distance of points from the surface, in pixels of the cameras that see them."""
    away = (bundle.points[tracks.point] - bundle.poses[tracks.camera, :3, 3]).norm(dim=1)
    with torch.no_grad():
        level = surface.level(surface.unit(bundle.points).clamp(0, 1)).abs()[tracks.point]
    return float((level * surface.side * bundle.pinhole[tracks.camera, 0] / away.clamp(min=1e-9)).median())
