"""Captures that no camera ever took: a fit of them ends with finite numbers or with one clear line."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields import cli
from neuralfields.cameras import Camera
from neuralfields.captures.readers import read_scene
from neuralfields.errors import NeuralfieldsError
from neuralfields.models.model import Model
from neuralfields.options.fit import FitOptions
from neuralfields.pictures.panels import save_image
from neuralfields.rendering.volume import Volume
from neuralfields.scene import Bounds, Frame, Scene
from neuralfields.training.fit import fit_scene
from tests.support.settings import set_training

SMALL = ("levels=2", "table=10", "finest=32", "hidden=16")
Spoil = Callable[[Scene], Scene]


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    set_training(monkeypatch, samples=1 << 11)
    yield
    torch.set_num_threads(before)


def looking_at(centre: np.ndarray, target: np.ndarray) -> np.ndarray:
    """world_from_camera [4, 4] of a camera there, looking at a point."""
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(forward, [0.0, 0.3, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = centre
    return pose


def make_scene(folder: Path, count: int = 6, size: tuple[int, int] = (12, 8), held_out: int = 1) -> Scene:
    """A ring of cameras around the origin with photos of noise."""
    rng, frames = np.random.default_rng(0), []
    folder.mkdir(exist_ok=True)
    width, height = size
    for index in range(count):
        path = folder / f"{index}.png"
        save_image(path, rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        angle = 2 * np.pi * index / count
        pose = looking_at(np.array([2 * np.cos(angle), 2 * np.sin(angle), 0.5]), np.zeros(3))
        camera = Camera(pose, width, height, 1.2 * width, 1.2 * width, width / 2, height / 2)
        frames.append(Frame(path.name, path, camera))
    train, test = tuple(range(held_out, count)), tuple(range(held_out))
    return Scene("noise", folder, "transforms", tuple(frames), train, test, Bounds((0.0, 0.0, 0.0), 2.0))


def options(scene: Scene, **more: object) -> FitOptions:
    return FitOptions(
        **{"scene": scene.root, "steps": 20, "threads": 1, "field": "hash", "set": SMALL, "quiet": True} | more
    )


def assert_finite(model: Model) -> None:
    """Parameters, score and pictures are numbers."""
    assert all(bool(torch.isfinite(p).all()) for p in model.field.parameters())
    assert np.isfinite(model.metrics.get("psnr", 0.0))
    volume = Volume(model.field, model.bounds, model.occupancy)
    for camera in model.cameras[:2]:
        picture = volume.render(camera, model.background)
        assert all(bool(torch.isfinite(t).all()) for t in (picture.rgb, picture.depth, picture.opacity))


def posed(scene: Scene, pose_of: Callable[[int], np.ndarray]) -> Scene:
    cameras = [replace(frame.camera, world_from_camera=pose_of(i)) for i, frame in enumerate(scene.frames)]
    frames = zip(scene.frames, cameras, strict=True)
    return replace(scene, frames=tuple(replace(frame, camera=camera) for frame, camera in frames))


def at_one_point(scene: Scene) -> Scene:
    """A turning head: no parallax at all."""
    return posed(scene, lambda i: looking_at(np.zeros(3), np.array([np.cos(i), np.sin(i), 0.1])))


def all_the_same(scene: Scene) -> Scene:
    """Every photo from the very same pose."""
    return posed(scene, lambda i: scene.frames[0].camera.world_from_camera)


def outward(scene: Scene) -> Scene:
    """From the ring to the outside."""
    return posed(scene, lambda i: looking_at(c := scene.frames[i].camera.centre, 3 * c))


def inside_density(scene: Scene) -> Scene:
    """Cameras in the middle of the cube that is being filled."""
    return posed(scene, lambda i: looking_at(np.array([0.01 * i, 0.0, 0.0]), np.array([1.0, 0.1 * i, 0.0])))


def seeing_nothing(scene: Scene) -> Scene:
    """The scene's cube is far behind all cameras: no brick is ever seen."""
    return replace(scene, bounds=replace(scene.bounds, centre=(0.0, 0.0, 1000.0), side=0.1))


def near_beyond_far(scene: Scene) -> Scene:
    return replace(scene, bounds=replace(scene.bounds, near=1e6))


def tiny_world(scene: Scene) -> Scene:
    """All in micrometres: cameras and cube are 1e-6 as large."""
    small = posed(scene, lambda i: scaled(scene.frames[i].camera.world_from_camera, 1e-6))
    return replace(small, bounds=replace(scene.bounds, side=2e-6))


def huge_world(scene: Scene) -> Scene:
    large = posed(scene, lambda i: scaled(scene.frames[i].camera.world_from_camera, 1e6))
    return replace(large, bounds=replace(scene.bounds, side=2e6))


def scaled(pose: np.ndarray, factor: float) -> np.ndarray:
    pose = pose.copy()
    pose[:3, 3] *= factor
    return pose


def unbounded(scene: Scene) -> Scene:
    return replace(scene, bounds=replace(scene.bounds, cascades=5, contraction="cube"))


def needle(scene: Scene) -> Scene:
    """A field of view of 1e-4 degrees, and one of almost 180."""
    lenses = (1e7, 1e-3)
    frames = [
        replace(f, camera=replace(f.camera, fx=lenses[i % 2], fy=lenses[i % 2])) for i, f in enumerate(scene.frames)
    ]
    return replace(scene, frames=tuple(frames))


SPOILED: list[Spoil] = [
    at_one_point, all_the_same, outward, inside_density, seeing_nothing, near_beyond_far, tiny_world, huge_world,
    unbounded, needle,
]  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILED)
def test_degenerate_cameras_give_finite_numbers(tmp_path: Path, spoil: Spoil) -> None:
    scene = spoil(make_scene(tmp_path / "capture"))
    assert_finite(fit_scene(scene, options(scene)))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_photos_of_a_pixel(tmp_path: Path, size: tuple[int, int]) -> None:
    scene = make_scene(tmp_path / "capture", size=size)
    assert_finite(fit_scene(scene, options(scene)))


def test_a_downscale_beyond_the_photo_leaves_a_pixel(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "capture")
    model = fit_scene(scene, options(scene, downscale=64))
    assert {(camera.width, camera.height) for camera in model.cameras} == {(1, 1)}
    assert_finite(model)


def test_one_photo_to_train_on(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "capture", count=2)
    assert len(scene.train) == 1
    assert_finite(fit_scene(scene, options(scene)))


@pytest.mark.parametrize("value", [0, 255])
def test_photos_of_one_colour_and_none(tmp_path: Path, value: int) -> None:
    scene = make_scene(tmp_path / "capture")
    for frame in scene.frames:
        save_image(frame.path, np.full((8, 12, 4), value, np.uint8))
    clear = replace(scene, has_alpha=True)
    assert_finite(fit_scene(clear, options(clear, background="white")))


@pytest.mark.parametrize("setting", ["learning_rate=1e30", "learning_rate=1e4"])
def test_a_learning_rate_that_blows_up_never_ends_in_a_file(
    tmp_path: Path, setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scene, out = make_scene(tmp_path / "capture"), tmp_path / "a.nf"
    chosen = options(scene, steps=60, set=(*SMALL, setting), out=out, checkpoint_every=0.1)
    try:
        assert_finite(fit_scene(scene, chosen))
    except NeuralfieldsError as error:
        assert "learning_rate" in str(error) and "\n" not in str(error)


def test_photos_that_vanish_after_the_scene_was_read(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "capture")
    for frame in scene.frames[2:]:
        frame.path.unlink()
    with pytest.raises(NeuralfieldsError, match=r"photos cannot be read .* no such image"):
        fit_scene(scene, options(scene))


def transforms(folder: Path, scene: Scene) -> Path:
    """The scene as a transforms.json with intrinsics per file."""
    camera = scene.frames[0].camera
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    frames = [
        {"file_path": frame.name, "transform_matrix": (frame.camera.world_from_camera @ flip).tolist()}
        for frame in scene.frames
    ]
    lens = {"fl_x": camera.fx, "fl_y": camera.fy, "cx": camera.cx, "cy": camera.cy}
    whole = lens | {"w": camera.width, "h": camera.height} | {"frames": frames}
    (folder / "transforms.json").write_text(json.dumps(whole))
    return folder


@pytest.mark.parametrize("spoil", [at_one_point, all_the_same, outward, inside_density])
def test_degenerate_captures_on_disk_end_well_or_with_one_line(
    tmp_path: Path, spoil: Spoil, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = transforms(tmp_path / "capture", spoil(make_scene(tmp_path / "capture", count=9)))
    words = ["fit", str(folder), "--out", str(tmp_path / "a.nf"), "--steps", "10", "--threads", "1", "--quiet"]
    code = cli.main([*words, "--json", "--field", "hash", "--set", *SMALL])
    out, err = capsys.readouterr()
    assert code in (0, 3) and "Traceback" not in err
    if code == 0:
        assert np.isfinite(json.loads(out)["psnr"])
    else:
        assert err.count("\n") == 1


@pytest.mark.parametrize("count", [1, 2])
def test_captures_of_one_or_two_photos_on_disk(tmp_path: Path, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    folder = transforms(tmp_path / "capture", make_scene(tmp_path / "capture", count=count))
    words = ["fit", str(folder), "--out", str(tmp_path / "a.nf"), "--steps", "5", "--threads", "1", "--quiet"]
    code = cli.main([*words, "--field", "hash", "--set", *SMALL])
    err = capsys.readouterr().err
    assert code == 3 and "Traceback" not in err and err.count("\n") == 1
    assert "at least 3" in err


def test_reading_a_scene_of_noise_and_fitting_it_agree(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "capture", count=9)
    read = read_scene(transforms(tmp_path / "capture", scene))
    for one, two in zip(scene.frames, read.frames, strict=True):
        np.testing.assert_allclose(one.camera.world_from_camera, two.camera.world_from_camera, atol=1e-9)
    assert_finite(fit_scene(read, options(read)))
