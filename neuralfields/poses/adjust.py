"""Bundle adjustment on a surface: Gauss-Newton steps of poses and points, with the Schur complement over points.

  minimise  sum_m w_m |projection - xy|^2 + sum_p w_p (K d(P_p))^2

Vocabulary
  motion   [N, 6] of each camera: axis times angle, then a shift, both along the world's axes (supervision/alignment.py)
  K        pixels that a cube of the surface measures at the point's distance: both terms are in pixels
  w        robust weights 1 / (1 + (error / scale)^2)^2 (Geman and McClure)
The seven freedoms of the frame are held by damping alone; what comes out lies beside what came in.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from neuralfields.poses.surface_points import PointSurface
from neuralfields.poses.tracks import Tracks, reprojection
from neuralfields.supervision.alignment import rotations

SURFACE_WEIGHT = 0.1  # of the squared distance of a point beside a keypoint's squared error
SURFACE_SCALE = 2.0  # pixels from which a point's distance from the surface counts less
DAMPING, MOST_DAMPING = 1e-4, 1e6


@dataclass(frozen=True)
class Bundle:
    """Cameras and points to adjust: `poses` [N, 4, 4] world_from_camera, `pinhole` [N, 4], `points` [P, 3]."""

    poses: Float[Tensor, "N 4 4"]
    pinhole: Float[Tensor, "N 4"]
    points: Float[Tensor, "P 3"]


def adjusted(bundle: Bundle, tracks: Tracks, surface: PointSurface | None, scale: float, iterations: int = 8) -> Bundle:
    """The bundle after Levenberg-Marquardt steps on `tracks`; `scale`: of the robust weights, in pixels.

    A step that makes the robust cost larger is not taken. Points that no track sees stay.
    """
    damping, cost = DAMPING, _cost(bundle, tracks, surface, scale)
    for _ in range(iterations):
        tried = _step(bundle, tracks, surface, scale, damping)
        after = _cost(tried, tracks, surface, scale)
        if after < cost:
            done = cost - after < 1e-5 * cost
            bundle, cost, damping = tried, after, max(damping / 10, 1e-9)
            if done:
                break
        else:
            damping *= 10
            if damping > MOST_DAMPING:
                break
    return bundle


def _cost(bundle: Bundle, tracks: Tracks, surface: PointSurface | None, scale: float) -> float:
    error = reprojection(bundle.poses, bundle.pinhole, tracks, bundle.points).square().sum(1)
    total = (error / (1 + error / scale**2)).sum()
    if surface is not None:
        distance = _distances(bundle, tracks, surface)[0].square()
        total = total + SURFACE_WEIGHT * (distance / (1 + distance / SURFACE_SCALE**2)).sum()
    return float(total)


def _distances(bundle: Bundle, tracks: Tracks, surface: PointSurface) -> tuple[Tensor, Tensor]:
    """K d of each point in pixels, [P], and its gradient in the world, [P, 3]; 0 outside the surface's cube."""
    unit = surface.unit(bundle.points)
    inside = ((unit > 0.01) & (unit < 0.99)).all(1) & (tracks.lengths() > 0)
    with torch.no_grad():
        d = surface.level(unit[inside]).to(bundle.points)
        slope = surface.field.gradient(unit[inside] - 0.5).to(bundle.points)
    away = (bundle.points[tracks.point] - bundle.poses[tracks.camera, :3, 3]).norm(dim=1)
    pixels = bundle.pinhole[tracks.camera, 0] / away.clamp(min=1e-9)  # a unit of length, as the camera sees it
    sums = bundle.points.new_zeros(len(bundle.points)).index_add_(0, tracks.point, pixels)
    pixels = sums / tracks.lengths().clamp(min=1)
    value, gradient = torch.zeros_like(pixels), torch.zeros_like(bundle.points)
    value[inside] = pixels[inside] * surface.side * d
    gradient[inside] = pixels[inside, None] * slope
    return value, gradient


def _step(bundle: Bundle, tracks: Tracks, surface: PointSurface | None, scale: float, damping: float) -> Bundle:
    """One damped Gauss-Newton step."""
    cameras, count = len(bundle.poses), len(bundle.points)
    residual, by_motion, by_point = _jacobians(bundle, tracks)
    weight = 1 / (1 + residual.square().sum(1) / scale**2).square()
    motion = weight[:, None, None] * by_motion
    zeros = residual.new_zeros
    h_cc = zeros(cameras, 6, 6).index_add_(0, tracks.camera, motion.mT @ by_motion)
    b_c = zeros(cameras, 6).index_add_(0, tracks.camera, -(motion.mT @ residual[..., None])[..., 0])
    point = weight[:, None, None] * by_point
    h_pp = zeros(count, 3, 3).index_add_(0, tracks.point, point.mT @ by_point)
    b_p = zeros(count, 3).index_add_(0, tracks.point, -(point.mT @ residual[..., None])[..., 0])
    if surface is not None:
        value, slope = _distances(bundle, tracks, surface)
        share = SURFACE_WEIGHT / (1 + value.square() / SURFACE_SCALE**2).square()
        h_pp += share[:, None, None] * slope[:, :, None] * slope[:, None]
        b_p -= share[:, None] * value[:, None] * slope
    h_cc, h_pp = _damped(h_cc, damping), _damped(h_pp, damping)
    inverse = torch.linalg.inv(h_pp)
    across = motion.mT @ by_point  # [M, 6, 3]
    through = across @ inverse[tracks.point]
    one, other = _pairs(tracks)
    mixed = -(through[one] @ across[other].mT)
    at = tracks.camera[one] * cameras + tracks.camera[other]
    reduced = zeros(cameras * cameras, 6, 6).index_add_(0, at, mixed).view(cameras, cameras, 6, 6)
    reduced[range(cameras), range(cameras)] += h_cc
    right = b_c.index_add(0, tracks.camera, -(through @ b_p[tracks.point][..., None])[..., 0])
    system = reduced.permute(0, 2, 1, 3).reshape(6 * cameras, 6 * cameras)
    d_motion = torch.linalg.solve(system, right.flatten()).view(cameras, 6)
    back = zeros(count, 3).index_add_(0, tracks.point, (across.mT @ d_motion[tracks.camera][..., None])[..., 0])
    d_point = (inverse @ (b_p - back)[..., None])[..., 0]
    poses = bundle.poses.clone()
    poses[:, :3, :3] = rotations(d_motion[:, :3]) @ bundle.poses[:, :3, :3]
    poses[:, :3, 3] += d_motion[:, 3:]
    return Bundle(poses, bundle.pinhole, bundle.points + d_point)


def _jacobians(bundle: Bundle, tracks: Tracks) -> tuple[Tensor, Tensor, Tensor]:
    """Residuals [M, 2], and their derivatives by the cameras' motions [M, 2, 6] and by the points [M, 2, 3]."""
    pose, lens = bundle.poses[tracks.camera], bundle.pinhole[tracks.camera]
    away = bundle.points[tracks.point] - pose[:, :3, 3]
    turn = pose[:, :3, :3].mT
    x, y, z = (turn @ away[..., None])[..., 0].unbind(1)
    z = z.clamp(min=1e-6)
    nothing = torch.zeros_like(z)
    fx, fy = lens[:, 0] / z, lens[:, 1] / z
    by_local = torch.stack([torch.stack([fx, nothing, -fx * x / z], 1), torch.stack([nothing, fy, -fy * y / z], 1)], 1)
    by_point = by_local @ turn
    a, b, c = away.unbind(1)
    rows = [(nothing, -c, b), (c, nothing, -a), (-b, a, nothing)]
    cross = torch.stack([torch.stack(row, 1) for row in rows], 1)  # away x w, the derivative by a rotation w
    residual = reprojection(bundle.poses, bundle.pinhole, tracks, bundle.points)
    return residual, torch.cat([by_point @ cross, -by_point], 2), by_point


def _damped(matrix: Tensor, damping: float) -> Tensor:
    """The matrices [K, n, n] with damped diagonals, which are positive also where nothing is known."""
    diagonal = matrix.diagonal(dim1=1, dim2=2)
    floor = diagonal.amax().clamp(min=1e-12) * 1e-9
    return matrix + torch.diag_embed(damping * diagonal + floor)


def _pairs(tracks: Tracks) -> tuple[Int64[Tensor, " K"], Int64[Tensor, " K"]]:
    """All ordered pairs of observations of the same track, each with itself too."""
    lengths = tracks.lengths()
    starts = lengths.cumsum(0) - lengths
    many = lengths[tracks.point]
    one = torch.repeat_interleave(torch.arange(len(tracks)), many)
    inside = torch.arange(len(one)) - torch.repeat_interleave(many.cumsum(0) - many, many)
    return one, starts[tracks.point[one]] + inside


def seen_twice(tracks: Tracks, mask: Bool[Tensor, " M"]) -> Bool[Tensor, " M"]:
    """Those of a mask whose track has two of them or more."""
    return mask & (tracks.lengths(mask) >= 2)[tracks.point]
