"""Writes an image, a video or a sound from its field to a file of its kind, at any size or rate.

image   .png .jpg .tif .exr   video   .mp4 .webp .gif .png (numbered), or a folder of PNG files   sound   .wav
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuralfields.errors import UsageError
from neuralfields.files import atomic_write_bytes, check_writable
from neuralfields.media import WRITTEN_IMAGES
from neuralfields.models.model import Model
from neuralfields.options.common import MAX_SIZE
from neuralfields.pictures.deep_files import save_exr, save_png16, save_tiff, sixteen_bit
from neuralfields.pictures.film import check_film, write_video
from neuralfields.pictures.panels import save_image, to_uint8
from neuralfields.signals.deep import display, light_of
from neuralfields.signals.image import ImageFacts, picture
from neuralfields.signals.signal import facts_of
from neuralfields.signals.sound import SoundFacts, amplitudes, wav
from neuralfields.signals.video import VideoFacts, pictures

TIFF = (".tif", ".tiff")


@dataclass(frozen=True)
class OutputSize:
    """Requested size or rate of an output. Default: the signal's own. `rate`: samples a second; `fps`: speed alone."""

    width: int | None = None
    height: int | None = None
    downscale: int | None = None
    frames: int | None = None
    fps: float | None = None
    rate: int | None = None

    def size(self, facts: ImageFacts | VideoFacts) -> tuple[int, int]:
        """(width, height): the signal's, divided by `downscale`, or with the given side in its aspect ratio."""
        width, height = (max(1, side // (self.downscale or 1)) for side in (facts.width, facts.height))
        if self.width is not None or self.height is not None:
            width = self.width or max(1, round(self.height * facts.width / facts.height))
            height = self.height or max(1, round(self.width * facts.height / facts.width))
        if max(width, height) > MAX_SIZE:
            raise UsageError(f"image of {width}x{height}: a side may have {MAX_SIZE} at most; give a smaller --width")
        return width, height


def write_signal(model: Model, out: Path, wanted: OutputSize, overwrite: bool) -> dict[str, Any]:
    """Writes the signal and reports path, kind, size or rate, seconds.

    Raises UsageError for a suffix that does not fit the kind, or an output that exists; InputError for a file's
    impossible facts.
    """
    kind, suffix = model.field.domain.kind, out.suffix.lower()
    _check_suffix(out, kind)
    if suffix or out.exists():
        check_writable(out, overwrite)
    begin = time.perf_counter()
    write = {"image": _image, "video": _video, "sound": _sound}[kind]
    return {"path": str(out), "kind": kind, **write(model, out, wanted), "seconds": time.perf_counter() - begin}


def _check_suffix(out: Path, kind: str) -> None:
    if kind == "video":
        check_film(out)
    allowed = {"image": (*WRITTEN_IMAGES, *TIFF, ".exr"), "sound": (".wav",)}.get(kind)
    if allowed and out.suffix.lower() not in allowed:
        raise UsageError(f"{out}: the model holds a field of {kind}; give a name that ends in {' or '.join(allowed)}")


def _image(model: Model, out: Path, wanted: OutputSize) -> dict[str, Any]:
    facts = facts_of(model.signal, ImageFacts)
    size = wanted.size(facts)
    suffix = out.suffix.lower()
    deep = suffix == ".exr" or (facts.bits > 8 and suffix in (".png", *TIFF))
    pixels = picture(model.field, (facts.width, facts.height), size, deep=deep or facts.peak > 1)
    bits = _save_deep(out, pixels, facts) if deep else 8
    if not deep:
        pixels = pixels if pixels.dtype == np.uint8 else to_uint8(display(pixels, facts.peak))
        save = save_tiff if suffix in TIFF else save_image
        save(out, pixels[..., 0] if pixels.shape[2] == 1 and save is save_image else pixels)
    return {"width": size[0], "height": size[1], "bits": bits}


def _save_deep(out: Path, pixels: np.ndarray, facts: ImageFacts) -> int:
    """Writes coded pixels as deep as they were fitted and the format can; returns the bits of a channel."""
    suffix = out.suffix.lower()
    if suffix == ".exr":
        save_exr(out, light_of(pixels, facts.peak))
        return 32
    if suffix in TIFF:
        save_tiff(out, light_of(pixels, facts.peak) if facts.bits == 32 else sixteen_bit(pixels))
        return facts.bits
    save_png16(out, display(pixels, facts.peak))
    return 16


def _video(model: Model, out: Path, wanted: OutputSize) -> dict[str, Any]:
    facts = facts_of(model.signal, VideoFacts)
    size, fps = wanted.size(facts), wanted.fps or facts.fps
    if wanted.fps is None and wanted.frames is not None:
        fps *= wanted.frames / facts.frames  # more frames of the same clip are shown faster
    fps = min(fps, 240.0)
    frames: Iterator[Any] = pictures(model.field, facts, size, wanted.frames)
    count = write_video(out, frames, fps)
    return {"width": size[0], "height": size[1], "frames": count, "fps": fps}


def _sound(model: Model, out: Path, wanted: OutputSize) -> dict[str, Any]:
    facts = facts_of(model.signal, SoundFacts)
    rate = wanted.rate or facts.rate
    values = amplitudes(model.field, facts, rate)
    atomic_write_bytes(out, wav(values, rate))
    return {"samples": len(values), "channels": values.shape[1], "rate": rate}


def signal_text(result: dict[str, Any]) -> str:
    """Formats the result of `write_signal` as one line of text."""
    words = []
    if "width" in result:
        deep = f" of {result['bits']} bits" if result.get("bits", 8) > 8 else ""
        words.append(f"{result['width']}x{result['height']}{deep}")
    if "frames" in result:
        words.append(f"{result['frames']} frames at {result['fps']:.4g} a second")
    if "rate" in result:
        words.append(f"{result['samples'] / result['rate']:.2f} s at {result['rate']} Hz")
    return f"{result['path']}: {result['kind']}, {', '.join(words)}, written in {result['seconds']:.1f} s"
