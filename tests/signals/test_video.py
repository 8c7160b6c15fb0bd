"""Videos: clips and folders of frames, in order and at their rate."""

import json
from fractions import Fraction

import numpy as np
import pytest

from neuralfields import cli
from neuralfields.errors import InputError
from neuralfields.models.nf_file import load
from neuralfields.pictures.film import write_video
from neuralfields.pictures.panels import save_image
from neuralfields.signals.readers import read_signal
from neuralfields.signals.signal import facts_of
from neuralfields.signals.video import VideoFacts, pictures
from tests.support.small_signals import SMALL, scene_picture, small_steps

__all__ = ["small_steps"]  # used by every test here


def clip(frames: int = 5) -> list[np.ndarray]:
    """The picture, its red channel rising with time."""
    base = scene_picture(32, 24).astype(int)
    return [(base * [k / frames, 1, 1]).astype(np.uint8) for k in range(1, frames + 1)]


def test_a_folder_of_frames_comes_back_in_order(tmp_path, capsys):
    folder = tmp_path / "frames"
    folder.mkdir()
    for k, frame in enumerate(clip()):
        save_image(folder / f"{k:03d}.png", frame)
    words = ["--format", "video", "--steps", "250", "--set", *SMALL, "--threads", "1", "--quiet", "--json"]
    assert cli.main(["fit", str(folder), "--out", str(tmp_path / "a.nf"), *words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["kind"] == "video" and report["psnr"] > 26
    model = load(tmp_path / "a.nf")
    assert model.field.domain.lengths == (32, 24, 5) and model.signal["fps"] == 25.0
    facts = facts_of(model.signal, VideoFacts)
    for seen, truth in zip(pictures(model.field, facts), clip(), strict=True):
        assert np.abs(seen.astype(int) - truth).mean() < 10
    red = [frame[..., 0].mean() for frame in pictures(model.field, facts, (16, 12), 9)]
    assert len(red) == 9 and red == sorted(red)
    assert cli.main(["export", str(tmp_path / "a.nf"), str(tmp_path / "b.mp4"), "--width", "64", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert (written["width"], written["height"], written["frames"], written["fps"]) == (64, 48, 5, 25.0)


def test_frames_without_leading_zeros_are_in_the_order_of_their_numbers(tmp_path):
    for k in range(1, 13):
        save_image(tmp_path / f"{k}.png", np.full((8, 8, 3), 20 * k, np.uint8))
    signal = read_signal(tmp_path, "video")
    assert signal.values[:, 0, 0, 0].tolist() == [20 * k for k in range(1, 13)]


def test_a_clip_is_decoded(tmp_path):
    pytest.importorskip("av")
    write_video(tmp_path / "a.mp4", [np.repeat(np.repeat(f, 4, 0), 4, 1) for f in clip()], 10)
    signal = read_signal(tmp_path / "a.mp4", downscale=4)
    assert signal.values.shape == (5, 24, 32, 3) and signal.facts.fps == 10
    assert np.abs(signal.values.numpy().astype(int) - np.stack(clip())).mean() < 6
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:300])
    with pytest.raises(InputError, match="has no video stream; give a video"):
        read_signal(tmp_path / "cut.mp4")


def test_frames_at_uneven_times_keep_them(tmp_path):
    """0.1 s apart for a second, then 0.5 s: a grey that says the time."""
    av = pytest.importorskip("av")
    times = [*np.arange(0, 1.0, 0.1), 1.0, 1.5, 2.0, 2.5]
    with av.open(str(tmp_path / "a.mp4"), "w") as film:
        stream = film.add_stream("libx264", rate=10, options={"crf": "8", "bf": "2"})
        stream.width = stream.height = 32
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 20 + 80 * time, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    signal = read_signal(tmp_path / "a.mp4")
    assert signal.facts.fps == pytest.approx(10, rel=0.01) and len(signal.values) == 26
    (line,) = signal.warnings
    assert "uneven times" in line and "10 frames a second" in line
    shown = signal.values[:, 16, 16, 0].numpy().astype(int)
    for index, grey in enumerate(shown):
        last = max(time for time in times if time <= index / 10 + 1e-6)
        assert abs(grey - (20 + 80 * last)) <= 3


def test_frames_of_two_sizes_are_refused(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    with pytest.raises(InputError, match="holds no frames"):
        read_signal(folder, "video")
    save_image(folder / "a.png", scene_picture())
    save_image(folder / "b.png", scene_picture(20, 20))
    with pytest.raises(InputError, match="frames of 20x20 and 48x32"):
        read_signal(folder, "video")
