"""Options that several verbs share, as mixins; their limits, defaults and choices.

The string under an option is its help text (command_line.py). `section` of a mixin is the heading of its options on the
help page. A verb lists its positional arguments first; everything else is given by name, in Python too. Ranges are
checked when an options object is made: UsageError names the option, what was given and what is allowed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from neuralfields.errors import UsageError
from neuralfields.settings import check_range

DEFAULT_STEPS = 20000  # of a capture; of other signals see steps_of
MAX_STEPS = 100_000_000
MAX_SIZE = 16384  # pixels along a side of a rendered picture
MINUTES = (0.001, 100_000)
SIDE, FRAMES, FPS, DOWNSCALE = (1, MAX_SIZE), (1, 100_000), (0.1, 240), (1, 64)
Device = Literal["auto", "cpu", "cuda"]
Backend = Literal["native", "tcnn"]
Marcher = Literal["native", "nerfacc"]
Background = Literal["auto", "white", "black", "random"]
SolidBackground = Literal["auto", "white", "black"]
Split = Literal["test", "train", "all"]
Quantity = Literal["rgb", "depth", "opacity", "normal"]
Bits = Literal[8, 32]
BlendMode = Literal["replace", "add", "fade", "intersect"]
MeshSource = Literal["auto", "density", "depth"]
MaskMeaning = Literal["ignore", "keep"]


@dataclass(frozen=True)
class Options:
    """Root of all options, where the chain of `super().__post_init__()` ends."""

    section: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Checks ranges and combinations. Raises UsageError."""


@dataclass(frozen=True, kw_only=True)
class Result(Options):
    """Form of a verb's result."""

    section: ClassVar[str] = "report"

    json: bool = False
    """Print the result as one JSON object on standard output."""


@dataclass(frozen=True, kw_only=True)
class Reporting(Result):
    """Form of a verb's result, and its progress display."""

    section: ClassVar[str] = "report"

    quiet: bool = False
    """Hide the progress display."""


@dataclass(frozen=True, kw_only=True)
class Threads(Options):
    """Computation on the CPU alone."""

    section: ClassVar[str] = "machine"

    threads: int | None = None
    """Number of CPU threads. Default: the number of cores."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, threads=(1, 1024))


@dataclass(frozen=True, kw_only=True)
class OnMachine(Threads):
    """Computation on the CPU or on a GPU."""

    section: ClassVar[str] = "machine"

    device: Device = "auto"
    """Device to compute on; auto takes a CUDA GPU if one can be used."""


@dataclass(frozen=True, kw_only=True)
class Overwriting(Options):
    """Output that may be there already."""

    section: ClassVar[str] = "output"

    overwrite: bool = False
    """Replace existing output."""


@dataclass(frozen=True, kw_only=True)
class Output(Overwriting):
    """Output with a default name, which the verb's own text gives."""

    section: ClassVar[str] = "output"

    out: Path | None = None
    """File or folder to write."""


@dataclass(frozen=True, kw_only=True)
class Resuming(Output):
    """Output of a run that can be interrupted and continued."""

    section: ClassVar[str] = "output"

    resume: bool = False
    """Continue an interrupted run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resume and self.overwrite:
            raise UsageError("--resume and --overwrite: give only one; --resume goes on, --overwrite starts anew")


@dataclass(frozen=True, kw_only=True)
class Stored(Options):
    """Precision of a model file."""

    section: ClassVar[str] = "output"

    half: bool = False
    """Store the grid in half precision: half the bytes, slightly less exact."""
    bits: Bits = 32
    """Bits per stored number; 8 makes the file about a quarter as large, for a loss of 0.05 to 0.9 dB."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits not in (8, 32):
            raise UsageError(f"--bits {self.bits}: must be 8 or 32")
        if self.half and self.bits == 8:
            raise UsageError("--half and --bits 8: give only one; 8 bits are the smaller file")


@dataclass(frozen=True, kw_only=True)
class Source(Options):
    """How a capture is read."""

    section: ClassVar[str] = "capture"

    format: str | None = None
    """Format of the capture: transforms, colmap, llff, metashape, bundler, opensfm, nerfies or polycam. Default:
    detected."""
    allow_outside: bool = False
    """Allow the capture to name files outside its folder."""


@dataclass(frozen=True, kw_only=True)
class Training(Options):
    """Length, random numbers and architecture of a training."""

    section: ClassVar[str] = "training"

    steps: int | None = None
    """Number of training steps."""
    minutes: float | None = None
    """Minutes of training; together with --steps the first to be reached ends it."""
    seed: int = 0
    """Seed of the random numbers; the same seed and number of threads give the same result, bit for bit."""
    set: tuple[str, ...] = ()
    """Hyper-parameters of the field, as key=value; an unknown key lists them all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, steps=(1, MAX_STEPS), minutes=MINUTES, seed=(0, 2**63 - 1))


@dataclass(frozen=True, kw_only=True)
class Page(Options):
    """Address of the viewer's page."""

    section: ClassVar[str] = "viewer"

    host: str = "127.0.0.1"
    """Address to listen at; any other than this machine's own requires the token that is printed."""
    port: int = 7077
    """Port of the viewer; the next free one if it is in use, any free one with 0."""
    open: bool = False
    """Open the page in this machine's browser."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, port=(0, 65535))
