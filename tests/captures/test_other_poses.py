"""Poses of further programs: the same cameras, written as each program writes them, come back alike."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neuralfields.captures.readers import read_scene
from neuralfields.errors import InputError
from neuralfields.poses.photos import photo_folder
from tests.support import make_captures

GL = np.diag([1.0, -1.0, -1.0, 1.0])
POSES = [pose @ GL for pose in make_captures.ring(6)]  # world_from_camera with OpenCV axes
F, CX, CY, K1 = 40.0, 16.0, 12.0, 0.1


def text(values: object) -> str:
    return " ".join(f"{value:.17g}" for value in np.asarray(values).ravel())


def metashape(folder: Path) -> None:
    """A chunk that is turned, twice as large and elsewhere."""
    chunk = np.eye(4)
    chunk[:3, :3], chunk[:3, 3] = 2 * np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]]), (10, 20, 30)
    cameras = ""
    for i, pose in enumerate(POSES):
        local = np.linalg.inv(chunk) @ pose
        local[:3, :3] *= 2  # what is left is a rotation
        cameras += f'<camera id="{i}" sensor_id="0" label="{i:04d}"><transform>{text(local)}</transform></camera>'
    (folder / "cameras.xml").write_text(
        f'<?xml version="1.0"?><document version="2.0.0"><chunk label="c"><sensors><sensor id="0" type="frame">'
        f'<resolution width="32" height="24"/><calibration type="frame" class="adjusted"><f>{F}</f><cx>0</cx>'
        f"<cy>0</cy><k1>{K1}</k1><p1>0.01</p1><p2>0.02</p2></calibration></sensor></sensors><cameras>{cameras}"
        f'<camera id="9" sensor_id="0" label="lost"/></cameras><transform><rotation>{text(chunk[:3, :3] / 2)}'
        f"</rotation><translation>{text(chunk[:3, 3])}</translation><scale>2</scale></transform></chunk></document>"
    )


def bundler(folder: Path) -> None:
    lines = ["# Bundle file v0.3", f"{len(POSES)} 2"]
    for pose in POSES:
        inverse = np.linalg.inv(pose @ GL)
        lines += [f"{F} {K1} 0", *(text(row) for row in inverse[:3, :3]), text(inverse[:3, 3])]
    lines += ["0.1 0.2 0.3", "255 0 0", "2 0 5 1.0 2.0 1 6 3.0 4.0", "9 9 9", "0 0 0", "1 0 5 1.0 2.0"]
    (folder / "bundle.out").write_text("\n".join(lines))
    (folder / "list.txt").write_text("\n".join(f"./{i:04d}.png 0 {F}" for i in range(len(POSES))))


def opensfm(folder: Path) -> None:
    shots = {}
    for i, pose in enumerate(POSES):
        inverse = np.linalg.inv(pose)
        values, vectors = np.linalg.eig(inverse[:3, :3])
        axis = np.real(vectors[:, np.argmin(np.abs(values - 1))])
        turn = np.arccos(np.clip((np.trace(inverse[:3, :3]) - 1) / 2, -1, 1))
        skew = inverse[:3, :3] - inverse[:3, :3].T
        axis = axis * np.sign(axis @ [skew[2, 1], skew[0, 2], skew[1, 0]])
        shots[f"{i:04d}.png"] = {
            "camera": "a", "rotation": (turn * axis).tolist(), "translation": inverse[:3, 3].tolist()
        }  # fmt: skip
    lens = {"projection_type": "perspective", "width": 32, "height": 24, "focal": F / 32, "k1": K1, "k2": 0}
    points = {"1": {"coordinates": [0.1, 0.2, 0.3], "color": [1, 2, 3]}}
    parts = [{"cameras": {"a": lens}, "shots": shots, "points": points}, {"cameras": {}, "shots": {}}]
    (folder / "opensfm").mkdir()
    (folder / "opensfm/reconstruction.json").write_text(json.dumps(parts))


def nerfies(folder: Path) -> None:
    (folder / "camera").mkdir()
    (folder / "scene.json").write_text("{}")
    (folder / "rgb").mkdir()
    (folder / "images").rename(folder / "rgb/2x")
    for i, pose in enumerate(POSES):
        lens = {"focal_length": 2 * F, "principal_point": [2 * CX, 2 * CY], "image_size": [64, 48], "skew": 0}
        place = {"orientation": pose[:3, :3].T.tolist(), "position": pose[:3, 3].tolist()}
        more = {"radial_distortion": [K1, 0, 0], "tangential_distortion": [0, 0], "pixel_aspect_ratio": 1}
        (folder / f"camera/{i:04d}.json").write_text(json.dumps(lens | place | more))


def polycam(folder: Path) -> None:
    (folder / "keyframes/corrected_cameras").mkdir(parents=True)
    (folder / "images").rename(folder / "keyframes/corrected_images")
    for i, pose in enumerate(POSES):
        lens = {"fx": F, "fy": F, "cx": CX, "cy": CY, "width": 32, "height": 24}
        place = {f"t_{row}{column}": (pose @ GL)[row, column] for row in range(3) for column in range(4)}
        (folder / f"keyframes/corrected_cameras/{i:04d}.json").write_text(json.dumps(lens | place))


WRITERS = {"metashape": metashape, "bundler": bundler, "opensfm": opensfm, "nerfies": nerfies, "polycam": polycam}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(len(POSES)):
        make_captures.photo(tmp_path / f"images/{i:04d}.png", seed=i)
    return tmp_path


@pytest.mark.parametrize("name", WRITERS)
def test_cameras_come_back(photos: Path, name: str) -> None:
    WRITERS[name](photos)
    assert photo_folder(photos) is None  # not searched anew
    scene = read_scene(photos)
    assert scene.kind == name and len(scene.frames) == len(POSES)
    for frame, pose in zip(scene.frames, POSES, strict=True):
        camera = frame.camera
        assert camera.world_from_camera == pytest.approx(pose, abs=1e-9)
        assert (camera.fx, camera.fy, camera.cx, camera.cy) == pytest.approx((F, F, CX, CY))
        assert camera.distortion[0] == (0 if name == "polycam" else K1)
        if name == "metashape":  # p1 and p2 are the reverse of OpenCV's
            assert camera.distortion[2:4] == (0.02, 0.01)
    if name in ("bundler", "opensfm"):
        assert scene.points == pytest.approx(np.array([[0.1, 0.2, 0.3]]))


DAMAGE: dict[str, tuple[str, Callable[[str], str], str]] = {
    "metashape": ("cameras.xml", lambda t: t.replace("<scale>2", "<scale>x"), "<scale> is not 1 numbers"),
    "metashape entities": ("cameras.xml", lambda t: t.replace("<document", "<!DOCTYPE a><document"), "entities"),
    "metashape cut": ("cameras.xml", lambda t: t[:-20], "damaged XML"),
    "metashape wide": ("cameras.xml", lambda t: t.replace('"32"', '"' + "9" * 400 + '"'), "calibrate again"),
    "bundler": ("bundle.out", lambda t: t[:300], "cut short"),
    "bundler words": ("bundle.out", lambda t: t.replace("40.0", "many"), "something else than numbers"),
    "opensfm": ("opensfm/reconstruction.json", lambda t: t.replace("perspective", "spherical"), "'spherical' is not"),
    "opensfm deep": ("opensfm/reconstruction.json", lambda t: "[" * 100_000, "reconstruction.json: is not as"),
    "nerfies": ("camera/0002.json", lambda t: t.replace("80.0", "-80.0"), "0002.json: a focal length"),
    "polycam": ("keyframes/corrected_cameras/0001.json", lambda t: t.replace("t_11", "t_x"), "lacks fx"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(photos: Path, case: str) -> None:
    file, change, message = DAMAGE[case]
    WRITERS[case.split()[0]](photos)
    (photos / file).write_text(change((photos / file).read_text()))
    with pytest.raises(InputError, match=message):
        read_scene(photos)


NAMED = {
    "cameras.csv": ("#name,x,y,alt,heading\n0.png,0,0,0,0\n", "RealityCapture.*export a COLMAP model"),
    "project.psx": ("x", "Metashape.*Export Cameras"),
    "model.nvm": ("NVM_V3", "VisualSFM"),
    "metadata": ('{"poses": []}', "Record3D.*ns-process-data"),
}


@pytest.mark.parametrize("file", NAMED)
def test_formats_that_are_not_read_are_named(photos: Path, file: str) -> None:
    content, message = NAMED[file]
    (photos / file).write_text(content)
    assert photo_folder(photos) is None  # the user's own poses are not passed over
    with pytest.raises(InputError, match=message):
        read_scene(photos)


def test_other_tables_beside_photos_do_not_matter(photos: Path) -> None:
    (photos / "notes.csv").write_text("photo,weather\n")
    assert photo_folder(photos) == photos / "images"


@pytest.mark.parametrize(("model", "folder"), [("distorted/sparse/0", "input"), ("dense/sparse", "dense/images")])
def test_models_in_folders_of_other_programs(tmp_path: Path, model: str, folder: str) -> None:
    make_captures.colmap(tmp_path, model=model)
    (tmp_path / folder).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / "images").rename(tmp_path / folder)
    assert len(read_scene(tmp_path).frames) == 4


def test_utf_16_is_named(tmp_path: Path) -> None:
    make_captures.transforms(tmp_path)
    file = tmp_path / "transforms.json"
    file.write_text(file.read_text(), encoding="utf-16")
    with pytest.raises(InputError, match="UTF-16"):
        read_scene(tmp_path)


def test_nerfies_captures_tell_times_and_what_is_held_out(tmp_path: Path) -> None:
    for i in range(len(POSES)):
        make_captures.photo(tmp_path / f"images/{i:04d}.png", (64, 48))
    nerfies(tmp_path)
    assert read_scene(tmp_path).bounds.times is None
    ids = [f"{i:04d}" for i in range(len(POSES))]
    moments = {name: {"warp_id": 9, "time_id": 3 * i, "camera_id": 0} for i, name in enumerate(ids)}
    make_captures.save(tmp_path, moments, "metadata.json")
    make_captures.save(tmp_path, {"count": 6, "ids": ids, "train_ids": ids[:4], "val_ids": ids[4:]}, "dataset.json")
    scene = read_scene(tmp_path)
    assert scene.bounds.times == (0.0, 15.0) and not scene.warnings
    assert [scene.frames[i].camera.time for i in scene.test] == [12.0, 15.0]
