"""Fits neural fields to posed photos, and evaluates, converts, renders and shows them, on the computer you have.

The pipeline of a fit

  posed photos ─► scene ─► pixels ─► rays ─► samples ─► field ─► composite ─► render ─► loss ─► step
                                                          ▲                              gradient │
                                                          └──────────────── Adam ◄────────────────┘
  scene      reads cameras, split and bounds of a capture                 captures/readers.py ─► Scene (scene.py)
  pixels     draws random training pixels as a batch                      supervision/pixels.py ─► Batch
  rays       from pixels through lens and pose, origins and directions    ops/pixel_rays.py ─► Rays (rays.py)
  samples    ray marching, empty cells of the occupancy grid skipped      ops/march.py ─► Samples (rays.py)
  field      density and colour at a point and a viewing direction        fields/*.py, built of layers/*.py
  composite  volume rendering, with early ray termination                 ops/composite.py ─► RaySums (rays.py)
  render     colour over a background, opacity, depth                     rendering/volume.py ─► Render (rays.py)
  loss       photometric and distortion loss, optional supervision        trainers/radiance.py, supervision/*.py
  step       gradient, Adam, update of the occupancy grid                 trainers/trainer.py, ops/adam.py

A field with a fused renderer (hash) goes from rays to RaySums in one pass: ops/hash_render.py, gpu/hash_render.py.
`nf fit` comes to the loop by  cli.py ─► verbs/fit.py ─► training/plan.py ─► training/photos.py ─► training/loop.py.

The floor plan: each folder answers one question, and imports point up this list only

  options       which options has a command?
  captures      which posed photos are on disk, and where is the scene?
  mesh          what is a triangle mesh, and how is it read, written, measured, extracted?
  pictures      what is done with a finished image: compared, labelled, put in a video; along which camera path?
  ops           which op, by which equation, with which plain-torch reference?
  gpu           how does an op run on a CUDA GPU, by whose kernels?
  layers        what are fields built of?
  fields        which architecture?
  rendering     how does a field become an image?
  models        what is a fitted model, and its .nf file?
  signals       which signal is no scene: image, shape, video, sound?
  compression   how few bytes does a scene need?
  codecs        in which file of another program?
  supervision   what supervises a fit besides colour: camera poses, exposure, transients, sparse depth?
  poses         where were the photos taken?
  splatting     how do Gaussians begin, grow and shrink?
  evaluation    how good is a model, by which protocol?
  trainers      what does a step learn: from photos, a signal, a teacher?
  training      how is a model fitted?
  distillation  how does one field become another?
  serving       how does a browser show it?
  verbs         what does a command of `nf` do?

Beside the folders stand the nouns (scene.py, cameras.py, rays.py, domain.py, gaussians.py), the tools (errors.py,
files.py, memory.py, media.py, settings.py, search_path.py, progress.py, ranks.py) and the doors (cli.py, __main__.py
and this file).

The public API: the names of `__all__`. Everything else can be imported, and may change between versions.

    model = neuralfields.fit("captures/fox", minutes=2, out="fox.nf")     a Model; options are those of `nf fit`
    seen = neuralfields.render(model, model.cameras[0])                   rgb [H, W, 3], opacity and depth [H, W]
    report = neuralfields.evaluate(model, "captures/fox")                 report.psnr, report.ssim, report.views
    small = neuralfields.convert(model, to="mlp", minutes=2)              the same scene in another architecture
    less = neuralfields.edit(model, erase_box=(-1, -1, -1, 1, 1, 1))      the scene without a box
    neuralfields.view("fox.nf").wait()                                    a page in the browser; a cell in a notebook
    neuralfields.find_poses("photos", "captures/mine")                    writes a posed capture
    scene = neuralfields.read_scene("captures/fox")                       a Scene, no pixel is decoded
    model = neuralfields.load("fox.nf")                                   neuralfields.save(model, path)

Conventions, everywhere in the program
  cameras        OpenCV axes: x right, y down, z forward; `world_from_camera` 4x4; readers convert on the way in
  pixels         the centre of the first pixel is (0.5, 0.5)
  colour         sRGB, uint8 on disk, float in [0, 1] in memory; photos with alpha have straight alpha
  density        1/length; a field gives its logarithm, the pre-activation
  depth          distance along a unit ray, in world units
  quaternions    (w, x, y, z)
  PSNR           mean squared error pooled over pixels and channels after an 8-bit round trip; then the mean of images
  held out       files sorted by name, every 8th from the first, unless the capture names its own split
  counts         R rays, S samples, L levels, F features; `d_x` is the gradient of the loss with respect to x

Importing the package is cheap: torch is loaded by the first name that needs it.
"""

import sys

if sys.argv[:1] == ["-m"]:  # python -m neuralfields: before anything is imported that a folder of photos may imitate
    from neuralfields.search_path import leave_working_folder

    leave_working_folder()

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuralfields.version import VERSION as __version__

if TYPE_CHECKING:
    from neuralfields.cameras import Camera
    from neuralfields.captures.readers import read_scene
    from neuralfields.evaluation.evaluate import Report
    from neuralfields.models.model import Model
    from neuralfields.models.nf_file import load, save
    from neuralfields.rays import Rays, Render
    from neuralfields.scene import Bounds, Scene
    from neuralfields.serving.viewer import Viewer

# OpenMP's threads otherwise spin for long at a barrier that another process keeps one of them from, and a fit on a busy
# machine crawls. What is set by the user, or was loaded before (torch), stays as it is.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

__all__ = [
    "Bounds", "Camera", "Model", "Rays", "Render", "Report", "Scene", "Viewer", "__version__", "convert", "edit",
    "evaluate", "find_poses", "fit", "load", "read_scene", "render", "save", "view",
]  # fmt: skip

_HOMES = {
    "Bounds": "scene", "Camera": "cameras", "Model": "models.model", "Rays": "rays", "Render": "rays",
    "Report": "evaluation.evaluate", "Scene": "scene", "Viewer": "serving.viewer", "load": "models.nf_file",
    "read_scene": "captures.readers", "save": "models.nf_file",
}  # fmt: skip


def fit(scene: "Scene | Path | str", **options: Any) -> "Model":
    """Fits a field to a posed capture (a folder or a `Scene`), or to an image, mesh, video or sound file.

    `options`: those of `nf fit` with underscores (steps, minutes, field, set, recipe, downscale, seed, threads, ...);
    `set` and `recipe` take dicts. With `out` the model is also written there, with checkpoints on the way. `view=True`
    serves a live view of the fit. The metrics of the model hold the held-out PSNR in dB.

    Raises UsageError for wrong options, InputError for input that cannot be used, PosesNotFoundError for photos whose
    poses cannot be found or are doubtful, InterruptedFit after Ctrl-C (the checkpoint is written, if `out` is given).

    >>> import neuralfields as nf
    >>> model = nf.fit("scenes/sample", steps=20, set={"levels": 4, "table": 12}, out="small.nf")
    >>> model.made["field"], model.made["steps"], model.metrics["psnr"] > 0
    ('hash', 20, True)
    """
    from neuralfields.options.fit import FitOptions
    from neuralfields.options.keywords import from_keywords
    from neuralfields.scene import Scene
    from neuralfields.serving.watch import watch_fit
    from neuralfields.training.fit import fit_to_file, run_plan
    from neuralfields.training.plan import plan_fit

    given = isinstance(scene, Scene)
    chosen = from_keywords(FitOptions, {"scene": scene.root if given else Path(scene), "quiet": True} | options, "fit")
    plan, watch = plan_fit(chosen, scene if given else None), watch_fit if chosen.view else None
    return run_plan(plan, watch=watch) if chosen.out is None else fit_to_file(plan, watch=watch)


def render(model: "Model", view: "Camera | Rays", background: Any = "auto") -> "Render":
    """Renders a model by a camera or along rays, without gradients.

    A camera gives rgb [H, W, 3] in [0, 1] over the background, opacity [H, W] in [0, 1] and depth [H, W] in world
    units. Rays, of tensors or numpy arrays with origins [R, 3] and directions [R, 3] of any length, give [R, 3], [R]
    and [R]. `background`: "auto" (the model's own), "white", "black", or three numbers in [0, 1].

    Raises InputError for rays of another shape, with values that are not finite, or without direction.

    >>> import neuralfields as nf
    >>> model = nf.load("sample.nf")
    >>> seen = nf.render(model, model.cameras[0].resized(32, 24), background="white")
    >>> list(seen.rgb.shape), list(seen.depth.shape)
    ([24, 32, 3], [24, 32])
    """
    from neuralfields.evaluation import render as rendering

    return rendering.render(model, view, background)


def evaluate(model: "Model", scene: "Scene | Path | str | None" = None, **options: Any) -> "Report":
    """Evaluates a model on views of a capture: PSNR in dB and SSIM, each view and their means.

    `scene`: Default: the capture that the model was fitted to. `options`: split ("test", "train" or "all"; Default:
    "test", the held-out views), downscale (Default: as in the fit), background ("auto", "white", "black" or three
    numbers in [0, 1]; photos with alpha and renders are composited over it).

    Raises InputError where the capture or the views are missing, or photos cannot be read.

    >>> import neuralfields as nf
    >>> report = nf.evaluate(nf.load("sample.nf"), "scenes/sample")
    >>> len(report.views), report.psnr > 10, report.worst.psnr <= report.best.psnr
    (6, True, True)
    """
    from neuralfields.evaluation import evaluate as evaluation

    return evaluation.evaluate(model, scene, **options)


def convert(
    model: "Model | Path | str", to: str | None = None, out: "Path | str | None" = None, **options: Any
) -> "Model":
    """Converts a radiance field to another architecture or size by distillation, without the photos.

    `model`: a Model, or a model file of this or another program. `to`: a name of fields/. Default: the model's own.
    `options`: those of `nf convert` (steps, minutes, set, recipe, max_bytes, bits, scene, seed, threads, ...). With
    `out` the student is also written there. Its metrics hold `psnr_against_teacher`, the PSNR of its renders against
    the teacher's in dB.

    Raises UsageError for wrong options, for fields that are no radiance fields, and for a `max_bytes` that no size of
    the architecture meets; InputError for files that cannot be read.

    >>> import neuralfields as nf
    >>> student = nf.convert("sample.nf", to="voxels", set={"resolution": 17}, steps=5, out="voxels.nf")
    >>> nf.load("voxels.nf").made["field"], len(student.lineage), student.metrics["psnr_against_teacher"] > 0
    ('voxels', 1, True)
    """
    from neuralfields.distillation.convert import convert_model
    from neuralfields.options.keywords import from_keywords
    from neuralfields.options.models import ConvertOptions

    path, loaded = _file_or_model(model)
    given = {"model": path, "to": to, "out": out, "quiet": True} | options
    return convert_model(from_keywords(ConvertOptions, given, "convert"), loaded)


def edit(model: "Model | Path | str", out: "Path | str | None" = None, **options: Any) -> "Model":
    """Edits a radiance field: erases boxes, or everything outside them, by distillation; or inserts another scene.

    `options`: those of `nf edit`: `erase_box` and `keep_box` take a box of six numbers x0, y0, z0, x1, y1, z1, two
    corners in the capture's world units, or several boxes; `insert` the file of another scene, with at, scale, rotate,
    mode; to, steps, minutes, set, seed, threads, ... With `out` the result is also written there. Raises as `convert`,
    and UsageError without a box.

    >>> import neuralfields as nf
    >>> left = nf.edit("sample.nf", erase_box=(-0.2, -0.2, 0, 0.2, 0.2, 0.4), steps=2)
    >>> left.made["field"], left.made["steps"]
    ('hash', 2)
    """
    from neuralfields.distillation.edit import edit_model
    from neuralfields.options.keywords import from_keywords
    from neuralfields.options.models import EditOptions

    path, loaded = _file_or_model(model)
    return edit_model(from_keywords(EditOptions, {"model": path, "out": out, "quiet": True} | options, "edit"), loaded)


def view(things: Any, scene: Any = None, **options: Any) -> "Viewer":
    """Serves the viewer for .nf files, captures, Models, Scenes, objects with `render(camera)`, or a list of them.

    Returns at once: `.url` is the address, `.wait()` blocks until Ctrl-C, `.close()` ends it; a notebook shows the page
    in the cell. `scene`: the capture whose photos and points are shown. `options`: host, port (0 for any free one),
    open_browser, threads, device. Raises InputError and UsageError, also where the package aiohttp is missing.

    >>> import neuralfields as nf
    >>> with nf.view("sample.nf", port=0) as viewer:
    ...     viewer.url.startswith("http://127.0.0.1:")
    True
    """
    from neuralfields.serving import viewer

    return viewer.view(things, scene, **options)


def find_poses(photos: "Path | str", out: "Path | str | None" = None, **settings: Any) -> dict[str, Any]:
    """Finds camera poses for a folder of photos or a video with COLMAP, and writes a posed capture that `fit` reads.

    `out`: folder of the capture. Default: <name>-capture in the current folder; stages that an earlier run finished
    there are not run again. `settings`: those of `nf poses` (frames, matching, mapper, lens, seed, threads, ...), and
    `quiet`. Returns the report of the capture's poses.json: photos, registered, level ("trusted", "doubts" or
    "doubtful"), reasons, missing, reprojection error in pixels, ...

    Raises InputError for photos that cannot be used, PosesNotFoundError where no model is found, UsageError where the
    package pycolmap is missing.

    >>> import neuralfields as nf
    >>> report = nf.find_poses("photos", "capture", largest=400)  # doctest: +SKIP
    >>> report["registered"], report["level"]  # doctest: +SKIP
    (30, 'trusted')
    """
    from neuralfields.options.captures import PoseSettings
    from neuralfields.options.keywords import from_keywords
    from neuralfields.poses import find
    from neuralfields.progress import StageDisplay

    source, display = Path(photos), StageDisplay(settings.pop("quiet", True))
    folder = find.default_capture(source) if out is None else Path(out)
    return find.find_poses(source, folder, from_keywords(PoseSettings, settings, "find_poses"), display)


def _file_or_model(model: "Model | Path | str") -> "tuple[Path, Model | None]":
    """The file of a model and None, or a name for messages and the loaded model."""
    from neuralfields.models.model import Model

    return (Path("model"), model) if isinstance(model, Model) else (Path(model), None)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"neuralfields.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'neuralfields' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
