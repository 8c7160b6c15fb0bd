"""Gaussians to the bytes of a .nfz with a report: importance, balanced steps, a quality or a size, entropy coding.

`quality` is in dB that a scene which its photos show at FITTED dB may lose: an error e against the original, which has
nothing to do with that against the photos, turns FITTED into -10 log10(10^(-FITTED / 10) + e). Without photos e is what
can be measured.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from neuralfields.cameras import Camera
from neuralfields.compression.nfz import decode, encode, section_bytes
from neuralfields.compression.quantise import Quantiser
from neuralfields.compression.quantised import dequantised
from neuralfields.compression.tune import Judge, balanced, for_bytes, for_quality
from neuralfields.compression.viewpoints import drawn
from neuralfields.errors import InputError
from neuralfields.gaussians import Gaussians
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.splat import Splats
from neuralfields.scene import Bounds

FITTED = 30.0  # dB of a usual fit against its photos
IMPORTANCE_VIEWS, TUNING_VIEWS, REPORT_VIEWS, SIDE = 16, 8, 12, 200
MOST_CAMERAS = 24  # of a capture that are looked at
UNSEEN, MOST_UNSEEN = 4.0, 1e-3  # share of all importance that those left out may have: times the squared error
SEEDS = {"importance": 1, "tuning": 2, "report": 3}


@dataclass(frozen=True)
class Goal:
    """What a file is to be: dB that it may lose, or bytes that it may have; whether unseen splats may be left out."""

    quality: float = 0.3
    most_bytes: int | None = None
    prune: bool = True

    def unseen(self) -> float:
        """Share of the importance that may be left out."""
        if not self.prune:
            return 0.0
        return (
            MOST_UNSEEN / 3 if self.most_bytes else min(UNSEEN * 10 ** (-wanted_psnr(self.quality) / 10), MOST_UNSEEN)
        )


@dataclass(frozen=True)
class Compressed:
    """The bytes of a file, what they decode to, and a report of plain data."""

    data: bytes
    gaussians: Gaussians
    report: dict[str, object]


def wanted_psnr(lost: float) -> float:
    """PSNR against the original, in dB, at which a fit of FITTED dB loses `lost`."""
    return FITTED - 10 * math.log10(10 ** (lost / 10) - 1)


def lost_of(psnr: float) -> float:
    """dB that a fit of FITTED dB loses at a PSNR against the original."""
    return 10 * math.log10(1 + 10 ** ((FITTED - psnr) / 10))


def compress(
    gaussians: Gaussians,
    bounds: Bounds,
    goal: Goal,
    background: Colour = (0.0, 0.0, 0.0),
    cameras: list[Camera] | None = None,
    stage: Callable[[str], None] = lambda _: None,
) -> Compressed:
    """The file of Gaussians at a goal, from drawn cameras, or a capture's own `cameras`; `stage` is told what is done.

    Raises InputError for Gaussians that are not sound and for a goal that cannot be reached.
    """
    begin = time.perf_counter()
    gaussians.require_sound()
    if not len(gaussians):
        raise InputError("there are no Gaussians to compress")
    views = {name: _views(name, bounds, cameras) for name in SEEDS}
    stage("importance")
    importance = Splats(gaussians, bounds).importance(views["importance"]).numpy()
    kept = worth_keeping(importance, goal.unseen())
    stage("steps")
    judge = Judge(gaussians, bounds, views["tuning"], background)
    index = np.flatnonzero(kept)
    quantiser = Quantiser(gaussians.take(torch.from_numpy(index)), importance[index])
    steps = balanced(quantiser, judge)
    if goal.most_bytes is not None:
        quantised = for_bytes(quantiser, steps, goal.most_bytes)
    else:
        quantised = for_quality(quantiser, judge, steps, wanted_psnr(goal.quality))
    stage("coding")
    data = encode(quantised)
    seconds = time.perf_counter() - begin
    stage("report")
    decoded = dequantised(decode(data, "the file just made"))
    figures = Judge(gaussians, bounds, views["report"], background).report(decoded)
    report = {
        **figures,
        "lost": lost_of(figures["psnr"]),
        "bytes": len(data),
        "gaussians": len(gaussians),
        "kept": len(quantised),
        "bytes_each": len(data) / len(gaussians),
        "sections": section_bytes(data, "the file just made"),
        "views": len(views["report"]),
        "seconds": seconds,
    }
    return Compressed(data, decoded, report)


def worth_keeping(importance: np.ndarray, unseen: float) -> np.ndarray:
    """Mask [N]: all but the least important, which have less than a share `unseen` of the importance together."""
    order = np.argsort(importance, kind="stable")
    total = np.cumsum(importance[order], dtype=np.float64)
    kept = np.ones(len(importance), bool)
    kept[order[total < unseen * total[-1]]] = False
    return kept


def _views(name: str, bounds: Bounds, cameras: list[Camera] | None) -> list[Camera]:
    """The cameras of a stage: drawn, or a capture's in turn, made as small."""
    count = {"importance": IMPORTANCE_VIEWS, "tuning": TUNING_VIEWS, "report": REPORT_VIEWS}[name]
    if cameras is None:
        return drawn(bounds, count, SIDE, SEEDS[name])
    many = MOST_CAMERAS if name == "importance" else count
    picks = np.unique(np.linspace(0, len(cameras) - 1, min(many, len(cameras))).round().astype(int))
    return [_small(cameras[i]) for i in picks]


def _small(camera: Camera) -> Camera:
    scale = min(1.0, SIDE * 1.5 / max(camera.width, camera.height))
    return camera.resized(max(11, round(camera.width * scale)), max(11, round(camera.height * scale)))
