"""Chooses frames of a video for pose estimation: sharp ones, evenly spaced along the camera's path, no duplicates.

The video is read twice: small, to measure frames, then again for the chosen ones. Memory does not grow with its length,
and only chosen frames are written. Works with a variable frame rate, since motion counts, not time.

Vocabulary
  small      a frame in grey, 160 pixels wide
  step       motion of a small frame since the one before, as a fraction of its width: the shift by phase correlation,
             and where there is none, their dissimilarity
  way        cumulative motion; of windows of equal motion the sharpest frame is chosen
  twin       a near-duplicate of the chosen frame before it
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuralfields.captures.images import FEWEST_IMAGES
from neuralfields.captures.preview import laplacian_variance
from neuralfields.errors import InputError
from neuralfields.media import frame_pixels, video_frames, video_header

SMALL_WIDTH = 160
MOST_DECODED = 20_000  # frames; of longer videos only key frames (intra-coded) are decoded
STILL = 2e-4  # of the width: least motion of a frame (noise), so that a static video has windows too
TWIN = 0.999  # correlation of small frames
TWIN_STEP = 0.004
JPEG_QUALITY = 97
USUAL_FPS = 30  # default where a video does not state its frame rate


@dataclass(frozen=True)
class Measure:
    """Measures of a decoded frame: its index among those decoded, `time` in seconds, sharpness, step, correlation."""

    index: int
    time: float
    sharpness: float
    step: float
    alike: float


@dataclass(frozen=True)
class Chosen:
    """Chosen frames: indices among those decoded, times in seconds.

    `decoded`: their number; `keys_only`: whether only key frames were decoded; `seconds`: length of the video.
    """

    indices: tuple[int, ...]
    times: tuple[float, ...]
    decoded: int
    keys_only: bool
    seconds: float


def choose_frames(path: Path, count: int, progress: Callable[[int, int], None]) -> Chosen:
    """Chooses about `count` frames of a video. Raises InputError where it cannot be decoded or has too few frames."""
    header = video_header(path)
    frames = header.frames or header.seconds * (header.fps or USUAL_FPS)
    keys_only = frames > MOST_DECODED
    measures = list(_measures(path, keys_only, frames, progress))
    if len(measures) < FEWEST_IMAGES:
        raise InputError(f"{path}: {len(measures)} frames; a video of at least a few seconds is needed")
    picked = pick(measures, count)
    if len(picked) < FEWEST_IMAGES:
        raise InputError(f"{path}: the camera does not move: {len(picked)} frames differ; walk around the scene")
    seconds = max(header.seconds, measures[-1].time)
    times = tuple(measures[i].time for i in picked)
    return Chosen(tuple(measures[i].index for i in picked), times, len(measures), keys_only, seconds)


def pick(measures: Sequence[Measure], count: int) -> list[int]:
    """Picks frames, in order: the sharpest of each of `count` windows of equal motion, without near-duplicates."""
    way = np.cumsum([max(measure.step, STILL) for measure in measures])
    window = np.minimum((way - way[0]) / max(way[-1] - way[0], 1e-9) * count, count - 1e-9).astype(int)
    kept: list[int] = []
    for number in np.unique(window):
        members = np.flatnonzero(window == number)
        best = int(members[np.argmax([measures[i].sharpness for i in members])])
        between = range(kept[-1] + 1, best + 1) if kept else ()
        moved = sum(measures[i].step for i in between)
        least = min((measures[i].alike for i in between), default=0.0)
        if not kept or moved >= TWIN_STEP or least < TWIN:
            kept.append(best)
    return kept


def write_frames(path: Path, chosen: Chosen, folder: Path, progress: Callable[[int, int], None]) -> list[str]:
    """Writes the chosen frames as frame_00000.jpg ... (their index in the video) into a folder; returns names."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    wanted, names = set(chosen.indices), []
    for index, frame in enumerate(video_frames(path, chosen.keys_only)):
        if index in wanted:
            names.append(f"frame_{index:05d}.jpg")
            picture = Image.fromarray(frame_pixels(frame))
            picture.save(folder / names[-1], quality=JPEG_QUALITY, subsampling=0)
            progress(len(names), len(wanted))
        if len(names) == len(wanted):
            break
    return names


def _measures(path: Path, keys_only: bool, frames: float, progress: Callable[[int, int], None]) -> Iterator[Measure]:
    before: np.ndarray | None = None
    for index, frame in enumerate(video_frames(path, keys_only)):
        height = max(16, round(SMALL_WIDTH * frame.height / frame.width))
        small = frame.reformat(2 * SMALL_WIDTH, 2 * height, format="gray").to_ndarray()
        small = small[: 2 * height, : 2 * SMALL_WIDTH].astype(np.float32)
        sharpness = laplacian_variance(small) / max(float(small.var()), 1e-6)
        grey = small.reshape(height, 2, SMALL_WIDTH, 2).mean((1, 3))
        step, alike = (0.0, 0.0) if before is None else movement(before, grey)
        yield Measure(index, float(frame.time or index / USUAL_FPS), sharpness, step, alike)
        before = grey
        if index % 20 == 0 and not keys_only:
            progress(index, max(index, round(frames)))


def movement(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Motion of two grey frames [H, W] by phase correlation, a fraction of the width; their correlation, -1 to 1."""
    a, b = before - before.mean(), after - after.mean()
    alike = float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-9))
    window = np.hanning(a.shape[0])[:, None] * np.hanning(a.shape[1])
    cross = np.fft.rfft2(a * window) * np.conj(np.fft.rfft2(b * window))
    peak = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), a.shape)
    y, x = np.unravel_index(int(peak.argmax()), a.shape)
    dy, dx = min(y, a.shape[0] - y), min(x, a.shape[1] - x)
    shift = float(np.hypot(dy, dx)) / a.shape[1]
    # A weak peak is no shift: with parallax, blur or a cut, dissimilarity measures the motion.
    return (shift if peak.max() > 0.05 else 0.0) + 0.1 * (1 - max(alike, 0.0)), alike
