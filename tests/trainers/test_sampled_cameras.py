"""Drawn cameras stay where photos could have been taken."""

from pathlib import Path

import numpy as np
import pytest

from neuralfields.cameras import Camera, look_at
from neuralfields.captures.readers import read_scene
from neuralfields.errors import InputError
from neuralfields.scene import Bounds
from neuralfields.trainers.sampled_cameras import Viewpoints, jittered

BOUNDS = Bounds((0.0, 0.0, 0.0), 2.0)
UP = np.array([0.0, 0.0, 1.0])


def camera(centre: np.ndarray, target: np.ndarray) -> Camera:
    return Camera(look_at(centre, target, UP), 100, 80, 90.0, 90.0, 50.0, 40.0)


def ring(count: int = 24, span: float = 2 * np.pi, elevation: float = 0.5) -> list[Camera]:
    """Cameras on an arc of radius 4 and 5, all looking at the origin."""
    cameras = []
    for i in range(count):
        a, radius = span * i / count, 4.0 + i % 2
        away = np.array([np.cos(a) * np.cos(elevation), np.sin(a) * np.cos(elevation), np.sin(elevation)])
        cameras.append(camera(radius * away, np.zeros(3)))
    return cameras


def test_cameras_around_a_thing_give_cameras_around_it():
    drawn = Viewpoints(ring(), BOUNDS).draw(200, np.random.default_rng(0))
    centres = np.stack([c.centre for c in drawn])
    distance = np.linalg.norm(centres, axis=1)
    assert distance.min() > 3.9 and distance.max() < 5.1 and np.ptp(distance) > 0.8
    assert np.allclose(np.arcsin(centres[:, 2] / distance), 0.5, atol=0.02)
    turn = np.arctan2(centres[:, 1], centres[:, 0])
    assert (np.histogram(turn, 12, (-np.pi, np.pi))[0] > 4).all()
    assert all((-c.centre / np.linalg.norm(c.centre)) @ c.forward > 0.999 for c in drawn)
    assert all(c.world_from_camera[:3, 1] @ UP < 0 for c in drawn)  # y points down: no picture is upside down


def test_the_side_that_nobody_photographed_stays_empty():
    drawn = Viewpoints(ring(span=np.pi), BOUNDS).draw(200, np.random.default_rng(0))
    assert all(c.centre[1] > -0.3 for c in drawn)


def test_forward_facing_cameras_stay_between_their_neighbours():
    grid = [camera(np.array([x, 0.0, z]), np.array([x, 10.0, z])) for x in range(4) for z in range(3)]
    drawn = Viewpoints(grid, BOUNDS).draw(100, np.random.default_rng(0))
    centres = np.stack([c.centre for c in drawn])
    assert np.abs(centres[:, 1]).max() < 0.5
    assert centres[:, 0].min() > -0.5 and centres[:, 0].max() < 3.5 and len({c.tobytes() for c in centres}) == 100
    assert all(c.forward @ np.array([0.0, 1.0, 0.0]) > 0.99 for c in drawn)


def test_the_same_seed_draws_the_same_and_another_does_not():
    what = Viewpoints(ring(), BOUNDS)
    a, b, c = (what.draw(3, np.random.default_rng(seed))[2].world_from_camera for seed in (5, 5, 6))
    assert np.array_equal(a, b) and not np.allclose(a, c)


def test_a_jittered_pose_is_a_pose_nearby():
    one = ring()[0]
    for seed in range(20):
        other = jittered(one, np.random.default_rng(seed), reach=0.1)
        turn = one.world_from_camera[:3, :3].T @ other.world_from_camera[:3, :3]
        assert np.allclose(turn @ turn.T, np.eye(3)) and np.linalg.det(turn) > 0
        assert 0 < np.degrees(np.arccos((np.trace(turn) - 1) / 2)) < 16
        assert 0 < np.abs(other.centre - one.centre).max() <= 0.1


def test_without_cameras_there_is_a_clear_word():
    with pytest.raises(InputError, match="records no cameras"):
        Viewpoints([], BOUNDS)
    assert len(Viewpoints(ring(1), BOUNDS).draw(2, np.random.default_rng(0))) == 2


@pytest.mark.parametrize("name, around", [("ngp_fox", True), ("synthetic_chair", True), ("llff_fern", False)])
def test_real_captures(shared_data: Path, name: str, around: bool):
    scene = read_scene(shared_data / "captures" / name)
    cameras = [frame.camera for frame in scene.frames]
    what = Viewpoints(cameras, scene.bounds)
    assert what.around == around
    real, drawn = (np.stack([c.centre for c in cs]) for cs in (cameras, what.draw(100, np.random.default_rng(1))))
    reach = np.ptp(real, axis=0) * 0.3 + 0.3
    assert (drawn > real.min(0) - reach).all() and (drawn < real.max(0) + reach).all()
