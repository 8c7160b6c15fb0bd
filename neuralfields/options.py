"""The options of every verb: frozen dataclasses that the command line, the Python API and the docs share.

No torch here, so that `nf --help` answers at once. The string under an option is its help text. Ranges are checked when
an options object is made: UsageError names the option, what was given and what is allowed.
"""

import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from neuralfields.errors import UsageError

DEFAULT_STEPS = 20000
MAX_STEPS = 100_000_000
MAX_SIZE = 16384  # pixels along a side of a rendered picture
Device = Literal["auto", "cpu", "cuda"]
Background = Literal["auto", "white", "black", "random"]
SolidBackground = Literal["auto", "white", "black"]
Split = Literal["test", "train", "all"]
Quantity = Literal["rgb", "depth", "opacity", "normal"]
Bits = Literal[8, 32]
T = TypeVar("T")


def flag(name: str) -> str:
    """An option's name as it is typed: eval_every -> --eval-every."""
    return "--" + name.replace("_", "-")


def require_range(values: object, **limits: tuple[float, float]) -> None:
    """ValueError unless each named attribute that is set lies in its closed range; for a field's `__post_init__`.

    A field's Config comes from files too: what its ranges let through, its constructor must survive.
    """
    for name, (low, high) in limits.items():
        value = getattr(values, name)
        if value is not None and not low <= value <= high:  # NaN compares false, so it is refused
            raise ValueError(f"{name} {value}: must be between {_figure(low)} and {_figure(high)}")


def _figure(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def check_range(options: object, **limits: tuple[float, float]) -> None:
    """The same for options: UsageError that names the option as it is typed."""
    for name, limit in limits.items():
        try:
            require_range(options, **{name: limit})
        except ValueError as error:
            raise UsageError(flag(name) + str(error)[len(name) :]) from None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'levels'?)` for the nearest known word, or an empty string when none is near."""
    near = difflib.get_close_matches(word[:80], list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


@dataclass(frozen=True)
class FitOptions:
    """Fits a field to a posed capture and writes it as one .nf file."""

    scene: Path
    """The capture: a folder, or its transforms.json."""
    field: str = "hash"
    """The architecture, the name of a file in neuralfields/fields."""
    out: Path | None = None
    """Where to write; without it <scene name>.nf in the current folder."""
    steps: int | None = None
    """Stop after this many steps; 20000 when neither --steps nor --minutes is given."""
    minutes: float | None = None
    """Stop after this many minutes of training."""
    downscale: int | None = None
    """Divide the photos' width and height by this; without it large photos are made smaller as needed."""
    device: Device = "auto"
    """Where to compute; auto takes a CUDA GPU if there is one."""
    seed: int = 0
    """The same seed and number of threads give the same result, bit for bit."""
    threads: int | None = None
    """Threads on the CPU; without it as many as there are cores."""
    resume: bool = False
    """Go on from the checkpoint of an interrupted fit."""
    overwrite: bool = False
    """Replace the output if it exists."""
    format: str | None = None
    """The kind of capture, if it should not be detected."""
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
    """Bits of a stored number: with 8 the file is about a quarter as large, for 0.15 dB at most."""
    json: bool = False
    """Report as one JSON object on standard output."""
    quiet: bool = False
    """No progress display."""
    view: bool = False
    """Watch the scene being learned in a browser, and pause, save or end the fit from there."""
    dry_run: bool = False
    """Check everything, say what would be done, and stop."""
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
    threads: int | None = None
    """Threads on the CPU; without it as many as there are cores."""
    half: bool = False
    """Store the grid in half precision: half the bytes, a little less exact."""
    bits: Bits = 32
    """Bits of a stored number: with 8 the file is about a quarter as large, for 0.15 dB at most."""
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
    threads: int | None = None
    """Threads on the CPU; without it as many as there are cores."""
    half: bool = False
    """Store the grid in half precision: half the bytes, a little less exact."""
    bits: Bits = 32
    """Bits of a stored number: with 8 the file is about a quarter as large, for 0.15 dB at most."""
    force: bool = False
    """Write the result even if it is far from the edited teacher."""
    overwrite: bool = False
    """Replace the output if it exists."""
    json: bool = False
    """Report as one JSON object on standard output."""
    quiet: bool = False
    """No progress display."""


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


def describe_settings(config: type) -> str:
    """The hyper-parameters of a field's Config in one line: name=default, in order."""
    return ", ".join(f"{item.name}={'' if item.default is MISSING else item.default}" for item in fields(config))


def parse_settings(settings: Iterable[str], config: type[T], option: str = "--set") -> T:
    """Makes a `config` dataclass from texts key=value over its defaults.

    Values: ints, floats, words, true/false, none where allowed, tuples as 1,2,3. UsageError names the key, what was
    given, what is allowed, and the nearest key when it is unknown.
    """
    values: dict[str, Any] = {}
    hints = typing.get_type_hints(config)
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise UsageError(f"{option} {setting!r}: write key=value; keys: {describe_settings(config)}")
        if key not in hints:
            near = did_you_mean(key, hints)
            raise UsageError(f"{option}: unknown key {key!r}{near}; keys: {describe_settings(config)}")
        if key in values:
            raise UsageError(f"{option}: {key} is given twice; give it once")
        try:
            values[key] = parse_value(text.strip(), hints[key])
        except ValueError as error:
            raise UsageError(f"{option} {key}={text}: {error}") from None
    return make_config(config, values, option)


def make_config(config: type[T], values: Mapping[str, Any], shown: str) -> T:
    """Makes the dataclass; what its own checks raise becomes a UsageError that begins with `shown`."""
    try:
        return config(**values)
    except (TypeError, ValueError, UsageError) as error:
        raise UsageError(f"{shown}: {error}") from None


def parse_value(text: str, hint: Any) -> Any:
    """One value of a dataclass's field from text; ValueError says what is expected."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _parse_union(text, inner)
    if origin is Literal:
        found = [choice for choice in inner if str(choice) == text]
        if not found:
            raise ValueError(f"must be one of {', '.join(map(str, inner))}{did_you_mean(text, map(str, inner))}")
        return found[0]
    if origin is tuple:
        parts = [part for part in text.strip("()[] ").split(",") if part.strip()]
        if inner[-1] is not Ellipsis and len(parts) != len(inner):
            raise ValueError(f"needs {len(inner)} values with commas between them, {len(parts)} were given")
        kinds = [inner[0]] * len(parts) if inner[-1] is Ellipsis else inner
        return tuple(parse_value(part.strip(), kind) for part, kind in zip(parts, kinds, strict=True))
    return _parse_plain(text, hint)


def _parse_union(text: str, kinds: tuple[Any, ...]) -> Any:
    if type(None) in kinds and text.lower() == "none":
        return None
    reason = "is not understood"
    for kind in kinds:
        if kind is not type(None):
            try:
                return parse_value(text, kind)
            except ValueError as error:
                reason = str(error)
    raise ValueError(reason + (" or none" if type(None) in kinds else ""))


def _parse_plain(text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() in ("true", "yes", "on", "1"):
            return True
        if text.lower() in ("false", "no", "off", "0"):
            return False
        raise ValueError("must be true or false")
    if kind is int:
        try:
            return int(text)
        except ValueError:
            raise ValueError("must be a whole number") from None
    if kind is float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError("must be a number") from None
        if not math.isfinite(value):
            raise ValueError("must be a finite number")
        return value
    if kind in (str, Path):
        return kind(text)
    raise ValueError(f"cannot be set from text (its type is {kind})")
