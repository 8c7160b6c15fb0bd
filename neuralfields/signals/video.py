"""A video as a signal of u, v and time: the frames of a clip (through the package av), or of a folder of images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from neuralfields.captures import images
from neuralfields.domain import Domain
from neuralfields.errors import InputError
from neuralfields.fields.field import Field
from neuralfields.files import natural, size_text
from neuralfields.media import IMAGES, frame_pixels, frame_times, video_frames, video_header
from neuralfields.pictures.metrics import psnr
from neuralfields.signals.image import Side, picture, three_channels
from neuralfields.signals.lattice import Lattice

LARGEST = 2_000_000_000  # bytes of pixels in memory
FOLDER_FPS, MOST_FPS = 25.0, 1000
MOST_TARGETS = 8


class VideoFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Facts of a video: size in pixels, number of frames, frames a second."""

    width: Side
    height: Side
    frames: Side
    fps: Annotated[float, msgspec.Meta(gt=0, le=MOST_FPS)]


class VideoSignal(Lattice):
    """A video: `values` [T, H, W, 3] uint8."""

    def targets(self) -> list[Tensor]:
        """Some frames, evenly over the clip, float in [0, 1]."""
        every = max(1, -(-len(self.values) // MOST_TARGETS))
        return [frame.float() / 255 for frame in self.values[::every]]

    def measure(self, field: Field) -> dict[str, float]:
        """PSNR in dB, the mean over frames."""
        frames = zip(pictures(field, self.facts), self.values.numpy(), strict=True)
        scores = [psnr(seen, three_channels(truth)) for seen, truth in frames]
        return {"psnr": sum(scores) / len(scores), "worst_frame_psnr": min(scores)}


def pictures(
    field: Field, facts: VideoFacts, size: tuple[int, int] | None = None, frames: int | None = None
) -> Iterator[np.ndarray]:
    """Renders a field's frames uint8 [H, W, 3] at (width, height), as many as asked for, evenly over the clip."""
    source, count = (facts.width, facts.height), frames or facts.frames
    for index in range(count):
        yield three_channels(picture(field, source, size or source, (index + 0.5) / count))


def read_video_signal(path: Path, downscale: int | None = None) -> VideoSignal:
    """Reads a video, or a folder of frames sorted by name (numbers by value), as a signal.

    `downscale`: frames are that many times smaller.

    Raises InputError if it cannot be decoded, has no frames or frames of two sizes, or does not fit into memory.
    """
    frames, fps, notes = _folder(path) if path.is_dir() else _clip(path)
    kept: list[np.ndarray] = []
    for frame in frames:
        small = images.downscale(frame, downscale or 1)
        if kept and small.shape != kept[0].shape:
            sizes = f"{small.shape[1]}x{small.shape[0]} and {kept[0].shape[1]}x{kept[0].shape[0]}"
            raise InputError(f"{path}: frames of {sizes}; all frames of a video must have one size")
        kept.append(small)
        if len(kept) * small.nbytes > LARGEST:
            raise InputError(f"{path}: more than {size_text(LARGEST)} of pixels; give --downscale, or a shorter clip")
    if not kept:
        raise InputError(f"{path}: holds no frames; give a clip or a folder of images")
    height, width, channels = kept[0].shape
    facts = VideoFacts(width, height, len(kept), fps)
    domain = Domain("video", 3, channels, (width, height, len(kept)))
    return VideoSignal(path.stem, path, domain, facts, torch.from_numpy(np.stack(kept)), warnings=notes)


def _folder(path: Path) -> tuple[Iterator[np.ndarray], float, tuple[str, ...]]:
    files = (file for file in path.iterdir() if file.suffix.lower() in IMAGES)
    files = sorted(files, key=lambda file: natural(file.name))
    return (np.ascontiguousarray(images.read_image(file)[..., :3]) for file in files), FOLDER_FPS, ()


def _clip(path: Path) -> tuple[Iterator[np.ndarray], float, tuple[str, ...]]:
    fps = video_header(path).fps or FOLDER_FPS
    if not 0 < fps <= MOST_FPS:
        raise InputError(f"{path}: declares {fps:g} frames a second, at most {MOST_FPS} are read; convert it to mp4")
    frames, step = video_frames(path), _uneven_step(frame_times(path))
    if step is None:
        return map(frame_pixels, frames), fps, ()
    line = f"{path}: frames come at uneven times; each is repeated until the next, at {1 / step:.4g} frames a second"
    return map(frame_pixels, _held(frames, step)), 1 / step, (line,)


def _uneven_step(times: list[float]) -> float | None:
    """The shortest usual time between frames, in seconds, if it is not that of nearly all; None for an even rate."""
    steps = np.diff(times)
    steps = steps[steps > 1 / MOST_FPS]
    if len(steps) < 2:
        return None
    short, usual = float(np.percentile(steps, 5)), float(np.median(steps))
    uneven = np.mean(np.abs(steps - usual) > 0.4 * usual)
    return short if uneven > 0.02 or steps.sum() > 1.02 * usual * len(steps) else None


def _held(frames: Iterator[Any], step: float) -> Iterator[Any]:
    """Repeats frames at a constant step, so that each stands where its time says."""
    before, start, count = None, 0.0, 0
    for frame in frames:
        if before is None:
            start = frame.time or 0.0
        until = round(((frame.time if frame.time is not None else start) - start) / step)
        while before is not None and count < until:
            yield before
            count += 1
        before = frame
    if before is not None:
        yield before
