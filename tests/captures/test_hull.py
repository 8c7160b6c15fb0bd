"""Visual hulls: of objects that rest, of objects that move, and what is no object."""

from dataclasses import replace

import numpy as np
import pytest

from neuralfields.cameras import Camera, pose_from_matrix
from neuralfields.captures.bounds import estimate_bounds
from neuralfields.captures.hull import Silhouette, goes_on, object_bounds, votes_in_time
from neuralfields.scene import Bounds
from tests.support import make_captures

COUNT, RADIUS = 96, 0.3


def turning(together: int = 1) -> list[Camera]:
    """Cameras on a sphere about the middle, that take turns, `together` at each instant."""
    golden, found = np.pi * (3 - 5**0.5), []
    for index in range(COUNT):
        z = 1 - (2 * index + 1) / COUNT
        place = 5 * np.array(
            [np.cos(golden * index) * (1 - z * z) ** 0.5, np.sin(golden * index) * (1 - z * z) ** 0.5, z]
        )
        pose = pose_from_matrix(make_captures.looking_at(place, np.zeros(3)), "opengl", "")[0]
        found.append(Camera(pose, 100, 100, 107.0, 107.0, 50, 50))
    order = np.random.default_rng(0).permutation(COUNT)
    instants = COUNT // together
    return [replace(found[k], time=(index // together) / (instants - 1)) for index, k in enumerate(order)]


def place(time: float) -> np.ndarray:
    """A ball's centre: from end to end once, 2.4 across."""
    return np.array([2.4 * time - 1.2, 0.3 * np.sin(6 * time), 0.2])


def shapes(cameras: list[Camera]) -> list[Silhouette]:
    """Silhouettes of the ball at the cameras' times, exactly."""
    v, u = np.mgrid[:100, :100] + 0.5
    found = []
    for camera in cameras:
        d = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones_like(u)], -1)
        d = d @ camera.world_from_camera[:3, :3].T
        d /= np.linalg.norm(d, axis=-1, keepdims=True)
        offset = place(camera.time) - camera.centre
        found.append(Silhouette(camera, offset @ offset - (d @ offset) ** 2 < RADIUS**2))
    return found


def holds(bounds: Bounds) -> bool:
    """Whether the ball is within bounds at all times."""
    path = np.stack([place(t) for t in np.linspace(0, 1, 50)])
    low, high = np.array(bounds.centre) - bounds.side / 2, np.array(bounds.centre) + bounds.side / 2
    return bool((path - RADIUS >= low).all() and (path + RADIUS <= high).all())


@pytest.mark.parametrize("together", [1, 8])
def test_the_hull_of_a_moving_object_holds_it_at_all_times(together: int) -> None:
    cameras = turning(together)
    bounds = object_bounds(shapes(cameras), cameras, (0.0, 1.0))
    assert holds(bounds)
    assert bounds.side < 0.55 * estimate_bounds(cameras, None, "colmap").side
    assert (bounds.contraction, bounds.cascades, bounds.times) == ("box", 1, (0.0, 1.0))


def test_no_box_cuts_what_is_too_fast_for_its_silhouettes() -> None:
    """By photos in another order than they were taken in: from one to the next the ball jumps."""
    cameras = turning()
    order = np.random.default_rng(2).permutation(COUNT)
    jumping = [replace(s.camera, time=cameras[k].time) for k, s in zip(order, shapes(cameras), strict=True)]
    wrong = [replace(s, camera=camera) for camera, s in zip(jumping, shapes(cameras), strict=True)]
    bounds = object_bounds(wrong, cameras, (0.0, 1.0))
    assert bounds is None or holds(bounds)
    few = [replace(s, map=s.map & (k % 8 == 0)) for k, s in enumerate(shapes(cameras))]  # seldom there at all
    assert object_bounds(few, cameras, (0.0, 1.0)) is None


def test_silhouettes_of_different_times_have_no_common_hull() -> None:
    cameras = turning()
    assert object_bounds(shapes(cameras), cameras) is None


def test_places_that_nothing_passes_are_empty_and_those_of_its_path_are_not() -> None:
    cameras = turning()
    centres = np.random.default_rng(1).uniform(-1.5, 1.5, (3000, 3))
    inside, shown = votes_in_time(shapes(cameras), centres, 0.05)
    path = np.stack([place(t) for t in np.linspace(0, 1, 400)])
    distance = np.linalg.norm(centres[:, None] - path, axis=2).min(1)
    assert (inside > COUNT / 2).all()
    assert shown[distance < RADIUS].all()
    assert shown[distance > 3 * RADIUS].mean() < 0.1


def test_a_floor_that_goes_on_is_no_object() -> None:
    cameras = turning()
    ball = shapes(cameras)
    floor = [replace(s, map=s.map | (np.mgrid[:100, :100][0] > 50)) for s in ball]
    assert goes_on(floor) and not goes_on(ball)
