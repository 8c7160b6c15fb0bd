"""Writes videos: frames as h264 (.mp4), as an animation that loops, or as numbered files.

Vocabulary
  frame    one picture, as in pictures/panels.py; all frames of a video have one size
  pattern  a file name with a placeholder for the number, `view_%04d.png`
"""

import math
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from neuralfields.errors import InputError, UsageError
from neuralfields.files import atomic_file
from neuralfields.media import BT601, BT709, LIMITED, SMPTE170M, WRITTEN_VIDEOS, high_definition, import_av
from neuralfields.pictures.panels import as_rgb, save_image


def _even(picture: np.ndarray) -> np.ndarray:
    """Pads a frame by repeating its last row and column until both sides are even, as h264 requires."""
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _same_size(frames: Iterable[Any]) -> Iterator[np.ndarray]:
    """Yields RGB uint8 frames; raises InputError when one differs in size from the first."""
    first = None
    for number, frame in enumerate(frames):
        picture = np.asarray(as_rgb(frame))
        first = first or picture.shape
        if picture.shape != first:
            raise InputError(f"frame {number} {list(picture.shape)}: all frames must be {list(first)} like the first")
        yield picture


def check_film(path: Path) -> None:
    """Validates a video's path before any frame is rendered. Raises UsageError if `write_video` could not write it."""
    suffix = Path(path).suffix.lower()
    if suffix not in ("", ".png", *WRITTEN_VIDEOS):
        raise UsageError(f"{path}: cannot write a video as {suffix!r}; use .mp4, .webp, .gif, .png or a folder")
    if suffix == ".mp4":
        import_av(path, "write .webp")


def write_video(path: Path, frames: Iterable[Any], fps: float = 24.0) -> int:
    """Writes frames of one size as a video and returns their number.

    `.mp4` is h264 (needs the package av); `.gif` and `.webp` loop; `name.png` gives `name_0000.png` and so on, a
    pattern such as `f%03d.png` is filled in, and a path without suffix is a folder of `0000.png` and so on.
    Raises UsageError (suffix, av missing, no frames, fps), InputError (sizes differ, folder missing).
    """
    path = Path(path)
    check_film(path)
    if not (math.isfinite(fps) and 0 < fps <= 240):
        raise UsageError(f"fps {fps:g}: must be above 0 and at most 240")
    pictures = _same_size(frames)
    first = next(pictures, None)
    if first is None:
        raise UsageError(f"{path}: a video without frames; give at least one")
    every, suffix = chain([first], pictures), path.suffix.lower()
    if suffix in ("", ".png"):
        return _write_numbered(path, every)
    with atomic_file(path) as temporary:
        return (_write_h264 if suffix == ".mp4" else _write_animation)(temporary, every, fps)


def _write_numbered(path: Path, frames: Iterable[np.ndarray]) -> int:
    number = -1
    if not path.suffix:
        path.mkdir(parents=True, exist_ok=True)
        path = path / "%04d.png"
    elif "%" not in path.name:
        path = path.with_name(path.stem.replace("%", "%%") + "_%04d.png")
    try:
        path.name % 0
    except (TypeError, ValueError):
        raise UsageError(f"{path}: the pattern must hold one number such as %04d") from None
    for number, frame in enumerate(frames):
        save_image(path.with_name(path.name % number), frame)
    return number + 1


def _write_animation(path: Path, frames: Iterable[np.ndarray], fps: float) -> int:
    import imageio.v3 as iio

    suffix, written = path.suffix.lower(), 0
    options = {"quality": 85, "method": 4} if suffix == ".webp" else {"disposal": 1}
    # An open file, not a name: imageio takes some names for URLs, archives and the like.
    with path.open("wb") as file, iio.imopen(file, "w", plugin="pillow", extension=suffix) as film:
        for frame in frames:
            film.write(frame, is_batch=False, duration=round(1000 / fps), loop=0, **options)
            written += 1
    return written


def _tagged(encoder: Any, high: bool) -> Callable[[Any], Any]:
    """Tags a film with its colours, so that players need not guess, and returns the conversion of its frames to them.

    BT.709 with its matrix from 720 lines on, below with that of BT.601; limited range. Primaries and transfer are
    BT.709's, which sRGB shares but for the curve near black.
    """
    encoder.color_primaries = encoder.color_trc = BT709
    encoder.colorspace, encoder.color_range = (BT709 if high else SMPTE170M), LIMITED

    def convert(frame: Any) -> Any:
        yuv = frame.reformat(format="yuv420p", dst_colorspace=BT709 if high else BT601, dst_color_range=LIMITED)
        yuv.colorspace, yuv.color_range = encoder.colorspace, LIMITED
        return yuv

    return convert


def _write_h264(path: Path, frames: Iterable[np.ndarray], fps: float) -> int:
    # Not through imageio: its writer has no way to set the quality (crf), and is 1.6 dB worse without.
    av, count = import_av(path), 0
    with av.open(str(path), mode="w", format="mp4", options={"movflags": "faststart"}) as film:
        stream = film.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": "17"})
        for count, frame in enumerate(map(_even, frames), start=1):
            if count == 1:
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = "yuv420p"
                colours = _tagged(stream.codec_context, high_definition(*frame.shape[:2]))
            film.mux(stream.encode(colours(av.VideoFrame.from_ndarray(frame, format="rgb24"))))
        film.mux(stream.encode(None))
    return count
