"""Captures in UTM or geocentric metres: what float32 renders is near the origin, what is exported is in the input's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuralfields.captures.check import check_scene
from neuralfields.captures.readers import read_scene
from neuralfields.evaluation.export import surface_mesh
from neuralfields.mesh.files import read_mesh, write_mesh
from neuralfields.models.nf_file import load, save
from neuralfields.scene import Bounds
from tests.support import make_captures

UTM = np.array([448262.3, 5411932.7, 312.4])
ECEF = np.array([4200952.1, 172460.9, 4780077.5])


def moved(pose: np.ndarray, by: np.ndarray) -> np.ndarray:
    pose = pose.copy()
    pose[:3, 3] += by
    return pose


def in_file(folder: Path, by: np.ndarray, **top: object) -> np.ndarray:
    """Writes a ring of cameras moved by a vector; their centres in the file."""
    poses = [moved(pose, by) for pose in make_captures.ring(16)]
    make_captures.transforms(folder, poses, **top)
    return np.stack([pose[:3, 3] for pose in poses])


@pytest.mark.parametrize("by", [UTM, ECEF])
@pytest.mark.parametrize("dialect", [{"fl_x": 40.0}, {"fl_x": 40.0, "aabb_scale": 4}, {"camera_angle_x": 0.8}])
def test_a_far_world_is_rendered_near_its_cameras(tmp_path: Path, by: np.ndarray, dialect: dict) -> None:
    centres = in_file(tmp_path / "far", by, **dialect)
    in_file(tmp_path / "near", np.zeros(3), **dialect)
    far, near = read_scene(tmp_path / "far"), read_scene(tmp_path / "near")
    assert near.bounds.origin == (0, 0, 0)
    here = np.stack([frame.camera.centre for frame in far.frames])
    assert np.abs(here).max() < 20
    assert here + far.bounds.origin == pytest.approx(centres, abs=1e-8)
    # In float32 they are as exact as around the origin: a millionth of their distance from each other.
    assert here.astype(np.float32) + np.float64(far.bounds.origin) == pytest.approx(centres, abs=1e-6)
    if "aabb_scale" in dialect:  # instant-ngp's box is where the file says, which is not where these cameras are
        assert np.add(far.bounds.centre, far.bounds.origin) == pytest.approx(near.bounds.centre, abs=1e-6)
    else:
        assert np.add(far.bounds.centre, far.bounds.origin) - by == pytest.approx(near.bounds.centre, abs=0.3)


def test_check_finds_no_fault_in_a_far_world(tmp_path: Path) -> None:
    in_file(tmp_path, UTM)
    report = check_scene(tmp_path)
    assert report.verdict == "good to fit"
    assert any("448" in line and "double precision" in line for line in report.description)


def test_sparse_points_are_moved_in_double_precision(tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (300, 3)) + UTM + (1.5, 0, 4)
    images = {i + 1: ([1.0, 0, 0, 0, *(-UTM - (i, 0, 0))], 7, f"a {i}.png") for i in range(4)}
    rows = make_captures.points_bin([(point.tolist(), [1, 2]) for point in points])
    make_captures.colmap(tmp_path, images=make_captures.images_bin(images), points3D=rows)
    scene = read_scene(tmp_path)
    assert scene.points.dtype == np.float32
    assert scene.points.astype(np.float64) + scene.bounds.origin == pytest.approx(points, abs=1e-6)


def test_a_scene_in_the_frame_of_a_model(tmp_path: Path) -> None:
    in_file(tmp_path, UTM)
    scene = read_scene(tmp_path)
    other = scene.about((448000.0, 5411000.0, 300.0))
    a, b = (np.stack([f.camera.centre for f in s.frames]) + s.bounds.origin for s in (scene, other))
    assert a == pytest.approx(b, abs=1e-8)
    assert np.add(scene.bounds.centre, scene.bounds.origin) == pytest.approx(
        np.add(other.bounds.centre, other.bounds.origin), abs=1e-8
    )


@pytest.mark.parametrize("suffix", [".ply", ".obj"])
def test_models_keep_the_origin_and_exports_go_back_to_it(small_model, tmp_path: Path, suffix: str) -> None:
    far = replace(small_model, bounds=replace(small_model.bounds, origin=tuple(UTM.tolist())))
    save(far, tmp_path / "far.nf")
    assert load(tmp_path / "far.nf").bounds == far.bounds
    near = surface_mesh(small_model, 24)
    write_mesh(tmp_path / f"far{suffix}", surface_mesh(load(tmp_path / "far.nf"), 24))
    assert read_mesh(tmp_path / f"far{suffix}").vertices - UTM == pytest.approx(near.vertices, abs=2e-8)


def test_files_without_an_origin_are_as_before(small_model, tmp_path: Path) -> None:
    save(small_model, tmp_path / "near.nf")
    assert b"origin" not in (tmp_path / "near.nf").read_bytes()[:20000].partition(b"made")[0]
    assert Bounds((0.0, 0.0, 0.0), 1.0).origin == (0, 0, 0)
