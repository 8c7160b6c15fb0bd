"""The door to images, videos, sounds and meshes: suffixes, first bytes, missing packages, videos that lie."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuralfields import media
from neuralfields.captures.images import read_image
from neuralfields.errors import InputError, UsageError
from neuralfields.mesh.files import READERS
from neuralfields.pictures.film import write_video
from tests.support.make_media import deep_png, shown_clockwise

av = pytest.importorskip("av")


def test_every_suffix_has_one_kind() -> None:
    every = [suffix for suffixes in media.SIGNALS.values() for suffix in suffixes] + list(media.RAW)
    assert len(every) == len(set(every)) and all(suffix == suffix.lower() for suffix in every)
    assert tuple(READERS) == media.MESHES
    assert [media.kind_of(name) for name in ("a.EXR", "b.mov", "c.wav", "d.obj", "e.dng", "f")] == [
        "image", "video", "sound", "shape", None, None,
    ]  # fmt: skip


def test_an_image_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    picture = Image.new("RGB", (20, 10))
    for name, suffix in {
        "JPEG": "jpg",
        "PNG": "png",
        "WEBP": "webp",
        "TIFF": "tif",
        "BMP": "bmp",
        "AVIF": "avif",
    }.items():
        picture.save(tmp_path / f"a.{suffix}")
        assert media.image_format((tmp_path / f"a.{suffix}").read_bytes()[: media.HEAD]) == name
    assert media.image_format(deep_png(np.zeros((2, 2, 3), np.uint16))) == "PNG16"
    assert media.image_format(deep_png(np.zeros((2, 2), np.uint16))) == "PNG"
    for other in (
        b"",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"GIF89a",
        b"\0" * 64,
        b"\0\0\0\x18ftypisom\0\0\0\0isomiso2avc1mp41",
    ):
        assert media.image_format(other) is None


@pytest.mark.parametrize(("package", "name"), [("av", "a.png"), ("OpenEXR", "a.exr"), ("pillow_heif", "a.heic")])
def test_a_missing_package_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str
) -> None:
    heads = {"a.png": deep_png(np.zeros((2, 2, 3), np.uint16)), "a.exr": b"\x76\x2f\x31\x01" + bytes(60)}
    (tmp_path / name).write_bytes(heads.get(name, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"{name}: .*needs the package {package}; run: pip install ") as error:
        read_image(tmp_path / name)
    assert "\n" not in str(error.value)


def test_raw_photos_are_refused_by_name(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.tif")
    (tmp_path / "a.tif").rename(tmp_path / "a.DNG")  # a raw file is a TIFF, with a preview in it
    with pytest.raises(InputError, match="DNG is not read; convert it to JPEG"):
        read_image(tmp_path / "a.DNG")


def test_the_door_is_light() -> None:
    code = (
        "import sys, neuralfields.media; sys.exit(bool({'torch', 'numpy', 'PIL', 'av', 'imageio'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def short_film(path: Path, count: int = 4) -> Path:
    """Frames 64x32, red on the left, blue on the right."""
    frame = np.zeros((32, 64, 3), np.uint8)
    frame[:, :32, 0] = frame[:, 32:, 2] = 220
    write_video(path, [frame] * count, 10)
    return path


def test_a_video_states_its_facts_and_its_times(tmp_path: Path) -> None:
    header = media.video_header(short_film(tmp_path / "a.mp4"))
    assert (header.frames, header.fps, header.seconds) == (4, 10, pytest.approx(0.4, abs=0.01))
    frames = list(media.video_frames(tmp_path / "a.mp4"))
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert sum(1 for _ in media.video_frames(tmp_path / "a.mp4", keys_only=True)) == 1


def test_a_frame_is_turned_as_the_flag_says(tmp_path: Path) -> None:
    shown_clockwise(short_film(tmp_path / "a.mp4"))
    pixels = media.frame_pixels(next(media.video_frames(tmp_path / "a.mp4")))
    assert pixels.shape == (64, 32, 3)  # clockwise: what was on the left is above
    assert pixels[:28, :, 0].min() > 150 and pixels[36:, :, 2].min() > 150


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile inner.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\ninner.mp4\n#EXT-X-ENDLIST\n",
    ],
    ids=["ffconcat", "hls"],
)
def test_a_playlist_opens_no_other_file(tmp_path: Path, text: str) -> None:
    short_film(tmp_path / "inner.mp4")
    (tmp_path / "a.mp4").write_text(text)
    with pytest.raises(InputError, match=r"a\.mp4: is not a readable video"):
        list(media.video_frames(tmp_path / "a.mp4"))


def test_tags_need_not_be_text(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as film:
        film.metadata["title"] = "title"
        stream = film.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        film.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 64, 3), np.uint8), format="rgb24")))
        film.mux(stream.encode(None))
    data = (tmp_path / "a.mkv").read_bytes()
    assert b"title" in data
    (tmp_path / "a.mkv").write_bytes(data.replace(b"title", b"\xe4\xff\xfe\xf0\x80"))
    assert len(list(media.video_frames(tmp_path / "a.mkv"))) == 1


def test_videos_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = short_film(tmp_path / "a.mp4")
    monkeypatch.setattr(media, "LARGEST_FRAME", 64 * 32 - 1)
    with pytest.raises(InputError, match="declares frames of 64x32"):
        media.video_header(film)
    monkeypatch.undo()
    os.truncate(film, 300)
    with pytest.raises(InputError, match="no video stream"):
        media.video_header(film)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError, match=r"a\.mp4: needs the package av; run: pip install 'neuralfields\[video\]'"):
        media.video_header(film)
