"""Hostile and broken captures: one clear InputError each, fast, and never a byte from outside the folder."""

import json
import os
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from neuralfields.captures.readers import read_scene
from neuralfields.errors import InputError, NeuralfieldsError, UsageError
from tests.support import make_captures
from tests.support.make_captures import cameras_bin, colmap, images_bin, points_bin
from tests.support.peak import at_most


def refused(path: Path, says: str | None = None, **options: object) -> str:
    """The message of the InputError: one line, within two seconds."""
    begun = time.process_time()
    with pytest.raises(InputError, match=says) as error:
        read_scene(path, **options)
    assert time.process_time() - begun < 2
    message = str(error.value)
    assert "\n" not in message and "Traceback" not in message
    return message


def test_nothing_to_read(tmp_path: Path) -> None:
    refused(tmp_path / "absent", "no such file or folder")
    assert "transforms.json" in refused(tmp_path, "empty folder")
    (tmp_path / "notes.txt").write_text("hello")
    assert "COLMAP" in refused(tmp_path, "no posed capture")
    refused(tmp_path / "notes.txt", "a file; give the capture's folder")
    for name in ("transforms", "colmap", "llff"):
        refused(tmp_path, format=name)
    with pytest.raises(UsageError, match="transforms, colmap, llff"):
        read_scene(tmp_path, "kapture")


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_photos(tmp_path: Path, count: int) -> None:
    make_captures.transforms(tmp_path, make_captures.ring(count))
    refused(tmp_path, f"{count} photos? of {count} listed; at least 3")


def test_several_formats_prefer_transforms_and_say_so(tmp_path: Path) -> None:
    colmap(tmp_path)
    make_captures.transforms(tmp_path)
    np.save(tmp_path / "poses_bounds.npy", np.zeros((1, 17)))
    scene = read_scene(tmp_path)
    assert scene.kind.startswith("transforms")
    assert "colmap and llff found too" in scene.warnings[0]
    assert read_scene(tmp_path, "colmap").kind == "colmap"


BROKEN_JSON = {
    "text": (b"not json", "not valid JSON"),
    "empty": (b"", "not valid JSON"),
    "array": (b"[]", "expected `object`"),
    "NaN": (b'{"frames": [{"file_path": "a", "transform_matrix": [[NaN]]}]}', "not valid JSON"),
    "trailing comma": (b'{"frames": [],}', "trailing comma"),
    "cut": (b'{"frames": [{"file_path": "a"', "truncated"),
    "no frames": (b"{}", "missing required field `frames`"),
    "empty frames": (b'{"frames": []}', "`frames` is empty"),
    "wrong type": (b'{"frames": [{"file_path": 3}]}', r"\$\.frames\[0\]\.file_path"),
    "text focal": (b'{"fl_x": "40", "frames": [{"file_path": "a"}]}', r"\$\.fl_x"),
    "overflow": (b'{"frames": [{"file_path": "a", "transform_matrix": [[1e999]]}]}', "out of range"),
    "deep array": (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"frames":[]}', "nested too deeply"),
    "deep object": (b'{"x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b',"frames":[]}', "nested too deeply"),
    "repeated key": (b'{"w": 3, "w": 4, "frames": [{"file_path": "a"}]}', "'w' is given twice"),
    "no matrix": (b'{"fl_x": 4, "frames": [{"file_path": "a"}]}', r"frames\[0\] \('a'\): has no transform_matrix"),
    "utf-16": ('{"frames": []}'.encode("utf-16"), "UTF-16"),
}


@pytest.mark.parametrize("name", BROKEN_JSON)
def test_broken_json(tmp_path: Path, name: str) -> None:
    data, says = BROKEN_JSON[name]
    (tmp_path / "transforms.json").write_bytes(data)
    assert "transforms.json" in refused(tmp_path, says)


def test_byte_order_mark_is_fine(tmp_path: Path) -> None:
    make_captures.transforms(tmp_path)
    file = tmp_path / "transforms.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(read_scene(tmp_path).frames) == 8


def test_a_gigabyte_of_json_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "transforms.json").open("wb") as file:
        file.truncate(2**30)
    with at_most(50e6):
        refused(tmp_path, "1024 MB")


BAD_MATRICES = {
    "4x3": np.ones((4, 3)),
    "singular": np.diag([1.0, 1, 0, 1]),
    "reflection": np.diag([1.0, 1, -1, 1]),
    "1e30": np.diag([1.0, 1, 1e30, 1]),
    "empty": np.zeros((0, 0)),
}


@pytest.mark.parametrize("name", BAD_MATRICES)
def test_bad_matrices_name_their_frame(tmp_path: Path, name: str) -> None:
    document = make_captures.transforms(tmp_path)
    document["frames"][5]["transform_matrix"] = BAD_MATRICES[name].tolist()
    make_captures.save(tmp_path, document)
    assert refused(tmp_path).startswith("transforms.json frames[5] ('images/0005.png'): ")


BAD_NUMBERS = {
    "no focal": ({"w": 32, "h": 24}, "no focal length"),
    "zero focal": ({"fl_x": 0}, "fl_x is 0"),
    "negative focal": ({"fl_x": 40, "fl_y": -40}, "fl_y is -40"),
    "angle": ({"camera_angle_x": 4.0}, "between 0.0001 and pi"),
    "size": ({"fl_x": 40, "w": 0, "h": 24}, "not a size in pixels"),
    "huge size": ({"fl_x": 40, "w": 1e300, "h": 24}, "not a size in pixels"),
    "one size": ({"fl_x": 40, "w": 32}, "only one of w and h"),
    "model": ({"fl_x": 40, "camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR is not read"),
    "scale": ({"fl_x": 40, "aabb_scale": 4, "scale": 0}, "scale is 0"),
    "aabb": ({"fl_x": 40, "aabb_scale": -1}, "aabb_scale is -1"),
    "offset": ({"fl_x": 40, "aabb_scale": 1, "offset": [1, 2]}, "offset has 2"),
    "distortion": ({"fl_x": 40, "k1": 1e200}, "distortion coefficient"),
}


@pytest.mark.parametrize("name", BAD_NUMBERS)
def test_bad_intrinsics(tmp_path: Path, name: str) -> None:
    top, says = BAD_NUMBERS[name]
    make_captures.transforms(tmp_path, **top)
    refused(tmp_path, says)


OUTSIDE = ["../secret.png", "images/../../secret.png", "/etc/passwd", "..\\secret.png", "ABSOLUTE", "link.png"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("field", ["file_path", "mask_path"])
def test_paths_that_leave_the_folder(tmp_path: Path, name: str, field: str) -> None:
    folder = tmp_path / "capture"
    document = make_captures.transforms(folder)
    make_captures.photo(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    document["frames"][0][field] = name.replace("ABSOLUTE", str(tmp_path / "secret.png"))
    make_captures.save(folder, document)
    refused(folder, "outside the capture's folder; .*--allow-outside")
    if name != "/etc/passwd":
        scene = read_scene(folder, allow_outside=True)
        assert len(scene.frames) == 8


def test_a_linked_folder_leads_outside_too(tmp_path: Path) -> None:
    make_captures.transforms(tmp_path / "elsewhere")
    (tmp_path / "capture").mkdir()
    (tmp_path / "capture/images").symlink_to(tmp_path / "elsewhere/images")
    (tmp_path / "capture/transforms.json").write_bytes((tmp_path / "elsewhere/transforms.json").read_bytes())
    refused(tmp_path / "capture", "outside")
    (tmp_path / "alias").symlink_to(tmp_path / "elsewhere")  # a link that the user typed is the user's choice
    assert len(read_scene(tmp_path / "alias").frames) == 8


@pytest.mark.parametrize("name", ["http://x.org/a.png", "file:///etc/passwd", "FILE:a", "data:,x", "s3://b/a.png"])
@pytest.mark.parametrize("allow", [True, False])
def test_urls_are_never_fetched(tmp_path: Path, name: str, allow: bool) -> None:
    document = make_captures.transforms(tmp_path)
    document["frames"][0]["file_path"] = name
    make_captures.save(tmp_path, document)
    refused(tmp_path, "is a URL", allow_outside=allow)


@pytest.mark.parametrize("name", ["a\0b.png", "", "C:\\photos\\a.png"])
def test_names_that_are_no_names(tmp_path: Path, name: str) -> None:
    document = make_captures.transforms(tmp_path)
    document["frames"][0]["file_path"] = name
    make_captures.save(tmp_path, document)
    refused(tmp_path, r"frames\[0\]")


ODD_NAMES = [
    "with space.png",
    "ünï©ode 写真.png",
    "100%25.png",
    "line\nbreak.png",
    "a" * 251 + ".png",
    "12:30.png",
    "'q'.png",
]


def test_odd_names_work(tmp_path: Path) -> None:
    document = make_captures.transforms(tmp_path, make_captures.ring(len(ODD_NAMES)))
    for frame, name in zip(document["frames"], ODD_NAMES, strict=True):
        os.rename(tmp_path / frame["file_path"], tmp_path / "images" / name)
        frame["file_path"] = f"images/{name}"
    make_captures.save(tmp_path, document)
    assert sorted(frame.name for frame in read_scene(tmp_path).frames) == sorted(f"images/{name}" for name in ODD_NAMES)


@pytest.mark.parametrize("name", ["x" * 5000, "a/" * 3000 + "b.png", "\U0010ffff.png", "images"])
def test_impossible_names_count_as_missing(tmp_path: Path, name: str) -> None:
    document = make_captures.transforms(tmp_path)
    document["frames"][0]["file_path"] = name
    make_captures.save(tmp_path, document)
    scene = read_scene(tmp_path)
    assert len(scene.frames) == 7 and name not in [frame.name for frame in scene.frames]
    assert "1 of 8 listed photos do not exist" in scene.warnings[0] and "\n" not in scene.warnings[0]


def test_half_of_a_surrogate_pair_is_no_name(tmp_path: Path) -> None:
    document = make_captures.transforms(tmp_path)
    document["frames"][0]["file_path"] = "\ud800.png"
    make_captures.save(tmp_path, document)
    refused(tmp_path, "not valid JSON: .* surrogate pair")


def test_case_clash_and_equal_stems(tmp_path: Path) -> None:
    document = make_captures.transforms(tmp_path, make_captures.ring(4))
    for name in ("A.png", "a.png", "a.jpg", "B.png"):
        make_captures.photo(tmp_path / name)
    for frame, name in zip(document["frames"], ("A.png", "a.png", "a.jpg", "b.png"), strict=True):
        frame["file_path"] = name
    make_captures.save(tmp_path, document)
    assert [frame.name for frame in read_scene(tmp_path).frames] == ["A.png", "B.png", "a.jpg", "a.png"]


def test_all_photos_missing(tmp_path: Path) -> None:
    make_captures.transforms(tmp_path, photos=False)
    refused(tmp_path, "none of the 8 listed photos exists")


@pytest.mark.parametrize(("broken", "fails"), [(1, False), (3, True)])
def test_files_that_are_no_photos(tmp_path: Path, broken: int, fails: bool) -> None:
    make_captures.transforms(tmp_path)
    for i in range(broken):
        (tmp_path / f"images/{i:04d}.png").write_bytes(b"GIF89a" if i else b"")
    if fails:
        refused(tmp_path, "3 of 8 photos cannot be read")
    else:
        (warning,) = read_scene(tmp_path).warnings
        assert "1 of 8 photos cannot be read" in warning and "file is empty" in warning


def test_missing_masks_are_said(tmp_path: Path) -> None:
    document = make_captures.transforms(tmp_path)
    document["frames"][2]["mask_path"] = "masks/none.png"
    make_captures.save(tmp_path, document)
    assert "1 photos: mask does not exist, all its pixels are used" in read_scene(tmp_path).warnings[0]


GOOD_CAMERAS = cameras_bin({7: (1, 32, 24, [30.0, 31.0, 16.0, 12.0])})
GOOD_IMAGES = images_bin({i + 1: ([1.0, 0, 0, 0, -i, 0, 0], 7, f"a {i}.png") for i in range(4)})
GOOD_POINTS = points_bin([([0.1 * i, 0.0, 5.0], [1, 2]) for i in range(6)])
GOOD = {"cameras": GOOD_CAMERAS, "images": GOOD_IMAGES, "points3D": GOOD_POINTS}


@pytest.mark.parametrize("name", GOOD)
def test_colmap_cut_anywhere(tmp_path: Path, name: str) -> None:
    colmap(tmp_path)
    file = tmp_path / f"sparse/0/{name}.bin"
    for length in (*range(40), *range(40, len(GOOD[name]), 5), len(GOOD[name]) - 1):
        file.write_bytes(GOOD[name][:length])
        refused(tmp_path, rf"{name}\.bin: byte \d+: ")


def patched(data: bytes, at: int, layout: str, value: float) -> bytes:
    return data[:at] + struct.pack(layout, value) + data[at + struct.calcsize(layout) :]


DAMAGE = {
    "camera count": ("cameras", patched(GOOD_CAMERAS, 0, "<Q", 2**60), "byte 0: 1152921504606846976 cameras"),
    "image count": ("images", patched(GOOD_IMAGES, 0, "<Q", 2**60), "byte 0: "),
    "point count": ("points3D", patched(GOOD_POINTS, 0, "<Q", 2**63), "byte 0: "),
    "unknown model": ("cameras", patched(GOOD_CAMERAS, 12, "<i", 99), r"byte 12: camera model 99 \(unknown\)"),
    "unread model": ("cameras", patched(GOOD_CAMERAS, 12, "<i", 7), r"camera model 7 \(FOV\)"),
    "camera width": ("cameras", patched(GOOD_CAMERAS, 16, "<Q", 2**63), "not an image size"),
    "focal NaN": ("cameras", patched(GOOD_CAMERAS, 32, "<d", float("nan")), "byte 8: camera parameters"),
    "focal zero": ("cameras", patched(GOOD_CAMERAS, 32, "<d", 0.0), "byte 8: camera parameters"),
    "pose NaN": ("images", patched(GOOD_IMAGES, 12, "<d", float("nan")), "byte 8: pose"),
    "quaternion zero": ("images", patched(GOOD_IMAGES, 12, "<d", 0.0), "byte 8: pose"),
    "keypoints": ("images", patched(GOOD_IMAGES, 8 + 64 + 8, "<Q", 2**61), "keypoints are declared"),
    "absent camera": ("images", patched(GOOD_IMAGES, 8 + 60, "<I", 3), "camera 3, which is not there"),
    "point NaN": ("points3D", patched(GOOD_POINTS, 16, "<d", float("nan")), "byte 16: a point holds NaN"),
    "track": ("points3D", patched(GOOD_POINTS, 8 + 43, "<Q", 2**61), "track entries are declared"),
    "absent image": ("points3D", patched(GOOD_POINTS, 8 + 51, "<I", 77), "byte 59: .* image 77"),
    "name": ("images", GOOD_IMAGES.replace(b"a 0", b"\xff\xfe0"), "byte 72: an image name is not UTF-8"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_colmap_damage_is_located(tmp_path: Path, name: str) -> None:
    file, data, says = DAMAGE[name]
    colmap(tmp_path, **{file: data})
    refused(tmp_path, says)


def test_colmap_names_stay_inside(tmp_path: Path) -> None:
    make_captures.photo(tmp_path / "secret.png")
    images = {i: ([1.0, 0, 0, 0, 0, 0, 0], 7, "../../secret.png") for i in (1, 2, 3)}
    colmap(tmp_path / "capture", images=images_bin(images))
    refused(tmp_path / "capture", "outside")


TEXT_DAMAGE = {
    "model": ("cameras", "7 FISHY 32 24 1 2 3", "line 1: camera model FISHY"),
    "few parameters": ("cameras", "7 PINHOLE 32 24 1 2", "line 1: 6 words where 8"),
    "letters": ("cameras", "7 PINHOLE 32 24 1 2 x 3", "line 1: not a number"),
    "nan": ("cameras", "7 PINHOLE 32 24 nan 2 3 4", "line 1: camera parameters"),
    "short line": ("images", "# c\n1 1 0 0 0 0 0 0 7\n\n", "line 2: 9 words where 10"),
    "not utf-8": ("images", b"\xff\xfe", "not UTF-8"),
    "point": ("points3D", "1 0 0 inf 1 2 3 0.1 1 0 2 0", "line 1: a point"),
    "stray track": ("points3D", "1 0 0 1 1 2 3 0.1 9 0 2 0", "line 1: the track"),
}


@pytest.mark.parametrize("name", TEXT_DAMAGE)
def test_colmap_text_damage_is_located(tmp_path: Path, name: str) -> None:
    file, data, says = TEXT_DAMAGE[name]
    folder = colmap(tmp_path)
    for path in folder.iterdir():
        path.unlink()
    good = {"cameras": "7 PINHOLE 32 24 30 31 16 12\n", "points3D": "", "images": ""}
    good["images"] = "".join(f"{i + 1} 1 0 0 0 {-i} 0 0 7 a {i}.png\n\n" for i in range(4))
    for key, content in {**good, file: data}.items():
        (folder / f"{key}.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(tmp_path, says)


@pytest.mark.parametrize("kind", ["transforms", "colmap", "llff"])
def test_random_bytes_give_our_errors_only(tmp_path: Path, kind: str) -> None:
    """Mutations of good files: read, or refused by one of our errors, never anything else."""
    random = np.random.default_rng(7)
    if kind == "colmap":
        files = list(colmap(tmp_path).glob("*.bin"))
    elif kind == "transforms":
        make_captures.transforms(tmp_path)
        files = [tmp_path / "transforms.json"]
    else:
        rows = np.tile(np.array([0, 1, 0, 0, 24, -1, 0, 0, 0, 32, 0, 0, 1, 0, 40, 2, 9.0]), (4, 1))
        np.save(tmp_path / "poses_bounds.npy", rows)
        for i in range(4):
            make_captures.photo(tmp_path / f"images/{i}.png")
        files = [tmp_path / "poses_bounds.npy"]
    good = {file: file.read_bytes() for file in files}
    for _ in range(60):
        file = files[random.integers(len(files))]
        data = bytearray(good[file])
        for _ in range(random.integers(1, 4)):
            data[random.integers(len(data))] = random.integers(256)
        file.write_bytes(bytes(data))
        try:
            read_scene(tmp_path, kind)
        except NeuralfieldsError as error:
            assert "\n" not in str(error)
        file.write_bytes(good[file])


def test_a_large_honest_file_is_read_in_time(tmp_path: Path) -> None:
    document = make_captures.transforms(tmp_path, make_captures.ring(8))
    document["frames"] *= 400
    for i, frame in enumerate(document["frames"]):
        document["frames"][i] = {**frame, "file_path": f"images/{i % 8:04d}.png" if i < 8 else f"absent/{i}.png"}
    (tmp_path / "transforms.json").write_text(json.dumps(document))
    begun = time.process_time()
    assert len(read_scene(tmp_path).frames) == 8
    assert time.process_time() - begun < 2
