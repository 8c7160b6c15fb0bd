"""Cameras of a transforms.json as a path, depth as numbers, one scale of depth for a film."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuralfields import cli
from neuralfields.cameras import CAMERA_AXES
from neuralfields.captures.depth_files import read_depth
from neuralfields.captures.images import read_image
from neuralfields.evaluation.render import render
from neuralfields.models.model import Model
from neuralfields.pictures.depths import depth_numbers
from neuralfields.pictures.panels import colour_depth, depth_scale, to_uint8
from tests.support import make_captures

Nf = Callable[..., dict]


@pytest.fixture
def nf(small_file: Path, capsys: pytest.CaptureFixture[str]) -> Nf:
    """`nf render MODEL ... --json`, done in this process; the result as a dict."""

    def call(*words: object, code: int = 0) -> dict:
        assert cli.main(["render", str(small_file), *map(str, words), "--json", "--quiet"]) == code
        said = capsys.readouterr()
        return json.loads(said.out) if code == 0 else {"error": said.err}

    return call


def written(model: Model, path: Path, **top: object) -> None:
    """A transforms file of the first three cameras of a model, of which no photo exists."""
    cameras = model.cameras[:3]
    poses = [camera.world_from_camera @ CAMERA_AXES["opengl"] for camera in cameras]
    make_captures.transforms(path.parent, poses, path.name, photos=False, fl_x=cameras[0].fx, **top)


def test_the_cameras_of_a_transforms_file_are_rendered(small_model: Model, tmp_path: Path, nf: Nf) -> None:
    written(small_model, tmp_path / "path.json", w=64, h=64)
    result = nf(tmp_path / "out", "--path", tmp_path / "path.json")
    assert (result["frames"], result["width"], result["height"]) == (3, 64, 64)
    for index in range(3):
        seen = to_uint8(render(small_model, small_model.cameras[index]).rgb)
        assert np.abs(read_image(tmp_path / f"out/{index:04d}.png").astype(int) - seen).max() <= 1


def test_a_transforms_file_without_sizes(small_model: Model, tmp_path: Path, nf: Nf) -> None:
    written(small_model, tmp_path / "path.json")
    assert "states no size" in nf(tmp_path / "out", "--path", tmp_path / "path.json", code=3)["error"]
    result = nf(tmp_path / "out", "--path", tmp_path / "path.json", "--width", 32, "--height", 24)
    assert (result["width"], result["height"]) == (32, 24)


@pytest.mark.parametrize("suffix", [".npy", ".exr"])
def test_depth_as_numbers(small_model: Model, tmp_path: Path, nf: Nf, suffix: str) -> None:
    written(small_model, tmp_path / "path.json", w=64, h=64)
    exr = pytest.importorskip("OpenEXR") if suffix == ".exr" else None
    nf(tmp_path / f"d{suffix}", "--path", tmp_path / "path.json", "--what", "depth")
    files = sorted(tmp_path.glob(f"d_*{suffix}"))
    assert len(files) == 3
    if exr is None:
        depth = np.load(files[1])
    else:
        with exr.File(str(files[1])) as file:
            depth = np.where(np.isinf(pixels := file.channels()["Z"].pixels), np.nan, pixels)
    truth = depth_numbers(render(small_model, small_model.cameras[1]))
    assert depth.dtype == np.float32 and depth.shape == (64, 64)
    assert np.isnan(depth).mean() == pytest.approx(np.isnan(truth).mean(), abs=0.01)
    assert np.nanmedian(np.abs(depth - truth)) < 1e-4 and 2 < np.nanmin(depth) < np.nanmax(depth) < 7
    assert "say --what depth" in nf(tmp_path / f"e{suffix}", code=2)["error"]


def test_depth_in_16_bits_says_its_unit(
    small_model: Model, small_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], nf: Nf
) -> None:
    written(small_model, tmp_path / "path.json", w=64, h=64)
    words = ["--path", str(tmp_path / "path.json"), "--what", "depth", "--depth-unit", "0.001", "--quiet"]
    assert cli.main(["render", str(small_file), str(tmp_path / "d"), *words]) == 0
    assert "16-bit depth in steps of 0.001 units of the capture" in capsys.readouterr().out
    with Image.open(tmp_path / "d/0001.png") as image:
        steps, said = np.asarray(image).astype(float), image.text["depth"]
    assert image.mode == "I;16" and "steps of 0.001 units" in said
    truth = depth_numbers(render(small_model, small_model.cameras[1]))
    assert np.array_equal(steps == 0, np.isnan(truth)) and np.nanmax(np.abs(steps / 1000 - truth)) < 1e-3
    back, whole = read_depth(tmp_path / "d/0001.png")
    assert whole and np.array_equal(back, steps)
    far = ("--path", tmp_path / "path.json", "--what", "depth", "--depth-unit", 1e-6)
    assert nf(tmp_path / "e.png", *far)["depth_unit"] == 1e-6
    with Image.open(tmp_path / "e_0001.png") as image:
        assert np.asarray(image).max() == 65535
    assert "--depth-unit: is of depth as PNG" in nf(tmp_path / "f.npy", *far, code=2)["error"]


def test_films_have_one_scale_of_depth() -> None:
    near, solid = np.linspace(1, 2, 64).reshape(8, 8), np.ones((8, 8))
    scale = depth_scale(4 * near, solid)
    assert scale == pytest.approx(np.log(4 * np.percentile(near, (2, 98))), abs=0.01)
    wide = (depth_scale(near, solid)[0], scale[1])
    same = colour_depth(near, solid, wide), colour_depth(4 * near, solid, wide)
    assert not np.array_equal(*same)  # four times as far is another colour
    assert np.array_equal(colour_depth(near, solid), colour_depth(4 * near, solid))  # each by its own scale


def test_view_and_render_take_allow_outside(small_model: Model, tmp_path: Path, nf: Nf) -> None:
    make_captures.transforms(tmp_path / "store")
    (tmp_path / "cap").mkdir()
    (tmp_path / "store/transforms.json").rename(tmp_path / "cap/transforms.json")
    (tmp_path / "cap/images").symlink_to(tmp_path / "store/images")
    words = (tmp_path / "out", "--scene", tmp_path / "cap", "--path", "orbit", "--frames", 1, "--width", 16)
    assert "--allow-outside" in nf(*words, code=3)["error"]
    assert nf(*words, "--allow-outside")["frames"] == 1
