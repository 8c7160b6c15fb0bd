"""Inner cubes for every way cameras can stand, and for the real captures."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuralfields.cameras import Camera, pose_from_matrix
from neuralfields.captures.arrangement import arrange, nearest_point
from neuralfields.captures.bounds import (
    Hints,
    around_cube,
    common_cube,
    describe_bounds,
    estimate_bounds,
    find_bounds,
    points_in_view,
)
from neuralfields.captures.hull import Silhouette, object_bounds
from neuralfields.captures.readers import read_scene
from neuralfields.scene import Bounds
from tests.support import make_captures


def cameras(poses: list[np.ndarray]) -> list[Camera]:
    """50 degree cameras, from OpenGL matrices."""
    return [Camera(pose_from_matrix(pose, "opengl", "")[0], 100, 100, 107.0, 107.0, 50, 50) for pose in poses]


def inside(bounds: Bounds, points: np.ndarray) -> float:
    return float(np.mean(np.abs(points - bounds.centre).max(axis=-1) <= bounds.side / 2))


def test_nearest_point_of_crossing_axes_ignores_a_stray() -> None:
    ring = cameras(make_captures.ring(12, target=(1, 2, 3)))
    stray = cameras([make_captures.looking_at(np.array([9.0, 0, 0]), np.array([0.0, 50, 0]))])
    centres, forwards = (np.stack([getattr(c, name) for c in ring + stray]) for name in ("centre", "forward"))
    assert nearest_point(centres, forwards) == pytest.approx([1, 2, 3], abs=0.02)


def test_layouts() -> None:
    around = arrange(cameras(make_captures.ring(12)))
    assert (around.layout, around.ahead) == ("around", 1)
    assert arrange(cameras(make_captures.row(6))).layout == "forward"
    outward = make_captures.ring(12)
    for pose in outward:
        pose[:3, [0, 2]] *= -1
    out = arrange(cameras(outward))
    assert (out.layout, out.ahead) == ("outward", 0)


@pytest.mark.parametrize("radius", [0.01, 4.0, 3000.0])
def test_around_without_points_holds_all_cameras(radius: float) -> None:
    ring = cameras(make_captures.ring(12, radius, (5, 5, 5)))
    bounds, why = find_bounds(ring, None, "colmap")
    assert bounds.centre == pytest.approx((5, 5, 5), abs=1e-3 * radius)
    assert bounds.side == pytest.approx(2 * 1.1 * radius, rel=1e-2)
    assert (bounds.contraction, bounds.cascades, why) == ("cube", 7, "the cameras, which it holds")
    assert bounds.near == pytest.approx(0.02 * bounds.side)
    assert inside(bounds, np.stack([c.centre for c in ring])) == 1


@pytest.mark.parametrize("radius", [0.01, 4.0, 3000.0])
def test_what_cameras_see_together(radius: float) -> None:
    ring = cameras(make_captures.ring(12, radius, (5, 5, 5)))
    centre, half = common_cube(ring)
    assert centre == pytest.approx((5, 5, 5), abs=1e-3 * radius)
    assert half == pytest.approx(1.1 * 50 / 107 * radius * np.hypot(1, 0.5), rel=1e-3)  # tangent x distance
    bounds = around_cube(ring, centre, half)
    centres = np.stack([c.centre for c in ring])
    gap = np.linalg.norm(np.maximum(np.abs(centres - 5) - half, 0), axis=1).min()
    assert 0.2 * gap < bounds.near < 0.3 * gap  # a part of the way to the cube
    assert np.abs(centres - bounds.centre).max() < bounds.side * 2 ** (bounds.cascades - 2)
    wide = [replace(c, fx=40.0, fy=40.0) for c in ring]
    assert common_cube(wide)[1] == pytest.approx(1.1 * radius, rel=1e-2)  # no more than holds the cameras


def shapes(ring: list[Camera], radius: float, middle: np.ndarray, wrong: int = 0) -> list[Silhouette]:
    """Silhouettes of a ball, exactly; the first `wrong` of them empty."""
    v, u = np.mgrid[:100, :100] + 0.5
    found = []
    for index, camera in enumerate(ring):
        d = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones_like(u)], -1)
        d = d @ camera.world_from_camera[:3, :3].T
        d /= np.linalg.norm(d, axis=-1, keepdims=True)
        offset = middle - camera.centre
        along = d @ offset
        found.append(Silhouette(camera, (offset @ offset - along**2 < radius**2) & (index >= wrong)))
    return found


@pytest.mark.parametrize("scale", [1e-3, 1.0, 2e4])
def test_the_visual_hull_bounds_an_object(scale: float) -> None:
    ring = cameras(make_captures.ring(24, 4.0 * scale, tuple(scale * np.array([5.0, -3, 2]))))
    ball = scale * np.array([5.2, -3.1, 2.1])
    start = estimate_bounds(ring, None, "colmap")
    bounds = object_bounds(shapes(ring, 0.5 * scale, ball, wrong=1), ring)
    assert bounds.centre == pytest.approx(ball, abs=0.2 * scale)  # all cameras stand at one height
    assert 1.0 * scale < bounds.side < 1.6 * scale < 0.5 * start.side
    assert (bounds.contraction, bounds.cascades) == ("box", 1)


def test_silhouettes_that_do_not_agree_bound_nothing() -> None:
    ring = cameras(make_captures.ring(24))
    true = shapes(ring, 0.4, np.zeros(3))
    wrong = [replace(s, map=np.roll(s.map, 30 * (k % 3 - 1), 0)) for k, s in enumerate(true)]
    assert object_bounds(wrong, ring) is None


def test_one_stray_camera_does_not_blow_up_the_cube() -> None:
    ring = make_captures.ring(12)
    ring.append(make_captures.looking_at(np.array([400.0, 0, 0]), np.zeros(3)))
    bounds = estimate_bounds(cameras(ring), None, "colmap")
    assert bounds.side < 10
    assert bounds.side * 2 ** (bounds.cascades - 1) / 2 >= 400 / 2


def wall(depth: float, count: int = 4000) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.stack(
        [random.uniform(-4, 4, count), random.uniform(-3, 3, count), -depth + random.normal(0, 1, count)], 1
    )


def test_forward_facing_centres_on_the_points() -> None:
    side_by_side = cameras(make_captures.row(8))
    points = wall(12.0)
    bounds = estimate_bounds(side_by_side, points, "colmap")
    assert bounds.centre == pytest.approx((0, 0, -12), abs=1)
    assert inside(bounds, points) > 0.9
    # Depths are 12 +- 1; the 0.5 percentile is 2.58 below, half of which is the near distance.
    assert bounds.near == pytest.approx(0.5 * (12 - 2.58), abs=0.2)
    assert 4 <= bounds.cascades < 7


def test_a_far_background_does_not_swallow_the_cube() -> None:
    points = np.concatenate([wall(12.0), wall(12.0) * 100])
    bounds = estimate_bounds(cameras(make_captures.row(8)), points, "colmap")
    assert bounds.side < 3 * 24 * 1.1  # three harmonic means of the depths 12 and 1200
    assert inside(bounds, points[:4000]) > 0.8


def test_forward_facing_without_points() -> None:
    side_by_side = cameras(make_captures.row(8))
    hinted = estimate_bounds(side_by_side, None, "llff", Hints(near=6.0, far=18.0))
    assert hinted.centre[2] == pytest.approx(-12)
    assert hinted.near == pytest.approx(5.4)
    assert abs(-6 - hinted.centre[2]) <= hinted.side / 2
    plain = estimate_bounds(side_by_side, None, "colmap")
    assert plain.centre[2] < -1.75
    assert inside(plain, np.stack([c.centre for c in side_by_side])) == 1


def test_room_from_its_middle() -> None:
    outward = make_captures.ring(12, 0.5)
    for pose in outward:
        pose[:3, [0, 2]] *= -1
    random = np.random.default_rng(0).normal(size=(5000, 3))
    points = 3 * random / np.linalg.norm(random, axis=1, keepdims=True)
    bounds = estimate_bounds(cameras(outward), points, "colmap")
    assert np.linalg.norm(bounds.centre) < 0.5
    assert inside(bounds, points) > 0.75


@pytest.mark.parametrize("count", [1, 3])
def test_cameras_at_one_point_still_give_a_finite_cube(count: int) -> None:
    poses = [np.eye(4)] * count
    bounds = estimate_bounds(cameras(poses), None, "colmap")
    assert np.isfinite([*bounds.centre, bounds.side, bounds.near]).all()
    assert bounds.side > 0


def test_instant_ngp_box_by_hand() -> None:
    hints = Hints(aabb_scale=16, scale=0.5, offset=(0.5, 0.0, 1.0))
    bounds = estimate_bounds(cameras(make_captures.ring(4)), None, "transforms/instant-ngp", hints)
    # Its unit cube is 0.5 x + offset: x from -1 to 1, y from 0 to 2, z from -2 to 0; the offset precedes the cycling.
    assert bounds == Bounds((0.0, 1.0, -1.0), 2.0, 5, "box", 0.04)


def test_blender_box_follows_a_world_of_another_size() -> None:
    usual = estimate_bounds(cameras(make_captures.ring(8, 3.6)), None, "transforms/blender")
    assert usual == Bounds((0.0, 0.0, 0.0), 3.0)
    large = estimate_bounds(cameras(make_captures.ring(8, 300, (50, 0, 0))), None, "transforms/blender")
    assert large.centre == pytest.approx((50, 0, 0), abs=0.1)
    assert large.side == pytest.approx(1.1 * 300 * np.hypot(1, 0.5) * 100 / 107, rel=1e-3)


def test_points_in_view_does_not_trust_a_folding_lens() -> None:
    lens = Camera(np.eye(4), 100, 100, 100.0, 100.0, 50, 50, distortion=(-0.3, 0, 0, 0, 0, 0, 0, 0))
    points = np.array([[0, 0, 1], [0.4, 0, 1], [1.83, 0, 1], [0, 0, -1.0]])  # 1.83 (1 - 0.3 * 1.83^2) is nearly 0
    assert points_in_view(lens, points).tolist() == [True, True, False, False]


def test_statue_is_around_and_all_cameras_are_inside(shared_data: Path) -> None:
    scene = read_scene(shared_data / "captures" / "saharov_statue_32")
    centres = np.stack([frame.camera.centre for frame in scene.frames])
    assert inside(scene.bounds, centres) == 1
    assert np.abs(centres - scene.bounds.centre).max() > 0.4 * scene.bounds.side  # and not much larger
    assert scene.bounds.contraction == "cube"
    lines = describe_bounds(scene.bounds, [frame.camera for frame in scene.frames], scene.points, scene.because)
    assert "look inward" in lines[0]
    assert re.search("100% of the cameras inside", lines[1])
    assert lines[2] == "it follows the cameras, which it holds; --box sets another"


@pytest.mark.parametrize("name", ["llff_fern", "sceaux_castle_11"])
def test_forward_captures_keep_their_points_inside(shared_data: Path, name: str) -> None:
    scene = read_scene(shared_data / "captures" / name)
    assert arrange([frame.camera for frame in scene.frames]).layout == "forward"
    assert inside(scene.bounds, scene.points) > 0.85
    depths = [(scene.points - f.camera.centre) @ f.camera.forward for f in scene.frames]
    assert 0.3 * np.min(depths) < scene.bounds.near < np.percentile(depths, 0.5)
    assert scene.bounds.side * 2 ** (scene.bounds.cascades - 1) <= 128 * scene.bounds.side
