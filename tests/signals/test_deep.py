"""Images of more than 8 bits: kept when they are fitted, measured in their own steps, and written as deep."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from neuralfields import cli
from neuralfields.captures import deep_images
from neuralfields.domain import Domain
from neuralfields.fields.hash import Config, HashField
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load
from neuralfields.pictures.deep_files import save_exr, save_png16, save_tiff, sixteen_bit
from neuralfields.signals.deep import display, light_of, read_deep_pixels, smaller
from neuralfields.signals.image import ImageFacts, read_image_signal
from neuralfields.signals.readers import read_signal
from neuralfields.signals.writers import OutputSize, write_signal
from neuralfields.training.fit import fit_scene
from tests.support.make_media import deep_png
from tests.support.small_signals import SMALL, chosen, scene_picture, small_steps

__all__ = ["small_steps"]  # used by every test here
STEEP = np.linspace(0, 1, 48 * 32).reshape(32, 48)  # 1536 levels, which 8 bits cannot tell apart
DEEP = sixteen_bit(np.stack([STEEP, STEEP[::-1], STEEP[:, ::-1]], 2))


def light(peak: float) -> np.ndarray:
    return (peak * np.stack([STEEP, STEEP[::-1], 0.5 * STEEP], 2)).astype(np.float32)


def test_sixteen_bits_are_kept_whole(tmp_path: Path) -> None:
    """Colour and grey, PNG and TIFF: the values are those of the file, to the last of its 16 bits."""
    pytest.importorskip("av")
    (tmp_path / "rgb.png").write_bytes(deep_png(DEEP))
    Image.fromarray(DEEP[..., 0]).save(tmp_path / "grey.png")
    tifffile.imwrite(tmp_path / "rgb.tif", DEEP, photometric="rgb")
    tifffile.imwrite(tmp_path / "grey.tif", DEEP[..., 0])
    for name in ("rgb.png", "grey.png", "rgb.tif", "grey.tif"):
        signal = read_image_signal(tmp_path / name)
        truth = DEEP if "rgb" in name else DEEP[..., :1]
        assert signal.facts == ImageFacts(48, 32, 16) and signal.warnings == ()
        assert np.array_equal(sixteen_bit(signal.values.numpy()), truth), name
        _, y = signal.at(torch.arange(len(signal)))
        assert torch.equal(y, signal.values.reshape(-1, truth.shape[2]))
    Image.fromarray(scene_picture()).save(tmp_path / "eight.png")
    assert read_deep_pixels(tmp_path / "eight.png") is None


@pytest.mark.parametrize("suffix", [".exr", ".tif"])
@pytest.mark.parametrize("peak", [0.5, 7.5])
def test_light_is_kept_beyond_white(tmp_path: Path, suffix: str, peak: float) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".exr":
        pytest.importorskip("OpenEXR")
        save_exr(path, light(peak))
    else:
        tifffile.imwrite(path, light(peak), photometric="rgb")
    signal = read_image_signal(path)
    assert signal.facts.bits == 32 and signal.facts.peak == pytest.approx(max(peak, 1.0), rel=1e-6)
    assert bool(signal.warnings) == (peak > 1)
    assert np.allclose(light_of(signal.values.numpy(), signal.facts.peak), light(peak), rtol=1e-4, atol=1e-6)
    seen = deep_images.linear_from_srgb(display(signal.values.numpy(), signal.facts.peak))
    assert np.allclose(seen, np.minimum(light(peak), 1), atol=1e-5)  # what a .png shows ends at white


def test_light_that_is_none_is_said(tmp_path: Path) -> None:
    broken = light(1.0)
    broken[0, 0], broken[1, 1], broken[2, 2] = -1, np.nan, np.inf
    tifffile.imwrite(tmp_path / "a.tif", broken, photometric="rgb")
    signal = read_image_signal(tmp_path / "a.tif")
    assert bool(torch.isfinite(signal.values).all())
    assert any("9 values are negative, not numbers or above 65504; changed" in line for line in signal.warnings)


class Truth(HashField):
    """A field that knows an image."""

    def __init__(self, values: torch.Tensor) -> None:
        height, width, channels = values.shape
        super().__init__(Config(levels=1, table=8, hidden=16), Domain("image", 2, channels, (width, height)))
        self.truth = values

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Coordinates."""
        return x

    def values(self, f: torch.Tensor) -> torch.Tensor:
        """The pixel there."""
        height, width = self.truth.shape[:2]
        return self.truth[(f[:, 1] * height).long(), (f[:, 0] * width).long()]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_written_as_deep_as_it_was_read(tmp_path: Path, channels: int) -> None:
    """A field that knows the image gives back the file, bit for bit in 16, to rounding in light."""
    pytest.importorskip("OpenEXR")
    alpha = np.concatenate([DEEP, DEEP[..., :1] // 2 + 9000], 2)
    truth = {1: DEEP[..., :1], 3: DEEP, 4: alpha}[channels]
    save_png16(tmp_path / "a.png", truth / 65535)
    signal = read_image_signal(tmp_path / "a.png")
    assert signal.measure(Truth(signal.values))["psnr"] == np.inf
    model = Model(Truth(signal.values), signal.bounds, signal={"width": 48, "height": 32, "bits": 16})
    for name in ("b.png", "b.tif"):
        assert write_signal(model, tmp_path / name, OutputSize(), False)["bits"] == 16
        again = read_deep_pixels(tmp_path / name)
        assert again is not None and np.array_equal(sixteen_bit(again.values), truth), name
    said = write_signal(model, tmp_path / "b.jpg", OutputSize(), False)
    assert said["bits"] == 8 and read_deep_pixels(tmp_path / "b.jpg") is None
    model = Model(model.field, signal.bounds, signal={"width": 48, "height": 32, "bits": 32, "peak": 5.0})
    for name in ("c.exr", "c.tif"):
        assert write_signal(model, tmp_path / name, OutputSize(), False)["bits"] == 32
        again = read_image_signal(tmp_path / name)
        expected = light_of(signal.values.numpy(), 5.0)
        seen = light_of(again.values.numpy(), again.facts.peak)
        assert np.allclose(seen, expected, rtol=2e-4, atol=1e-5), name


def test_a_smaller_one_is_an_average_in_its_own_depth() -> None:
    values = np.zeros((2, 4, 4), np.float32)
    values[:, ::2] = (0.3, 0.6, 0.9, 1.0)  # the others are clear, and have no say in the colour
    assert np.allclose(smaller(values, (2, 1)), (0.3, 0.6, 0.9, 0.5))
    steps = np.float32([[[1 / 65535], [2 / 65535]]])
    assert smaller(steps, (1, 1))[0, 0, 0] == pytest.approx(1.5 / 65535)


def test_psnr_sees_errors_below_a_step_of_8_bits(tmp_path: Path) -> None:
    """A fit of an image whose range is a hundredth: in 8 bits it would be three levels, and its error none."""
    path = tmp_path / "dim.png"
    save_png16(path, (0.5 + 0.01 * STEEP)[..., None])
    signal = read_signal(path)
    model = fit_scene(signal, chosen(path, 60))
    seen = model.metrics["psnr"]
    assert 30 < seen < 90
    with torch.no_grad():
        for p in model.field.parameters():
            p.zero_()
    assert signal.measure(model.field)["psnr"] == pytest.approx(-20 * np.log10(0.505), abs=0.1)


def test_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tiff(tmp_path / "x.tif", light(3.0))
    words = ["--steps", "40", "--set", *SMALL, "--threads", "1", "--quiet"]
    assert cli.main(["fit", str(tmp_path / "x.tif"), "--out", str(tmp_path / "x.nf"), *words]) == 0
    capsys.readouterr()
    assert cli.main(["info", str(tmp_path / "x.nf")]) == 0
    assert "width 48, height 32, bits 32, peak 3" in capsys.readouterr().out
    assert cli.main(["eval", str(tmp_path / "x.nf"), "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)["psnr"]
    assert seen == pytest.approx(load(tmp_path / "x.nf").metrics["psnr"], abs=1e-6)
    assert cli.main(["export", str(tmp_path / "x.nf"), str(tmp_path / "y.png")]) == 0
    assert "48x32 of 16 bits" in capsys.readouterr().out
