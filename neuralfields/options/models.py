"""Options of the verbs that make something else of a model (fit.py has the others, and says how they are made)."""

from dataclasses import dataclass
from pathlib import Path

from neuralfields.errors import UsageError
from neuralfields.options.fit import MAX_SIZE, MAX_STEPS, Bits, Device
from neuralfields.settings import check_range


@dataclass(frozen=True)
class ConvertOptions:
    """Converts a field into another architecture or size by distillation, without the photos."""

    model: Path
    """The .nf file, or a checkpoint of another program."""
    to: str | None = None
    """The architecture to convert to; without it that of the model."""
    out: Path | None = None
    """The .nf file to write (-o too), a side-by-side picture beside it; without it <model>-<architecture>.nf here."""
    steps: int | None = None
    """Stop after this many steps; 3000 when neither --steps nor --minutes is given."""
    minutes: float | None = None
    """Stop after this many minutes."""
    max_bytes: str | None = None
    """The file may have at most this size, such as 600kB: picks the largest setting that fits, stored in 8 bits."""
    set: tuple[str, ...] = ()
    """Hyper-parameters of the target, key=value; an unknown key lists them all."""
    recipe: tuple[str, ...] = ()
    """How to distil, key=value; an unknown key lists them all."""
    scene: Path | None = None
    """The capture: its cameras are looked through too, and the report compares both fields with its photos."""
    seed: int = 0
    """The same seed and number of threads give the same result, bit for bit."""
    device: Device = "auto"
    """Where to compute; auto takes a CUDA GPU if there is one."""
    threads: int | None = None
    """Threads on the CPU; without it as many as there are cores."""
    half: bool = False
    """Store the grid in half precision: half the bytes, a little less exact."""
    bits: Bits = 32
    """Bits of a stored number: with 8 the file is about a quarter as large, for 0.05 to 0.9 dB."""
    force: bool = False
    """Write the result even if it is far from its teacher."""
    eval_every: float = 20.0
    """Seconds between looks at the pictures of both; 0 never looks."""
    overwrite: bool = False
    """Replace the output if it exists."""
    format: str | None = None
    """The kind of capture, if it should not be detected."""
    allow_outside: bool = False
    """Allow the capture to name files outside its folder."""
    json: bool = False
    """Report as one JSON object on standard output."""
    quiet: bool = False
    """No progress display."""

    def __post_init__(self) -> None:
        check_range(
            self,
            steps=(1, MAX_STEPS),
            minutes=(0.001, 100_000),
            seed=(0, 2**63 - 1),
            threads=(1, 1024),
            eval_every=(0, 1e6),
        )
        if self.half and self.bits == 8:
            raise UsageError("--half and --bits 8: give only one; 8 bits are the smaller file")


@dataclass(frozen=True)
class EditOptions:
    """Erases a box of a scene, or keeps a box alone; the result is a field of the same or another architecture."""

    model: Path
    """The .nf file, or a checkpoint of another program."""
    out: Path | None = None
    """The .nf file to write (-o too), a side-by-side picture beside it; without it <model>-edited.nf here."""
    erase_box: tuple[str, ...] = ()
    """x0,y0,z0,x1,y1,z1: two corners, in the capture's world units, of a box that is emptied; may be repeated."""
    keep_box: tuple[str, ...] = ()
    """The same of a box outside of which everything is emptied; may be repeated."""
    to: str | None = None
    """The architecture of the result; without it that of the model."""
    steps: int | None = None
    """Stop after this many steps."""
    minutes: float | None = None
    """Stop after this many minutes."""
    set: tuple[str, ...] = ()
    """Hyper-parameters of the result, key=value; an unknown key lists them all."""
    seed: int = 0
    """The same seed and number of threads give the same result, bit for bit."""
    device: Device = "auto"
    """Where to compute; auto takes a CUDA GPU if there is one."""
    threads: int | None = None
    """Threads on the CPU; without it as many as there are cores."""
    half: bool = False
    """Store the grid in half precision: half the bytes, a little less exact."""
    bits: Bits = 32
    """Bits of a stored number: with 8 the file is about a quarter as large, for 0.05 to 0.9 dB."""
    force: bool = False
    """Write the result even if it is far from the edited teacher."""
    overwrite: bool = False
    """Replace the output if it exists."""
    json: bool = False
    """Report as one JSON object on standard output."""
    quiet: bool = False
    """No progress display."""


@dataclass(frozen=True)
class ExportOptions:
    """Writes what a field holds as a file for other programs: a mesh, an image, a video or a sound."""

    model: Path
    """The .nf file."""
    out: Path
    """A mesh (.ply, .obj), an image (.png, .jpg), a film (.mp4, .webp, .gif) or a sound (.wav)."""
    resolution: int = 256
    """Cells along the side of the cube in which a mesh's surface is looked for."""
    threshold: float | None = None
    """Density of a scene's surface, in 1/side of its cube; 50 without it."""
    width: int | None = None
    """Width of an image or a film in pixels; without it its own."""
    height: int | None = None
    """Height of an image or a film in pixels; without it its own."""
    frames: int | None = None
    """Frames of a film over its whole length; without it its own."""
    fps: float | None = None
    """Frames a second; without it such that the film takes as long as it did."""
    rate: int | None = None
    """Samples a second of a sound; without it its own."""
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
        check_range(self, resolution=(2, 2048), threshold=(1e-6, 1e9), width=size, height=size, threads=(1, 1024))
        check_range(self, frames=(1, 100_000), fps=(0.1, 240), rate=(100, 768_000))
