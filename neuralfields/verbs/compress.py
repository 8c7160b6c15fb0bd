"""`nf compress`: makes Gaussians (compression/compress.py) and other fields (compression/fields.py) small."""

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuralfields.captures.images import load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.codecs import load_any
from neuralfields.compression import neuralgs
from neuralfields.compression.compress import Goal, compress
from neuralfields.compression.fields import CompressedField, compress_field
from neuralfields.compression.original import MOST_CAMERAS, MOST_REFINING, CaptureCameras, Compressed, some
from neuralfields.compression.photos import CapturePhotos, Photo
from neuralfields.compression.tune import FITTED
from neuralfields.distillation.convert import compare
from neuralfields.distillation.smaller import compress_tuned
from neuralfields.errors import UsageError
from neuralfields.evaluation.compression_curve import Curve, curve, table
from neuralfields.evaluation.evaluate import evaluate
from neuralfields.evaluation.protocol import masked_like_fit
from neuralfields.fields import field_name
from neuralfields.fields.gaussians import GaussianField
from neuralfields.files import OutputLock, atomic_write_bytes, check_writable, parse_size, size_text
from neuralfields.gaussians import Gaussians
from neuralfields.gpu.device import use_machine
from neuralfields.models.loops import Loops
from neuralfields.models.model import Model
from neuralfields.options.models import CompressOptions
from neuralfields.progress import StageDisplay
from neuralfields.scene import Scene
from neuralfields.splatting.photos import undistorted
from neuralfields.trainers.sampled_cameras import Viewpoints
from neuralfields.training.checkpoint import Checkpoint
from neuralfields.training.kept_loops import kept_loops
from neuralfields.version import VERSION

LEAST_PICTURES, MOST_SAMPLED = 32, 36
EVERY = 8  # of a capture's photos, one that judges where none is held out


def run(options: CompressOptions) -> dict[str, Any]:
    """Compresses the model and writes it; keys: path, psnr, ssim (to the original), bytes, ratio, sections, seconds.

    `ratio`: bytes of the file that was given by those of the one that is written; `picture`: the view that lost most,
    side by side with the original's, beside the file (None with `fast`). With `sweep`: path, picture, rows.
    An interrupted compression leaves its checkpoint beside the file, as a fit does, and `resume` goes on from it.
    Raises UsageError for a model that is no scene, InputError for a goal that cannot be reached, InterruptedFit after
    SIGINT or SIGTERM (checkpoint written).
    """
    wanted = options.device if options.method == "neuralgs" else "cpu"  # all else chooses whole numbers there
    options = replace(options, device=use_machine(wanted, options.threads).type)
    out = _out(options)
    checkpoint = Checkpoint.beside(out, {})
    replacing = options.overwrite or (options.resume and checkpoint.path.is_file())
    check_writable(out, replacing)
    picture = None if options.fast or options.sweep else out.with_suffix(".png")
    if picture is not None:
        check_writable(picture, replacing)
    if not (options.resume or options.sweep):
        checkpoint.require_free(options.overwrite)
    model = load_any(options.model, options.scene)
    display = _Stages(options.quiet)
    with OutputLock(out):
        made = _made(options, model, checkpoint, display)
        display.next(None)
        if isinstance(made, Curve):
            return made.write(out)
        atomic_write_bytes(out, made.data)
        checkpoint.remove()
        if picture is not None:
            after = made.model if isinstance(made, CompressedField) else _with(model, made.gaussians)
            compare(model, after, picture, called="original")
    if isinstance(made, CompressedField) and options.scene is not None:
        made.report["photos"] = _photos_of_field(options, model, made.model)
    before = options.model.stat().st_size if options.model.is_file() else None
    ratio = None if before is None else before / len(made.data)
    shown = None if picture is None else str(picture)
    return {"path": str(out), "model": str(options.model), **made.report, "ratio": ratio, "picture": shown}


def _with(model: Model, gaussians: Gaussians) -> Model:
    """The model with other Gaussians."""
    return replace(model, field=GaussianField.of(gaussians))


def _out(options: CompressOptions) -> Path:
    """The file to write. Raises UsageError for a name that says another kind."""
    if options.sweep:
        return (options.out or Path(f"{options.model.stem}-sweep.png")).with_suffix(".png")
    out = options.out or Path(f"{options.model.stem}.nfz")
    if out.suffix.lower() != ".nfz":
        raise UsageError(f"{out}: a compressed scene is a .nfz; other files of splats: nf export")
    return out


def _made(
    options: CompressOptions, model: Model, checkpoint: Checkpoint, display: "_Stages"
) -> "Compressed | CompressedField | Curve":
    """What the options ask for; here alone it is decided what is done with Gaussians and what with other fields.

    Raises UsageError for a field that is no scene, and for options that only Gaussians have.
    """
    most = None if options.max_bytes is None else parse_size(options.max_bytes)
    steps = 0 if options.fast else options.steps
    goal = Goal(options.quality, most, not options.keep_all, steps, options.seed, fitted_of(model))
    cameras = cameras_of(model, options.seed) if model.cameras else None
    splats = isinstance(model.field, GaussianField)
    if not splats and (not model.is_scene or options.sweep or options.method != "coded"):
        raise UsageError(f"{options.model}: is no scene of Gaussians; of other fields scenes are, without --sweep")
    if splats and cameras is not None and options.scene is not None:
        display.next("photos")
        cameras = replace(cameras, photos=photos_of(model, options.scene))
    if splats and model.bounds.times is not None and (options.sweep or options.method != "coded"):
        raise UsageError(f"{options.model}: moves; Gaussians in time are coded, without --sweep and --method")
    if splats and options.sweep:
        return curve(model.field.gaussians(), model.bounds, goal, model.background, cameras, display.next)
    if options.fast:
        return _compressed(options, model, goal, cameras, display, Loops())
    checkpoint = replace(checkpoint, fit=_identity(options, model, goal, cameras))
    with kept_loops(checkpoint, options.resume, options.checkpoint_every) as loops:
        if options.resume:
            display.note(f"resumed at step {loops.step_count}")
        return _compressed(options, model, goal, cameras, display, loops)


def _compressed(
    options: CompressOptions,
    model: Model,
    goal: Goal,
    cameras: CaptureCameras | None,
    display: "_Stages",
    loops: Loops,
) -> Compressed | CompressedField:
    if not isinstance(model.field, GaussianField):
        if not goal.steps:
            return compress_field(model, goal, cameras, display.next)
        return compress_tuned(model, goal, cameras, display.next, loops)
    gaussians = model.field.gaussians().to(options.device)
    scene = gaussians, model.bounds, goal, model.background, cameras, display.next
    if options.method == "neuralgs":
        recipe = neuralgs.Recipe(options.clusters, options.width, options.prune)
        return neuralgs.compress(*scene, recipe, loops)
    return compress(*scene, loops)


def _identity(options: CompressOptions, model: Model, goal: Goal, cameras: CaptureCameras | None) -> dict[str, Any]:
    """Description of a compression that a checkpoint must share to be resumed."""
    names = ("clusters", "width", "prune") if options.method == "neuralgs" else ()
    return {
        "kind": "compression",
        "method": options.method,
        "goal": asdict(goal),
        **{name: getattr(options, name) for name in names},
        "input": _input_hash(model, cameras),
        "device": options.device,
        "threads": torch.get_num_threads(),
        "version": VERSION,
    }


def _input_hash(model: Model, cameras: CaptureCameras | None) -> str:
    """A hash of all that a compression sees: the model, its cameras, and photos."""
    found = hashlib.sha256(repr((field_name(model.field), model.bounds, model.background)).encode())
    for name, tensor in sorted(model.field.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    for camera in [] if cameras is None else [*cameras.training, *cameras.held_out, *cameras.sampled]:
        found.update(repr(camera).encode() + camera.world_from_camera.tobytes())
    photos = None if cameras is None else cameras.photos
    for photo in [] if photos is None else [*photos.training, *photos.judging]:
        found.update(photo.image.tobytes() + (b"" if photo.mask is None else np.packbits(photo.mask).tobytes()))
    return found.hexdigest()


def text(result: dict[str, Any]) -> str:
    """Formats the report for people."""
    if "rows" in result:
        return f"{result['picture']}, {result['path']}:\n{table(result['rows'])}"
    ratio = "" if result["ratio"] is None else f", {result['ratio']:.1f} times smaller"
    if "parameters" in result:
        return _field_text(result, ratio)
    size, each = size_text(result["bytes"]), result["bytes_each"]
    sections = ", ".join(f"{name} {size_text(count)}" for name, count in result["sections"].items())
    lines = [
        f"{result['path']}: {size}{ratio}, {each:.2f} bytes a Gaussian, {result['seconds']:.1f} s",
        f"  kept      {result['kept']:,} of {result['gaussians']:,} Gaussians",
        f"  quality   {result['psnr']:.2f} dB, SSIM {result['ssim']:.4f} to the original in {result['views']} views: "
        f"about {result['lost']:.2f} dB of a fit of {result['fitted']:.0f} dB",
        f"  bytes     {sections}",
    ]
    if result["photos"]:
        shown = result["photos"]
        kind = "held-out" if shown["held_out"] else "every eighth of all"
        lines.insert(
            3,
            f"  photos    {shown['psnr']:.2f} dB against {shown['photos']} photos ({kind}), "
            f"{shown['before']:.2f} before: {shown['lost']:+.2f} dB lost",
        )
    return "\n".join([*lines, *_side_by_side(result)])


def _side_by_side(result: dict[str, Any]) -> list[str]:
    return [f"  picture   {result['picture']}: the worst view beside the original's"] if result["picture"] else []


def _field_text(result: dict[str, Any], ratio: str) -> str:
    photos = result.get("photos")
    lines = [
        f"{result['path']}: {size_text(result['bytes'])}{ratio}, {result['bits_each']:.2f} bits a parameter, "
        f"{result['seconds']:.1f} s",
        f"  quality   {result['psnr']:.2f} dB, SSIM {result['ssim']:.4f} to the original in {result['views']} views: "
        f"about {result['lost']:.2f} dB of a fit of {result['fitted']:.0f} dB",
        *([f"  photos    {photos['psnr']:.2f} dB, {photos['before']:.2f} before"] if photos else []),
        "  bytes     " + ", ".join(f"{name} {size_text(count)}" for name, count in result["sections"].items()),
        *_side_by_side(result),
    ]
    return "\n".join(lines)


def _photos_of_field(options: CompressOptions, before: Model, after: Model) -> dict[str, float]:
    """What held-out photos say of a field and of the file that was made of it."""
    found = [evaluate(model, options.scene, quiet=options.quiet) for model in (after, before)]
    return {
        "psnr": found[0].psnr,
        "ssim": found[0].ssim,
        "before": found[1].psnr,
        "lost": found[1].psnr - found[0].psnr,
    }


def fitted_of(model: Model) -> float:
    """PSNR in dB against held-out photos that the model's file records; that of a usual fit where it has none."""
    known = model.metrics.get("psnr")
    return min(max(float(known), 15.0), 45.0) if isinstance(known, int | float) else FITTED


def cameras_of(model: Model, seed: int) -> CaptureCameras:
    """Cameras of the model's capture: those of training, those held out, and half as many sampled like the first."""
    held_out = set(model.held_out)
    training = [camera for i, camera in enumerate(model.cameras) if i not in held_out] or list(model.cameras)
    count = max(len(training) // 2, LEAST_PICTURES - len(training)) if len(training) > 1 else 0
    sampled = Viewpoints(training, model.bounds).draw(min(count, MOST_SAMPLED), np.random.default_rng(seed))
    return CaptureCameras(training, [model.cameras[i] for i in model.held_out], sampled)


def photos_of(model: Model, path: Path) -> CapturePhotos:
    """The photos of a capture, at the size of the fit: of training, at most MOST_REFINING, and MOST_CAMERAS that judge.

    Every eighth photo judges where none is held out. Raises UsageError for a fit whose photos are not those on disk:
    with exposures or cameras of its own.
    """
    if any(model.made.get(name) for name in ("exposure", "appearance", "refine_poses")):
        raise UsageError(f"{path}: the fit has exposures or cameras of its own, its photos say nothing; drop --scene")
    scene, _ = masked_like_fit(read_scene(path, model.made.get("format")).about(model.bounds.origin), model)
    training, judging = list(scene.train), list(scene.test)
    if not judging:
        judging = training[::EVERY]
        training = sorted(set(training) - set(judging)) or judging
    size = model.made.get("downscale")
    return CapturePhotos(
        _photos(scene, some(training, MOST_REFINING), size),
        _photos(scene, some(judging, MOST_CAMERAS), size),
        bool(scene.test),
    )


def _photos(scene: Scene, indices: list[int], size: int | None) -> list[Photo]:
    """Photos without their lens's distortion; those that are masked as a whole are left out."""
    loaded = load_frames(scene, indices, size)
    parts = zip(loaded.images, loaded.cameras, loaded.masks, strict=True)
    found = [undistorted(image, camera, mask) for image, camera, mask in parts]
    return [Photo(camera, image, mask) for image, camera, mask in found if mask is None or mask.any()]


class _Stages:
    """Shows one stage after the other."""

    def __init__(self, quiet: bool) -> None:
        self._display, self._open = StageDisplay(quiet), False

    def note(self, text: str) -> None:
        """Prints one line, unless quiet."""
        self._display.note(text)

    def next(self, name: str | None) -> None:
        """Ends the stage before and begins this one, if there is one."""
        if self._open:
            self._display.end(None)
        self._open = name is not None
        if name is not None:
            self._display.begin(name)
