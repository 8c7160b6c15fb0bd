"""Detects the kind of a signal's file and reads it; a folder of frames is a video only with --format video.

The suffixes of images, shapes (or occupancies), videos and sounds are media.SIGNALS.
"""

from pathlib import Path

from neuralfields.errors import InputError, UsageError
from neuralfields.media import SIGNALS, kind_of
from neuralfields.signals.image import read_image_signal
from neuralfields.signals.shape import read_shape_signal
from neuralfields.signals.signal import Signal
from neuralfields.signals.sound import read_sound_signal
from neuralfields.signals.video import read_video_signal

FORMATS = (*SIGNALS, "occupancy")


def signal_format(path: Path | str, format: str | None = None) -> str | None:
    """The kind of signal of a file, by `format`. Default: by its suffix; None for a capture."""
    if format is not None:
        return format if format in FORMATS else None
    path = Path(path)
    return None if path.is_dir() else kind_of(path)


def read_signal(path: Path | str, format: str | None = None, downscale: int | None = None) -> Signal:
    """Reads the signal in a file; `downscale` divides the width and height of an image or a video.

    Raises InputError for an unreadable file, UsageError for a format that does not fit or a missing package.
    """
    path, kind = Path(path), signal_format(path, format)
    if kind is None:
        raise UsageError(f"{path}: is no signal; --format may be {', '.join(FORMATS)}")
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give an image, a mesh, a video or a sound")
    if path.is_dir() and kind != "video":
        raise UsageError(f"--format {kind}: {path} is a folder; a file is needed (frames in a folder: --format video)")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path}: is empty; copy it again")
    if kind == "image":
        return read_image_signal(path, downscale)
    if kind == "video":
        return read_video_signal(path, downscale)
    if downscale is not None:
        raise UsageError(f"--downscale: divides the size of images and videos; a {kind} has none, leave it out")
    if kind == "sound":
        return read_sound_signal(path)
    return read_shape_signal(path, "occupancy" if kind == "occupancy" else "distance")
