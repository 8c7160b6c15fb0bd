"""The bundled scenes: closed forms against brute force, and the sample against its script and its cameras."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

SCENES = Path(__file__).resolve().parents[1] / "scenes"
SAMPLE = SCENES / "sample"


def load(name: str) -> ModuleType:
    """Imports a script of scenes/ that is no package."""
    spec = importlib.util.spec_from_file_location(name, SCENES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


analytic = load("analytic")


def rays(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Rays from around and inside towards the middle, some of which miss; unit directions, none nearly level."""
    rng = np.random.default_rng(7)
    origins = rng.normal(size=(count, 3))
    origins *= np.where(np.arange(count) % 4 == 0, 0.2, 1.8)[:, None] / np.linalg.norm(origins, axis=1, keepdims=True)
    target = rng.uniform(-0.7, 0.9, size=(count, 3))
    directions = target - origins
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    steep = np.abs(directions[:, 2]) > 0.3
    return origins[steep], directions[steep]


def quadrature(scene: object, origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, float, float]:
    """rgb, opacity, depth of one ray by adding up 200,000 short steps over 8 units."""
    step = 8.0 / 200_000
    t = (np.arange(200_000) + 0.5) * step
    x = origin + t[:, None] * direction
    alpha = -np.expm1(-scene.density(x) * step)
    through = np.exp(np.concatenate([[0.0], np.cumsum(np.log1p(-alpha))]))
    weight = alpha * through[:-1]
    opacity = weight.sum()
    rgb = weight @ scene.colour(x, np.broadcast_to(direction, x.shape))
    return rgb, opacity, float(weight @ t / opacity) if opacity > 0 else 0.0


@pytest.mark.parametrize("scene", analytic.SCENES, ids=lambda s: type(s).__name__)
def test_closed_form_equals_brute_force(scene: object) -> None:
    origins, directions = rays()
    exact = scene.exact(origins, directions)
    hits = 0
    for i in range(len(origins)):
        rgb, opacity, depth = quadrature(scene, origins[i], directions[i])
        assert exact.rgb[i] == pytest.approx(rgb, abs=2e-4)
        assert exact.opacity[i] == pytest.approx(opacity, abs=2e-4)
        if opacity > 0.01:
            hits += 1
            assert exact.depth[i] == pytest.approx(depth, abs=1e-3)
    assert hits >= 8


def test_opacity_of_a_chord_through_the_centre() -> None:
    ball = analytic.Ball(centre=(0.0, 0.0, 0.0), radius=0.5, sigma=2.0, rgb=(1.0, 0.5, 0.0))
    exact = ball.exact(np.array([[0.0, 0.0, 3.0]]), np.array([[0.0, 0.0, -1.0]]))
    assert exact.opacity[0] == pytest.approx(1 - np.exp(-2.0))
    assert exact.rgb[0] == pytest.approx([1 - np.exp(-2.0), 0.5 - 0.5 * np.exp(-2.0), 0.0])
    assert 2.5 < exact.depth[0] < 3.0


def test_rays_that_miss_and_rays_along_an_axis() -> None:
    fog = analytic.Fog(sigma=1.0)
    origins = np.array([[0.5, 0.5, -1.0], [2.0, 2.0, -1.0], [0.5, 0.5, 2.0], [0.0, 0.0, -1.0]])
    directions = np.array([[0.0, 0.0, 1.0]] * 4)
    opacity = fog.exact(origins, directions).opacity
    assert opacity == pytest.approx([1 - np.exp(-1.0), 0.0, 0.0, 1 - np.exp(-1.0)])


def frames(split: str) -> list[dict]:
    return json.loads((SAMPLE / f"transforms_{split}.json").read_text())["frames"]


def test_sample_is_complete_and_small() -> None:
    assert (len(frames("train")), len(frames("test"))) == (60, 12)
    paths = [SAMPLE / f"{f['file_path']}.png" for split in ("train", "test") for f in frames(split)]
    assert sum(p.stat().st_size for p in paths) < 5_000_000
    assert sorted(p.resolve() for p in paths) == sorted(p.resolve() for p in SAMPLE.rglob("*.png"))
    for path in paths[::9]:
        picture = np.asarray(Image.open(path))
        assert picture.shape == (256, 256, 4)
        alpha = picture[..., 3]
        assert (alpha == 0).mean() > 0.3 and (alpha == 255).mean() > 0.1 and ((alpha > 0) & (alpha < 255)).any()
        assert alpha[[0, -1]].max() == 0 and alpha[:, [0, -1]].max() == 0  # nothing is cut off


def test_sample_cameras_are_apart_and_look_at_the_middle() -> None:
    train = np.array([f["transform_matrix"] for f in frames("train")])
    test = np.array([f["transform_matrix"] for f in frames("test")])
    every = np.concatenate([train, test])
    turns = every[:, :3, :3]
    assert turns @ turns.transpose(0, 2, 1) == pytest.approx(np.broadcast_to(np.eye(3), turns.shape), abs=1e-7)
    assert np.linalg.det(turns) == pytest.approx(np.ones(len(turns)))
    gaps = np.linalg.norm(test[:, None, :3, 3] - train[None, :, :3, 3], axis=-1)
    assert gaps.min() > 0.05
    middle = np.array([0.0, 0.0, -0.14])
    back = (every[:, :3, 3] - middle) / np.linalg.norm(every[:, :3, 3] - middle, axis=1, keepdims=True)
    assert every[:, :3, 2] == pytest.approx(back, abs=1e-6)


def test_sample_shows_the_world_unmirrored() -> None:
    """The red pearl at (0.41, -0.42, -0.40) appears where the matrices put it, in every view that sees it."""
    focal = 128 / np.tan(0.6911112070083618 / 2)
    seen, mirrored = 0, 0
    for frame in frames("train"):
        pose = np.array(frame["transform_matrix"])
        local = pose[:3, :3].T @ (np.array([0.41, -0.42, -0.40]) - pose[:3, 3])
        u, v = 128 + focal * local[0] / -local[2], 128 - focal * local[1] / -local[2]
        picture = np.asarray(Image.open(SAMPLE / f"{frame['file_path']}.png")).astype(int)
        redness = picture[..., 0] - picture[..., 1:3].max(axis=-1)
        seen += redness[int(v), int(u)] > 70
        mirrored += redness[int(v), 255 - int(u)] > 70
    assert seen >= 35  # the others look at it through a bar of the cage or from behind the tower
    assert mirrored <= 20


def test_script_makes_the_committed_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCENES))
    script = load("make_sample")
    objects = script.things()
    poses = script.test_poses()
    assert np.round(poses[3], 9).tolist() == frames("test")[3]["transform_matrix"]
    picture = script.render(np.round(poses[3], 9), script.SIZE, objects, script.build_skip(objects)).astype(int)
    committed = np.asarray(Image.open(SAMPLE / "test/r_003.png")).astype(int)
    assert np.abs(picture - committed).mean() < 0.05  # other processors round differently


def test_distances_are_safe_to_march(monkeypatch: pytest.MonkeyPatch) -> None:
    """No shape claims more room than there is: distances change by at most the distance moved."""
    monkeypatch.syspath_prepend(str(SCENES))
    rng = np.random.default_rng(3)
    p = rng.uniform(-1.2, 1.2, size=(3, 20_000)).astype(np.float32)
    move = rng.normal(size=p.shape).astype(np.float32)
    move *= 0.02 / np.linalg.norm(move, axis=0)
    for thing in load("still_life").things():
        change = np.abs(thing.distance(*(p + move)) - thing.distance(*p))
        assert change.max() <= 0.02 * 1.06, thing.name
        inside = p[:, thing.distance(*p) < 0]
        assert np.abs(inside).max(initial=0) < 1.19, thing.name
