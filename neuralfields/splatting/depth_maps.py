"""Depth of the training photos by plane sweep, coarse to fine, and which of it several photos agree on.

Seconds where a radiance field needs a minute, and as sure: what two photos see alike at one depth, and find again from
the other side, lies there.

Vocabulary
  map     a photo's depth at a part of its size; depth along the optical axis, world units
  source  another photo that a photo is compared with
  votes   sources whose own map has the same point; a single one counts twice where no other source looks there, as
          behind an object that photos are taken around, and where the photos are much alike
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from neuralfields.cameras import Camera
from neuralfields.ops.plane_sweep import Sources, plane_sweep
from neuralfields.pictures.box_filter import box_filtered
from neuralfields.scene import Bounds

SOURCES, ANGLE, OUTSIDE_COST = 4, 8.0, 5.0  # how many, degrees between their rays, the cost of looking elsewhere
FINE_SIDE, COARSER = 200, 2  # pixels of a map's shorter side at most, and how many times smaller the first sweep is
HYPOTHESES, STEP = (16, 512), 0.75  # of the first sweep: how many, pixels between two
OFFSETS = (-1.0, -0.5, 0.0, 0.5, 1.0)  # of the second sweep, in steps of the first
NEAREST, FARTHEST = 0.05, 20.0  # depths in sides of the inner cube, where the cube does not say
MARGIN_BEFORE, MARGIN_BEHIND = 1.2, 1.8  # half sides of the inner cube before and behind its centre
CONFIRMED = 2  # votes that make a depth sure
LEAST_SCORE = 0.5  # under which nothing votes: where there is no texture, maps agree by chance
MUCH_ALIKE = 0.8  # score from which on one vote is enough
AGREEMENT, PIXELS, LOOSEST = 0.02, 1.0, 0.25  # relative difference of two depths of one point: that, or what so many
# pixels of a map are there, but never more than the last: facades behind a statue are known to a tenth of their depth


@dataclass(frozen=True)
class DepthMap:
    """A photo's depth [h, w], its votes [h, w] and score [h, w]; a pixel of the map is `times` pixels of the photo."""

    depth: Tensor
    votes: Tensor
    score: Tensor
    times: int


def depth_maps(images: list[Tensor], cameras: list[Camera], bounds: Bounds) -> list[DepthMap]:
    """Depth maps of photos, uint8 [H, W, 3], of cameras without distortion; empty for fewer than three photos."""
    if len(images) < 3:
        return []
    least = min(min(image.shape[:2]) for image in images)
    times = math.ceil(least / FINE_SIDE)
    fine, coarse = _grey(images, times), _grey(images, times * COARSER)
    poses = torch.from_numpy(np.stack([camera.world_from_camera for camera in cameras]))
    near, typical, far = depth_range(poses, bounds)
    chosen = sources(poses, cameras, typical)
    inverse, scores = [], []
    for index in range(len(images)):
        others = chosen[index].tolist()
        low, high = float(1 / far[index]), float(1 / near[index])
        seen = _sources(coarse, others, cameras, poses, index, times * COARSER)
        count = _hypotheses(seen, coarse[index].shape, high - low)
        line = torch.linspace(low, high, count, dtype=torch.float32)
        q, _ = plane_sweep(coarse[index], seen, torch.zeros_like(coarse[index]), line, low)
        q = torch.nn.functional.interpolate(q[None, None], fine[index].shape, mode="nearest")[0, 0]
        seen = _sources(fine, others, cameras, poses, index, times)
        step = (high - low) / max(count - 1, 1)
        q, score = plane_sweep(fine[index], seen, q, step * torch.tensor(OFFSETS), low)
        inverse.append(q)
        scores.append(score)
    depths = [1 / q for q in inverse]
    votes = [_votes(index, chosen[index].tolist(), depths, cameras, poses, times) for index in range(len(images))]
    votes = [_sure(*each) for each in zip(votes, scores, strict=True)]
    return [DepthMap(*each, times) for each in zip(depths, votes, scores, strict=True)]


def depth_range(poses: Tensor, bounds: Bounds) -> tuple[Tensor, Tensor, Tensor]:
    """Nearest, typical and farthest depth [N] of cameras with world_from_camera [N, 4, 4] in a scene's bounds."""
    centre = torch.tensor(bounds.centre, dtype=poses.dtype)
    middle = ((centre - poses[:, :3, 3]) * poses[:, :3, 2]).sum(1)
    least, half = max(bounds.near, NEAREST * bounds.side), bounds.side / 2
    near = (middle - MARGIN_BEFORE * half).clamp(min=least)
    far = torch.full_like(middle, FARTHEST * bounds.side)
    if bounds.cascades == 1:
        far = torch.maximum(middle + MARGIN_BEHIND * half, 2 * near)
    return near, torch.maximum(middle.clamp(min=0.3 * bounds.side), near), far


def sources(poses: Tensor, cameras: list[Camera], typical: Tensor) -> Tensor:
    """The photos [N, S] to compare each with: those that see a point at its typical depth [N] from 8 degrees aside."""
    centres = poses[:, :3, 3]
    points = centres + poses[:, :3, 2] * typical[:, None]
    own, other = normalize(centres - points, dim=1), normalize(centres[None] - points[:, None], dim=2)
    angle = torch.rad2deg(torch.arccos((own[:, None] * other).sum(2).clamp(-1, 1)))
    local = torch.einsum("jba,ijb->ija", poses[:, :3, :3], points[:, None] - centres[None])
    depth = local[..., 2]
    focal = torch.tensor([[camera.fx, camera.fy] for camera in cameras], dtype=poses.dtype)
    middle = torch.tensor([[camera.cx, camera.cy] for camera in cameras], dtype=poses.dtype)
    size = torch.tensor([[camera.width, camera.height] for camera in cameras], dtype=poses.dtype)
    place = local[..., :2] / depth.clamp(min=1e-9)[..., None] * focal + middle
    inside = (depth > 0) & (place > 0).all(2) & (place < size).all(2)
    score = -torch.log(angle.clamp(min=0.1) / ANGLE).abs() - OUTSIDE_COST * (~inside)
    score.fill_diagonal_(-torch.inf)
    return score.topk(min(SOURCES, len(cameras) - 1), 1).indices


def _grey(images: list[Tensor], times: int) -> list[Tensor]:
    """Photos as grey values in [0, 1], `times` smaller."""
    return [box_filtered(image, times).sum(2) / (3 * 255) for image in images]


def _intrinsics(camera: Camera, times: int) -> Tensor:
    rows = [[camera.fx / times, 0, camera.cx / times], [0, camera.fy / times, camera.cy / times], [0, 0, 1]]
    return torch.tensor(rows, dtype=torch.float64)


def _sources(
    grey: list[Tensor], others: list[int], cameras: list[Camera], poses: Tensor, index: int, times: int
) -> Sources:
    """The photos `others` as a sweep of photo `index` takes them."""
    height, width = (max(grey[other].shape[side] for other in others) for side in (0, 1))
    pictures = torch.zeros(len(others), height, width)
    for place, other in enumerate(others):
        pictures[place, : grey[other].shape[0], : grey[other].shape[1]] = grey[other]
    sizes = torch.tensor([grey[other].shape[::-1] for other in others], dtype=torch.int32)
    lenses = torch.stack([_intrinsics(cameras[other], times) for other in others])
    turn = poses[others][:, :3, :3].transpose(1, 2)  # camera from world
    a = lenses @ turn @ poses[index, :3, :3] @ torch.linalg.inv(_intrinsics(cameras[index], times))
    shift = torch.einsum("sij,sj->si", lenses @ turn, poses[index, :3, 3] - poses[others][:, :3, 3])
    return Sources(pictures, sizes, a.float(), shift.float())


def _hypotheses(seen: Sources, shape: tuple[int, int], span: float) -> int:
    """How many inverse depths a sweep over `span` needs, so that a source's pixels are not stepped over."""
    middle = torch.tensor([shape[1] / 2, shape[0] / 2, 1.0])
    base = seen.a @ middle  # third number about 1: inverse depth moves a pixel by b, less what z changes
    moved = seen.b[:, :2] - base[:, :2] / base[:, 2:] * seen.b[:, 2:]
    pixels = float(moved.norm(dim=1).median()) * span
    return int(min(max(math.ceil(pixels / STEP) + 1, HYPOTHESES[0]), HYPOTHESES[1]))


def normals(found: DepthMap, camera: Camera, row: Tensor, column: Tensor) -> Tensor:
    """The surface's normals [M, 3] in the world's frame at pixels of a depth map, by their neighbours' points."""
    height, width = found.depth.shape

    def point(row: Tensor, column: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)
        z = found.depth[row, column]
        x, y = (
            ((column + 0.5) * found.times - camera.cx) / camera.fx,
            ((row + 0.5) * found.times - camera.cy) / camera.fy,
        )
        return x * z, y * z, z

    right, left, under, over = (point(row + r, column + c) for r, c in ((0, 1), (0, -1), (1, 0), (-1, 0)))
    a, b, c = (one - other for one, other in zip(right, left, strict=True))
    d, e, f = (one - other for one, other in zip(under, over, strict=True))
    local = normalize(torch.stack([b * f - c * e, c * d - a * f, a * e - b * d], 1), dim=1)
    return local @ torch.from_numpy(camera.world_from_camera[:3, :3].T.copy()).to(local.dtype)


def met(
    index: int, others: list[int], depths: list[Tensor], cameras: list[Camera], poses: Tensor, times: int
) -> Iterator[tuple[int, Tensor, Tensor, Tensor, Tensor]]:
    """Where each of `others` sees the points of photo `index`: its index, row and column [h w], whether they are in its
    picture at all, and whether its own map has them at the same depth, [h w] bool.
    """
    height, width = depths[index].shape
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([columns, rows, torch.ones_like(rows)]).reshape(3, -1).double()
    local = torch.linalg.inv(_intrinsics(cameras[index], times)) @ pixels * depths[index].reshape(1, -1).double()
    world = poses[index, :3, :3] @ local + poses[index, :3, 3:]
    for other in others:
        there = poses[other, :3, :3].T @ (world - poses[other, :3, 3:])
        lens = _intrinsics(cameras[other], times)
        x, y, z = (lens @ there).unbind(0)
        far = lens @ poses[other, :3, :3].T @ poses[index, :3, :3] @ local  # the same pixels, infinitely far
        column, row = (x / z.clamp(min=1e-9)).floor().long(), (y / z.clamp(min=1e-9)).floor().long()
        h, w = depths[other].shape
        inside = (z > 0) & (column >= 0) & (column < w) & (row >= 0) & (row < h)
        row, column = row.clamp(0, h - 1), column.clamp(0, w - 1)
        moved = torch.hypot(x / z - far[0] / far[2], y / z - far[1] / far[2]).nan_to_num(torch.inf)
        allowed = (PIXELS / moved.clamp(min=1e-9)).clamp(AGREEMENT, LOOSEST)
        agrees = (depths[other][row, column] / z.clamp(min=1e-9) - 1).abs() < allowed
        yield other, row, column, inside, inside & agrees


def _votes(
    index: int, others: list[int], depths: list[Tensor], cameras: list[Camera], poses: Tensor, times: int
) -> Tensor:
    """How many of `others` have the points of photo `index` at the same depth, [h, w]; the only one that looks: 2."""
    votes, looking = torch.zeros(2, depths[index].numel(), dtype=torch.int32)
    for _, _, _, inside, agrees in met(index, others, depths, cameras, poses, times):
        votes += agrees
        looking += inside
    votes += (looking == 1) & (votes == 1)
    return votes.reshape(depths[index].shape)


def _sure(votes: Tensor, score: Tensor) -> Tensor:
    """Votes [h, w] by how alike the photos are, `score` [h, w]: none where they are little so."""
    return (votes + ((votes == 1) & (score >= MUCH_ALIKE))) * (score >= LEAST_SCORE)
