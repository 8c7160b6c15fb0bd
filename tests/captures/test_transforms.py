"""transforms.json in its three dialects, against hand-computed cameras and against real captures."""

import json
from pathlib import Path

import numpy as np
import pytest

from neuralfields.cameras import Camera, project
from neuralfields.captures.readers import read_capture, read_scene
from neuralfields.errors import InputError
from tests.support import make_captures


def test_opengl_pose_by_hand(tmp_path: Path) -> None:
    # At (1, 2, 3), looking along world -z with +y up: OpenGL's identity.
    poses = [np.eye(4) for _ in range(3)]
    poses[0][:3, 3] = 1, 2, 3
    make_captures.transforms(tmp_path, poses)
    camera = read_scene(tmp_path).frames[0].camera
    assert camera.centre.tolist() == [1, 2, 3]
    assert camera.forward.tolist() == [0, 0, -1]
    # A point 4 ahead, 1 to the right and 1 up: u = 16 + 40 / 4, v = 12 - 40 / 4.
    pixels, depth = project(camera, np.array([2.0, 3.0, -1.0]))
    assert depth == 4
    assert pixels == pytest.approx([26, 2])


FOCALS = {
    "fl_x alone": ({"fl_x": 40.0}, (40, 40)),
    "fl_x and fl_y": ({"fl_x": 40.0, "fl_y": 30.0}, (40, 30)),
    "fl_y alone": ({"fl_y": 30.0}, (30, 30)),
    "angle x": ({"camera_angle_x": 2 * np.arctan(0.5)}, (32, 32)),
    "angle y": ({"camera_angle_y": 2 * np.arctan(0.5)}, (24, 24)),
    "both angles": ({"camera_angle_x": 2 * np.arctan(0.5), "camera_angle_y": 2 * np.arctan(1.0)}, (32, 12)),
    "fl_x wins": ({"fl_x": 40.0, "camera_angle_x": 1.0}, (40, 40)),
}


@pytest.mark.parametrize("name", FOCALS)
@pytest.mark.parametrize("declared", [True, False])
def test_focal_lengths(tmp_path: Path, name: str, declared: bool) -> None:
    top, focal = FOCALS[name]
    size = {"w": 32, "h": 24} if declared else {}
    make_captures.transforms(tmp_path, **top, **size)
    camera = read_scene(tmp_path).frames[0].camera
    assert (camera.fx, camera.fy) == pytest.approx(focal)
    assert (camera.width, camera.height, camera.cx, camera.cy) == (32, 24, 16, 12)


def test_disagreeing_angle_is_warned_about_once(tmp_path: Path) -> None:
    make_captures.transforms(tmp_path, fl_x=40.0, camera_angle_x=2 * np.arctan(16 / 40.3), w=32, h=24)
    assert read_scene(tmp_path).warnings == ()
    make_captures.transforms(tmp_path, fl_x=40.0, camera_angle_x=2 * np.arctan(16 / 41), w=32, h=24)
    (warning,) = read_scene(tmp_path).warnings
    assert "camera_angle_x means 41" in warning


def test_frame_intrinsics_win_over_shared_ones(tmp_path: Path) -> None:
    document = make_captures.transforms(tmp_path, camera_angle_x=1.0, k1=0.1, cx=15.0, w=32, h=24)
    document["frames"][2].update(fl_x=50.0, k1=0.2)
    make_captures.save(tmp_path, document)
    frames = read_scene(tmp_path).frames
    assert (frames[2].camera.fx, frames[2].camera.fy, frames[2].camera.cx) == (50, 50, 15)
    assert [f.camera.distortion[0] for f in frames[1:3]] == [0.1, 0.2]


def test_distortion_order(tmp_path: Path) -> None:
    values = {"k1": 0.1, "k2": 0.2, "k3": 0.3, "p1": 0.01, "p2": 0.02}
    make_captures.transforms(tmp_path, fl_x=40.0, camera_model="OPENCV", **values)
    assert read_scene(tmp_path).frames[0].camera.distortion == (0.1, 0.2, 0.01, 0.02, 0.3, 0, 0, 0)
    make_captures.transforms(tmp_path, fl_x=40.0, camera_model="OPENCV_FISHEYE", k4=0.4, **values)
    camera = read_scene(tmp_path).frames[0].camera
    assert (camera.model, camera.distortion) == ("fisheye", (0.1, 0.2, 0.3, 0.4, 0, 0, 0, 0))
    make_captures.transforms(tmp_path, fl_x=40.0, is_fisheye=True, k1=0.1)
    assert read_scene(tmp_path).frames[0].camera.model == "fisheye"
    make_captures.transforms(tmp_path, fl_x=40.0, camera_model="FULL_OPENCV", k4=0.4, k6=0.6)
    assert read_scene(tmp_path).frames[0].camera.distortion == (0, 0, 0, 0, 0, 0.4, 0, 0.6)


def test_eighth_order_term_is_replaced_by_the_nearest_sixth(tmp_path: Path) -> None:
    make_captures.transforms(tmp_path, fl_x=40.0, camera_model="OPENCV", k1=-0.1, k4=0.05)
    k1, k2, _, _, k3, *rest = read_scene(tmp_path).frames[0].camera.distortion
    r = np.linspace(0, 0.5, 50)
    assert r * (k1 * r**2 + k2 * r**4 + k3 * r**6) == pytest.approx(r * (-0.1 * r**2 + 0.05 * r**8), abs=2e-6)
    assert rest == [0, 0, 0]


def test_dialects_are_told_apart(tmp_path: Path) -> None:
    kinds = {
        "blender": {"camera_angle_x": 0.7},
        "instant-ngp": {"fl_x": 40.0, "aabb_scale": 4},
        "nerfstudio": {"fl_x": 40.0, "camera_model": "OPENCV"},
    }
    for name, top in kinds.items():
        make_captures.transforms(tmp_path, **top)
        assert read_scene(tmp_path).kind == f"transforms/{name}"


def test_blender_files_carry_their_split(tmp_path: Path) -> None:
    poses = make_captures.ring(12)
    for part, chosen in {"train": poses[:7], "val": poses[7:9], "test": poses[9:]}.items():
        document = make_captures.transforms(tmp_path, chosen, f"transforms_{part}.json", camera_angle_x=0.7)
        for i, frame in enumerate(document["frames"]):
            make_captures.photo(tmp_path / part / f"r_{i}.png", mode="RGBA", seed=i)
            frame["file_path"] = f"./{part}/r_{i}"
        make_captures.save(tmp_path, document, f"transforms_{part}.json")
    scene = read_scene(tmp_path)
    assert [scene.frames[i].name for i in scene.test] == ["test/r_0.png", "test/r_1.png", "test/r_2.png"]
    assert [scene.frames[i].name for i in scene.train] == [f"train/r_{i}.png" for i in range(7)]
    assert scene.has_alpha
    assert scene.bounds.side == 3.0 and scene.bounds.contraction == "box"
    (tmp_path / "transforms_test.json").unlink()
    scene = read_scene(tmp_path / "transforms_train.json")
    assert [scene.frames[i].name for i in scene.test] == ["val/r_0.png", "val/r_1.png"]


def test_a_photo_on_both_sides_is_held_out(tmp_path: Path) -> None:
    poses = make_captures.ring(8)
    make_captures.transforms(tmp_path, poses, "transforms_train.json", camera_angle_x=0.7)
    make_captures.transforms(tmp_path, poses[:2], "transforms_test.json", camera_angle_x=0.7)
    scene = read_scene(tmp_path)
    assert (scene.test, scene.train) == ((0, 1), (2, 3, 4, 5, 6, 7))
    assert any("listed twice" in warning for warning in scene.warnings)


def test_nerfstudio_split_masks_and_names(tmp_path: Path) -> None:
    document = make_captures.transforms(tmp_path, fl_x=40.0, camera_model="PINHOLE")
    names = [frame["file_path"] for frame in document["frames"]]
    document |= {"train_filenames": names[:4], "val_filenames": names[4:6], "test_filenames": ["./" + names[7]]}
    make_captures.photo(tmp_path / "masks/3.png", mode="L")
    document["frames"][3]["mask_path"] = "masks/3.png"
    make_captures.save(tmp_path, document)
    scene = read_scene(tmp_path)
    assert (scene.train, scene.test) == ((0, 1, 2, 3), (7,))
    assert [frame.mask_path is not None for frame in scene.frames] == [i == 3 for i in range(8)]
    assert scene.bounds.contraction == "cube"


def test_every_eighth_by_name_is_held_out(tmp_path: Path) -> None:
    document = make_captures.transforms(tmp_path, make_captures.ring(17))
    document["frames"].reverse()
    make_captures.save(tmp_path, document)
    scene = read_scene(tmp_path)
    assert [scene.frames[i].name for i in scene.test] == ["images/0000.png", "images/0008.png", "images/0016.png"]
    assert sorted(scene.train + scene.test) == list(range(17))


def test_suffix_case_and_backslashes(tmp_path: Path) -> None:
    document = make_captures.transforms(tmp_path)
    (tmp_path / "images/0002.png").rename(tmp_path / "images/0002.JPG")
    names = ["images/0000", "images\\0001.png", "images/0002", "Images/../images/0003.PNG"]
    for frame, name in zip(document["frames"], names, strict=False):
        frame["file_path"] = name
    make_captures.save(tmp_path, document)
    found = [frame.name for frame in read_scene(tmp_path).frames]
    assert found[:4] == ["images/0000.png", "images/0001.png", "images/0002.JPG", "images/0003.png"]


def test_intrinsics_follow_smaller_files_of_the_same_shape(tmp_path: Path) -> None:
    make_captures.transforms(tmp_path, fl_x=400.0, cx=150.0, w=320, h=240)
    scene = read_scene(tmp_path)
    camera = scene.frames[0].camera
    assert (camera.width, camera.height, camera.fx, camera.cx) == (32, 24, 40, 15)
    assert "8 photos: files are 32x24" in scene.warnings[0]
    make_captures.transforms(tmp_path, fl_x=400.0, w=330, h=240)
    with pytest.raises(InputError, match=r"0000\.png' is 32x24 but the intrinsics are for 330x240"):
        read_scene(tmp_path)


def test_uniform_scale_is_reported(tmp_path: Path) -> None:
    poses = make_captures.ring(8)
    for pose in poses:
        pose[:3, :3] *= 3
    make_captures.transforms(tmp_path, poses)
    scene = read_scene(tmp_path)
    assert "rotations of 8 frames are scaled by 3" in scene.warnings[0]
    assert np.linalg.norm(scene.frames[0].camera.centre) == pytest.approx(4 * np.hypot(1, 0.5))


def test_fox_lists_67_of_which_50_exist(shared_data: Path) -> None:
    folder = shared_data / "captures" / "ngp_fox"
    scene = read_scene(folder)
    assert (len(scene.frames), len(scene.train), len(scene.test)) == (50, 43, 7)
    assert [w for w in scene.warnings if w.startswith("17 of 67 listed photos do not exist")] == list(scene.warnings)
    assert len(read_capture(folder).missing) == 17
    first = json.loads((folder / "transforms.json").read_text())["frames"][0]
    matrix = np.array(first["transform_matrix"])
    camera = scene.frames[0].camera
    assert camera.world_from_camera[:, 0] == pytest.approx(matrix[:, 0], abs=1e-5)
    assert camera.world_from_camera[:, 1] == pytest.approx(-matrix[:, 1], abs=1e-5)
    assert camera.world_from_camera[:, 2] == pytest.approx(-matrix[:, 2], abs=1e-5)
    assert camera.centre == pytest.approx(matrix[:3, 3])
    assert camera.distortion == (0.0578421, -0.0805099, -0.000980296, 0.00015575, 0, 0, 0, 0)
    bounds = scene.bounds
    assert (bounds.centre, bounds.cascades, bounds.contraction) == ((0, 0, 0), 3, "box")
    assert bounds.side == pytest.approx(1 / 0.33)


def test_chair_has_87_to_train_on_and_13_held_out(shared_data: Path) -> None:
    scene = read_scene(shared_data / "captures" / "synthetic_chair")
    assert (scene.kind, len(scene.train), len(scene.test)) == ("transforms/blender", 87, 13)
    assert scene.has_alpha and scene.warnings == ()
    assert scene.frames[0].camera.fx == pytest.approx(200 / np.tan(0.6911112070083618 / 2))


def bundler_tracks(path: Path) -> list[tuple[np.ndarray, list[tuple[int, float, float]]]]:
    """Points of a Bundler file with their (camera, x, y); x to the right and y up from the middle of the photo."""
    numbers = iter(path.read_text().split("\n", 1)[1].split())
    cameras, points = int(next(numbers)), int(next(numbers))
    for _ in range(cameras * 15):
        next(numbers)
    tracks = []
    for _ in range(points):
        position = np.array([float(next(numbers)) for _ in range(6)][:3])
        views = []
        for _ in range(int(next(numbers))):
            camera, _, x, y = (float(next(numbers)) for _ in range(4))
            views.append((int(camera), x, y))
        tracks.append((position, views))
    return tracks


def test_tracks_of_the_statue_reproject(shared_data: Path) -> None:
    folder = shared_data / "captures" / "saharov_statue_32"
    cameras: list[Camera] = [frame.camera for frame in read_scene(folder).frames]
    seen: dict[int, list[tuple[np.ndarray, float, float]]] = {}
    for position, views in bundler_tracks(folder / "cameras.out"):
        for camera, x, y in views:
            seen.setdefault(camera, []).append((position, x, y))
    errors = []
    for camera, told in seen.items():
        pixels, depths = project(cameras[camera], np.stack([position for position, _, _ in told]))
        assert (depths > 0).all()
        errors += [np.hypot(u - 546 - x, v - 364 + y) for (u, v), (_, x, y) in zip(pixels, told, strict=True)]
    assert len(errors) > 10_000
    assert np.median(errors) < 0.5


@pytest.mark.parametrize("name", ["K", "intrinsic_matrix"])
@pytest.mark.parametrize("shared", [False, True])
def test_intrinsics_as_a_matrix(tmp_path: Path, name: str, shared: bool) -> None:
    document = make_captures.transforms(tmp_path, w=32, h=24, aabb_scale=1)
    matrix = [[40.0, 0, 15.0, 0], [0, 41.0, 11.0, 0], [0, 0, 1, 0], [0, 0, 0, 1]][: 4 if name != "K" else 3]
    if shared:
        document[name] = matrix
    for frame in [] if shared else document["frames"]:
        frame[name] = matrix
    make_captures.save(tmp_path, document)
    camera = read_scene(tmp_path).frames[1].camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (40, 41, 15, 11)
    document["frames"][1]["fl_x"] = 50.0  # what is said in the usual way comes first
    make_captures.save(tmp_path, document)
    assert read_scene(tmp_path).frames[1].camera.fx == 50
    (document if shared else document["frames"][0])[name] = [[40.0, 3.0, 16.0], [0, 40.0, 12.0], [0, 0, 1]]
    make_captures.save(tmp_path, document)
    with pytest.raises(InputError, match="skew of 3"):
        read_scene(tmp_path)


def test_time_depth_and_points_are_said(tmp_path: Path) -> None:
    document = make_captures.transforms(tmp_path)
    for index, frame in enumerate(document["frames"]):
        frame |= {"time": index / 8, "depth_file_path": f"depth/{index}.png"}
    make_captures.save(tmp_path, document | {"ply_file_path": "sparse.ply"})
    scene = read_scene(tmp_path)
    lines = "\n".join(scene.warnings)
    assert scene.bounds.times == (0.0, 1.0) and "8 frames name depth files" in lines
    assert "ply_file_path 'sparse.ply' does not exist" in lines
    for frame in document["frames"]:
        frame |= {"time": 0.5}
        del frame["depth_file_path"]
    make_captures.save(tmp_path, document)
    assert read_scene(tmp_path).warnings == ()  # one instant is a still scene


def test_frames_without_leading_zeros_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    document = make_captures.transforms(tmp_path, make_captures.ring(12))
    for index, frame in enumerate(document["frames"]):
        make_captures.photo(tmp_path / f"images/{index}.png", seed=index)
        frame["file_path"] = f"images/{index}.png"
    make_captures.save(tmp_path, document)
    scene = read_scene(tmp_path)
    assert [frame.path.stem for frame in scene.frames] == [str(index) for index in range(12)]
    # Held out are those that programs hold out that sort by text: 0, 1, 10, 11, 2, ...: the 1st and the 9th.
    assert [scene.frames[index].path.stem for index in scene.test] == ["0", "6"]
