"""COLMAP models, binary and text: hand-computed cameras, every lens model, real reprojection."""

import struct
from pathlib import Path

import numpy as np
import pytest

from neuralfields.cameras import Camera, project
from neuralfields.captures.colmap_files import (
    MODELS,
    read_cameras_bin,
    read_cameras_txt,
    read_images_bin,
    read_images_txt,
    read_points_bin,
    read_points_txt,
)
from neuralfields.captures.readers import read_scene
from neuralfields.errors import InputError
from tests.support import make_captures
from tests.support.make_captures import SIZE, cameras_bin, colmap, images_bin, points_bin


def test_pose_by_hand(tmp_path: Path) -> None:
    # A quarter turn about y: camera_from_world takes world x to -z, world z to x; then t = (1, 2, 3).
    half = np.sqrt(0.5)
    images = {i: ([half, 0, half, 0, 1, 2, 3], 7, f"a {i - 1}.png") for i in (1, 2, 3)}
    colmap(tmp_path, images=images_bin(images), points3D=points_bin([]))
    camera = read_scene(tmp_path).frames[0].camera
    rotation = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0.0]])
    assert camera.world_from_camera[:3, :3] == pytest.approx(rotation.T, abs=1e-12)
    assert camera.centre == pytest.approx(-rotation.T @ [1, 2, 3])
    world = np.array([-5.0, 1.0, 2.0])
    local = rotation @ world + [1, 2, 3]  # (3, 3, 8)
    pixels, depth = project(camera, world)
    assert depth == pytest.approx(8)
    assert pixels == pytest.approx([16 + 30 * local[0] / 8, 12 + 31 * local[1] / 8])


def image_line(number: int, name: str) -> str:
    return f"{number} 1 0 0 0 {number} 0 0 7 {name}"


@pytest.mark.parametrize("names", [["a.png", "b.png", "c.png"], ["a 1 2", "b 3 4", "c 5 6"], ["1", "2", "3"]])
@pytest.mark.parametrize("second", ["absent", "empty", "keypoints", "mixed"])
def test_images_with_and_without_lines_of_keypoints(tmp_path: Path, names: list[str], second: str) -> None:
    """Some programs leave the second line out; no image is then taken for keypoints, nor keypoints for an image."""
    lines = ["# Image list"]
    for index, name in enumerate(names):
        lines.append(image_line(index + 1, name))
        if second == "empty" or (second == "mixed" and index == 1):
            lines.append("")
        elif second == "keypoints" or (second == "mixed" and index == 2):
            lines.append(" ".join(f"{k}.5 {k} {-1 if k % 2 else k}" for k in range(5 * index + 4)))
    (tmp_path / "images.txt").write_text("\n".join(lines) + "\n")
    assert [image.name for image in read_images_txt(tmp_path / "images.txt").values()] == names


def test_a_line_that_is_neither_image_nor_keypoints(tmp_path: Path) -> None:
    (tmp_path / "images.txt").write_text(image_line(1, "a.png") + "\n1.0 2.0\n")
    with pytest.raises(InputError, match="line 2: 2 words where 10 are needed"):
        read_images_txt(tmp_path / "images.txt")
    (tmp_path / "images.txt").write_text(image_line(1, "a.png") + "\n\n" + image_line(1, "b.png") + "\n")
    with pytest.raises(InputError, match="line 3: image 1 is there twice"):
        read_images_txt(tmp_path / "images.txt")


LENSES = {
    "SIMPLE_PINHOLE": ([30.0, 16, 12], (30, 30), "perspective", (0,) * 8),
    "PINHOLE": ([30.0, 31, 16, 12], (30, 31), "perspective", (0,) * 8),
    "SIMPLE_RADIAL": ([30.0, 16, 12, 0.1], (30, 30), "perspective", (0.1, 0, 0, 0, 0, 0, 0, 0)),
    "RADIAL": ([30.0, 16, 12, 0.1, 0.2], (30, 30), "perspective", (0.1, 0.2, 0, 0, 0, 0, 0, 0)),
    "OPENCV": ([30.0, 31, 16, 12, 1, 2, 3, 4], (30, 31), "perspective", (1, 2, 3, 4, 0, 0, 0, 0)),
    "OPENCV_FISHEYE": ([30.0, 31, 16, 12, 1, 2, 3, 4], (30, 31), "fisheye", (1, 2, 3, 4, 0, 0, 0, 0)),
    "FULL_OPENCV": ([30.0, 31, 16, 12, *range(1, 9)], (30, 31), "perspective", (1, 2, 3, 4, 5, 6, 7, 8)),
    "SIMPLE_RADIAL_FISHEYE": ([30.0, 16, 12, 0.1], (30, 30), "fisheye", (0.1, 0, 0, 0, 0, 0, 0, 0)),
    "RADIAL_FISHEYE": ([30.0, 16, 12, 0.1, 0.2], (30, 30), "fisheye", (0.1, 0.2, 0, 0, 0, 0, 0, 0)),
}


def test_every_model_is_tested() -> None:
    assert {name for name, _ in MODELS.values()} == set(LENSES)


@pytest.mark.parametrize("name", LENSES)
def test_lens_models_in_both_encodings(tmp_path: Path, name: str) -> None:
    values, focal, model, distortion = LENSES[name]
    (tmp_path / "cameras.bin").write_bytes(cameras_bin({3: (make_captures.COLMAP_IDS[name], *SIZE, values)}))
    (tmp_path / "cameras.txt").write_text(f"# comment\n3 {name} 32 24 {' '.join(map(str, values))}\n")
    for cameras in (read_cameras_bin(tmp_path / "cameras.bin"), read_cameras_txt(tmp_path / "cameras.txt")):
        camera = cameras[3].posed(np.eye(4))
        assert (camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy) == (*SIZE, *focal, 16, 12)
        assert (camera.model, camera.distortion) == (model, distortion)


def test_names_with_spaces_and_folders(tmp_path: Path) -> None:
    names = ["left side/photo 1.png", "left side/photo 2.png", "right/ü%20.png"]
    colmap(tmp_path, names)
    assert [frame.name for frame in read_scene(tmp_path).frames] == [f"images/{name}" for name in names]


def test_points_with_one_view_are_dropped(tmp_path: Path) -> None:
    colmap(tmp_path)
    points = read_scene(tmp_path).points
    assert points.dtype == np.float32
    assert points[:, 0] == pytest.approx(0.1 * np.arange(6))


def test_text_model_with_empty_keypoint_lines(tmp_path: Path) -> None:
    colmap(tmp_path)
    folder = tmp_path / "sparse/0"
    for file in folder.iterdir():
        file.unlink()
    (folder / "cameras.txt").write_text("# list\n7 PINHOLE 32 24 30 31 16 12\n")
    lines = [f"{i + 1} 1 0 0 0 {-i} 0 0 7 a {i}.png\n{'' if i % 2 else '1.0 2.0 -1'}\n" for i in range(4)]
    (folder / "images.txt").write_text("# list\n" + "".join(lines))
    (folder / "points3D.txt").write_text("1 0.5 0 5 1 2 3 0.1 1 0 2 0\n2 9 9 9 1 2 3 0.1 1 0\n")
    scene = read_scene(tmp_path)
    assert [frame.camera.centre[0] for frame in scene.frames] == [0, 1, 2, 3]
    assert scene.points.tolist() == [[0.5, 0, 5]]


def test_the_model_with_most_images_is_taken_and_said(tmp_path: Path) -> None:
    colmap(tmp_path, ["a.png", "b.png", "c.png"], "sparse/0")
    colmap(tmp_path, ["d.png", "e.png", "f.png", "g.png"], "sparse/1")
    scene = read_scene(tmp_path)
    assert len(scene.frames) == 4
    assert "2 COLMAP models: sparse/1 with 4 images is used, not sparse/0 with 3" in scene.warnings


def test_a_model_folder_finds_its_photos(tmp_path: Path) -> None:
    model = colmap(tmp_path)
    (model / "rigs.bin").write_bytes(b"of a newer version")
    assert len(read_scene(model).frames) == 4


def test_smaller_copies_stand_in(tmp_path: Path) -> None:
    cameras = cameras_bin({7: (1, 128, 96, [120.0, 124.0, 64.0, 48.0])})
    colmap(tmp_path, cameras=cameras)
    (tmp_path / "images").rename(tmp_path / "images_4")
    camera = read_scene(tmp_path).frames[0].camera
    assert (camera.width, camera.fx, camera.fy, camera.cx) == (32, 30, 31, 16)


def test_masks_beside_the_photos(tmp_path: Path) -> None:
    colmap(tmp_path)
    make_captures.photo(tmp_path / "masks/a 1.png.png", mode="L")
    make_captures.photo(tmp_path / "masks/a 2.png", mode="L")
    assert [f.mask_path is not None for f in read_scene(tmp_path).frames] == [False, True, True, False]


def test_an_image_of_an_absent_camera(tmp_path: Path) -> None:
    colmap(tmp_path, images=images_bin({1: ([1, 0, 0, 0, 0, 0, 0], 8, "a 0.png")}))
    with pytest.raises(InputError, match="camera 8, which is not there"):
        read_scene(tmp_path)


def observations_bin(path: Path) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Names, keypoints [n, 2] and point ids [n] of images.bin; a second reader, for the tests alone."""
    data, found = path.read_bytes(), []
    (count,), at = struct.unpack_from("<Q", data), 8
    for _ in range(count):
        at += 64
        end = data.index(b"\0", at)
        name, at = data[at:end].decode(), end + 1
        (keypoints,) = struct.unpack_from("<Q", data, at)
        table = np.frombuffer(data, np.dtype([("xy", "<f8", 2), ("id", "<i8")]), keypoints, at + 8)
        at += 8 + 24 * keypoints
        found.append((name, table["xy"][table["id"] >= 0], table["id"][table["id"] >= 0]))
    return found


def positions_bin(path: Path) -> dict[int, np.ndarray]:
    """Positions by point id of points3D.bin."""
    data, found, at = path.read_bytes(), {}, 8
    for _ in range(struct.unpack_from("<Q", data)[0]):
        key, x, y, z = struct.unpack_from("<Q3d", data, at)
        (length,) = struct.unpack_from("<Q", data, at + 43)
        found[key] = np.array([x, y, z])
        at += 51 + 8 * length
    return found


def test_sceaux_reprojects_below_a_pixel(shared_data: Path) -> None:
    folder = shared_data / "captures" / "sceaux_castle_11"
    scene = read_scene(folder)
    assert (scene.kind, len(scene.frames), scene.points.shape) == ("colmap", 11, (7862, 3))
    cameras: dict[str, Camera] = {Path(frame.name).name: frame.camera for frame in scene.frames}
    positions = positions_bin(folder / "sparse/0/points3D.bin")
    errors = []
    for name, keypoints, ids in observations_bin(folder / "sparse/0/images.bin"):
        pixels, depth = project(cameras[name], np.array([positions[key] for key in ids]))
        assert (depth > 0).all()
        errors.append(np.linalg.norm(pixels - keypoints, axis=1))
    assert len(np.concatenate(errors)) > 30_000
    assert np.median(np.concatenate(errors)) < 0.7


def test_sceaux_in_text(shared_data: Path) -> None:
    folder = shared_data / "captures" / "sceaux_castle_11/sparse_txt"
    images = read_images_txt(folder / "images.txt")
    assert sorted(image.name for image in images.values())[0] == "100_7100.JPG"
    assert read_points_txt(folder / "points3D.txt", set(images)).shape == (7862, 3)
    camera = read_cameras_txt(folder / "cameras.txt")[1]
    seen, wanted = [], []
    lines = [line for line in (folder / "images.txt").read_text().splitlines() if not line.startswith("#")]
    points = {}
    for line in (folder / "points3D.txt").read_text().splitlines():
        if not line.startswith("#"):
            points[int(line.split()[0])] = [float(word) for word in line.split()[1:4]]
    for head, keypoints in zip(lines[::2], lines[1::2], strict=True):
        table = np.array(keypoints.split(), dtype=float).reshape(-1, 3)
        table = table[table[:, 2] >= 0]
        posed = camera.posed(images[int(head.split()[0])].world_from_camera)
        seen.append(project(posed, np.array([points[int(key)] for key in table[:, 2]]))[0])
        wanted.append(table[:, :2])
    assert np.median(np.linalg.norm(np.concatenate(seen) - np.concatenate(wanted), axis=1)) < 1.0


def test_binary_and_text_readers_agree(tmp_path: Path) -> None:
    folder = colmap(tmp_path)
    images = read_images_bin(folder / "images.bin")
    assert [image.name for image in images.values()] == [f"a {i}.png" for i in range(4)]
    assert read_points_bin(folder / "points3D.bin", set(images)).shape == (6, 3)
    with pytest.raises(InputError, match="byte 59: a point's track names image 1"):
        read_points_bin(folder / "points3D.bin", {9})
