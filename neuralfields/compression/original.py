"""The Gaussians to be made small, with cameras and photos by which results are tuned, judged and reported."""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import numpy as np

from neuralfields.cameras import NO_DISTORTION, Camera, look_at
from neuralfields.compression.files import read
from neuralfields.compression.nfz import section_bytes
from neuralfields.compression.photos import CapturePhotos, PhotoJudge
from neuralfields.compression.refine import Refiner
from neuralfields.compression.tune import Judge, lost_of
from neuralfields.errors import InputError
from neuralfields.gaussians import Gaussians
from neuralfields.models.loops import Loops
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.splat import Splats
from neuralfields.scene import Bounds

T = TypeVar("T")
IMPORTANCE_VIEWS, TUNING_VIEWS, REPORT_VIEWS, SIDE = 16, 8, 12, 200
REFINING_VIEWS, REFINING_SIDE, MOST_REFINING = 48, 300, 72  # what is tuned against
LEAST_HELD_OUT = 3  # cameras that judge, and others that report
MOST_CAMERAS = 24  # of a capture that are looked at
SEEDS = {"importance": 1, "tuning": 2, "report": 3, "refining": 4}
TURN = math.pi * (3 - math.sqrt(5))  # golden angle: directions spread evenly over the sphere
GOLDEN = (math.sqrt(5) - 1) / 2
DISTANCES = (1.7, 0.85)  # in half sides of the scene's cube, in turn: the whole of it, and a close look
FOCAL = 0.9  # of a picture's side


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


class Original:
    """Gaussians of a scene, and everything that a compression of them is held to.

    Cameras are drawn around them, or a capture's own. Raises InputError for Gaussians that are none or not sound.
    """

    def __init__(
        self, gaussians: Gaussians, bounds: Bounds, background: Colour, cameras: CaptureCameras | None = None
    ) -> None:
        gaussians.require_sound()
        if not len(gaussians):
            raise InputError("there are no Gaussians to compress")
        self.gaussians, self.bounds, self.background = gaussians, bounds, background
        self.photos = None if cameras is None else cameras.photos
        self.views = {name: views_of(name, bounds, cameras) for name in SEEDS}

    def importance(self) -> np.ndarray:
        """Sums of blending weights [N] over pictures."""
        return Splats(self.gaussians, self.bounds).importance(self.views["importance"]).cpu().numpy()

    @cached_property
    def judge(self) -> Judge:
        """By what choices are made: renderings of the original, and photos where there are any."""
        judge = Judge(self.gaussians, self.bounds, self.views["tuning"], self.background)
        return judge if self.photos is None else PhotoJudge(judge, self.gaussians, self.photos.judging)

    def fitted(self, known: float) -> float:
        """PSNR of the original against photos in dB: measured, or what is known of it."""
        return self.judge.fitted if isinstance(self.judge, PhotoJudge) else known

    def refiner(self, seed: int, loops: Loops | None = None) -> Refiner:
        """The steps of tuning, against renderings and photos of training; `loops` knows those that were taken."""
        photos = [] if self.photos is None else self.photos.training
        small = [photo.smaller(_small(photo.camera, REFINING_SIDE)) for photo in photos]
        return Refiner(self.gaussians, self.bounds, self.views["refining"], self.background, seed, small, loops)

    def figures(self, gaussians: Gaussians) -> dict[str, object]:
        """`psnr` and `ssim` of Gaussians against the original, and what `photos` that judge say, None without any."""
        photos = None
        if self.photos is not None and isinstance(self.judge, PhotoJudge):
            photos = {**self.judge.photo_report(gaussians), "held_out": self.photos.held_out}
        return {**self._reporter.report(gaussians), "photos": photos}

    @cached_property
    def _reporter(self) -> Judge:
        return Judge(self.gaussians, self.bounds, self.views["report"], self.background)

    def report(self, data: bytes, fitted: float) -> dict[str, object]:
        """Plain data of a file: quality against the original and the photos, bytes in all and by section."""
        decoded = read(data, "the file just made")
        figures = self.figures(decoded)
        return {
            **figures,
            "lost": lost_of(float(figures["psnr"]), fitted),
            "bytes": len(data),
            "gaussians": len(self.gaussians),
            "kept": len(decoded),
            "bytes_each": len(data) / len(self.gaussians),
            "sections": section_bytes(data, "the file just made"),
            "views": len(self.views["report"]),
            "fitted": fitted,
        }


def views_of(name: str, bounds: Bounds, capture: CaptureCameras | None) -> list[Camera]:
    """The pinholes of a stage: drawn, or a capture's in turn, made as small; the report's are those held out.

    Of many held out every second one decides how coarse steps may be and the others report: cameras between those of
    training, which are tuned on, are kinder (on tanks 29 dB where held-out ones saw 27.3). With photos held-out ones do
    both, as the photos beside them do.
    """
    if capture is not None and capture.photos is not None and name in ("tuning", "report"):
        return [_small(photo.camera, SIDE) for photo in some(capture.photos.judging, REPORT_VIEWS)]
    count = {"importance": IMPORTANCE_VIEWS, "tuning": TUNING_VIEWS, "report": REPORT_VIEWS}.get(name, REFINING_VIEWS)
    side = REFINING_SIDE if name == "refining" else SIDE
    if capture is None:
        return drawn(bounds, count, side, SEEDS[name])
    halves = capture.photos is None and len(capture.held_out) >= 2 * LEAST_HELD_OUT
    cameras = capture.held_out if name == "report" and capture.held_out else capture.training
    cameras = capture.held_out[1::2] if name == "report" and halves else cameras
    many = capture.photos is None and len(capture.sampled) >= 2 * TUNING_VIEWS
    apart = TUNING_VIEWS if many else 0  # judged by, and so not refined on
    if name == "tuning" and (apart or halves):
        judging = some(capture.held_out[::2], TUNING_VIEWS) if halves else []
        return [_small(camera, side) for camera in [*judging, *capture.sampled[:apart]][:TUNING_VIEWS]]
    if name == "refining":
        return [_small(camera, side) for camera in (*some(cameras, MOST_REFINING), *capture.sampled[apart:])]
    return [_small(camera, side) for camera in some(cameras, MOST_CAMERAS if name == "importance" else count)]


def some(values: list[T], most: int) -> list[T]:
    """At most `most` of the values, spread evenly over them."""
    picks = np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int))
    return [values[i] for i in picks]


def _small(camera: Camera, side: int) -> Camera:
    scale = min(1.0, side * 1.5 / max(camera.width, camera.height))
    camera = camera if camera.model != "perspective" else replace(camera, distortion=NO_DISTORTION)
    return camera.resized(max(11, round(camera.width * scale)), max(11, round(camera.height * scale)))


def drawn(bounds: Bounds, count: int, side: int, seed: int = 0) -> list[Camera]:
    """`count` pinholes of `side` x `side` pixels all around a scene, towards its middle; other seeds, other places."""
    centre, reach = np.array(bounds.centre, dtype=np.float64), bounds.side / 2
    start = np.random.default_rng(seed).uniform(0, 2 * math.pi)
    cameras = []
    for i in range(count):
        height = 1 - 2 * (i + 0.5) / count
        azimuth, level = start + TURN * i, math.sqrt(1 - height * height)
        away = np.array([level * math.cos(azimuth), height, level * math.sin(azimuth)])
        pose = look_at(centre + DISTANCES[i % len(DISTANCES)] * reach * away, centre, np.array([0.0, 1.0, 0.0]))
        camera = Camera(pose, side, side, FOCAL * side, FOCAL * side, side / 2, side / 2)
        if bounds.times is not None:  # each at another time, neighbours far apart in it
            first, last = bounds.times
            camera = replace(camera, time=first + (last - first) * ((i * GOLDEN) % 1))
        cameras.append(camera)
    return cameras
