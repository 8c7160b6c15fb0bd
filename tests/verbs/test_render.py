"""Pictures and films: the same numbers by every way in, cameras that fit their pictures, and what is refused."""

import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import neuralfields
from neuralfields import cli
from neuralfields.cameras import Camera, fitted, project
from neuralfields.captures.images import read_image
from neuralfields.errors import InputError, UsageError
from neuralfields.evaluation.render import render
from neuralfields.models.model import Model
from neuralfields.models.nf_file import save
from neuralfields.pictures import camera_paths as paths
from neuralfields.pictures.panels import colour_depth, render_picture, to_uint8
from neuralfields.progress import counted
from neuralfields.rays import Rays, Render
from neuralfields.rendering.volume import camera_rays
from neuralfields.verbs import render as render_module
from tests.support.unchecked import unchecked

Nf = Callable[..., dict]


@pytest.fixture
def nf(small_file: Path, capsys: pytest.CaptureFixture[str]) -> Nf:
    """`nf render MODEL ... --json`, done in this process; the result as a dict."""

    def call(*words: object) -> dict:
        assert cli.main(["render", str(small_file), *map(str, words), "--json", "--quiet"]) == 0
        return json.loads(capsys.readouterr().out)

    return call


def test_cameras_and_rays_see_the_same(small_model: Model) -> None:
    camera = small_model.cameras[3]
    seen = render(small_model, camera, "black")
    assert seen.rgb.shape == (64, 64, 3) and seen.depth.shape == seen.opacity.shape == (64, 64)
    rays = camera_rays(camera)
    arrays = Rays(rays.origins.numpy(), 3.0 * rays.directions.numpy())  # any length, numpy
    again = neuralfields.render(small_model, arrays, (0, 0, 0))
    assert torch.allclose(again.rgb.reshape(64, 64, 3), seen.rgb, atol=1e-5)
    assert torch.allclose(again.depth.reshape(64, 64), seen.depth, atol=1e-3)
    assert seen.opacity.max() > 0.95 and seen.opacity[0, 0] < 0.05
    inside = seen.opacity > 0.9
    assert 2 < seen.depth[inside].min() and seen.depth.max() < 7  # the cameras stand 4 units away
    white = render(small_model, camera).rgb
    assert torch.allclose(white, seen.rgb + (1 - seen.opacity)[..., None], atol=1e-5)


def test_a_model_without_occupancy_is_looked_at_everywhere(small_model: Model) -> None:
    camera = fitted(small_model.cameras[0], (16, 16))
    everywhere = torch.full((1, 32768), -1, dtype=torch.int64)
    bare, full = (render(replace(small_model, occupancy=bits), camera) for bits in (None, everywhere))
    assert torch.equal(bare.rgb, full.rgb)


@pytest.mark.parametrize(
    ("origins", "directions", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 3)), "a direction is zero"),
        (np.full((2, 3), np.nan), np.ones((2, 3)), "not finite"),
        (np.zeros((2, 2)), np.ones((2, 2)), r"both need \[R, 3\]"),
        (np.zeros((2, 3)), np.ones((3, 3)), r"\[2, 3\], directions \[3, 3\]"),
    ],
)
def test_bad_rays(small_model: Model, origins: np.ndarray, directions: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        render(small_model, unchecked(Rays, origins=origins, directions=directions))


@pytest.mark.parametrize("background", ["green", (1, 2), (0, 0, 1.5), (0, 0, float("nan"))])
def test_bad_backgrounds(small_model: Model, background: object) -> None:
    with pytest.raises(UsageError, match="auto, white, black or three numbers"):
        render(small_model, small_model.cameras[0], background)


def test_no_rays_give_an_empty_render(small_model: Model) -> None:
    seen = render(small_model, Rays(np.zeros((0, 3)), np.zeros((0, 3))))
    assert seen.rgb.shape == (0, 3) and seen.depth.shape == (0,)


def test_a_fitted_camera_sees_the_whole_view_undistorted() -> None:
    pose = np.eye(4)
    camera = Camera(pose, 200, 100, 150.0, 160.0, 90.0, 55.0, distortion=(0.1, 0, 0.01, 0, 0, 0, 0, 0))
    points = np.array([[0.3, 0.1, 2.0], [-0.5, 0.2, 3.0]])
    (before, _), (same, _) = project(camera, points), project(fitted(camera, (100, 50)), points)
    assert same == pytest.approx(before / 2)
    assert fitted(camera, (200, 100)) is camera
    square, _ = project(fitted(camera, (100, 100)), points)
    assert square == pytest.approx((before - (100, 50)) / 2 + 50)
    odd = fitted(camera, (67, 33))  # 67 x 33.5 in the aspect: rounding is not a new aspect
    assert odd.fx / camera.fx == pytest.approx(67 / 200) and odd.fy / camera.fy == pytest.approx(33 / 100)


def test_quantities_stand_side_by_side() -> None:
    rgb, opacity = torch.rand(4, 6, 3), torch.linspace(0, 1, 24).reshape(4, 6)
    seen = Render(rgb, opacity, torch.rand(4, 6) + 1)
    frame = render_picture(seen, ("rgb", "depth", "opacity"))
    assert frame.shape == (4, 18, 3) and frame.dtype == np.uint8
    assert (frame[:, :6] == to_uint8(rgb)).all() and (frame[:, 6:12] == colour_depth(seen.depth, opacity)).all()
    assert (frame[:, 12:] == to_uint8(opacity)[..., None]).all()
    assert render_picture(seen).shape == (4, 6, 3)


def test_held_out_views_in_a_folder(nf: Nf, small_model: Model, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "views"
    result = nf(out)
    assert result["frames"] == result["files"] == 6 and (result["width"], result["height"]) == (64, 64)
    assert result["ms_per_frame"] > 0 and result["camera_path"] == "held-out" and result["fps"] is None
    names = [Path(small_model.camera_names[i]).stem for i in small_model.held_out]
    assert sorted(path.stem for path in out.iterdir()) == sorted(names)
    first = small_model.cameras[small_model.held_out[0]]
    assert (read_image(out / f"{names[0]}.png") == to_uint8(render(small_model, first).rgb)).all()


def test_one_picture_and_numbered_pictures(nf: Nf, tmp_path: Path) -> None:
    result = nf(tmp_path / "one.png", "--path", "orbit", "--frames", 1, "--what", "rgb,depth", "--width", 20)
    assert (result["width"], result["height"]) == (40, 20) and read_image(tmp_path / "one.png").shape == (20, 40, 3)
    nf(tmp_path / "many.png", "--path", "spiral", "--frames", 2, "--height", 16)
    assert sorted(p.name for p in tmp_path.glob("many*")) == ["many_0000.png", "many_0001.png"]
    nf(tmp_path / "wide.png", "--path", "automatic", "--frames", 1, "--width", 30, "--height", 10)
    assert read_image(tmp_path / "wide.png").shape == (10, 30, 3)
    small = nf(tmp_path / "small", "--downscale", 4)
    assert (small["width"], small["height"]) == (16, 16)


def test_a_film(nf: Nf, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    result = nf(tmp_path / "turn.mp4", "--path", "orbit", "--frames", 5, "--fps", 10, "--downscale", 2)
    with av.open(str(tmp_path / "turn.mp4")) as film:
        assert float(film.streams.video[0].average_rate) == 10
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == result["frames"] == 5 and frames[0].shape == (32, 32, 3)
    assert np.abs(frames[0].astype(int) - frames[2]).mean() > 2  # it turns


def test_an_animation_through_the_photos(nf: Nf, small_capture: Path, tmp_path: Path) -> None:
    nf(tmp_path / "a.gif", "--path", "interpolate", "--frames", 3, "--downscale", 4, "--scene", small_capture)
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 3 and film.size == (16, 16)


def test_keyframes_need_no_cameras(
    small_model: Model,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, keys = tmp_path / "bare.nf", tmp_path / "keys.json"
    save(replace(small_model, cameras=(), held_out=(), camera_names=()), model)
    camera = fitted(small_model.cameras[1], (24, 24))
    paths.write_keyframes(keys, [camera, camera])
    out = tmp_path / "frames"
    assert cli.main(["render", str(model), str(out), "--path", str(keys), "--background", "black"]) == 0
    assert "2 frames of 24x24" in capsys.readouterr().out
    expected = to_uint8(render(small_model, camera, "black").rgb).astype(int)
    assert np.abs(read_image(out / "0001.png") - expected).max() <= 1
    pose = camera.world_from_camera.copy()
    pose[:3, 3] += 1e6 * camera.forward
    paths.write_keyframes(keys, [replace(camera, world_from_camera=pose), camera])
    assert cli.main(["render", str(model), str(out), "--path", str(keys), "--overwrite", "--background", "black"]) == 0
    assert "1 cameras are over 10000 times the scene's side away from it" in capsys.readouterr().err
    assert not read_image(out / "0000.png").any() and read_image(out / "0001.png").any()
    assert cli.main(["render", str(model), str(tmp_path / "x.png")]) == 3
    assert "holds no cameras" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["{}/there.png", "--path", "orbit", "--frames", "1"], 2, "there.png: exists; add --overwrite"),
        (["{}/there.png/x", "--path", "orbit"], 3, "cannot be made"),
        (["{}/there", "--path", "orbit"], 2, "there: is a file; give a folder"),
        (["{}/film.avi"], 2, "cannot write a video as '.avi'"),
        (["{}/a.png", "--path", "orbti"], 2, "--path orbti: unknown (did you mean 'orbit'?); held-out, orbit"),
        (["{}/a.png", "--path", "{}/no.json"], 3, "no.json: cannot be read"),
        (["{}/no/a.png"], 3, "no: no such folder"),
        (["{}/a.png", "--scene", "{}/no"], 3, "no such file or folder"),
        (["{}/a.png", "--device", "cuda"], 2, "--device cuda"),
        (["{}/a.gif", "--width", "16384", "--path", "orbit", "--scene", "{}/no"], 3, "no such file"),
    ],
)
def test_refusals(
    small_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    line: str,
) -> None:
    for name in ("there.png", "there"):
        (tmp_path / name).write_bytes(b"mine")
    before = sorted(tmp_path.iterdir())
    assert cli.main(["render", str(small_file), *(word.format(tmp_path) for word in words)]) == code
    shown = capsys.readouterr()
    assert line in shown.err and shown.err.count("\n") == 1 and shown.out == ""
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "there.png").read_bytes() == b"mine"


def test_no_held_out_views(small_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(replace(small_model, held_out=()), tmp_path / "a.nf")
    assert cli.main(["render", str(tmp_path / "a.nf"), str(tmp_path / "out")]) == 3
    assert "no held-out views; use --path orbit" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_progress_in_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 1000, 4))
    monkeypatch.setattr(render_module.time, "monotonic", lambda: float(next(now)))
    for quiet, lines in ((True, []), (False, ["frames     3/8  0:20  left 0:33", "frames     6/8  0:36  left 0:12"])):
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        assert list(counted(iter("abcdefgh"), 8, quiet)) == list("abcdefgh")
        assert sys.stderr.getvalue().splitlines() == lines
