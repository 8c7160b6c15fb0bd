"""poses_bounds.npy against a hand-computed camera, and against the same capture in another format."""

from pathlib import Path

import numpy as np
import pytest

from neuralfields.cameras import project
from neuralfields.captures.bounds import points_in_view
from neuralfields.captures.readers import read_scene
from neuralfields.errors import InputError
from tests.support import make_captures


def capture(folder: Path, count: int = 4, photos: int | None = None, **changes: object) -> np.ndarray:
    """Cameras at (i, 0, 0) that look along world -z, with +y up: right (1, 0, 0), down (0, -1, 0), back (0, 0, 1)."""
    rows = np.zeros((count, 17))
    for i, row in enumerate(rows):
        matrix = np.array([[0, 1, 0, i, 24], [-1, 0, 0, 0, 32], [0, 0, 1, 0, 40.0]])
        row[:] = [*matrix.ravel(), 2, 9]
    for i in range(count if photos is None else photos):
        make_captures.photo(folder / f"images/{i}.png", seed=i)
    folder.mkdir(exist_ok=True)
    np.save(folder / "poses_bounds.npy", rows)
    return rows


def test_camera_by_hand(tmp_path: Path) -> None:
    capture(tmp_path)
    scene = read_scene(tmp_path)
    camera = scene.frames[1].camera
    assert (scene.kind, camera.width, camera.height, camera.fx, camera.cx, camera.cy) == ("llff", 32, 24, 40, 16, 12)
    assert camera.centre.tolist() == [1, 0, 0]
    assert camera.world_from_camera[:3, :3].tolist() == [[1, 0, 0], [0, -1, 0], [0, 0, -1]]
    pixels, depth = project(camera, np.array([2.0, 1.0, -4.0]))
    assert depth == 4
    assert pixels == pytest.approx([26, 2])
    assert scene.bounds.near == pytest.approx(1.8)


def test_photos_must_be_as_many_as_poses(tmp_path: Path) -> None:
    capture(tmp_path, photos=3)
    with pytest.raises(InputError, match="4 poses but 3 in images"):
        read_scene(tmp_path)
    make_captures.photo(tmp_path / "images_8/x.png")
    for i in range(4):
        make_captures.photo(tmp_path / f"images_4/{i}.png", (8, 6))
    assert read_scene(tmp_path).frames[0].camera.fx == 10


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    capture(tmp_path)
    np.save(tmp_path / "poses_bounds.npy", np.array([{"a": 1}] * 17, dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="holds Python objects"):
        read_scene(tmp_path)


@pytest.mark.parametrize("damage", ["shape", "nan", "cut", "text", "one dimension", "claims 2**60 rows"])
def test_damaged_arrays_are_refused(tmp_path: Path, damage: str) -> None:
    rows = capture(tmp_path)
    file = tmp_path / "poses_bounds.npy"
    data = file.read_bytes()
    if damage == "shape":
        np.save(file, rows[:, :16])
    elif damage == "nan":
        rows[2, 3] = np.nan
        np.save(file, rows)
    elif damage == "cut":
        file.write_bytes(data[:-40])
    elif damage == "text":
        file.write_bytes(b"not an array")
    elif damage == "one dimension":
        np.save(file, rows[0])
    else:
        file.write_bytes(data.replace(b"(4, 17), }", b"(1152921504606846976, 17), }")[: len(data)])
    with pytest.raises(InputError, match=r"poses_bounds\.npy"):
        read_scene(tmp_path)


def test_fern_is_the_same_in_both_formats(shared_data: Path) -> None:
    folder = shared_data / "captures" / "llff_fern"
    llff, transforms = read_scene(folder, "llff"), read_scene(folder, "transforms")
    assert (llff.kind, len(llff.frames), len(llff.train), len(llff.test)) == ("llff", 20, 17, 3)
    assert llff.frames[0].name == "images_4/image000.jpg"
    for one, other in zip(llff.frames, transforms.frames, strict=True):
        assert one.camera.world_from_camera == pytest.approx(other.camera.world_from_camera, abs=1e-6)
        assert one.camera.fx == pytest.approx(2 * other.camera.fx)
    assert read_scene(folder).kind == "transforms/nerfstudio"
    assert "llff found too" in read_scene(folder).warnings[0]


def test_fern_points_lie_in_the_pictures(shared_data: Path) -> None:
    scene = read_scene(shared_data / "captures" / "llff_fern", "llff")
    assert scene.points.shape == (10091, 3)
    seen = sum(points_in_view(frame.camera, scene.points).astype(int) for frame in scene.frames)
    assert (seen >= 2).mean() > 0.999
    depth = project(scene.frames[0].camera, scene.points)[1]
    assert 17 < np.percentile(depth, 0.5) < 20
