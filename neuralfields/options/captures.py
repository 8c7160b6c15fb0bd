"""Options of the verbs about captures: poses, check."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import ClassVar, Literal

from neuralfields.options.common import Overwriting, Reporting, Result, Resuming, Source, Threads
from neuralfields.settings import check_range

Matching = Literal["auto", "exhaustive", "sequential", "retrieval"]
Mapper = Literal["incremental", "global"]
Refinement = Literal["none", "surface"]
LensModel = Literal["SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE"]


@dataclass(frozen=True, kw_only=True)
class PoseSettings(Threads):
    """Settings of pose estimation: the options of `nf poses`; `nf fit` of photos takes their defaults."""

    section: ClassVar[str] = ""

    frames: int = 100
    """Number of frames to choose from a video."""
    largest: int = 640
    """Longer side in pixels at which features are extracted."""
    features: int = 3000
    """Maximum number of features per photo."""
    matching: Matching = "auto"
    """Pairs of photos to match: all (exhaustive), neighbours (sequential) or similar ones (retrieval); auto chooses by
    their number."""
    mapper: Mapper = "incremental"
    """Reconstruction: photo by photo (incremental), or all at once (global)."""
    lens: LensModel = "SIMPLE_RADIAL"
    """Camera model of COLMAP."""
    stage_minutes: float = 30.0
    """Time limit of each stage in minutes."""
    seed: int = 0
    """Seed of the random numbers; with several threads COLMAP is not exactly repeatable all the same."""
    strict: bool = False
    """Fail at the first photo that cannot be read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(
            self,
            frames=(3, 10_000),
            largest=(100, 10_000),
            features=(100, 100_000),
            stage_minutes=(0.001, 100_000),
            seed=(0, 2**31 - 1),
        )


@dataclass(frozen=True)
class PosesOptions(PoseSettings, Resuming, Reporting):
    """Finds camera poses for a folder of photos or a video, and writes a capture that can be fitted."""

    photos: Path
    """Folder of photos, or a video."""
    _: KW_ONLY
    out: Path | None = None
    """Folder of the capture (-o too). Default: <name>-capture in the current folder."""
    resume: bool = False
    """Continue after the last finished stage of an interrupted run."""
    refine: Refinement = "none"
    """Refine poses that are there: surface takes a posed capture with a COLMAP model in place of photos, finds outliers
    among its matches by a surface, adjusts poses, points and surface together, and writes another capture, by default
    <name>-refined."""


@dataclass(frozen=True)
class CheckOptions(Source, Overwriting, Result):
    """Checks a capture before it is fitted."""

    scene: Path
    """Capture: a folder, or its transforms.json."""
    _: KW_ONLY
    box: str | None = None
    """Box of the scene, as two corners x0,y0,z0,x1,y1,z1 in the capture's world units, as of nf fit. Default: found."""
    draw: Path | None = None
    """Folder for two photos with the box drawn over them."""
