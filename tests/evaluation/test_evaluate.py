"""Evaluation: figures by hand, agreement with the fit's own, and what the verb refuses."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import neuralfields
from neuralfields import cli
from neuralfields.cameras import Camera
from neuralfields.captures.images import read_image
from neuralfields.errors import InputError
from neuralfields.evaluation.evaluate import evaluate, measure, photo_over, recorded_scene
from neuralfields.models.model import Model, volume_of
from neuralfields.models.nf_file import save
from neuralfields.rendering.volume import Volume

WHITE = (1.0, 1.0, 1.0)


@pytest.fixture
def empty(small_model: Model) -> Volume:
    """A volume with nothing in it: every picture is the background."""
    return replace(volume_of(small_model), occupancy=torch.zeros(1, 32768, dtype=torch.int64))


def camera(width: int, height: int) -> Camera:
    return Camera(np.eye(4), width, height, 20.0, 20.0, width / 2, height / 2)


def test_a_photo_with_alpha_is_laid_over_the_background(empty: Volume) -> None:
    photo = np.zeros((12, 16, 4), np.uint8)
    photo[:, :8] = (255, 0, 51, 102)  # alpha 0.4: over white (1, 0.6, 0.68); the rest is transparent
    view = measure(empty, photo, camera(16, 12), WHITE, name="a.png")
    mse = 0.5 * (0.4**2 + round(0.32 * 255) ** 2 / 255**2) / 3
    assert view.psnr == pytest.approx(-10 * math.log10(mse), abs=1e-3)
    assert (view.rgb == 255).all() and view.photo[0, 0].tolist() == [255, 153, 173] and view.name == "a.png"
    black = photo_over(photo, (0.0, 0.0, 0.0))
    assert black[0, 0] == pytest.approx([0.4, 0, 0.08], abs=1e-6) and not black[0, 15].any()


def test_masked_pixels_do_not_count(empty: Volume) -> None:
    photo = np.full((16, 16, 3), 204, np.uint8)
    photo[:, 8:] = 0
    keep = np.zeros((16, 16), bool)
    keep[:, :8] = True
    assert measure(empty, photo, camera(16, 16), WHITE, keep).psnr == pytest.approx(20 * math.log10(5), abs=1e-6)
    assert measure(empty, photo, camera(16, 16), WHITE).psnr < 5
    with pytest.raises(InputError, match="no pixel counts"):
        measure(empty, photo, camera(16, 16), WHITE, ~keep & keep)


def test_small_pictures_have_no_ssim_and_sizes_must_agree(empty: Volume) -> None:
    photo = np.full((8, 8, 3), 128, np.uint8)
    assert math.isnan(measure(empty, photo, camera(8, 8), WHITE).ssim)
    big = np.full((16, 16, 3), 128, np.uint8)
    assert 0 < measure(empty, big, camera(16, 16), WHITE).ssim < 1
    assert math.isnan(measure(empty, big, camera(16, 16), WHITE, structure=False).ssim)
    with pytest.raises(InputError, match=r"x.png: is 16x16 but its camera is for 8x8"):
        measure(empty, big, camera(8, 8), WHITE, name="x.png")


def test_agrees_with_the_fit_and_beats_a_blank_picture(small_model: Model, small_capture: Path) -> None:
    report = evaluate(small_model)
    assert report.psnr == pytest.approx(small_model.metrics["psnr"], abs=1e-9)
    assert report.psnr == pytest.approx(np.mean([v.psnr for v in report.views])) and 0.6 < report.ssim < 1
    blank = evaluate(replace(small_model, occupancy=torch.zeros(1, 32768, dtype=torch.int64)), small_capture)
    assert report.psnr > blank.psnr + 6 and report.psnr > 20
    kept = [view for view in report.views if view.rgb is not None]
    assert len(report.views) == 6 and {v.name for v in kept} == {report.best.name, report.worst.name}
    assert report.worst.psnr == min(v.psnr for v in report.views) < report.best.psnr
    assert report.as_dict()["images"][0].keys() == {"name", "psnr", "ssim"} and not report.warnings


def test_splits_downscale_and_background(small_model: Model, small_capture: Path) -> None:
    train, both = (evaluate(small_model, small_capture, split, downscale=4) for split in ("train", "all"))
    assert (len(train.views), len(both.views)) == (30, 36)
    assert both.psnr == pytest.approx((30 * train.psnr + 6 * evaluate(small_model, downscale=4).psnr) / 36)
    half = evaluate(small_model, small_capture, downscale=2)
    assert half.best.rgb.shape == (32, 32, 3) and half.downscale == 2
    halved = evaluate(replace(small_model, made=small_model.made | {"downscale": 2}))
    assert halved.psnr == half.psnr and halved.downscale == 2
    dark = evaluate(small_model, small_capture, background="black")
    assert dark.best.photo[0, 0].tolist() == [0, 0, 0] and dark.psnr > 18


def test_the_public_function(small_model: Model, small_capture: Path) -> None:
    assert neuralfields.evaluate(small_model, str(small_capture)).psnr == evaluate(small_model).psnr
    scene = neuralfields.read_scene(small_capture)
    assert neuralfields.evaluate(small_model, scene, split="train", downscale=4).split == "train"


def test_says_when_held_out_views_were_trained_on(small_model: Model) -> None:
    report = evaluate(replace(small_model, held_out=small_model.held_out[1:]))
    assert len(report.warnings) == 1 and "1 of 6 held-out views" in report.warnings[0]


def test_the_recorded_capture(small_model: Model) -> None:
    with pytest.raises(InputError, match="--scene"):
        recorded_scene(replace(small_model, made={}))
    with pytest.raises(InputError, match=r"gone: the capture of the fit is not there \(seen from .*--scene FOLDER"):
        recorded_scene(replace(small_model, made={"scene": "gone"}))


def test_the_verb(small_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = tmp_path / "new" / "pictures"
    words = ["eval", str(small_file), "--pictures", str(pictures)]
    assert cli.main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["psnr"] > 20 and 0 < result["ssim"] < 1 and len(result["images"]) == result["views"] == 6
    sheet = read_image(Path(result["pictures"]))
    assert sheet.shape[1] > sheet.shape[0] > 2 * 240  # two rows of three panels
    before = Path(result["pictures"]).stat().st_mtime_ns
    assert cli.main(words) == 2
    assert "--overwrite" in capsys.readouterr().err and Path(result["pictures"]).stat().st_mtime_ns == before
    assert cli.main([*words, "--overwrite", "--split", "all"]) == 0
    shown = capsys.readouterr().out
    assert "36 views (all)" in shown and f"mean{' ' * 10}" in shown and os.path.basename(pictures) in shown


@pytest.mark.parametrize(
    ("made", "words", "line"),
    [
        ({"scene": "/nowhere/fox"}, [], "/nowhere/fox: the capture of the fit is not there"),
        ({}, [], "does not say which capture"),
        ({}, ["--scene", "/nowhere"], "/nowhere: no such file or folder"),
        ({}, ["--device", "cuda"], "--device cuda"),
    ],
)
def test_refusals(
    small_model: Model,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    made: dict[str, str],
    words: list[str],
    line: str,
) -> None:
    path = tmp_path / "a.nf"
    save(replace(small_model, made=made), path)
    assert cli.main(["eval", str(path), *words]) in (2, 3)
    shown = capsys.readouterr()
    assert shown.out == "" and line in shown.err and shown.err.count("\n") == 1
