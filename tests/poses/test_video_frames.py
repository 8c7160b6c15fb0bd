"""Frames of films: sharp ones, evenly over the way, none twice; films that cannot be used."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from neuralfields.errors import InputError
from neuralfields.pictures.film import write_video
from neuralfields.poses import video_frames
from neuralfields.poses.video_frames import Measure, choose_frames, movement, pick, write_frames
from tests.support.cube_photos import texture
from tests.support.make_media import shown_clockwise

av = pytest.importorskip("av")
WALL = (np.kron(texture(3, 512), np.ones((2, 2, 1))) * 255).astype(np.uint8)


def view(x: float, blur: int = 0) -> np.ndarray:
    """A look at the wall from x pixels to the right, smeared over `blur` pixels."""
    looks = [WALL[100:340, round(x) + k : round(x) + k + 320].astype(np.float32) for k in range(blur + 1)]
    return np.mean(looks, axis=0).astype(np.uint8)


def quiet(done: int, total: int) -> None:
    assert 0 <= done <= total


def test_a_resting_camera_gives_one_frame_and_a_moving_one_many(tmp_path):
    xs = [0] * 20 + [6 * i for i in range(40)] + [234] * 20
    write_video(tmp_path / "clip.mp4", (view(x) for x in xs), 30)
    chosen = choose_frames(tmp_path / "clip.mp4", 12, quiet)
    assert 8 <= len(chosen.indices) <= 12 and chosen.decoded == 80
    assert sum(i < 19 for i in chosen.indices) <= 1 and sum(i > 61 for i in chosen.indices) <= 1
    steps = np.diff([xs[i] for i in chosen.indices])
    assert steps.min() > 0 and steps.max() < 60
    names = write_frames(tmp_path / "clip.mp4", chosen, tmp_path / "frames", quiet)
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == sorted(names)
    assert names[0] == f"frame_{chosen.indices[0]:05d}.jpg"


def test_sharp_frames_are_preferred(tmp_path):
    write_video(tmp_path / "clip.mp4", (view(5 * i, blur=0 if i % 4 == 2 else 12) for i in range(48)), 30)
    chosen = choose_frames(tmp_path / "clip.mp4", 10, quiet)
    assert np.mean([i % 4 == 2 for i in chosen.indices]) >= 0.8


def test_times_may_be_uneven(tmp_path):
    with av.open(str(tmp_path / "vfr.mp4"), mode="w") as film:
        stream = film.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        clock = 0
        for i in range(30):
            frame = av.VideoFrame.from_ndarray(view(8 * i), format="rgb24")
            frame.pts, frame.time_base, clock = clock, Fraction(1, 1000), clock + (20 if i % 2 else 400)
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    chosen = choose_frames(tmp_path / "vfr.mp4", 10, quiet)
    assert 8 <= len(chosen.indices) <= 10
    assert np.diff(chosen.indices).max() <= 5 and chosen.times[-1] > 5


def test_a_rotation_flag_is_obeyed(tmp_path):
    write_video(tmp_path / "clip.mp4", (view(8 * i) for i in range(12)), 30)
    shown_clockwise(tmp_path / "clip.mp4")
    chosen = choose_frames(tmp_path / "clip.mp4", 6, quiet)
    names = write_frames(tmp_path / "clip.mp4", chosen, tmp_path / "frames", quiet)
    from PIL import Image

    with Image.open(tmp_path / "frames" / names[0]) as picture:
        assert picture.size == (240, 320)
        turned = np.rot90(view(8 * chosen.indices[0]), -1).astype(int)
        assert np.abs(np.asarray(picture) - turned).mean() < np.abs(np.asarray(picture) - turned[::-1]).mean() / 3


def test_of_a_long_film_only_key_frames_are_decoded(tmp_path, monkeypatch):
    write_video(tmp_path / "clip.mp4", (view((i * 7) % 600) for i in range(260)), 30)
    monkeypatch.setattr(video_frames, "MOST_DECODED", 100)
    chosen = choose_frames(tmp_path / "clip.mp4", 6, quiet)
    assert chosen.keys_only and chosen.decoded < 100
    names = write_frames(tmp_path / "clip.mp4", chosen, tmp_path / "frames", quiet)
    assert len(names) == len(chosen.indices)


def broken_header(path: Path) -> None:
    path.write_bytes(b"\0" * 64 + path.read_bytes()[64:])


def no_frames(path: Path) -> None:
    with av.open(str(path), mode="w") as film:
        stream = film.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        film.mux(stream.encode(frame))
        film.mux(stream.encode(None))


def still(path: Path) -> None:
    write_video(path, (view(0) for _ in range(20)), 30)


def short(path: Path) -> None:
    write_video(path, (view(0) for _ in range(2)), 30)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (broken_header, "not a readable video"),
        (lambda path: path.write_bytes(b""), "not a readable video"),
        (no_frames, "no video stream"),
        (still, "does not move"),
        (short, "2 frames"),
    ],
)
def test_films_that_cannot_be_used_are_refused(tmp_path, damage, words):
    path = tmp_path / "clip.mp4"
    write_video(path, (view(8 * i) for i in range(12)), 30)
    damage(path)
    with pytest.raises(InputError, match=words):
        choose_frames(path, 6, quiet)


def test_movement_of_a_shift_is_its_share_of_the_width():
    a = view(0).mean(2)
    assert movement(a, a) == (pytest.approx(0, abs=1e-6), pytest.approx(1))
    step, alike = movement(a, view(16).mean(2))
    assert step == pytest.approx(16 / 320 + 0.1 * (1 - max(alike, 0)), abs=1 / 320)


def test_pick_takes_the_sharpest_of_each_window():
    measures = [Measure(i, i / 30, float(i % 5 == 3), 0.02, 0.5) for i in range(50)]
    assert pick(measures, 10) == [3, 8, 13, 18, 23, 28, 33, 38, 43, 48]
