"""Images: read upright and slim, fitted, and back at any size."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import neuralfields
from neuralfields import cli
from neuralfields.captures.images import turned
from neuralfields.domain import Domain
from neuralfields.errors import InterruptedFit, UsageError
from neuralfields.models.nf_file import load
from neuralfields.pictures.panels import save_image
from neuralfields.scene import Bounds
from neuralfields.signals.image import ImageFacts, picture, read_image_signal
from neuralfields.signals.shape import ring
from neuralfields.training.fit import fit_scene
from tests.support.fit_runs import Interrupting
from tests.support.small_signals import SMALL, chosen, saved, scene_picture, small_steps

__all__ = ["small_steps"]  # used by every test here


def test_a_picture_comes_back_the_right_way_round(tmp_path, capsys):
    """By the command line: fit, eval, render larger and smaller, export, info."""
    source, out = tmp_path / "scene.png", tmp_path / "a.nf"
    save_image(source, scene_picture())
    words = ["--steps", "200", "--set", *SMALL, "--threads", "1", "--quiet", "--json"]
    assert cli.main(["fit", str(source), "--out", str(out), *words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["kind"] == "image" and report["psnr"] > 30
    assert cli.main(["eval", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["psnr"] == pytest.approx(report["psnr"], abs=1e-6)
    assert cli.main(["render", str(out), str(tmp_path / "big.png"), "--width", "96"]) == 0
    assert cli.main(["export", str(out), str(tmp_path / "small.jpg"), "--height", "16"]) == 0
    assert cli.main(["info", str(out)]) == 0
    assert "signal      image, channels 3, width 48, height 32" in capsys.readouterr().out
    for name, size in (("big.png", (96, 64)), ("small.jpg", (24, 16))):
        with Image.open(tmp_path / name) as image:
            assert image.size == size
            truth = Image.fromarray(scene_picture()).resize(size, Image.Resampling.BOX)
            error = np.asarray(image, dtype=float) - np.asarray(truth, dtype=float)
        assert np.abs(error).mean() < 6


def test_a_smaller_picture_is_an_average(tmp_path):
    """Stripes as fine as pixels become grey, not one of their two colours."""
    stripes = np.zeros((8, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    signal = read_image_signal(saved(tmp_path, stripes))
    model = fit_scene(signal, chosen(signal.root, 250))
    small = picture(model.field, (64, 8), (16, 2))
    assert small.shape == (2, 16, 1) and np.abs(small.astype(int) - 100).max() < 12


def test_grey_alpha_and_16_bits(tmp_path):
    grey = scene_picture()[..., 0]
    assert read_image_signal(saved(tmp_path, grey)).values.shape == (32, 48, 1)
    deep = read_image_signal(saved(tmp_path, grey.astype(np.uint16) * 257, "b.png"))
    np.testing.assert_array_equal((deep.values[..., 0] * 255).round(), grey)
    assert deep.facts.bits == 16
    alpha = np.concatenate([scene_picture(), np.full((32, 48, 1), 255, np.uint8)], 2)
    assert read_image_signal(saved(tmp_path, alpha, "c.png")).domain.channels == 3  # opaque everywhere
    alpha[:5, :5, 3] = 0
    signal = read_image_signal(saved(tmp_path, alpha, "d.png"))
    assert signal.domain == Domain("image", 2, 4, (48, 32)) and signal.facts == ImageFacts(48, 32)
    y = torch.tensor([[0.2, 0.4, 0.6, 0.0], [0.2, 0.4, 0.6, 1.0]])
    wrong = y + torch.tensor([0.5, 0.5, 0.5, 0.0])
    assert signal.loss(wrong, y).tolist() == pytest.approx([0.0, 3 * 0.25 / 4])  # what is clear has no colour


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_stand_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(scene_picture()).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        truth = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_image_signal(tmp_path / "a.png").values.numpy(), truth)
    np.testing.assert_array_equal(turned(scene_picture(), orientation), truth)


def test_a_step_draws_every_part_of_a_picture_alike(tmp_path):
    signal = read_image_signal(saved(tmp_path, scene_picture()))
    x, y = signal.batch(100, torch.Generator().manual_seed(1))
    again = signal.batch(100, torch.Generator().manual_seed(1))
    assert torch.equal(x, again[0]) and torch.equal(y, again[1])
    column, row = (x[:, 0] * 48 - 0.5).round().long(), (x[:, 1] * 32 - 0.5).round().long()
    assert torch.equal(y, signal.values[row, column].float() / 255)
    index = row * 48 + column
    assert len(index.unique()) == 100 and bool((index / 15.36 - torch.arange(100)).abs().max() <= 1)
    every, _ = signal.batch(5000, torch.Generator())
    assert len(every) == 48 * 32


def test_the_python_api_fits_a_picture(tmp_path):
    path = saved(tmp_path, scene_picture())
    model = neuralfields.fit(path, steps=40, set=dict(s.split("=") for s in SMALL), threads=1, out=tmp_path / "a.nf")
    assert model.metrics["psnr"] > 15 and model.signal == {"width": 48, "height": 32}
    again = load(tmp_path / "a.nf")
    assert again.field.domain == model.field.domain and again.signal == model.signal
    with pytest.raises(UsageError, match="cannot be rendered from cameras"):
        neuralfields.render(again, ring(Bounds((0.0, 0.0, 0.0), 1.0))[0])


def test_interrupted_and_resumed_the_bits_are_the_same(tmp_path):
    path = saved(tmp_path, scene_picture())
    signal, options = read_image_signal(path), chosen(path, 30, out=tmp_path / "a.nf")
    whole = fit_scene(signal, replace(options, out=None))
    with pytest.raises(InterruptedFit, match="interrupted at step 12"):
        fit_scene(signal, options, Interrupting(12))
    resumed = fit_scene(signal, replace(options, resume=True))
    for name, tensor in whole.field.state_dict().items():
        assert torch.equal(tensor, resumed.field.state_dict()[name])
    other = saved(tmp_path, 255 - scene_picture(), "b.png")
    with pytest.raises(InterruptedFit):
        fit_scene(signal, replace(options, overwrite=True), Interrupting(3))
    with pytest.raises(UsageError, match="was made with signal"):
        fit_scene(read_image_signal(other), replace(options, resume=True))
