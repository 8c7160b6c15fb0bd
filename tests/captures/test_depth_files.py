"""Depth maps and clouds of points that a capture names: read as they are stored, damaged ones refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuralfields.captures.depth_files import read_cloud, read_depth
from neuralfields.captures.readers import read_scene
from neuralfields.errors import InputError
from tests.support import make_captures

STORED = np.array([[0, 1500, 2500], [300, 65535, 7]], np.uint16)


def write(path: Path, depth: np.ndarray) -> Path:
    """A depth map in the format of the path's suffix."""
    if path.suffix == ".npy":
        np.save(path, depth)
    elif path.suffix == ".exr":
        exr = pytest.importorskip("OpenEXR")
        header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
        with exr.File(header, {"Z": depth.astype(np.float32)}) as file:
            file.write(str(path))
    else:
        Image.fromarray(depth).save(path)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy", "a.exr"])
def test_depth_comes_back_as_stored(tmp_path: Path, name: str) -> None:
    depth, whole = read_depth(write(tmp_path / name, STORED))
    assert depth.dtype == np.float32 and depth.tolist() == STORED.astype(float).tolist()
    assert whole == (name != "a.exr")


@pytest.mark.parametrize("name", ["a.tif", "a.npy", "a.exr"])
def test_what_is_no_distance_is_unknown(tmp_path: Path, name: str) -> None:
    values = np.array([[np.nan, np.inf, -1.0, 2.5]], np.float32)
    depth, whole = read_depth(write(tmp_path / name, values))
    assert depth.tolist() == [[0, 0, 0, 2.5]] and not whole


def test_what_is_no_depth_is_refused(tmp_path: Path) -> None:
    Image.fromarray(STORED.astype(np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="depth in 8 bits or in colours holds no distances"):
        read_depth(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    with pytest.raises(InputError, match="is damaged or cut short"):
        read_depth(tmp_path / "b.png")
    np.save(tmp_path / "c.npy", np.zeros((2, 3, 3)))
    with pytest.raises(InputError, match="one number a pixel is needed"):
        read_depth(tmp_path / "c.npy")
    np.save(tmp_path / "d.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="damaged"):
        read_depth(tmp_path / "d.npy")
    with pytest.raises(InputError, match=r"depth is read from \.png"):
        read_depth(tmp_path / "e.jpg")


POINTS = np.array([[0.5, -1.25, 2.0], [1.0, 2.0, -3.0]])


def cloud(kind: str, points: np.ndarray = POINTS) -> bytes:
    """A PLY of points with a colour before the positions, and faces behind them that are not looked at."""
    head = f"ply\nformat {kind} 1.0\ncomment x\nelement vertex {len(points)}\nproperty uchar red\nproperty double x\n"
    head += "property double y\nproperty double z\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
    if kind == "ascii":
        body = "\n".join("7 " + " ".join(map(str, point)) for point in points).encode() + b"\n3 0 0 1\n"
    else:
        order = ">" if "big" in kind else "<"
        body = b"".join(b"\7" + np.array(point, f"{order}f8").tobytes() for point in points) + b"\3" + bytes(12)
    return head.encode() + body


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_points_of_a_ply(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.ply").write_bytes(cloud(kind))
    assert read_cloud(tmp_path / "a.ply").tolist() == POINTS.tolist()
    whole = (tmp_path / "a.ply").read_bytes()
    for end in (3, 60, len(whole) - 60):
        (tmp_path / "a.ply").write_bytes(whole[:end])
        with pytest.raises(InputError, match="is no PLY file of points, or is cut short"):
            read_cloud(tmp_path / "a.ply")
    (tmp_path / "a.ply").write_bytes(whole.replace(b"vertex 2", b"vertex 9999999999"))
    with pytest.raises(InputError, match="is no PLY file of points"):
        read_cloud(tmp_path / "a.ply")


def named(folder: Path, **top: object) -> None:
    """A ring of cameras about the origin whose file names depth maps and a cloud."""
    document = make_captures.transforms(folder, make_captures.ring(6), fl_x=40.0, w=32, h=24, **top)
    for i, frame in enumerate(document["frames"]):
        frame["depth_file_path" if "integer_depth_scale" not in top else "depth_path"] = f"depth/{i}.npy"
    make_captures.save(folder, document)


def test_a_capture_knows_its_depth_files(tmp_path: Path) -> None:
    named(tmp_path, integer_depth_scale=0.001)
    (tmp_path / "depth").mkdir()
    for i in range(5):
        write(tmp_path / f"depth/{i}.npy", STORED)
    scene = read_scene(tmp_path)
    assert [frame.depth_path is not None for frame in scene.frames] == [True] * 5 + [False]
    assert scene.frames[0].depth_unit == 0.001
    assert any("6 frames name depth files, which are not used; --depth-weight 0.1" in line for line in scene.warnings)
    assert any("1 photos: depth file does not exist" in line for line in scene.warnings)


def test_points_of_ply_file_path_are_the_sparse_points(tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (600, 3))
    make_captures.transforms(tmp_path, make_captures.ring(6), fl_x=40.0, w=32, h=24, ply_file_path="points.ply")
    (tmp_path / "points.ply").write_bytes(cloud("binary_little_endian", points))
    scene = read_scene(tmp_path)
    np.testing.assert_allclose(scene.points, points, atol=1e-6)
    assert not any("ply_file_path" in line for line in scene.warnings)
    (tmp_path / "points.ply").write_bytes(cloud("binary_little_endian", points + 100))
    assert any("not in the world frame" in line for line in read_scene(tmp_path).warnings)
    (tmp_path / "points.ply").write_bytes(b"ply\n")
    scene = read_scene(tmp_path)
    assert scene.points is None and any("its points are not used" in line for line in scene.warnings)
    text = json.loads((tmp_path / "transforms.json").read_text()) | {"ply_file_path": "../out.ply"}
    make_captures.save(tmp_path, text)
    assert any("lies outside the capture's folder" in line for line in read_scene(tmp_path).warnings)
