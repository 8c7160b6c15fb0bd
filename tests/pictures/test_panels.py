"""Pictures, charts and films: what is in the pixels, what is on disk, and what is refused."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neuralfields.errors import InputError, UsageError
from neuralfields.pictures.charts import Chart, Series, plot_lines, ticks
from neuralfields.pictures.film import check_film, write_video
from neuralfields.pictures.panels import (
    DEPTH_STOPS,
    ERROR_STOPS,
    Panel,
    colour_depth,
    colour_table,
    comparison,
    error_picture,
    save_image,
    side_by_side,
    stack,
    to_uint8,
)

RED, BLUE = np.full((300, 200, 3), (200, 30, 30), np.uint8), np.full((300, 100, 3), (30, 30, 200), np.uint8)


def luminance(colours: np.ndarray) -> np.ndarray:
    return colours.astype(float) @ [0.2126, 0.7152, 0.0722]


def test_to_uint8() -> None:
    values = torch.tensor([[[0.5, -1.0, 2.0]]], requires_grad=True)
    assert to_uint8(values).tolist() == [[[128, 0, 255]]]
    assert to_uint8(np.array([[[np.nan, 0.2, 1.0]]])).tolist() == [[[0, 51, 255]]]
    assert to_uint8(RED) is RED


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "b.jpg", "c.jpeg"])
def test_save_image(tmp_path: Path, name: str) -> None:
    save_image(tmp_path / name, RED / 255.0)
    with Image.open(tmp_path / name) as image:
        assert image.format == ("PNG" if "png" in name.lower() else "JPEG")
        assert np.abs(np.asarray(image).astype(int) - RED).max() <= 3
    assert os.listdir(tmp_path) == [name]


def test_save_image_with_alpha_and_grey(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", np.dstack([RED, np.full((300, 200), 7, np.uint8)]))
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "RGBA"
    save_image(tmp_path / "g.png", np.zeros((4, 5)))
    with Image.open(tmp_path / "g.png") as image:
        assert image.size == (5, 4)


def test_save_image_refuses(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'.bmp'; use .png or .jpg"):
        save_image(tmp_path / "a.bmp", RED)
    with pytest.raises(InputError, match="no such folder"):
        save_image(tmp_path / "none" / "a.png", RED)
    assert os.listdir(tmp_path) == []


def test_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_image(tmp_path / "a.png", RED)
    before = (tmp_path / "a.png").read_bytes()

    def fail(self: Image.Image, target: object, **options: object) -> None:
        Path(target).write_bytes(b"half")
        raise RuntimeError("interrupted")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(RuntimeError):
        save_image(tmp_path / "a.png", BLUE)
    assert (tmp_path / "a.png").read_bytes() == before and os.listdir(tmp_path) == ["a.png"]


def test_colour_tables_are_even_to_the_eye() -> None:
    for stops, sign in ((DEPTH_STOPS, -1), (ERROR_STOPS, 1)):
        table = colour_table(stops)
        assert table.shape == (256, 3) and table.dtype == np.uint8
        assert (sign * np.diff(luminance(table)) > -1.5).all()  # one way, up to rounding
        assert np.abs(np.diff(table.astype(int), axis=0)).max() <= 8


def test_depth_in_colours() -> None:
    depth = np.tile(np.linspace(1, 8, 100, dtype=np.float32), (20, 1))
    opacity = np.ones_like(depth)
    opacity[:, 90:] = 0
    depth[0, 0], depth[1, 1], depth[2, 2] = 1e6, np.nan, np.inf
    picture = colour_depth(torch.from_numpy(depth), torch.from_numpy(opacity))
    assert picture.shape == (20, 100, 3) and picture.dtype == np.uint8
    assert (picture[:, 90:] == 255).all()
    line = luminance(picture[10])
    assert (np.diff(line[:90]) <= 1.5).all() and line[0] - line[89] > 120  # nearer is lighter, outliers do not matter
    assert (colour_depth(depth, np.zeros_like(depth)) == 255).all()
    assert np.ptp(colour_depth(np.full((5, 5), 2.0), np.ones((5, 5))).reshape(-1, 3), axis=0).max() == 0


def test_side_by_side_holds_the_pictures_unchanged() -> None:
    sheet = side_by_side([Panel(RED, "photo"), Panel(BLUE, "render", "31.4 dB")])
    red, blue = (sheet == RED[0, 0]).all(-1), (sheet == BLUE[0, 0]).all(-1)
    assert red.sum() == 300 * 200 and blue.sum() == 300 * 100
    assert np.nonzero(red.any(0))[0].max() < np.nonzero(blue.any(0))[0].min()
    below = sheet[np.nonzero(red.any(1))[0].max() + 3 :]
    assert (luminance(below) < 100).sum() > 50  # the labels
    bare = side_by_side([Panel(RED)])
    assert bare.shape[0] < sheet.shape[0]


def test_side_by_side_enlarges_and_fits() -> None:
    rgba = np.zeros((30, 40, 4), np.uint8)
    title = "a title far too long for so small a picture, cut with dots"
    sheet = side_by_side([Panel(rgba, title, "a note"), Panel(RED)])
    assert (sheet == 255).all(-1).sum() >= 290 * 380  # transparent is white; 30 rows became 300
    with pytest.raises(UsageError, match="no panels"):
        side_by_side([])


def test_error_picture_and_comparison() -> None:
    a = np.full((260, 260, 3), 100, np.uint8)
    b = a.copy()
    b[100:200, 100:200] = 110
    table = colour_table(ERROR_STOPS)
    error = error_picture(b, a, 5)
    assert (error[0, 0] == table[0]).all() and (error[150, 150] == table[50]).all()
    sheet = comparison(a, b, "r_000", "28 dB")
    assert (sheet == table[200]).all(-1).sum() == 100 * 100  # 10 / 255 * 20 of 255
    assert not (comparison(a, b, factor=2) == table[200]).all(-1).any()
    with pytest.raises(InputError, match="one size"):
        comparison(a, RED)


def test_stack() -> None:
    sheet = stack([RED, BLUE])
    assert sheet.shape == (600, 200, 3)
    assert (sheet[:300] == RED).all() and (sheet[300:, :100] == BLUE).all()
    with pytest.raises(UsageError):
        stack([])


def test_chart_draws_each_line_where_it_belongs() -> None:
    rising = Series("ours", (1.0, 10.0, 100.0), (20.0, 25.0, 30.0), strong=True)
    flat = Series("theirs", (1.0, 100.0), (15.0, 15.0), strong=True)
    picture = plot_lines([rising, flat], Chart("t", "s", "seconds", "dB", log_x=True, size=(800, 500)))
    assert picture.shape == (500, 800, 3)
    ours = np.argwhere(np.abs(picture.astype(int) - (214, 73, 42)).max(-1) < 12)
    theirs = np.argwhere(np.abs(picture.astype(int) - (27, 118, 152)).max(-1) < 12)
    assert len(ours) > 300 and len(theirs) > 300
    assert theirs[:, 0].min() > ours[:, 0].max()
    left, right = ours[ours[:, 1] < 120], ours[(ours[:, 1] > 500) & (ours[:, 1] < 600)]
    assert left[:, 0].mean() > right[:, 0].mean() + 50


@pytest.mark.parametrize(
    ("low", "high", "log", "expected"),
    [
        (13, 31, False, [15, 20, 25, 30]),
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (15, 300, True, [20, 50, 100, 200]),
        (21, 39, True, [25, 30, 35]),
    ],
)
def test_ticks(low: float, high: float, log: bool, expected: list[float]) -> None:
    assert ticks(low, high, log) == pytest.approx(expected)


def test_chart_survives_odd_series() -> None:
    nan = Series("nan", (float("nan"), 2.0), (1.0, float("inf")))
    series = [Series("one", (5.0,), (1.0,)), nan, Series("zero", (0.0,), (1.0,))]
    assert plot_lines(series, Chart(log_x=True)).shape == (720, 1200, 3)
    assert plot_lines(series[2:], Chart()).shape == (720, 1200, 3)
    assert plot_lines([Series(f"line {i}", (1.0, 2.0), (3.0, 3.0)) for i in range(9)], Chart()).shape == (720, 1200, 3)
    with pytest.raises(UsageError, match="no finite points"):
        plot_lines(series[1:2], Chart())


def film(count: int = 5, height: int = 41, width: int = 63) -> list[np.ndarray]:
    u = np.linspace(0, 1, width)
    return [np.broadcast_to(np.stack([u, 1 - u, u * 0 + i / count], -1), (height, width, 3)) for i in range(count)]


def test_mp4(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    assert write_video(tmp_path / "a.mp4", iter(film()), fps=12.5) == 5
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 64, 42)
        assert float(stream.average_rate) == pytest.approx(12.5)
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(decoded) == 5
    for got, sent in zip(decoded, film(), strict=True):
        assert np.abs(got[:41, :63].astype(int) - to_uint8(sent)).mean() < 6
    assert os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_animations(tmp_path: Path, name: str) -> None:
    assert write_video(tmp_path / name, film(), fps=10) == 5
    with Image.open(tmp_path / name) as image:
        assert (image.n_frames, image.size) == (5, (63, 41))
        image.seek(4)
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - to_uint8(film()[4])).mean() < 12


@pytest.mark.parametrize(
    ("name", "second"), [("out", "out/0001.png"), ("f.png", "f_0001.png"), ("f%03d.png", "f001.png")]
)
def test_numbered_pictures(tmp_path: Path, name: str, second: str) -> None:
    assert write_video(tmp_path / name, film()) == 5
    assert (np.asarray(Image.open(tmp_path / second)) == to_uint8(film()[1])).all()


def test_film_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"cannot write a video as '\.avi'"):
        check_film(tmp_path / "a.avi")
    with pytest.raises(UsageError, match="without frames"):
        write_video(tmp_path / "a.gif", [])
    with pytest.raises(UsageError, match="fps 0"):
        write_video(tmp_path / "a.gif", film(), fps=0)
    with pytest.raises(UsageError, match="one number"):
        write_video(tmp_path / "a%s_%d.png", film())
    with pytest.raises(InputError, match="frame 1"):
        write_video(tmp_path / "a.gif", [RED, BLUE])
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError, match=r"pip install 'neuralfields\[video\]'"):
        write_video(tmp_path / "a.mp4", film())
    assert os.listdir(tmp_path) == []
