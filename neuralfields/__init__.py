"""Fits neural fields to posed photos, and measures and renders them, on the computer you have.

The pipeline; each noun is a frozen dataclass in a file of its name

    photos with poses ─► Scene ─► Rays[R] ─► Samples[S] ─► Field: density, colour ─► composite ─► Render
      captures/readers.py       scene.py   rays.py     march          fields/*.py             rendering/volume.py      │
                                     ▲          ▲ rendering/occupancy.py     ▲                                ▼
                                  pixels.py     └──────────────────┴── step ◄─ gradient ◄─ loss against the photo
                                                                      training/optimiser.py              verbs/fit.py

The public API

    model = neuralfields.fit("captures/fox", minutes=2, out="fox.nf")     a Model; options are those of `nf fit`
    model = neuralfields.load("fox.nf")                                   neuralfields.save(model, path)
    seen = neuralfields.render(model, model.cameras[0])                   rgb [H, W, 3], opacity and depth [H, W]
    report = neuralfields.evaluate(model, "captures/fox")                 report.psnr, report.ssim, report.views
    scene = neuralfields.read_scene("captures/fox")                       a Scene, no pixel is decoded
    neuralfields.view("fox.nf").wait()                                    a page in the browser; a cell in a notebook

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
    "Bounds", "Camera", "Model", "Rays", "Render", "Scene", "__version__", "evaluate", "fit", "load", "read_scene",
    "render", "save", "view",
]  # fmt: skip

_HOMES = {
    "Bounds": "scene", "Camera": "cameras", "Model": "models.model", "Rays": "rays", "Render": "rays",
    "Scene": "scene", "load": "models.nf_file", "read_scene": "captures.readers", "save": "models.nf_file",
}  # fmt: skip


def fit(scene: "Scene | Path | str", **options: Any) -> "Model":
    """Fits a field to a posed capture (a folder or a `Scene`), an image, mesh, video or sound; returns the Model.

    `options` are those of `nf fit` (options.FitOptions): minutes, steps, downscale, field, set, seed, threads, ...
    With `out` the model is also saved there. Raises UsageError and InputError as the command line reports them.
    """
    from neuralfields.options.fit import FitOptions
    from neuralfields.scene import Scene
    from neuralfields.serving.watch import watch_fit
    from neuralfields.settings import make_config
    from neuralfields.training.fit import fit_to_file, run_plan
    from neuralfields.training.plan import plan_fit

    given = isinstance(scene, Scene)
    chosen = {"scene": scene.root if given else Path(scene), "quiet": True} | options
    if isinstance(chosen.get("set"), dict):
        chosen["set"] = tuple(f"{key}={value}" for key, value in chosen["set"].items())
    if chosen.get("out") is not None:
        chosen["out"] = Path(chosen["out"])
    ready = make_config(FitOptions, chosen, "fit")
    plan, watch = plan_fit(ready, scene if given else None), watch_fit if ready.view else None
    return run_plan(plan, watch=watch) if ready.out is None else fit_to_file(plan, watch=watch)


def render(model: "Model", view: "Camera | Rays", background: Any = "auto") -> "Render":
    """What a camera (rgb [H, W, 3], opacity and depth [H, W]) or rays (rgb [R, 3], ...) see of a model.

    Rays may hold numpy arrays. `background`: auto (the model's own), white, black, three numbers in [0, 1].
    """
    from neuralfields.evaluation import render as rendering

    return rendering.render(model, view, background)


def evaluate(model: "Model", scene: "Scene | Path | str | None" = None, **choices: Any) -> "Report":
    """PSNR and SSIM of a model on views of its capture; without `scene`, the one that it was fitted to.

    `choices`: split ("test", "train", "all"), downscale (without it as in the fit), background.
    """
    from neuralfields.evaluation import evaluate as evaluation

    return evaluation.evaluate(model, scene, **choices)


def view(things: Any, scene: Any = None, **choices: Any) -> "Viewer":
    """Serves the viewer's page for .nf files, captures, Models, Scenes or objects with `render(camera)`.

    Returns at once: `.url`, `.wait()` until Ctrl-C, `.close()`; a notebook shows the page in the cell.
    `choices`: host, port, open_browser, threads, device.
    """
    from neuralfields.serving import viewer

    return viewer.view(things, scene, **choices)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"neuralfields.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'neuralfields' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
