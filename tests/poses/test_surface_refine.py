"""Poses refined by a surface: outliers and poses of a known scene, no harm to good poses, and the verb."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neuralfields.cameras import quaternion
from neuralfields.captures.readers import read_scene
from neuralfields.cli import main
from neuralfields.poses import surface_refine
from neuralfields.poses.adjust import Bundle, _jacobians, _pairs, adjusted
from neuralfields.poses.surface_refine import refine
from neuralfields.poses.tracks import read_tracks, reprojection, triangulated
from neuralfields.supervision.alignment import rotations
from tests.support.tracks import FOCAL, SIDE, TrackScene, bumpy_scene, level


@pytest.fixture(scope="module")
def noisy() -> TrackScene:
    """A fifth of the keypoints wrong, half a pixel of noise."""
    return bumpy_scene(0.2, 0.5)


def test_outliers_are_found_and_poses_come_nearer(noisy: TrackScene, monkeypatch: pytest.MonkeyPatch):
    for name, value in (("ROUNDS", 2), ("FIRST_STEPS", 60), ("STEPS", 25)):
        monkeypatch.setattr(surface_refine, name, value)
    found = refine(noisy.given, noisy.pinhole, noisy.tracks)
    report = found.report
    assert report["refined"] and report["held_out_after"] < 0.7 * report["held_out_before"]
    one, other = _pairs(noisy.tracks)
    one, other = one[one < other], other[one < other]
    wrong, told = (mask[one] | mask[other] for mask in (noisy.outlier, ~found.inliers))
    both = float((wrong & told).sum())
    assert both / float(told.sum()) > 0.9 and both / float(wrong.sum()) > 0.9  # of matches: pairs of a track
    assert noisy.rotation_error(found.bundle.poses) < 0.7 * noisy.rotation_error(noisy.given)
    seen = noisy.tracks.lengths(found.inliers) >= 2
    linear = triangulated(noisy.given, noisy.pinhole, noisy.tracks, 2.0)
    after = noisy.point_error(found.bundle.points[seen], found.bundle.poses)
    assert after < 0.5 * noisy.point_error(linear[seen], noisy.given)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round with few steps of the surface: where what it finds is not the question."""
    for name, value in (("ROUNDS", 1), ("FIRST_STEPS", 40)):
        monkeypatch.setattr(surface_refine, name, value)


@pytest.mark.usefixtures("short")
def test_true_poses_with_exact_keypoints_stay():
    scene = bumpy_scene(0.0, 0.0, points=300)
    found = refine(scene.true, scene.pinhole, scene.tracks)
    assert not found.report["refined"] and torch.equal(found.bundle.poses, scene.true)
    assert found.report["held_out_before"] < 1e-3


def test_triangulation_is_exact_and_robust(noisy: TrackScene):
    exact = bumpy_scene(0.0, 0.0, points=200)
    points = triangulated(exact.true, exact.pinhole, exact.tracks)
    assert float(reprojection(exact.true, exact.pinhole, exact.tracks, points).abs().max()) < 1e-4
    assert np.abs(level(points.numpy())).max() < 1e-5
    long = (noisy.tracks.lengths() >= 5) & (noisy.tracks.lengths() - noisy.tracks.lengths(noisy.outlier) >= 4)
    errors = [
        np.abs(level(triangulated(noisy.true, noisy.pinhole, noisy.tracks, scale)[long].numpy())).mean()
        for scale in (0.0, 2.0)
    ]
    assert errors[1] < 0.2 * errors[0]


def test_jacobians_are_those_of_differences():
    scene = bumpy_scene(0.0, 0.0, points=40)
    bundle = Bundle(scene.given, scene.pinhole, triangulated(scene.true, scene.pinhole, scene.tracks))
    _, by_motion, by_point = _jacobians(bundle, scene.tracks)

    def moved(motion: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        poses = bundle.poses.clone()
        poses[:, :3, :3] = rotations(motion[:, :3]) @ bundle.poses[:, :3, :3]
        poses[:, :3, 3] = bundle.poses[:, :3, 3] + motion[:, 3:]
        return reprojection(poses, bundle.pinhole, scene.tracks, bundle.points + shift)

    count = len(bundle.poses)
    for k in range(9):
        step = torch.zeros(9, dtype=torch.float64)
        step[k] = 1e-6
        ahead, behind = (moved((s * step[:6]).expand(count, 6), s * step[6:]) for s in (1, -1))
        wanted = (ahead - behind) / 2e-6
        found = by_motion[:, :, k] if k < 6 else by_point[:, :, k - 6]
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)


def test_an_adjustment_without_noise_finds_the_poses():
    scene = bumpy_scene(0.0, 0.0, points=300)
    begun = Bundle(scene.given, scene.pinhole, triangulated(scene.given, scene.pinhole, scene.tracks))
    done = adjusted(begun, scene.tracks, None, 1e3, 15)
    assert scene.rotation_error(done.poses) < 0.01 * scene.rotation_error(scene.given)


def write_capture(folder: Path, scene: TrackScene) -> None:
    """A COLMAP capture of a scene of tracks, with black photos."""
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    (folder / "images").mkdir()
    lens = struct.pack("<QiiQQ4d", 1, 1, 1, SIDE, SIDE, FOCAL, FOCAL, SIDE / 2, SIDE / 2)
    (model / "cameras.bin").write_bytes(lens)
    images, points = [struct.pack("<Q", len(scene.given))], [struct.pack("<Q", scene.tracks.points)]
    for number, pose in enumerate(scene.given.numpy()):
        turn = pose[:3, :3].T
        rows = torch.nonzero(scene.tracks.camera == number).flatten()
        head = struct.pack("<I4d3dI", number + 1, *quaternion(turn), *(-turn @ pose[:3, 3]), 1)
        body = b"".join(
            struct.pack("<ddq", *scene.tracks.xy[row].tolist(), int(scene.tracks.point[row])) for row in rows
        )
        images.append(head + f"{number:02d}.png".encode() + b"\0" + struct.pack("<Q", len(rows)) + body)
        Image.new("RGB", (SIDE, SIDE)).save(folder / "images" / f"{number:02d}.png")
    place = triangulated(scene.given, scene.pinhole, scene.tracks, 2.0)
    for number, x in enumerate(place.tolist()):
        rows = torch.nonzero(scene.tracks.point == number).flatten()
        track = b"".join(struct.pack("<II", int(scene.tracks.camera[row]) + 1, 0) for row in rows)
        points.append(struct.pack("<Q3d3BdQ", number, *x, 9, 9, 9, 0.5, len(rows)) + track)
    (model / "images.bin").write_bytes(b"".join(images))
    (model / "points3D.bin").write_bytes(b"".join(points))


@pytest.mark.usefixtures("short")
def test_the_verb_writes_a_capture(noisy: TrackScene, tmp_path: Path, capsys):
    write_capture(tmp_path / "a", noisy)
    tracks, names = read_tracks(tmp_path / "a" / "sparse" / "0" / "images.bin")
    assert len(tracks) == len(noisy.tracks) and names[3] == "03.png"
    words = ["poses", str(tmp_path / "a"), "--refine", "surface", "-o", str(tmp_path / "b"), "--threads", "1"]
    assert main([*words, "--quiet"]) == 0
    assert "poses refined: " in capsys.readouterr().out
    scene = read_scene(tmp_path / "b")
    poses = torch.from_numpy(np.stack([frame.camera.world_from_camera for frame in scene.frames]))
    assert noisy.rotation_error(poses) < 0.7 * noisy.rotation_error(noisy.given)
    assert json.loads((tmp_path / "b" / "poses.json").read_text())["refined"]
    assert main([*words, "--quiet"]) == 2 and "add --overwrite" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "a" / "sparse")
    assert main(["poses", str(tmp_path / "b"), "--refine", "surface", "-o", str(tmp_path / "c"), "--quiet"]) == 3
    assert "has no COLMAP model with matches" in capsys.readouterr().err
