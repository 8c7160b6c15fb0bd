"""Boxes by what photos show: plain backdrops, alpha and masks, far origins, `--box`, and the drawing of `nf check`."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuralfields.cameras import Camera
from neuralfields.captures.check import check_scene
from neuralfields.captures.images import load_frames
from neuralfields.captures.mask_folder import cut_by_masks
from neuralfields.captures.preview import backdrop, border_colour, silhouette
from neuralfields.captures.readers import boxed, read_scene, silhouettes
from neuralfields.errors import UsageError
from neuralfields.options.captures import CheckOptions
from neuralfields.options.fit import FitOptions
from neuralfields.pictures.box_overlay import draw_box
from neuralfields.scene import Bounds
from neuralfields.trainers.radiance import Background
from neuralfields.training.photos import choose_background, framed
from neuralfields.verbs import check
from tests.support import make_captures

SIZE, FOCAL = (64, 48), 90.0
BALL, RADIUS = np.array([0.3, -0.2, 0.1]), 0.5


def seen_ball(pose: np.ndarray, at: np.ndarray, scale: float) -> np.ndarray:
    """Where a ball is in the view of an OpenGL camera, bool [H, W]."""
    v, u = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    d = np.stack([(u - SIZE[0] / 2) / FOCAL, -(v - SIZE[1] / 2) / FOCAL, -np.ones_like(u)], -1) @ pose[:3, :3].T
    d /= np.linalg.norm(d, axis=-1, keepdims=True)
    offset = scale * BALL + at - pose[:3, 3]
    return offset @ offset - (d @ offset) ** 2 < (scale * RADIUS) ** 2


def capture(
    folder: Path, kind: str, scale: float = 1.0, at: tuple[float, float, float] = (0, 0, 0), outer: int = 0
) -> Path:
    """A ring about a grey ball with a black pole: on a plain backdrop, with alpha, or with masks before noise."""
    poses = make_captures.ring(16, 4 * scale, at)
    for k, pose in enumerate(poses):  # at several heights
        poses[k] = make_captures.looking_at(pose[:3, 3] + (0, 0, scale * (k % 3)), np.array(at, dtype=float))
    make_captures.transforms(folder, poses, fl_x=FOCAL, w=SIZE[0], h=SIZE[1], photos=True)
    for k, pose in enumerate(poses):
        ball = seen_ball(pose, np.array(at), scale)
        inner = np.where(ball, 120 + 5 * (k % 7), outer).astype(np.uint8)
        image = np.repeat(inner[..., None], 3, 2)
        image[ball & (np.arange(SIZE[0]) % 9 == 0)] = 0
        path = folder / f"images/{k:04d}.png"
        if kind == "masks":
            noise = np.random.default_rng(k).integers(0, 255, image.shape, dtype=np.uint8)
            image = np.where(ball[..., None], image, noise)
            (folder / "masks").mkdir(exist_ok=True)
            Image.fromarray(np.where(ball, 255, 0).astype(np.uint8)).save(folder / f"masks/{k:04d}.png")
        if kind == "alpha":
            image = np.dstack([image, np.where(ball, 255, 0).astype(np.uint8)])
        Image.fromarray(image).save(path)
    return folder


@pytest.mark.parametrize(
    "kind, scale, at",
    [("backdrop", 1.0, (0, 0, 0)), ("alpha", 1e-3, (0, 0, 0)), ("masks", 1e3, (3e5, 5e6, 200.0))],
    ids=["metres", "millimetres", "kilometres"],
)
def test_the_box_holds_the_object_and_little_else(
    tmp_path: Path, kind: str, scale: float, at: tuple[float, float, float]
) -> None:
    scene = read_scene(capture(tmp_path, kind, scale, at))
    scene = cut_by_masks(scene) if kind == "masks" else scene
    loose, found = scene.bounds, boxed(scene, load_frames(scene, scene.train))
    centre = np.add(found.bounds.centre, found.bounds.origin)
    assert np.abs(centre - (scale * BALL + at)).max() < 0.3 * scale
    assert 2 * RADIUS * scale < found.bounds.side < 3.2 * RADIUS * scale < loose.side
    assert (found.bounds.contraction, found.bounds.cascades) == ("box", 1)
    assert "visual hull" in found.because
    assert found.backdrop == ((0.0, 0.0, 0.0) if kind == "backdrop" else None)


def test_a_scene_that_moves_has_the_hull_of_its_times(tmp_path: Path) -> None:
    """Its times stay, with --box too."""
    scene = read_scene(capture(tmp_path, "alpha"))
    frames = tuple(replace(frame, camera=replace(frame.camera, time=float(i))) for i, frame in enumerate(scene.frames))
    bounds = replace(scene.bounds, times=(0.0, float(len(frames) - 1)))
    moving = replace(scene, frames=frames, bounds=bounds)
    still, found = (boxed(each, load_frames(each, each.train)).bounds for each in (scene, moving))
    assert found.times == bounds.times and (found.contraction, found.cascades) == ("box", 1)
    assert still.side <= found.side < 0.6 * bounds.side and still != scene.bounds
    given = boxed(moving, None, "0,0,0,1,1,1").bounds
    assert given.times == bounds.times and given.side == pytest.approx(1.0)


def test_of_many_photos_of_what_moves_none_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of them could miss what is fast, and a box would cut it."""
    scene = read_scene(capture(tmp_path, "alpha"))
    frames = tuple(replace(frame, camera=replace(frame.camera, time=float(i))) for i, frame in enumerate(scene.frames))
    moving = replace(scene, frames=frames, bounds=replace(scene.bounds, times=(0.0, float(len(frames) - 1))))
    loaded = load_frames(moving, moving.train)
    assert len(silhouettes(loaded, None)) == len(loaded.images)
    monkeypatch.setattr("neuralfields.captures.readers.MOST_IN_TIME", len(loaded.images) - 1)
    assert silhouettes(loaded, None) == [] and boxed(moving, loaded).bounds == moving.bounds


def test_a_floor_that_goes_on_before_a_sky_cut_away_is_no_object(tmp_path: Path) -> None:
    scene = read_scene(capture(tmp_path, "alpha"))
    loaded = load_frames(scene, scene.train)
    for image in loaded.images:
        image[image.shape[0] // 2 :, :, 3] = 255
    assert boxed(scene, loaded).bounds == scene.bounds


def test_check_says_the_same_box_and_why(tmp_path: Path) -> None:
    scene = read_scene(capture(tmp_path / "a", "backdrop", outer=250))
    report = check_scene(tmp_path / "a")
    assert report.bounds == boxed(scene, load_frames(scene, scene.train)).bounds
    assert "one-coloured background" in report.box_follows and report.backdrop == (1.0, 1.0, 1.0)
    lines = check.text(report.as_dict())
    assert "it follows the photos' one-coloured background: their visual hull, with nothing outside; --box" in lines
    assert "background: (255, 255, 255), the one colour of the photos' borders" in lines


def test_masks_that_ignore_all_but_an_object_bound_it(tmp_path: Path) -> None:
    scene = read_scene(capture(tmp_path, "masks"))
    found = boxed(scene, load_frames(scene, scene.train))
    assert found.backdrop is None and found.because == "the photos' masks: their visual hull, with nothing outside"
    assert (found.bounds.contraction, scene.bounds.contraction) == ("box", "cube") and not found.has_alpha
    assert np.abs(np.array(found.bounds.centre) - BALL).max() < 0.3
    assert 2 * RADIUS < found.bounds.side < 3.2 * RADIUS < scene.bounds.side
    cameras = [frame.camera for frame in found.frames]
    assert 0 < found.bounds.near < min(np.linalg.norm(c.centre - found.bounds.centre) for c in cameras) / 3


def test_photos_of_noise_change_nothing(tmp_path: Path) -> None:
    make_captures.transforms(tmp_path, make_captures.ring(16))
    scene = read_scene(tmp_path)
    assert boxed(scene, None) == scene and scene.because == "the cameras, which it holds"


def test_a_box_by_hand(tmp_path: Path) -> None:
    at = (3e5, 5e6, 200.0)
    scene = read_scene(capture(tmp_path, "masks", 1.0, at))
    corners = [*np.subtract(at, 1), *np.add(at, (1, 2, 1))]
    found = boxed(scene, None, ",".join(map(repr, map(float, corners))))
    assert any(found.bounds.origin)
    assert np.add(found.bounds.centre, found.bounds.origin) == pytest.approx(np.add(at, (0, 0.5, 0)))
    assert (found.bounds.side, found.bounds.contraction, found.because) == (3.0, "cube", "--box")
    with pytest.raises(UsageError, match=r"--box '1,2': must be x0,y0,z0,x1,y1,z1"):
        boxed(scene, None, "1,2")


def test_masks_of_other_photos_bound_nothing_and_that_is_said(tmp_path: Path) -> None:
    folder = capture(tmp_path, "masks")
    for k in range(16):
        left = np.zeros(SIZE[::-1], np.uint8)
        left[:, slice(0, 9) if k % 2 else slice(-9, None)] = 255
        Image.fromarray(left).save(folder / f"masks/{k:04d}.png")
    found = boxed(cut_by_masks(read_scene(folder)), None)
    assert "have nothing in common; check that they belong to these poses" in found.warnings[-1]
    assert found.bounds.contraction == "cube"


def test_black_inside_an_object_is_not_background() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    image[5:15, 5:15] = 200
    image[8:12, 8:12] = 3
    seen = silhouette(image, (0.0, 0.0, 0.0))
    assert seen[5:15, 5:15].all() and seen.sum() == 100
    assert silhouette(image, None) is None
    assert border_colour(image).tolist() == [0, 0, 0]
    image[0] = np.random.default_rng(0).integers(0, 255, (20, 3))
    assert border_colour(image) is None


def test_alpha_has_no_backdrop(tmp_path: Path) -> None:
    scene = read_scene(capture(tmp_path, "alpha"))
    assert backdrop(scene.frames) is None


def test_the_box_is_drawn_where_it_is() -> None:
    camera = Camera(np.eye(4), 100, 80, 100.0, 100.0, 50, 40)
    grey = np.full((80, 100, 3), 90, np.uint8)
    drawn = draw_box(grey, camera, Bounds((0.0, 0.0, 5.0), 2.0))
    # The front face is at depth 4: corners at 50 +- 25, 40 +- 25.
    assert (drawn[15, 30:70] != 90).any(axis=1).all() and (drawn[20:60, 25] != 90).any(axis=1).all()
    assert (drawn[36:44, 46:54] == 90).all() and (drawn[:10] == 90).all() and (grey == 90).all()
    behind = draw_box(grey, camera, Bounds((0.0, 0.0, -5.0), 2.0))
    assert (behind == 90).all()


def test_check_draws_two_photos(tmp_path: Path) -> None:
    folder = capture(tmp_path / "a", "alpha")
    options = CheckOptions(folder, draw=tmp_path / "b", box="-1,-1,-1,1,1,1")
    result = check.run(options)
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["0000-box.png", "0011-box.png"]
    assert result["bounds"]["side"] == 2.0 and len(result["drawn"]) == 2
    assert "the box is drawn in" in check.text(result)
    assert np.asarray(Image.open(result["drawn"][0])).shape == (48, 64, 3)
    with pytest.raises(UsageError, match="exists; add --overwrite"):
        check.run(options)


def test_a_fit_says_box_and_background_in_a_line_each(tmp_path: Path) -> None:
    scene = read_scene(capture(tmp_path, "backdrop", outer=250))
    loaded, options = load_frames(scene, scene.train), FitOptions(tmp_path)
    found, lines = framed(scene, loaded, options)
    assert choose_background(found, options) == Background((1.0, 1.0, 1.0), False)
    assert [line.partition(":")[0] for line in lines] == ["box", "background"]
    assert lines[0].endswith("by the photos' one-coloured background: their visual hull, with nothing outside")
    assert lines[1].startswith("background: (255, 255, 255), the one colour of the photos' borders")
    other = replace(options, background="random")
    assert choose_background(found, other).random and len(framed(scene, loaded, other)[1]) == 1
    given = replace(options, box="-1,-1,-1,1,1,1")
    found, lines = framed(scene, loaded, given)
    assert lines[0] == "box: side 2 about (0, 0, 0), by --box" and found.bounds.cascades == 1
