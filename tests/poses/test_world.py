"""Scale, up and middle of posed photos, wherever the model that COLMAP made happens to lie."""

import numpy as np
import pytest

from neuralfields.poses.world import DISTANCE, find_world
from tests.support.make_captures import ring, row

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def turned(seed: int) -> tuple[np.ndarray, float, np.ndarray]:
    """Some rotation, scale and shift."""
    generator = np.random.default_rng(seed)
    q, _ = np.linalg.qr(generator.standard_normal((3, 3)))
    return q * np.sign(np.linalg.det(q)), float(np.exp(generator.standard_normal())), generator.standard_normal(3) * 5


def seen_from(poses: list[np.ndarray], points: np.ndarray, seed: int):
    """Cameras (OpenCV axes) and points as COLMAP would give them, in a world of its own."""
    rotation, scale, shift = turned(seed)
    moved = np.stack([pose @ FLIP for pose in poses])
    moved[:, :3, 3] = scale * moved[:, :3, 3] @ rotation.T + shift
    moved[:, :3, :3] = rotation @ moved[:, :3, :3]
    return moved, scale * points @ rotation.T + shift


def in_world(world, points: np.ndarray) -> np.ndarray:
    return points @ world.similarity[:, :3].T + world.similarity[:, 3]


def blob(count: int = 800) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((count, 3)) * 0.5


def ground(count: int = 800) -> np.ndarray:
    return np.concatenate([np.random.default_rng(4).uniform(-4, 4, (count, 2)), np.full((count, 1), -1.5)], axis=1)


@pytest.mark.parametrize("seed", range(4))
def test_a_ring_comes_to_the_origin_with_z_up(seed):
    poses, points = seen_from(ring(16), blob(), seed)
    world = find_world(poses, points)
    centres = in_world(world, poses[:, :3, 3])
    assert np.median(np.linalg.norm(centres, axis=1)) == pytest.approx(DISTANCE)
    assert np.abs(centres.mean(0)[:2]).max() < 0.05 and np.ptp(centres[:, 2]) < 0.05 and centres[0, 2] > 1
    assert world.layout == "around" and world.up_from == "cameras"
    assert np.linalg.det(world.similarity[:, :3] / world.scale) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_the_floor_corrects_cameras_that_were_held_askew(seed):
    tilt = np.radians(8)
    roll = np.eye(4)
    roll[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    poses, points = seen_from([pose @ roll for pose in ring(6)[:3]], np.concatenate([blob(), ground()]), seed)
    world = find_world(poses, points)
    assert world.up_from == "floor" and world.tilt > 1
    assert np.ptp(in_world(world, points)[800:, 2]) < 1e-4
    assert in_world(world, poses[:, :3, 3])[:, 2].min() > in_world(world, points)[800, 2]


def test_a_ceiling_or_a_wall_is_no_floor():
    above = ground() * np.array([1, 1, -3.0])
    poses, points = seen_from(ring(12), np.concatenate([blob(), above]), 1)
    assert find_world(poses, points).up_from == "cameras"
    wall = ground()[:, [2, 0, 1]]
    poses, points = seen_from(ring(12), np.concatenate([blob(), wall]), 1)
    assert find_world(poses, points).up_from == "cameras"


def test_forward_cameras_have_the_points_middle_as_theirs():
    # OpenGL's y is up here, and the cameras look along -z.
    poses, points = seen_from(row(9), blob() - np.array([0.0, 0.0, 6.0]), 2)
    world = find_world(poses, points)
    assert world.layout == "forward"
    assert np.abs(np.median(in_world(world, points), axis=0)).max() < 0.3
    centres = in_world(world, poses[:, :3, 3])
    assert np.median(np.linalg.norm(centres, axis=1)) == pytest.approx(DISTANCE)
    assert np.abs(centres[:, 2]).max() < 0.3 and (centres[:, 1] < 0).all()


def test_without_points_and_with_all_cameras_at_one_place_it_still_stands():
    poses, _ = seen_from([np.eye(4) for _ in range(4)], blob(), 0)
    world = find_world(poses, np.zeros((0, 3)))
    assert np.isfinite(world.similarity).all()
