"""`nf share`: writes Gaussians or a hash field as one page that opens anywhere (serving/share.py)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from neuralfields.codecs import load_any, nfz
from neuralfields.codecs.splats import format_of
from neuralfields.compression.compress import Goal, compress
from neuralfields.compression.fields import compress_field
from neuralfields.errors import InputError, UsageError
from neuralfields.fields.gaussians import GaussianField
from neuralfields.files import OutputLock, atomic_write_bytes, check_writable, parse_size, size_text
from neuralfields.gpu.device import use_machine
from neuralfields.models.model import Model
from neuralfields.options.models import ShareOptions
from neuralfields.pictures import camera_paths as paths
from neuralfields.progress import StageDisplay
from neuralfields.rendering.splat_sequence import SequenceField
from neuralfields.scene import Bounds
from neuralfields.serving.field import refusal
from neuralfields.serving.messages import eye_of
from neuralfields.serving.share import About, parts_of, share_page, size_of_page
from neuralfields.serving.stage import build_stage
from neuralfields.serving.subjects import model_subject
from neuralfields.verbs.compress import cameras_of, fitted_of

EYES_A_SECOND, MOST_EYES = 8, 600
COLOURS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}


def run(options: ShareOptions) -> dict[str, Any]:
    """Compresses the models and writes the page; keys: path, bytes, code, scenes (bytes of each).

    Raises UsageError for a field that the page does not draw and for a page beyond the limit, InputError as the readers
    do.
    """
    use_machine("cpu", options.threads)  # Gaussians are rasterised there
    out = options.out or Path(f"{options.models[0].stem}.html")
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{out}: a shared scene is a .html; compressed splats: nf compress, films: nf render")
    check_writable(out, options.overwrite)
    models = [_model_of(path) for path in options.models]
    path = None if options.path is None else _path(options.path, models[0].bounds, options.seconds)
    display = StageDisplay(options.quiet)
    with OutputLock(out):
        display.begin("compression")
        parts = [_compressed(given, model, options) for given, model in zip(options.models, models, strict=True)]
        display.end(None)
        files, shown = [data for data, _ in parts], [model for _, model in parts]
        subjects = [
            model_subject(_name(given), model, len(data))
            for given, model, data in zip(options.models, shown, files, strict=True)
        ]
        for subject in subjects:
            subject.background = COLOURS.get(options.background, subject.background)
        about = About(
            options.title if options.title is not None else " · ".join(subject.name for subject in subjects),
            options.author, options.description, options.licence,
        )  # fmt: skip
        stage = build_stage(subjects, shown, None)
        page = share_page(stage, files, about, path, options.views)
        atomic_write_bytes(out, page)
    return {
        "path": str(out),
        "bytes": len(page),
        "code": size_of_page(parts_of(stage)),
        "scenes": [len(data) for data in files],
    }


def text(result: dict[str, Any]) -> str:
    """Formats the result for people."""
    scenes = ", ".join(size_text(count) for count in result["scenes"])
    return f"{result['path']}: {size_text(result['bytes'])} (scene {scenes}, the viewer {size_text(result['code'])})"


def _model_of(path: Path) -> Model:
    """The model in a file. Raises UsageError for a field that the page does not draw."""
    model = load_any(path)
    if isinstance(model.field, GaussianField | SequenceField) and model.bounds.times is not None:
        raise UsageError(
            f"{path}: moves, a shared page of Gaussians stands still; make one time of it: nf convert --time"
        )
    if isinstance(model.field, GaussianField):
        if not len(model.field.gaussians()):
            raise InputError(f"{path}: there are no Gaussians to share")
        return model
    reason = refusal(model.renderable()) if model.is_scene else "the page draws scenes"
    if reason:
        advice = f"; make Gaussians of it first: nf convert {path.name} --to gaussians" if model.is_scene else ""
        raise UsageError(f"{path}: {reason}{advice}")
    return model


def _compressed(given: Path, model: Model, options: ShareOptions) -> tuple[bytes, Model]:
    """The .nfz of a model, and what it decodes to; one that is given stays as it is, if the page can decode it."""
    if nfz.is_field(given) or (format_of(given) == "nfz" and not nfz.is_networks(given)):
        return given.read_bytes(), model
    most = None if options.max_bytes is None else parse_size(options.max_bytes)
    goal = Goal(options.quality, most, steps=options.steps, fitted=fitted_of(model))
    cameras = cameras_of(model, goal.seed) if model.cameras else None
    if not isinstance(model.field, GaussianField):
        small = compress_field(model, goal, cameras)
        return small.data, small.model
    made = compress(model.field.gaussians(), model.bounds, goal, model.background, cameras)
    return made.data, replace(model, field=GaussianField.of(made.gaussians))


def _path(path: Path, bounds: Bounds, seconds: float) -> dict[str, Any]:
    """Eyes along the keyframes of a file, evenly in time."""
    keys = [camera.moved(-np.asarray(bounds.origin)) for camera in paths.read_keyframes(path)]
    count = min(MOST_EYES, max(2, len(keys), round(EYES_A_SECOND * seconds)))
    eyes = [eye_of(camera) for camera in paths.interpolate(keys, count)]
    short = [{"pose": [float(f"{v:.6g}") for v in eye["pose"]], "fov": round(eye["fov"], 3)} for eye in eyes]
    return {"eyes": short, "seconds": seconds}


def _name(path: Path) -> str:
    """A file's name without its suffixes."""
    return path.name.split(".")[0] or path.name
