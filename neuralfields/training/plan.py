"""Plans a fit: decides input, field, settings, device and budget, once."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from neuralfields import ranks
from neuralfields.captures.check import fit_warnings
from neuralfields.captures.readers import read_scene
from neuralfields.errors import UsageError
from neuralfields.fields import GAUSSIANS, architecture_names, field_class
from neuralfields.fields.field import Field
from neuralfields.files import printable
from neuralfields.gpu.device import use_machine
from neuralfields.models.model import Model
from neuralfields.ops import backend
from neuralfields.options import training as training_options
from neuralfields.options.captures import PoseSettings
from neuralfields.options.fit import FitOptions
from neuralfields.options.training import TrainingSettings
from neuralfields.poses.find import accepted, default_capture, find_poses
from neuralfields.poses.photos import photo_folder
from neuralfields.progress import StageDisplay
from neuralfields.scene import Scene
from neuralfields.settings import parse_settings
from neuralfields.signals.readers import read_signal, signal_format
from neuralfields.signals.signal import Signal
from neuralfields.training.loop import Budget

if TYPE_CHECKING:
    from neuralfields.training.loop import Loop

# Attaches a live viewer to a loop while the context lasts: (scene, options, loop, function for the current model).
WatchFit = Callable[[Scene, FitOptions, "Loop", Callable[[], Model]], AbstractContextManager]
PHOTOS = "photos"
GAUSSIANS_LACK = ("sparse_depth", "half")  # options of fields alone
SHORTEST_FIT = Budget(500, 20.0)  # that begins with a sweep for depth, or with a teacher, if it is of use
SIGNAL_STEPS = 3000  # default for signals; proportionally more of smaller steps


def signal_steps(kind: type[Field]) -> int:
    """Default number of steps of a signal: the same number of samples, whatever a step takes."""
    return round(SIGNAL_STEPS / kind.SIGNAL_BATCH)


@dataclass(frozen=True)
class FitPlan:
    """Everything that a fit depends on.

    `config`: the field's hyper-parameters; `settings`: those of training; `options`: the rest, as given, except that
    photos without poses are replaced by the capture that was made of them.
    """

    source: Scene | Signal
    options: FitOptions
    config: Any
    settings: TrainingSettings
    device: torch.device
    budget: Budget

    def summary(self) -> str:
        """One line: what was read, which field is fitted to it, for how long, and on what."""
        source, options, budget = self.source, self.options, self.budget
        if isinstance(source, Signal):
            what = source.domain.kind
        else:
            sizes = sorted({(frame.camera.width, frame.camera.height) for frame in source.frames})
            size = "of several sizes" if len(sizes) > 1 else "of {} x {}".format(*sizes[0])
            what = f"{len(source.train)} photos {size} to train on, {len(source.test)} held out"
        parts = [] if budget.steps is None else [f"{budget.steps} steps"]
        parts += [] if budget.seconds is None else [f"{budget.seconds:g} seconds"]
        threads = torch.get_num_threads()
        where = f"{threads} thread{'s' * (threads > 1)}" if self.device.type == "cpu" else str(self.device)
        return f"{source.name}: {what}; field {options.field}, {' or '.join(parts)}, {where}"


def plan_fit(options: FitOptions, source: Scene | Signal | None = None) -> FitPlan:
    """Reads the input, unless it is given, and decides everything else; settings are checked first.

    Raises UsageError and InputError; PosesNotFoundError for photos whose poses cannot be found or are doubtful.
    """
    device = use_machine(options.device, options.threads)
    named, options = options.field, replace(options, field=options.field or usual_field(options, source))
    kind = field_class(options.field)
    with backend.using(options.backend, options.marcher, device.type):
        try:
            config = parse_settings(options.set, kind.Config)
        except UsageError as error:
            hint = "" if named else f" (of {options.field}, as no --field is given)"
            raise UsageError(f"{error}{hint}") from None
    if options.max_gaussians is not None:
        config = _limited(config, options)
    settings = parse_settings(options.recipe, training_options.DEFAULT, "--recipe")
    if without_poses(options.scene, options.format):
        source = posed_scene(options) if source is None else source
        if isinstance(source, Scene):  # the capture is recorded, which can be read again
            options = replace(options, scene=source.root, format=None)
    elif source is None:
        source = read_input(options)
    if isinstance(source, Scene):
        source = replace(source, warnings=(*source.warnings, *fit_warnings(source, options.dry_run)))
        source = _in_time(source, kind, options)
    default = signal_steps(kind) if isinstance(source, Signal) else kind.STEPS
    return FitPlan(source, options, config, settings, device, Budget.of(options, default))


def usual_field(options: FitOptions, source: Scene | Signal | None = None) -> str:
    """The field where none is named: Gaussians for a capture, if they have what is asked for, else hash.

    On every capture measured Gaussians are 0.3 to 8 dB better than hash in the same time, and drawn ten times faster.
    """
    if source is None:
        signal = signal_format(options.scene, options.format) is not None
    else:
        signal = isinstance(source, Signal)
    lacking = any(getattr(options, name) for name in GAUSSIANS_LACK) or options.bits == 8
    kernels = (options.backend, options.marcher) != ("native", "native")
    keys = {setting.partition("=")[0].strip().replace("-", "_") for setting in options.set}
    known, of_hash = ({item.name for item in fields(field_class(name).Config)} for name in (GAUSSIANS, "hash"))
    lacking = lacking or kernels or bool((keys - known) & of_hash)
    return "hash" if signal or lacking or ranks.started() > 1 else GAUSSIANS


def _in_time(scene: Scene, kind: type[Field], options: FitOptions) -> Scene:
    """The scene as the field can take it: without times where that knows none, which is said, and with --still."""
    if scene.bounds.times is None or (kind.MOVES and not options.still):
        return scene
    if options.still:
        return scene.still()
    able = [name for name in architecture_names() if field_class(name).MOVES]
    line = (
        f"the scene moves, --field {options.field} stands still: what moves is blurred; {', '.join(able)} take time"
        " (--still fits without it and says nothing)"
    )
    return replace(scene.still(), warnings=(*scene.warnings, line))


def _limited(config: Any, options: FitOptions) -> Any:
    """The field's settings with --max-gaussians. Raises UsageError for a field that has none."""
    if not hasattr(config, "most"):
        raise UsageError(f"--max-gaussians is for --field gaussians, not for {options.field}; leave it out")
    return replace(config, most=options.max_gaussians)


def read_input(options: FitOptions) -> Scene | Signal:
    """Reads the posed capture, or the image, mesh, video or sound, that is to be fitted."""
    if signal_format(options.scene, options.format) is not None:
        return read_signal(options.scene, options.format, options.downscale)
    accepted(options.scene, options.accept_doubtful_poses)
    return read_scene(options.scene, options.format, options.allow_outside)


def without_poses(path: Path, format: str | None) -> bool:
    """Whether poses must be found first: for a folder of photos without any, or for a video with --format photos."""
    return format == PHOTOS or (format is None and photo_folder(path) is not None)


def posed_scene(options: FitOptions) -> Scene:
    """Finds poses, or reuses those of an earlier run; the scene is named after the photos.

    The capture lies beside the output, <output>-capture. Raises what `find_poses` raises, and PosesNotFoundError when
    the poses are doubtful and that was not accepted.
    """
    out, photos = options.out, options.scene
    capture = default_capture(photos) if out is None else out.with_name(f"{out.stem}-capture")
    if options.dry_run:
        raise UsageError(f"--dry-run: {photos} has no poses yet; run nf poses {photos} first")
    if ranks.started() > 1:
        raise UsageError(f"{photos}: has no poses yet; run nf poses {photos} before torchrun")
    print(printable(f"{photos}: photos without poses; the posed capture goes to {capture}"), file=sys.stderr)
    find_poses(photos, capture, PoseSettings(threads=options.threads), StageDisplay(options.quiet))
    accepted(capture, options.accept_doubtful_poses)
    return replace(read_scene(capture), name=default_capture(photos).name.removesuffix("-capture"))


def input_record(options: FitOptions) -> dict[str, Any]:
    """Record of the input, which is stored with the model."""
    return {
        "scene": str(Path(options.scene).resolve()),
        "format": options.format,
        "background": options.background,
    }
