"""Gaussians to the bytes of a .nfz with a report: importance, balanced steps, a quality or a size, entropy coding.

`quality` is in dB that a scene which its photos show at `fitted` dB (FITTED if nothing is known) may lose: an error e
against the original, which has nothing to do with that against the photos, turns F into -10 log10(10^(-F / 10) + e).
Without photos e is what can be measured. With photos the loss on those that judge is held to as well: the common factor
of all steps is all that they decide, what is tuned sees other photos (and pictures of the original between them).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import torch

from neuralfields.cameras import NO_DISTORTION, Camera
from neuralfields.compression.nfz import decode, encode, section_bytes
from neuralfields.compression.photos import CapturePhotos, Photo, PhotoJudge
from neuralfields.compression.quantise import Quantiser
from neuralfields.compression.quantised import Quantised, dequantised
from neuralfields.compression.refine import Recipe, Refiner, tuned
from neuralfields.compression.tune import FITTED, Judge, balanced, for_bytes, for_quality, lost_of, wanted_psnr
from neuralfields.compression.viewpoints import drawn
from neuralfields.errors import InputError
from neuralfields.gaussians import Gaussians
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.splat import Splats
from neuralfields.scene import Bounds

T = TypeVar("T")
IMPORTANCE_VIEWS, TUNING_VIEWS, REPORT_VIEWS, SIDE = 16, 8, 12, 200
REFINING_VIEWS, REFINING_SIDE, MOST_REFINING = 48, 300, 72  # what is tuned against
MOST_CAMERAS = 24  # of a capture that are looked at
UNSEEN, MOST_UNSEEN = 4.0, 1e-3  # share of all importance that those left out may have: times the squared error
SEEDS = {"importance": 1, "tuning": 2, "report": 3, "refining": 4}


@dataclass(frozen=True)
class Goal:
    """What a file is to be: dB that it may lose, or bytes that it may have; whether splats may be left out.

    `steps` of tuning against renderings; 0: none, seconds in all. `fitted`: dB of the original against its photos.
    """

    quality: float = 0.3
    most_bytes: int | None = None
    prune: bool = True
    steps: int = 0
    seed: int = 0
    fitted: float = FITTED

    def unseen(self) -> float:
        """Share of the importance that may be left out."""
        if not self.prune:
            return 0.0
        if self.most_bytes is not None:
            return MOST_UNSEEN / 3
        return min(UNSEEN * 10 ** (-wanted_psnr(self.quality, self.fitted) / 10), MOST_UNSEEN)


@dataclass(frozen=True)
class CaptureCameras:
    """Cameras of a capture: of training, held out (the report's, if there are any), and more that are like them.

    `photos`: those of its photos that are tuned against and judge, where the capture is at hand.
    """

    training: list[Camera]
    held_out: list[Camera] = field(default_factory=list)
    sampled: list[Camera] = field(default_factory=list)
    photos: CapturePhotos | None = None


@dataclass(frozen=True)
class Compressed:
    """The bytes of a file, what they decode to, and a report of plain data."""

    data: bytes
    gaussians: Gaussians
    report: dict[str, object]


def compress(
    gaussians: Gaussians,
    bounds: Bounds,
    goal: Goal,
    background: Colour = (0.0, 0.0, 0.0),
    cameras: CaptureCameras | None = None,
    stage: Callable[[str], None] = lambda _: None,
) -> Compressed:
    """The file of Gaussians at a goal, from drawn cameras, or a capture's own; `stage` is told what is done.

    Raises InputError for Gaussians that are not sound and for a goal that cannot be reached.
    """
    begin = time.perf_counter()
    gaussians.require_sound()
    if not len(gaussians):
        raise InputError("there are no Gaussians to compress")
    views = {name: _views(name, bounds, cameras) for name in SEEDS}
    stage("importance")
    importance = Splats(gaussians, bounds).importance(views["importance"]).numpy()
    kept = np.flatnonzero(worth_keeping(importance, goal.unseen()))
    stage("steps")
    judge, photos = Judge(gaussians, bounds, views["tuning"], background), None if cameras is None else cameras.photos
    if photos is not None:
        judge = PhotoJudge(judge, gaussians, photos.judging)
        goal = replace(goal, fitted=judge.fitted)
    seen, importance = gaussians.take(torch.from_numpy(kept)), importance[kept]
    quantised = _once(Quantiser(seen, importance), judge, goal)
    if goal.steps:
        wanted = (
            wanted_psnr(goal.quality, goal.fitted) if goal.most_bytes is None else judge.psnr(dequantised(quantised))
        )
        refiner = Refiner(gaussians, bounds, views["refining"], background, goal.seed, _smaller(photos))
        recipe = Recipe(wanted, goal.most_bytes, goal.prune, goal.steps)
        quantised = _better(quantised, tuned(seen, importance, refiner, judge, recipe, stage), judge, goal)
    stage("coding")
    data = encode(quantised)
    seconds = time.perf_counter() - begin
    stage("report")
    decoded = dequantised(decode(data, "the file just made"))
    figures = Judge(gaussians, bounds, views["report"], background).report(decoded)
    report = {
        **figures,
        "lost": lost_of(figures["psnr"], goal.fitted),
        "bytes": len(data),
        "gaussians": len(gaussians),
        "kept": len(quantised),
        "bytes_each": len(data) / len(gaussians),
        "sections": section_bytes(data, "the file just made"),
        "views": len(views["report"]),
        "steps": goal.steps,
        "fitted": goal.fitted,
        "photos": _photo_report(judge, photos, decoded),
        "seconds": seconds,
    }
    return Compressed(data, decoded, report)


def _photo_report(judge: Judge, photos: CapturePhotos | None, decoded: Gaussians) -> dict[str, object] | None:
    """What the judging photos say; None without any."""
    if photos is None or not isinstance(judge, PhotoJudge):
        return None
    return {**judge.photo_report(decoded), "held_out": photos.held_out}


def _once(quantiser: Quantiser, judge: Judge, goal: Goal) -> Quantised:
    """The quantisation that meets the goal, nothing tuned."""
    steps = balanced(quantiser, judge)
    if goal.most_bytes is not None:
        return for_bytes(quantiser, steps, goal.most_bytes)
    return for_quality(quantiser, judge, steps, wanted_psnr(goal.quality, goal.fitted))


def _better(plain: Quantised, refined: Quantised | None, judge: Judge, goal: Goal) -> Quantised:
    """Of two that meet a goal the smaller one, or with a goal of bytes the nearer one."""
    if refined is None:
        return plain
    if goal.most_bytes is None:
        return min(plain, refined, key=lambda one: len(encode(one)))
    return max(plain, refined, key=lambda one: judge.psnr(dequantised(one)))


def worth_keeping(importance: np.ndarray, unseen: float) -> np.ndarray:
    """Mask [N]: all but the least important, which have less than a share `unseen` of the importance together."""
    order = np.argsort(importance, kind="stable")
    total = np.cumsum(importance[order], dtype=np.float64)
    kept = np.ones(len(importance), bool)
    kept[order[total < unseen * total[-1]]] = False
    return kept


def _views(name: str, bounds: Bounds, capture: CaptureCameras | None) -> list[Camera]:
    """The pinholes of a stage: drawn, or a capture's in turn, made as small; the report's are those held out.

    With photos these also decide how coarse steps may be, as the photos beside them do.
    """
    if capture is not None and capture.photos is not None and name in ("tuning", "report"):
        return [_small(photo.camera, SIDE) for photo in some(capture.photos.judging, REPORT_VIEWS)]
    count = {"importance": IMPORTANCE_VIEWS, "tuning": TUNING_VIEWS, "report": REPORT_VIEWS}.get(name, REFINING_VIEWS)
    side = REFINING_SIDE if name == "refining" else SIDE
    if capture is None:
        return drawn(bounds, count, side, SEEDS[name])
    cameras = capture.held_out if name == "report" and capture.held_out else capture.training
    many = capture.photos is None and len(capture.sampled) >= 2 * TUNING_VIEWS
    apart = TUNING_VIEWS if many else 0  # judged by, and so not refined on
    if name == "tuning" and apart:
        return [_small(camera, side) for camera in capture.sampled[:apart]]
    if name == "refining":
        return [_small(camera, side) for camera in (*some(cameras, MOST_REFINING), *capture.sampled[apart:])]
    return [_small(camera, side) for camera in some(cameras, MOST_CAMERAS if name == "importance" else count)]


def some(values: list[T], most: int) -> list[T]:
    """At most `most` of the values, spread evenly over them."""
    picks = np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int))
    return [values[i] for i in picks]


def _smaller(photos: CapturePhotos | None) -> list[Photo]:
    """The photos that are tuned against, as small as the pictures of the original."""
    return [] if photos is None else [photo.smaller(_small(photo.camera, REFINING_SIDE)) for photo in photos.training]


def _small(camera: Camera, side: int) -> Camera:
    scale = min(1.0, side * 1.5 / max(camera.width, camera.height))
    camera = camera if camera.model != "perspective" else replace(camera, distortion=NO_DISTORTION)
    return camera.resized(max(11, round(camera.width * scale)), max(11, round(camera.height * scale)))
