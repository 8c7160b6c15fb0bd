"""Depth of the sample scene's photos, whose truth is rendered: what photos agree on lies on the surface."""

from dataclasses import replace

import numpy as np
import torch

from neuralfields.cameras import Camera, look_at, project
from neuralfields.scene import Bounds
from neuralfields.splatting.densify import rotation_columns
from neuralfields.splatting.depth_maps import CONFIRMED, DepthMap, depth_maps, normals, sources
from neuralfields.splatting.initial import FLAT, Photos, flatten, from_depth_maps, gaussians_at

SIDE, FOCAL = 96, 110.0
BOUNDS = Bounds((0.0, 0.0, 0.0), 3.0, cascades=1)


def pattern(x: torch.Tensor) -> torch.Tensor:
    """A colour of points in space, fine enough to compare."""
    return 0.5 + 0.4 * torch.sin(9 * x + 2 * torch.sin(4 * x.flip(-1)))


def ball(camera: Camera, radius: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """A photo, uint8, of a patterned ball before grey, and its depth along the axis (0: nothing)."""
    rows, columns = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    local = torch.stack([(columns - SIDE / 2) / FOCAL, (rows - SIDE / 2) / FOCAL, torch.ones_like(rows)], -1)
    pose = torch.from_numpy(camera.world_from_camera).float()
    direction, origin = local @ pose[:3, :3].T, pose[:3, 3]
    a, b = direction.square().sum(-1), direction @ origin
    under = b * b - a * (origin.square().sum() - radius**2)
    depth = torch.where(under > 0, (-b - under.clamp(min=0).sqrt()) / a, 0.0)
    colour = pattern(origin + depth[..., None] * direction)
    return (torch.where((under > 0)[..., None], colour, 0.5) * 255).round().to(torch.uint8), depth


def cameras() -> list[Camera]:
    found = []
    for angle in np.radians(np.arange(0, 60, 7.5)):
        centre = 3.5 * np.array([np.sin(angle), 0.2, np.cos(angle)])
        pose = look_at(centre, np.zeros(3), np.array([0.0, 1.0, 0.0]))
        found.append(Camera(pose, SIDE, SIDE, FOCAL, FOCAL, SIDE / 2, SIDE / 2))
    return found


def test_a_ball():
    """Nearly all of the ball is confirmed, right to a pixel, and little of the plain background round it."""
    lenses = cameras()
    photos = [ball(camera) for camera in lenses]
    maps = depth_maps([image for image, _ in photos], lenses, BOUNDS)
    for each, (_, truth) in list(zip(maps, photos, strict=True))[2:-2]:
        assert each.times == 1
        sure, there = each.votes >= CONFIRMED, truth > 0
        error = (each.depth / truth - 1).abs()[sure & there]
        assert (sure & there).sum() > 0.95 * there.sum()
        assert error.median() < 0.01  # a pixel of disparity is 0.06
        assert (error < 0.06).float().mean() > 0.95 and (error < 0.03).float().mean() > 0.82
        assert (sure & ~there).sum() < 0.15 * sure.sum()  # windows over the outline see both


def test_normals_of_a_ball_point_from_its_middle():
    camera = cameras()[3]
    depth = ball(camera)[1]
    inside = torch.nn.functional.max_pool2d(-(depth > 0).float()[None, None], 5, 1, 2)[0, 0] < 0  # and all around too
    row, column = inside.nonzero().unbind(1)
    found = normals(DepthMap(depth, depth.int(), depth, 1), camera, row, column)
    local = torch.stack([column + 0.5 - SIDE / 2, row + 0.5 - SIDE / 2, torch.full((len(row),), FOCAL)], 1) / FOCAL
    pose = torch.from_numpy(camera.world_from_camera).float()
    point = local * depth[inside][:, None] @ pose[:3, :3].T + pose[:3, 3]
    assert len(found) > 1000
    assert (found * point).sum(1).abs().quantile(0.05) > 0.98  # on the unit ball a point is its own normal


def test_flat_ones_are_thin_along_the_normal(generator):
    normal = torch.nn.functional.normalize(torch.randn(50, 3, generator=generator), dim=1)
    gaussians = gaussians_at(torch.zeros(60, 3), torch.zeros(60, 3), torch.full((60,), 2.0), 0.5, 0)
    flatten(gaussians, normal)
    axis = rotation_columns(gaussians.rotations, gaussians.scales.argmin(1))
    assert torch.allclose((axis[:50] * normal).sum(1).abs(), torch.ones(50), atol=1e-5)
    widths = gaussians.scales.exp()
    assert torch.allclose(widths[:50].amin(1), torch.tensor(2 * FLAT)) and torch.allclose(
        widths[50:], torch.tensor(2.0)
    )


def test_sources_are_neighbours_that_see_the_same():
    lenses = cameras()
    away = look_at(np.array([0.0, 0.0, 3.5]), np.array([0.0, 0.0, 9.0]), np.array([0.0, 1.0, 0.0]))
    lenses.append(Camera(away, SIDE, SIDE, FOCAL, FOCAL, SIDE / 2, SIDE / 2))
    poses = torch.from_numpy(np.stack([camera.world_from_camera for camera in lenses]))
    chosen = sources(poses, lenses, torch.full((len(lenses),), 3.5, dtype=torch.float64))
    assert set(chosen[4].tolist()) == {2, 3, 5, 6}
    assert all(len(lenses) - 1 not in row for row in chosen[:-1].tolist())


def test_what_is_far_is_confirmed_as_well_as_it_is_known():
    """A wall that two photos see two pixels apart: 2 % of its depth would be a twentieth of a pixel."""
    bounds = replace(BOUNDS, cascades=3)
    lenses = cameras()[2:6]  # all look towards -z
    pictures = wall(lenses, 24.0)
    sure = [each.votes >= CONFIRMED for each in depth_maps(pictures, lenses, bounds)]
    assert sure[1].float().mean() > 0.3 and sure[2].float().mean() > 0.3


def wall(lenses: list[Camera], distance: float) -> list[torch.Tensor]:
    """Photos, uint8, of a patterned wall at z = -distance."""
    pictures = []
    for camera in lenses:
        a = (np.arange(SIDE) + 0.5 - SIDE / 2) / FOCAL
        ray = np.stack([*np.meshgrid(a, a), np.ones((SIDE, SIDE))], 2) @ camera.world_from_camera[:3, :3].T
        t = (-distance - camera.centre[2]) / ray[..., 2]
        place = torch.from_numpy(camera.centre + t[..., None] * ray).float()
        pictures.append((pattern(place / 8) * 255).round().to(torch.uint8))
    return pictures


def test_what_two_photos_alone_see_is_confirmed():
    """Of five photos two see the wall, as of facades behind a statue that photos are taken around."""
    bounds = replace(BOUNDS, cascades=3)
    back = look_at(np.array([0.0, 0.0, -3.5]), np.array([0.0, 0.0, 9.0]), np.array([0.0, 1.0, 0.0]))
    away = [Camera(back, SIDE, SIDE, FOCAL, FOCAL, SIDE / 2, SIDE / 2)] * 3
    maps = depth_maps([*wall(cameras()[2:4], 24.0), *torch.full((3, SIDE, SIDE, 3), 90, dtype=torch.uint8)],
                      [*cameras()[2:4], *away], bounds)  # fmt: skip
    for each, camera in zip(maps[:2], cameras()[2:4], strict=True):
        sure = each.votes >= CONFIRMED
        assert sure.float().mean() > 0.2
        ray = camera.world_from_camera[2, 2]  # of the middle: how much of it is along z
        assert abs(float(each.depth[sure].median()) / ((24 + camera.centre[2]) / -ray) - 1) < 0.15
    assert not any((each.votes >= CONFIRMED).any() for each in maps[2:])


def test_where_photos_disagree_gaussians_begin_as_far_as_what_is_beside_or_where_one_photo_agrees():
    """A photo of three parts: sure and near, unsure, sure and far; and a row on which one other photo agrees."""
    camera = cameras()[0]
    depth, votes = torch.full((SIDE, SIDE), 2.0), torch.zeros(SIDE, SIDE, dtype=torch.int32)
    depth[:, 64:], votes[:, :32], votes[:, 64:] = 8.0, CONFIRMED, CONFIRMED
    depth[40:50, 32:64], votes[40:50, 32:64] = 5.0, 1
    photos = Photos([torch.zeros(SIDE, SIDE, 3, dtype=torch.uint8)], [camera], BOUNDS)
    found = from_depth_maps(
        [DepthMap(depth, votes, torch.ones_like(depth), 1)], photos, 0, 1000, torch.Generator().manual_seed(0), fill=1.0
    )
    uv, z = project(camera, found.means.double().numpy())
    faint = (found.opacities < found.opacities[0]).numpy()
    column, row = uv.T
    one = faint & (row > 40) & (row < 50) & (column > 32) & (column < 64)
    assert one.sum() > 50 and np.allclose(z[one], 5, rtol=1e-3)
    beside = faint & ~one & (column > 56) & (column < 64)
    assert beside.sum() > 50 and (z[beside] > 7.9).mean() > 0.95
    assert (z[faint & ~one & (column < 36)] < 2.1).mean() > 0.9


def test_two_photos_are_too_few():
    lenses = cameras()[:2]
    assert depth_maps([ball(camera)[0] for camera in lenses], lenses, BOUNDS) == []


def test_gaussians_where_photos_agree_and_fainter_ones_where_not():
    generator = torch.Generator().manual_seed(0)
    lenses = cameras()
    pictures = [ball(camera)[0] for camera in lenses]
    maps = depth_maps(pictures, lenses, BOUNDS)
    photos = Photos(pictures, lenses, BOUNDS)
    sure = from_depth_maps(maps, photos, 1, 500, generator)
    assert len(sure) == 500 and len(sure.opacities.unique()) == 1
    assert ((sure.means.norm(dim=1) - 1).abs() < 0.1).float().mean() > 0.98
    filled = from_depth_maps(maps, photos, 1, 500, generator, fill=0.2)
    assert len(filled) == 600 and (filled.opacities < sure.opacities[0]).sum() == 100
    distance = torch.stack([(filled.means - torch.from_numpy(c.centre).float()).norm(dim=1) for c in lenses])
    assert distance.amin() > 2  # none floats before the cameras
