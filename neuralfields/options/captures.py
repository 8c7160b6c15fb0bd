"""The options of `nf poses`; no torch here, as in options/fit.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neuralfields.errors import UsageError
from neuralfields.settings import check_range

Matching = Literal["auto", "exhaustive", "sequential", "retrieval"]
Mapper = Literal["incremental", "global"]
LensModel = Literal["SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE"]


@dataclass(frozen=True, kw_only=True)
class PoseSettings:
    """How poses are sought: what `nf poses` asks, and `nf fit` of photos takes as it stands."""

    frames: int = 100
    """Frames to choose from a video."""
    largest: int = 640
    """Pixels along the longer side at which features are sought."""
    features: int = 3000
    """Features in a photo at most."""
    matching: Matching = "auto"
    """Which photos are compared: all pairs, neighbours in sequence, or the most similar ones; auto goes by number."""
    mapper: Mapper = "incremental"
    """How the model grows: photo by photo (incremental), or all at once (global)."""
    lens: LensModel = "SIMPLE_RADIAL"
    """COLMAP's model of the lens."""
    stage_minutes: float = 30.0
    """A stage that takes longer is ended."""
    threads: int | None = None
    """Threads; without it as many as there are cores."""
    seed: int = 0
    """Of what is random in the search; COLMAP with several threads is not exactly repeatable all the same."""
    strict: bool = False
    """Fail at the first photo that cannot be read."""

    def __post_init__(self) -> None:
        check_range(
            self,
            frames=(3, 10_000),
            largest=(100, 10_000),
            features=(100, 100_000),
            stage_minutes=(0.001, 100_000),
            threads=(1, 1024),
            seed=(0, 2**31 - 1),
        )


@dataclass(frozen=True, kw_only=True)
class PosesOptions(PoseSettings):
    """Finds camera poses for a folder of photos or a video, and writes a capture that can be fitted."""

    photos: Path
    """The folder of photos, or the video."""
    out: Path | None = None
    """The capture's folder; without it <name>-capture in the current folder."""
    resume: bool = False
    """Go on after the last stage that an interrupted run finished."""
    overwrite: bool = False
    """Replace the capture if it exists."""
    json: bool = False
    """Report as one JSON object on standard output."""
    quiet: bool = False
    """No progress display."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resume and self.overwrite:
            raise UsageError("--resume and --overwrite: give only one; --resume goes on, --overwrite starts anew")
