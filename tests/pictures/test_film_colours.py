"""Colours of films: written with matrix and tags of their size, read by their tags or their size."""

from pathlib import Path

import numpy as np
import pytest

from neuralfields.media import frame_pixels, video_frames
from neuralfields.pictures.film import write_video

av = pytest.importorskip("av")
RED, GREEN = (220, 30, 30), (30, 200, 40)
# Y of BT.709 and BT.601 (limited range) by their definition: 16 + 219 (kr R + (1 - kr - kb) G + kb B).
WEIGHTS = {"bt709": (0.2126, 0.7152, 0.0722), "bt601": (0.299, 0.587, 0.114)}


def luma(colour: tuple[int, int, int], matrix: str) -> float:
    return 16 + 219 * float(np.dot(colour, WEIGHTS[matrix])) / 255


def halves(height: int, width: int) -> np.ndarray:
    picture = np.empty((height, width, 3), np.uint8)
    picture[:, : width // 2], picture[:, width // 2 :] = RED, GREEN
    return picture


@pytest.mark.parametrize(("size", "matrix", "tag"), [((720, 1280), "bt709", 1), ((240, 320), "bt601", 6)])
def test_films_have_the_matrix_of_their_size_and_say_so(tmp_path: Path, size: tuple, matrix: str, tag: int) -> None:
    write_video(tmp_path / "a.mp4", [halves(*size)] * 2)
    with av.open(str(tmp_path / "a.mp4")) as film:
        told = film.streams.video[0].codec_context
        assert (told.colorspace, told.color_primaries, told.color_trc, told.color_range) == (tag, 1, 1, 1)
        planes = next(film.decode(video=0)).to_ndarray()
    assert planes[8, 8] == pytest.approx(luma(RED, matrix), abs=1.5)
    assert planes[8, size[1] - 8] == pytest.approx(luma(GREEN, matrix), abs=1.5)
    for frame in map(frame_pixels, video_frames(tmp_path / "a.mp4")):
        assert np.abs(frame[8, 8].astype(int) - RED).max() <= 4
        assert np.abs(frame[8, -8].astype(int) - GREEN).max() <= 4


@pytest.mark.parametrize("format", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("tagged", [True, False])
def test_high_definition_of_others_is_read_right(tmp_path: Path, format: str, tagged: bool) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as film:
        stream = film.add_stream("libx264", rate=24, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, format
        frame = av.VideoFrame.from_ndarray(halves(720, 1280), format="rgb24")
        frame = frame.reformat(format=format, dst_colorspace=1, dst_color_range=1)
        if tagged:
            stream.codec_context.colorspace, frame.colorspace = 1, 1
        else:
            frame.colorspace = 2
        film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    (seen,) = map(frame_pixels, video_frames(tmp_path / "a.mp4"))
    assert np.abs(seen[8, 8].astype(int) - RED).max() <= 4 and np.abs(seen[8, -8].astype(int) - GREEN).max() <= 4
