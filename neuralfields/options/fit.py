"""The options of every verb: frozen dataclasses that the command line, the Python API and the docs share.

No torch here, so that `nf --help` answers at once. The string under an option is its help text. Ranges are checked when
an options object is made: UsageError names the option, what was given and what is allowed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neuralfields.errors import UsageError
from neuralfields.settings import check_range

DEFAULT_STEPS = 20000
MAX_STEPS = 100_000_000
MAX_SIZE = 16384  # pixels along a side of a rendered picture
Device = Literal["auto", "cpu", "cuda"]
Backend = Literal["native", "tcnn"]
Marcher = Literal["native", "nerfacc"]
Background = Literal["auto", "white", "black", "random"]
SolidBackground = Literal["auto", "white", "black"]
Split = Literal["test", "train", "all"]
Quantity = Literal["rgb", "depth", "opacity", "normal"]
Bits = Literal[8, 32]
MaskMeaning = Literal["ignore", "keep"]


@dataclass(frozen=True)
class FitOptions:
    """Fits a field to a posed capture, an image, a mesh, a video or a sound, and writes it as one .nf file."""

    scene: Path
    """The capture: a folder, or its transforms.json; or an image, a mesh (.obj, .ply), a video, a sound."""
    field: str = "hash"
    """The architecture, the name of a file in neuralfields/fields."""
    out: Path | None = None
    """Where to write; without it <scene name>.nf in the current folder."""
    steps: int | None = None
    """Stop after this many steps; without --steps and --minutes 20000, of what is no capture 3000."""
    minutes: float | None = None
    """Stop after this many minutes of training."""
    downscale: int | None = None
    """Divide the photos' width and height by this; without it large photos are made smaller as needed."""
    device: Device = "auto"
    """Where to compute; auto takes a CUDA GPU if there is one."""
    backend: Backend = "native"
    """Whose kernels encode and run networks on a GPU; tcnn where tiny-cuda-nn is installed, to compare."""
    marcher: Marcher = "native"
    """Whose kernels walk along rays on a GPU; nerfacc where that is installed, to compare."""
    seed: int = 0
    """The same seed and number of threads give the same result, bit for bit."""
    threads: int | None = None
    """Threads on the CPU; without it as many as there are cores."""
    resume: bool = False
    """Go on from the checkpoint of an interrupted fit."""
    overwrite: bool = False
    """Replace the output if it exists."""
    format: str | None = None
    """The kind of capture or signal (image, shape, occupancy, video for a folder of frames, sound), if not detected."""
    background: Background = "auto"
    """What lies behind the scene; auto trains on random colours, then white where photos have alpha, else black."""
    set: tuple[str, ...] = ()
    """Hyper-parameters of the field, key=value; an unknown key lists them all."""
    eval_every: float = 30.0
    """Seconds between looks at held-out views; 0 never looks."""
    checkpoint_every: float = 30.0
    """Seconds between checkpoints."""
    half: bool = False
    """Store the grid in half precision: half the bytes, a little less exact."""
    bits: Bits = 32
    """Bits of a stored number: with 8 the file is about a quarter as large, for 0.05 to 0.9 dB."""
    refine_poses: bool = False
    """Move the cameras too, so that the photos agree; held-out views are then measured after aligning them as well."""
    exposure: bool = False
    """Learn each photo's exposure and white balance; held-out views are then measured with theirs found as well."""
    robust: bool = False
    """Leave out what one photo shows and the others deny, such as people who pass by."""
    sparse_depth: bool = False
    """Teach depth from the sparse points of a COLMAP model that lies with the capture."""
    masks: Path | None = None
    """A folder of masks, named like their photos; say what white means with --mask-means."""
    mask_means: MaskMeaning | None = None
    """What the white pixels of --masks are: ignore (people, the car) or keep (the thing alone)."""
    json: bool = False
    """Report as one JSON object on standard output."""
    quiet: bool = False
    """No progress display."""
    view: bool = False
    """Watch the scene being learned in a browser, and pause, save or end the fit from there."""
    dry_run: bool = False
    """Check everything, say what would be done, and stop."""
    accept_doubtful_poses: bool = False
    """Fit photos although the poses that were found for them are doubtful."""
    allow_outside: bool = False
    """Allow the capture to name files outside its folder."""

    def __post_init__(self) -> None:
        check_range(
            self,
            steps=(1, MAX_STEPS),
            minutes=(0.001, 100_000),
            downscale=(1, 64),
            seed=(0, 2**63 - 1),
            threads=(1, 1024),
            eval_every=(0, 1e6),
            checkpoint_every=(0.1, 1e6),
        )
        if self.resume and self.overwrite:
            raise UsageError("--resume and --overwrite: give only one; --resume goes on, --overwrite starts anew")
        if self.bits not in (8, 32):
            raise UsageError(f"--bits {self.bits}: must be 8 or 32")
        if self.half and self.bits == 8:
            raise UsageError("--half and --bits 8: give only one; 8 bits are the smaller file")
        if (self.masks is None) != (self.mask_means is None):
            raise UsageError(
                "--masks and --mask-means go together: give the folder, and whether its white means ignore or keep"
            )


@dataclass(frozen=True)
class EvalOptions:
    """Measures PSNR and SSIM of a model on views of its capture."""

    model: Path
    """The .nf file."""
    scene: Path | None = None
    """The capture; without it the one that the model was fitted to."""
    downscale: int | None = None
    """Divide the photos' width and height by this; without it as in the fit."""
    split: Split = "test"
    """Which views: the held-out ones, those trained on, or all."""
    pictures: Path | None = None
    """A folder for side-by-side pictures of the best and the worst view."""
    background: SolidBackground = "auto"
    """What lies behind photos with alpha; auto takes the model's own."""
    device: Device = "auto"
    """Where to compute; auto takes a CUDA GPU if there is one."""
    threads: int | None = None
    """Threads on the CPU; without it as many as there are cores."""
    format: str | None = None
    """The kind of capture, if it should not be detected."""
    overwrite: bool = False
    """Replace pictures that exist."""
    json: bool = False
    """Report as one JSON object on standard output."""
    quiet: bool = False
    """No progress display."""
    allow_outside: bool = False
    """Allow the capture to name files outside its folder."""

    def __post_init__(self) -> None:
        check_range(self, downscale=(1, 64), threads=(1, 1024))


@dataclass(frozen=True)
class RenderOptions:
    """Renders pictures or a video of a model along a path of cameras."""

    model: Path
    """The .nf file."""
    out: Path
    """A folder for PNG files, one .png, or a film (.mp4, .webp, .gif)."""
    path: str = "held-out"
    """held-out, orbit, spiral, interpolate, or a JSON file with keyframes."""
    frames: int | None = None
    """Pictures along the path, 120 without it; held-out has as many as there are views, a video as it has frames."""
    fps: float | None = None
    """Pictures a second in a video: 30 without it, or as the video has."""
    width: int | None = None
    """Width in pixels; without it that of the capture."""
    height: int | None = None
    """Height in pixels; without it that of the capture."""
    downscale: int | None = None
    """Divide the width and height by this."""
    what: tuple[Quantity, ...] = ("rgb",)
    """What to show: rgb, depth, opacity, and of a shape normal; several stand side by side."""
    background: SolidBackground = "auto"
    """What lies behind the scene; auto takes the model's own."""
    scene: Path | None = None
    """The capture, for paths that need its cameras; without it the cameras stored in the model."""
    device: Device = "auto"
    """Where to compute; auto takes a CUDA GPU if there is one."""
    threads: int | None = None
    """Threads on the CPU; without it as many as there are cores."""
    overwrite: bool = False
    """Replace the output if it exists."""
    json: bool = False
    """Report as one JSON object on standard output."""
    quiet: bool = False
    """No progress display."""

    def __post_init__(self) -> None:
        size = (1, MAX_SIZE)
        check_range(self, frames=(1, 100_000), fps=(0.1, 240), width=size, height=size)
        check_range(self, downscale=(1, 64), threads=(1, 1024))
        if not self.what:
            raise UsageError("--what: name at least one of rgb, depth, opacity")


@dataclass(frozen=True)
class ViewOptions:
    """Shows models and captures in a browser, live."""

    models: tuple[Path, ...]
    """The .nf files, or a capture to look at before it is fitted."""
    scene: Path | None = None
    """The capture for photos and points; without it the one that the model was fitted to, if it is still there."""
    host: str = "127.0.0.1"
    """The address to listen at; any but this machine's own needs the token that is printed."""
    port: int = 7077
    """The port; the next free one if it is in use, any with 0."""
    open: bool = False
    """Open the page in the browser of this machine."""
    threads: int | None = None
    """Threads on the CPU; without it as many as there are cores."""
    json: bool = False
    """Report as one JSON object on standard output."""

    def __post_init__(self) -> None:
        check_range(self, port=(0, 65535), threads=(1, 1024))


@dataclass(frozen=True)
class InfoOptions:
    """Says what is in a .nf file: field, Config, bytes per part, how it was made."""

    model: Path
    """The .nf file."""
    json: bool = False
    """Report as one JSON object on standard output."""


@dataclass(frozen=True)
class CheckOptions:
    """Looks at a capture before a minute is spent on it."""

    scene: Path
    """The capture: a folder, or its transforms.json."""
    format: str | None = None
    """The kind of capture, if it should not be detected."""
    allow_outside: bool = False
    """Allow the capture to name files outside its folder."""
    json: bool = False
    """Report as one JSON object on standard output."""


@dataclass(frozen=True)
class DoctorOptions:
    """Says what is installed and built, and which path will run."""

    compile: bool = False
    """Compile the CUDA kernels ahead: for the GPU here, or for all that are supported where there is none."""
    json: bool = False
    """Report as one JSON object on standard output."""


@dataclass(frozen=True)
class BenchOptions:
    """Measures the native path against plain torch, on this machine, in one run."""

    scene: Path | None = None
    """A capture to measure on; without it the bundled one."""
    seconds: float = 5.0
    """How long each measurement runs."""
    threads: int | None = None
    """Threads on the CPU; without it as many as there are cores."""
    json: bool = False
    """Report as one JSON object on standard output."""

    def __post_init__(self) -> None:
        check_range(self, seconds=(0.1, 3600), threads=(1, 1024))


@dataclass(frozen=True)
class DemoOptions:
    """Fits the bundled scene, measures it, and renders a comparison and a turntable."""

    out: Path = Path("demo")
    """The folder to write to."""
    minutes: float = 1.0
    """How long to train."""
    threads: int | None = None
    """Threads on the CPU; without it as many as there are cores."""
    overwrite: bool = False
    """Replace what is in the folder."""
    json: bool = False
    """Report as one JSON object on standard output."""
    quiet: bool = False
    """No progress display."""

    def __post_init__(self) -> None:
        check_range(self, minutes=(0.001, 100_000), threads=(1, 1024))
