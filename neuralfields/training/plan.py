"""What a fit is decided by, worked out once: input, field, settings, device, budget."""

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from neuralfields.captures.readers import read_scene
from neuralfields.errors import UsageError
from neuralfields.fields import field_class
from neuralfields.fields.field import Field
from neuralfields.gpu.device import use_machine
from neuralfields.models.model import Model
from neuralfields.ops import backend
from neuralfields.options import training as training_options
from neuralfields.options.captures import PoseSettings
from neuralfields.options.common import DEFAULT_STEPS
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

# Puts a watcher beside a loop for as long as the context lasts: (scene, options, loop, model as it is now).
WatchFit = Callable[[Scene, FitOptions, "Loop", Callable[[], Model]], AbstractContextManager]
PHOTOS = "photos"
SIGNAL_STEPS = 3000  # where neither steps nor minutes are asked for; of smaller steps as many more


def signal_steps(kind: type[Field]) -> int:
    """Steps of a fit where neither steps nor minutes are asked for: as many samples, whatever a step takes."""
    return round(SIGNAL_STEPS / kind.SIGNAL_BATCH)


@dataclass(frozen=True)
class FitPlan:
    """A fit before its first step.

    `config`: the field's hyper-parameters; `settings`: how it learns; `options`: the rest, as they were given, but for
    the source of photos that had no poses, which is the capture that was made of them.
    """

    source: Scene | Signal
    options: FitOptions
    config: Any
    settings: TrainingSettings
    device: torch.device
    budget: Budget


def plan_fit(options: FitOptions, source: Scene | Signal | None = None) -> FitPlan:
    """Reads the input, unless it is given, and decides everything else; settings that cannot be are refused first.

    Raises UsageError and InputError; PosesNotFoundError for photos whose poses cannot be found or are doubtful.
    """
    device = use_machine(options.device, options.threads)
    kind = field_class(options.field)
    with backend.using(options.backend, options.marcher, device.type):
        config = parse_settings(options.set, kind.Config)
    settings = parse_settings(options.recipe, training_options.DEFAULT, "--recipe")
    if without_poses(options.scene, options.format):
        source = posed_scene(options) if source is None else source
        if isinstance(source, Scene):  # what is recorded is the capture, which can be read again
            options = replace(options, scene=source.root, format=None)
    elif source is None:
        source = read_input(options)
    default = signal_steps(kind) if isinstance(source, Signal) else DEFAULT_STEPS
    return FitPlan(source, options, config, settings, device, Budget.of(options, default))


def read_input(options: FitOptions) -> Scene | Signal:
    """Reads the posed capture, or the image, mesh, video or sound, that is to be fitted."""
    if signal_format(options.scene, options.format) is not None:
        return read_signal(options.scene, options.format, options.downscale)
    accepted(options.scene, options.accept_doubtful_poses)
    return read_scene(options.scene, options.format, options.allow_outside)


def without_poses(path: Path, format: str | None) -> bool:
    """Whether poses have to be found first: a folder of photos, by looking; a video where --format photos asks so."""
    return format == PHOTOS or (format is None and photo_folder(path) is not None)


def posed_scene(options: FitOptions) -> Scene:
    """Finds poses, or takes those of an earlier run; the scene is named as the photos are.

    The capture lies beside the output, <output>-capture. Raises what `find_poses` raises, and PosesNotFoundError when
    the poses are doubtful and that was not accepted.
    """
    out, photos = options.out, options.scene
    capture = default_capture(photos) if out is None else out.with_name(f"{out.stem}-capture")
    if options.dry_run:
        raise UsageError(f"--dry-run: {photos} has no poses yet; run nf poses {photos} first")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(f"{photos}: has no poses yet; run nf poses {photos} before torchrun")
    print(f"{photos}: photos without poses; the posed capture goes to {capture}", file=sys.stderr)
    find_poses(photos, capture, PoseSettings(threads=options.threads), StageDisplay(options.quiet))
    accepted(capture, options.accept_doubtful_poses)
    return replace(read_scene(capture), name=default_capture(photos).name.removesuffix("-capture"))


def input_record(options: FitOptions) -> dict[str, Any]:
    """Of what a model was fitted to, as it is stored with it."""
    return {
        "scene": str(Path(options.scene).resolve()),
        "format": options.format,
        "background": options.background,
    }
