"""Camera paths: hand-made rings and grids, rolled and sideways cameras, real captures, keyframe files."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from neuralfields.cameras import Camera, look_at, project, quaternion, rotation_from_quaternion
from neuralfields.captures.arrangement import common_up, focus_point, is_forward_facing
from neuralfields.errors import InputError, UsageError
from neuralfields.pictures.camera_paths import automatic, interpolate, orbit, read_keyframes, spiral, write_keyframes
from neuralfields.scene import Bounds

FOCUS = np.array([0.3, -0.2, 0.5])
UP = np.array([0.0, 0.0, 1.0])
BOUNDS = Bounds((0.3, -0.2, 0.5), 2.0)
SIZE = (64, 48)


def camera(pose: np.ndarray) -> Camera:
    return Camera(pose, 400, 300, 500.0, 500.0, 200.0, 150.0)


def ring(azimuths: np.ndarray, elevation: float = 0.5, radius: float = 3.0) -> list[Camera]:
    cameras = []
    for a in azimuths:
        offset = np.array([np.cos(a) * np.cos(elevation), np.sin(a) * np.cos(elevation), np.sin(elevation)])
        cameras.append(camera(look_at(FOCUS + radius * offset, FOCUS, UP)))
    return cameras


def rolled(c: Camera, degrees: float) -> Camera:
    s, k = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    turn = np.array([[k, -s, 0, 0], [s, k, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    return camera(c.world_from_camera @ turn)


FULL = np.arange(20) / 20 * 2 * np.pi
SIDE = np.linspace(-1.0, 1.0, 15)
SPOTS = [(x, z) for x in (-1, 0, 1) for z in (-0.5, 0.5)]
WALL = [camera(look_at(np.array([x, -4.0, z]), np.array([x * 0.8, 0.0, z]), UP)) for x, z in SPOTS]


def valid(path: list[Camera]) -> bool:
    turns = np.stack([c.world_from_camera[:3, :3] for c in path])
    return np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(3), atol=1e-9) and np.allclose(np.linalg.det(turns), 1)


def test_up_of_a_full_ring_and_of_one_side() -> None:
    assert common_up(ring(FULL)) == pytest.approx(UP, abs=1e-9)
    assert common_up(ring(SIDE)) == pytest.approx(UP, abs=0.01)  # the mean of the -y axes is 24 degrees off


def test_up_survives_rolled_cameras() -> None:
    cameras = ring(SIDE)
    cameras[2], cameras[9] = rolled(cameras[2], 90), rolled(cameras[9], -70)
    assert common_up(cameras) == pytest.approx(UP, abs=0.06)


@pytest.mark.parametrize("degrees", [90, -90])
def test_up_of_photos_stored_sideways(degrees: float) -> None:
    assert common_up([rolled(c, degrees) for c in ring(FULL)]) == pytest.approx(UP, abs=1e-6)


def test_up_of_cameras_that_look_straight_down() -> None:
    down = [rolled(camera(look_at(np.array([x, 0.0, 5.0]), np.array([x, 0.0, 0.0]), UP)), 30 * x) for x in range(12)]
    assert common_up(down) == pytest.approx(UP, abs=1e-6)


def test_focus() -> None:
    assert focus_point(ring(FULL), BOUNDS) == pytest.approx(FOCUS, abs=1e-6)
    away = [camera(look_at(c.centre, 2 * c.centre - FOCUS, UP)) for c in ring(FULL)]
    assert focus_point(away, Bounds((1.0, 2.0, 3.0), 1.0)) == pytest.approx([1, 2, 3])


def test_forward_facing() -> None:
    assert is_forward_facing(WALL)
    assert is_forward_facing(ring(np.linspace(-0.4, 0.4, 9)))
    assert not is_forward_facing(ring(FULL))
    assert not is_forward_facing(ring(SIDE * 1.3))


def test_orbit_keeps_distance_elevation_and_subject() -> None:
    path = orbit(ring(FULL), BOUNDS, 30, SIZE)
    centres = np.stack([c.centre for c in path])
    assert np.linalg.norm(centres - FOCUS, axis=1) == pytest.approx(np.full(30, 3.0))
    assert centres[:, 2] - FOCUS[2] == pytest.approx(np.full(30, 3 * np.sin(0.5)))
    assert centres[0] == pytest.approx(ring(FULL)[0].centre)
    steps = np.linalg.norm(centres - np.roll(centres, 1, axis=0), axis=1)
    assert steps == pytest.approx(np.full(30, steps[0]))  # closed and even
    for c in path:
        assert project(c, FOCUS)[0] == pytest.approx([32, 24])
        assert project(c, FOCUS + 0.1 * UP)[0][1] < 24  # up is up in the picture
    assert valid(path)
    assert (path[0].width, path[0].height, path[0].fx) == (64, 48, pytest.approx(500 * 64 / 400))


def test_orbit_swings_over_what_was_seen() -> None:
    path = orbit(ring(SIDE), BOUNDS, 40, SIZE)
    offsets = np.stack([c.centre for c in path]) - FOCUS
    azimuth = np.arctan2(offsets[:, 1], offsets[:, 0])
    assert np.abs(azimuth).max() == pytest.approx(0.9, abs=0.02)
    assert azimuth[0] == pytest.approx(0.0, abs=0.02)


def test_spiral_stays_near_the_mean_camera_and_looks_at_the_focus() -> None:
    path = spiral(WALL, Bounds((0.0, 0.0, 0.0), 2.0), 24, SIZE)
    centres = np.stack([c.centre for c in path])
    assert centres.mean(0) == pytest.approx([0, -4, 0], abs=1e-6)
    assert 0.3 < np.abs(centres[:, 0]).max() < 1 and 0.1 < np.abs(centres[:, 2]).max() < 0.5
    assert min(c.forward[1] for c in path) > 0.9
    assert valid(path)


def test_interpolation_passes_through_its_keys_smoothly() -> None:
    keys = ring(np.array([0.0, 0.4, 1.0, 1.1]), radius=2.0)
    path = interpolate(keys, 31)
    for number, key in enumerate(keys):
        assert path[number * 10].world_from_camera == pytest.approx(key.world_from_camera, abs=1e-9)
    assert (path[0].width, path[0].fx) == (400, pytest.approx(500))
    fine = np.stack([c.centre for c in interpolate(keys, 3001)])
    speed = np.diff(fine, axis=0) * 1000
    assert np.linalg.norm(np.diff(speed, axis=0), axis=1).max() < 0.01  # no jump in velocity at a key
    assert valid(path)


def test_interpolation_takes_the_short_way_and_few_keys() -> None:
    keys = ring(np.array([0.0, 0.2]))
    middle = interpolate(keys, 3)[1]
    assert middle.forward @ keys[0].forward > 0.97
    assert len(interpolate(keys[:1], 5)) == 5
    assert interpolate(keys, 1)[0].centre == pytest.approx(keys[0].centre)


def test_quaternions_round_trip() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        q = rng.normal(size=4)
        q /= np.linalg.norm(q)
        assert abs(quaternion(rotation_from_quaternion(q)) @ q) == pytest.approx(1.0)
    assert rotation_from_quaternion(quaternion(np.diag([1.0, -1, -1]))) == pytest.approx(np.diag([1.0, -1, -1]))


def test_automatic_chooses() -> None:
    wall = Bounds((0.0, 0.0, 0.0), 2.0)
    assert automatic(WALL, wall, 5, SIZE)[1].centre == pytest.approx(spiral(WALL, wall, 5, SIZE)[1].centre)
    full = ring(FULL)
    assert automatic(full, BOUNDS, 5, SIZE)[1].centre == pytest.approx(orbit(full, BOUNDS, 5, SIZE)[1].centre)
    away = [camera(look_at(c.centre, 2 * c.centre - FOCUS, UP)) for c in full]
    assert automatic(away, BOUNDS, 20, SIZE)[0].centre == pytest.approx(away[0].centre)


def test_all_cameras_at_one_point_give_finite_paths() -> None:
    same = ring(np.zeros(4))
    for make in (orbit, spiral, automatic):
        path = make(same, Bounds((9.0, 9.0, 9.0), 1.0), 4, SIZE)
        assert all(np.isfinite(c.world_from_camera).all() for c in path) and valid(path)


def test_refusals() -> None:
    with pytest.raises(UsageError, match="no cameras"):
        automatic([], BOUNDS, 4, SIZE)
    with pytest.raises(UsageError, match="frames 0"):
        orbit(WALL, BOUNDS, 0, SIZE)
    with pytest.raises(UsageError, match="size 0x48"):
        spiral(WALL, BOUNDS, 4, (0, 48))


@pytest.mark.parametrize(("name", "forward"), [("llff_fern", True), ("ngp_fox", False), ("saharov_statue_32", False)])
def test_real_captures(shared_data: Path, name: str, forward: bool) -> None:
    document = json.loads((shared_data / "captures" / name / "transforms.json").read_text())
    size, focal = (int(document["w"]), int(document["h"])), document["fl_x"]
    poses = [np.array(f["transform_matrix"]) @ np.diag([1, -1, -1, 1.0]) for f in document["frames"]]
    cameras = [Camera(p, *size, focal, focal, size[0] / 2, size[1] / 2) for p in poses]
    centre = np.mean([c.centre + 3 * c.forward for c in cameras], axis=0)
    assert is_forward_facing(cameras) == forward
    path = automatic(cameras, Bounds(tuple(centre), 4.0), 12, (128, 96))
    assert len(path) == 12 and valid(path)
    if name == "ngp_fox":
        assert common_up(cameras) == pytest.approx(UP, abs=0.15)
    if name == "saharov_statue_32":  # stored sideways; the statue stands along +x
        assert common_up(cameras)[0] > 0.95


def document() -> dict:
    pose = [1, 0, 0, 1, 0, 0, -1, 2, 0, 1, 0, 3, 0, 0, 0, 1]
    keys = [{"camera_to_world": pose, "fov": 90, "aspect": 2.0, "unknown": {}}]
    size = {"render_height": 50, "render_width": 100}
    return {"camera_type": "perspective", **size, "camera_path": keys, "keyframes": []}


def write(folder: Path, content: object) -> Path:
    path = folder / "path.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def test_keyframes_by_hand(tmp_path: Path) -> None:
    (c,) = read_keyframes(write(tmp_path, b"\xef\xbb\xbf" + json.dumps(document()).encode()))
    assert (c.width, c.height, c.cx, c.cy) == (100, 50, 50, 25)
    assert c.fy == pytest.approx(25.0) and c.fx == pytest.approx(25.0)  # 90 degrees over 50 pixels
    assert c.centre == pytest.approx([1, 2, 3])
    assert c.forward == pytest.approx([0, 1, 0])  # OpenGL looks along -z
    assert -c.world_from_camera[:3, 1] == pytest.approx([0, 0, 1])


def test_keyframes_round_trip(tmp_path: Path) -> None:
    path = orbit(ring(FULL), BOUNDS, 7, SIZE)
    write_keyframes(tmp_path / "a.json", path, fps=12)
    back = read_keyframes(tmp_path / "a.json")
    for a, b in zip(path, back, strict=True):
        assert b.world_from_camera == pytest.approx(a.world_from_camera, abs=1e-9)
        assert b.fx == pytest.approx(a.fx)
    raw = msgspec.json.decode((tmp_path / "a.json").read_bytes())
    assert (raw["fps"], raw["render_width"], len(raw["camera_path"])) == (12, 64, 7)


def changed(**changes: object) -> dict:
    return {**document(), **changes}


def key(**changes: object) -> dict:
    return changed(camera_path=[{**document()["camera_path"][0], **changes}])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"not json", "is not a camera path"),
        (b"", "is not a camera path"),
        (b"[" * 100_000, "is not a camera path"),
        (b"\xff\xfe\x00", "is not a camera path"),
        ({}, "missing required field"),
        (changed(camera_path=[]), "is empty"),
        (changed(render_width=0), "render size 0x50"),
        (changed(render_width=10**12), "each side must be"),
        (changed(camera_type="equirectangular"), "only 'perspective'"),
        (key(fov=0), r"camera_path\[0\].fov: 0 degrees"),
        (key(fov=float("nan")), "is not a camera path"),
        (key(camera_to_world=[1.0] * 12), "has 12 numbers"),
        (key(camera_to_world=[0.0] * 16), "not a finite rotation"),
        (key(camera_to_world=[-1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]), "not a finite rotation"),
        (key(camera_to_world=[1e300] * 16), "not a finite rotation"),
        (key(camera_to_world="x"), r"\$.camera_path\[0\].camera_to_world"),
    ],
)
def test_bad_keyframes(tmp_path: Path, content: object, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        read_keyframes(write(tmp_path, content))
    assert "path.json" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_keyframes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_keyframes(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_keyframes(tmp_path)
