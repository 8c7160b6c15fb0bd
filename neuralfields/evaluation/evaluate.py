"""Evaluates a model: PSNR and SSIM of its renders against held-out photos.

Vocabulary
  view        one photo and the model's render of it, with PSNR in dB and SSIM
  keep        [H, W] bool, True where a photo's pixels count
  background  [3] in [0, 1]: photos with (straight) alpha are composited over it, and so are renders

PSNR and SSIM of a model are the means over its views (pictures/metrics.py).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neuralfields.cameras import Camera
from neuralfields.captures.images import load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.errors import InputError
from neuralfields.evaluation.protocol import masked_like_fit, viewing
from neuralfields.models.model import Model, background_of
from neuralfields.options.common import Split
from neuralfields.pictures.background import over
from neuralfields.pictures.metrics import WINDOW, psnr, ssim
from neuralfields.pictures.panels import comparison, stack, to_uint8
from neuralfields.progress import counted
from neuralfields.rendering.renderable import Renderable
from neuralfields.scene import Scene
from neuralfields.supervision.exposure import Learned, by_other_half


@dataclass(frozen=True)
class View:
    """Metrics of one view: `psnr` in dB, `ssim` (NaN where it was not measured), `seconds` of rendering.

    `given`: PSNR by the given camera and exposure, None where the report's convention adjusts nothing. `rgb` and
    `photo`: uint8 [H, W, 3], render and photo over the background; None where dropped.
    """

    name: str
    psnr: float
    ssim: float
    seconds: float
    rgb: np.ndarray | None = None
    photo: np.ndarray | None = None
    given: float | None = None


@dataclass(frozen=True)
class Report:
    """Result of an evaluation. Only the best and the worst view keep their images.

    `convention`: the adjustments to each view before it was measured (protocol.py), in words; empty for none.
    """

    views: tuple[View, ...]
    split: Split
    downscale: int | None
    background: tuple[float, float, float]
    warnings: tuple[str, ...] = ()
    convention: str = ""

    @property
    def psnr_given(self) -> float | None:
        """Mean PSNR by the given cameras and exposure in dB; None where the convention adjusts nothing."""
        given = [view.given for view in self.views if view.given is not None]
        return float(np.mean(given)) if given else None

    @property
    def psnr(self) -> float:
        """Mean PSNR over the views in dB."""
        return float(np.mean([view.psnr for view in self.views]))

    @property
    def ssim(self) -> float:
        """Mean SSIM over the views."""
        return float(np.mean([view.ssim for view in self.views]))

    @property
    def best(self) -> View:
        """The view of the highest PSNR."""
        return max(self.views, key=lambda view: view.psnr)

    @property
    def worst(self) -> View:
        """The view of the lowest PSNR."""
        return min(self.views, key=lambda view: view.psnr)

    def as_dict(self) -> dict[str, Any]:
        """Converts to plain data: the means, and the metrics of each view under `images`."""
        return {
            "psnr": self.psnr,
            "ssim": self.ssim,
            "views": len(self.views),
            "split": self.split,
            "downscale": self.downscale,
            "background": list(self.background),
            "ms_per_view": 1000 * float(np.mean([view.seconds for view in self.views])),
            "best": self.best.name,
            "worst": self.worst.name,
            "warnings": list(self.warnings),
            **({"convention": self.convention, "psnr_given": self.psnr_given} if self.convention else {}),
            "images": [{"name": view.name, "psnr": view.psnr, "ssim": view.ssim} for view in self.views],
        }


def photo_over(image: np.ndarray, background: tuple[float, float, float]) -> np.ndarray:
    """Composites a uint8 photo [H, W, 3 or 4] of straight alpha over the background: float32 [H, W, 3] in [0, 1]."""
    values = image.astype(np.float32) / 255
    if image.shape[2] == 3:
        return values
    return over(values[..., :3], values[..., 3], np.asarray(background, dtype=np.float32))


def measure(
    renderable: Renderable,
    image: np.ndarray,
    camera: Camera,
    background: tuple[float, float, float],
    keep: np.ndarray | None = None,
    name: str = "",
    structure: bool = True,
    exposed: Learned = "",
) -> View:
    """Renders a camera and compares it with its photo, uint8 [H, W, 3 or 4] of the camera's size.

    `structure` False leaves SSIM out (NaN), as do images below 11 x 11. `exposed`: in the photo's own exposure or
    appearance, each half by the gain or map of the other (exposure.py). Raises InputError for sizes that differ and
    for a mask that keeps nothing.
    """
    if image.shape[:2] != (camera.height, camera.width):
        size = f"{image.shape[1]}x{image.shape[0]}"
        raise InputError(f"{name or 'photo'}: is {size} but its camera is for {camera.width}x{camera.height}")
    photo = photo_over(image, background)
    begin = time.perf_counter()
    render = renderable.render(camera, background)
    rgb = render.rgb.cpu().numpy()
    seconds = time.perf_counter() - begin
    if exposed:
        opacity = render.opacity.cpu().numpy()
        behind = (1 - opacity)[..., None] * np.asarray(background, dtype=np.float32)
        rgb = by_other_half(rgb - behind, behind, photo, keep, opacity if exposed == "appearance" else None)
    whole = structure and min(image.shape[:2]) >= WINDOW
    values = psnr(rgb, photo, keep), ssim(rgb, photo, keep) if whole else math.nan
    return View(name, *values, seconds, to_uint8(rgb), to_uint8(photo))


def evaluate(
    model: Model,
    scene: Scene | Path | str | None = None,
    split: Split = "test",
    downscale: int | None = None,
    background: Any = "auto",
    quiet: bool = True,
    each: Callable[[View], object] | None = None,
) -> Report:
    """Evaluates a model on views of a capture. Default: the one that it was fitted to.

    `downscale`: Default: as in the fit. `background`: auto (the model's own), white, black, or three numbers. `each` is
    given every view with its images, in the order of the report, as soon as it is measured.
    Raises InputError where there are no such views, or photos cannot be read.
    """
    if scene is None:
        scene = read_scene(recorded_scene(model), model.made.get("format"))
    elif not isinstance(scene, Scene):
        scene = read_scene(scene)
    scene, gone = masked_like_fit(scene.about(model.bounds.origin), model)
    indices = {"test": scene.test, "train": scene.train, "all": range(len(scene.frames))}[split]
    if not indices:
        raise InputError(f"{scene.root}: has no views of the split {split!r}; evaluate another one with --split")
    downscale = model.made.get("downscale") if downscale is None else downscale
    loaded = load_frames(scene, indices, downscale)
    colour, renderable = background_of(model, background), model.renderable()
    how = viewing(model, scene, loaded, colour)
    warnings = [*loaded.warnings, *gone, *_seen_in_training(model, scene, split)]
    every = list(zip(loaded.images, how.cameras, loaded.masks, how.given, loaded.indices, strict=True))
    chosen = [entry for entry in every if entry[2] is None or entry[2].any()]
    if len(chosen) < len(every):
        warnings.append(f"{len(every) - len(chosen)} of {len(every)} views are fully masked and left out")
    if not chosen:
        raise InputError(f"{scene.root}: the masks keep no pixel of any view; inspect them with: nf check {scene.root}")
    views: list[View] = []
    for image, camera, keep, given, index in counted(chosen, len(chosen), quiet, "views"):
        view = measure(renderable, image, camera, colour, keep, scene.frames[index].name, exposed=how.exposed)
        if how.convention:
            view = replace(view, given=measure(renderable, image, given, colour, keep, structure=False).psnr)
        if each is not None:
            each(view)
        views.append(view)
        _drop_pictures(views)
    return Report(tuple(views), split, downscale, colour, tuple(warnings), how.convention)


def recorded_scene(model: Model) -> Path:
    """Path of the capture that a model was fitted to, by its record. Raises InputError where it is missing."""
    recorded = model.made.get("scene")
    if not recorded:
        raise InputError("the model does not say which capture it was fitted to; name it with --scene FOLDER")
    path = Path(str(recorded))
    if not path.exists():
        seen_from = "" if path.is_absolute() else f" (seen from {Path.cwd()})"
        raise InputError(f"{path}: the capture of the fit is not there{seen_from}; name it with --scene FOLDER")
    return path


def _seen_in_training(model: Model, scene: Scene, split: Split) -> list[str]:
    """Warns where held-out views were training views of this model."""
    if split != "test" or not model.camera_names:
        return []
    trained = set(model.camera_names) - {model.camera_names[i] for i in model.held_out}
    seen = [scene.frames[i].name for i in scene.test if scene.frames[i].name in trained]
    if not seen:
        return []
    return [f"{len(seen)} of {len(scene.test)} held-out views, {seen[0]} among them, were trained on by this model"]


def _drop_pictures(views: list[View]) -> None:
    """Drops all images but those of the best and the worst view so far: memory stays that of two views."""
    kept = (min(views, key=lambda view: view.psnr), max(views, key=lambda view: view.psnr))
    for index, view in enumerate(views):
        if view.rgb is not None and not any(view is other for other in kept):
            views[index] = replace(view, rgb=None, photo=None)


def best_and_worst(report: Report) -> np.ndarray:
    """Panel of photo, render and error of the worst view, and of the best one below it, uint8 [H, W, 3]."""
    shown = [("worst", report.worst)] + ([("best", report.best)] if len(report.views) > 1 else [])
    rows = [comparison(v.photo, v.rgb, f"{label}: {v.name}", f"{v.psnr:.2f} dB") for label, v in shown]
    return stack(rows)
