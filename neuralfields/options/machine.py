"""Options of the verbs about this machine and this installation: doctor, bench, demo."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from neuralfields.options.common import MINUTES, Output, Reporting, Result, Threads
from neuralfields.settings import check_range


@dataclass(frozen=True)
class DoctorOptions(Result):
    """Shows what is installed and built, and which backend will run."""

    _: KW_ONLY
    compile: bool = False
    """Compile the CUDA kernels ahead of time: for the GPU here, or for all supported GPUs if there is none."""


@dataclass(frozen=True)
class BenchOptions(Threads, Result):
    """Compares the native kernels with plain torch, on this machine, in one run."""

    _: KW_ONLY
    scene: Path | None = None
    """Capture to measure on. Default: the bundled one."""
    seconds: float = 5.0
    """Duration of each measurement in seconds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, seconds=(0.1, 3600))


@dataclass(frozen=True)
class DemoOptions(Threads, Output, Reporting):
    """Fits the bundled scene, measures it, and renders a comparison and a turntable."""

    _: KW_ONLY
    out: Path = Path("demo")
    """Folder to write."""
    minutes: float = 1.0
    """Minutes of training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, minutes=MINUTES)
