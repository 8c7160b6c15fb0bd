"""`nf check` on captures with one thing wrong each, and on the real ones."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from neuralfields.captures.check import Report, check_scene
from neuralfields.captures.preview import laplacian_variance
from neuralfields.verbs.check import text
from tests.support import make_captures


def messages(report: Report, level: str | None = None) -> str:
    return "\n".join(p.message for p in report.problems if level in (None, p.level))


def scene(folder: Path, poses: list[np.ndarray] | None = None, **top: object) -> Path:
    make_captures.transforms(folder, make_captures.ring(16) if poses is None else poses, **top)
    return folder


def test_a_good_capture(tmp_path: Path) -> None:
    report = check_scene(scene(tmp_path))
    assert report.problems == ()
    assert (report.usable, report.verdict, report.kind) == (True, "good to fit", "transforms/nerfstudio")
    assert (report.listed, report.existing, report.train, report.test) == (16, 16, 14, 2)
    assert report.lenses[0].field_of_view == pytest.approx(np.degrees(2 * np.arctan([0.4, 0.3])))
    assert (report.layout, report.point_ahead) == ("around", 1)


def test_report_is_plain_data_and_text(tmp_path: Path) -> None:
    result = check_scene(scene(tmp_path)).as_dict()
    assert json.loads(json.dumps(result, allow_nan=False))["bounds"]["contraction"] == "cube"
    shown = text(result)
    assert "16 photos, 14 to train on, 2 held out" in shown
    assert shown.endswith("good to fit")


def test_missing_photos_are_named(tmp_path: Path) -> None:
    scene(tmp_path)
    (tmp_path / "images/0003.png").unlink()
    report = check_scene(tmp_path)
    assert report.missing == ("images/0003.png",)
    assert "1 of 16 listed photos do not exist" in messages(report, "warning")


def test_opencv_axes_in_an_opengl_format(tmp_path: Path) -> None:
    poses = [pose @ np.diag([1.0, -1, -1, 1]) for pose in make_captures.ring(16)]
    report = check_scene(scene(tmp_path, poses))
    assert report.point_ahead == 0
    assert "100% of the cameras look away" in messages(report, "warning")
    assert "OpenCV axes" in report.problems[0].remedy


def test_world_to_camera_matrices(tmp_path: Path) -> None:
    poses = [np.linalg.inv(pose) for pose in make_captures.ring(16, target=(3, 1, 0))]
    assert "world-to-camera" in messages(check_scene(scene(tmp_path, poses)), "warning")


def test_points_behind_the_cameras(tmp_path: Path) -> None:
    # The COLMAP model beside it has its points at z = +5; OpenGL cameras with these matrices look along -z.
    folder = make_captures.colmap(tmp_path)
    poses = [np.eye(4) for _ in range(4)]
    for i, pose in enumerate(poses):
        pose[0, 3] = i
    assert (folder / "points3D.bin").exists()
    report = check_scene(scene(tmp_path, poses, fl_x=30.0))
    assert "lie behind the cameras" in messages(report, "warning")
    assert report.points == 0


def test_cameras_at_one_point(tmp_path: Path) -> None:
    poses = make_captures.ring(16)
    for pose in poses:
        pose[:3, 3] = 1, 2, 3
    report = check_scene(scene(tmp_path, poses))
    assert "all cameras stand at one point" in messages(report, "error")
    assert not report.usable
    assert report.verdict == "not usable as it is: 1 error"


def test_near_identical_cameras(tmp_path: Path) -> None:
    poses = make_captures.ring(16)
    poses[5] = poses[4].copy()
    poses[5][0, 3] += 1e-4
    assert "images/0004.png = images/0005.png" in messages(check_scene(scene(tmp_path, poses)), "note")


def test_a_stray_camera(tmp_path: Path) -> None:
    poses = make_captures.ring(16)
    poses[3] = make_captures.looking_at(np.array([90.0, 0, 0]), np.zeros(3))
    assert "images/0003.png" in messages(check_scene(scene(tmp_path, poses)), "warning")


ODD_LENSES = {
    "narrow": ({"fl_x": 900.0}, "field of view is 2 degrees"),
    "wide": ({"fl_x": 5.0}, "field of view is 145 degrees"),
    "off centre": ({"fl_x": 40.0, "cx": 3.0}, "principal point"),
    "unequal": ({"fl_x": 40.0, "fl_y": 50.0}, "focal lengths differ"),
    "folding": ({"fl_x": 20.0, "k1": -0.9}, "folds back"),
}


@pytest.mark.parametrize("name", ODD_LENSES)
def test_odd_lenses(tmp_path: Path, name: str) -> None:
    top, says = ODD_LENSES[name]
    assert says in messages(check_scene(scene(tmp_path, **top)), "warning")


@pytest.mark.parametrize(("level", "warned"), [(255, True), (0, True), (None, False)])
def test_masks_that_keep_nearly_all_or_nothing(tmp_path: Path, level: int | None, warned: bool) -> None:
    document = make_captures.transforms(tmp_path, make_captures.ring(16))
    mask = np.zeros((24, 32), dtype=np.uint8)
    mask[:12] = 255
    Image.fromarray(mask if level is None else np.full_like(mask, level)).save(tmp_path / "mask.png")
    for frame in document["frames"]:
        frame["mask_path"] = "mask.png"
    make_captures.save(tmp_path, document)
    report = check_scene(tmp_path)
    assert report.masks == 16
    assert report.kept == ((0.5,) * 3 if level is None else (level / 255,) * 3)
    assert ("black is ignored" in messages(report, "warning")) == warned


def test_alpha_share(tmp_path: Path) -> None:
    scene(tmp_path)
    for path in (tmp_path / "images").iterdir():
        pixels = np.full((24, 32, 4), 100, dtype=np.uint8)
        pixels[::2, :, 0] = 255
        pixels[:, :, 3] = np.where(np.arange(32) < 8, 0, 255)
        Image.fromarray(pixels).save(path)
    report = check_scene(tmp_path)
    assert report.alpha == 0.25
    assert "nothing in them" not in messages(report)


def test_the_blurred_photo_is_named(tmp_path: Path) -> None:
    scene(tmp_path)
    with Image.open(tmp_path / "images/0006.png") as image:
        soft = image.filter(ImageFilter.GaussianBlur(3))
    soft.save(tmp_path / "images/0006.png")
    assert check_scene(tmp_path).blurred == ("images/0006.png",)


def test_broken_and_flat_photos(tmp_path: Path) -> None:
    scene(tmp_path)
    broken = tmp_path / "images/0001.png"
    broken.write_bytes(broken.read_bytes()[:900])
    Image.new("RGB", (32, 24), (7, 7, 7)).save(tmp_path / "images/0002.png")
    report = check_scene(tmp_path)
    assert "1 of 16 photos cannot be decoded" in messages(report, "warning")
    assert "1 photos have nothing in them: images/0002.png" in messages(report, "warning")


def test_laplacian_by_hand() -> None:
    grey = np.zeros((3, 4))
    grey[1, 1] = 1
    # Laplacians of the two inner pixels: -4 and 1, mean -1.5, variance 6.25.
    assert laplacian_variance(grey) == 6.25


@pytest.mark.parametrize(
    ("name", "kind", "layout"),
    [
        ("ngp_fox", "transforms/instant-ngp", "around"),
        ("saharov_statue_32", "transforms/nerfstudio", "around"),
        ("sceaux_castle_11", "colmap", "forward"),
        ("synthetic_chair", "transforms/blender", "around"),
    ],
)
def test_real_captures_are_usable_and_checked_quickly(shared_data: Path, name: str, kind: str, layout: str) -> None:
    begun = time.process_time()
    report = check_scene(shared_data / "captures" / name)
    assert (report.kind, report.layout, report.usable) == (kind, layout, True)
    assert "look away" not in messages(report)
    assert time.process_time() - begun < 10
