"""A radiance field fitted to the photos of a scene: scene -> pixels -> steps (training.py) -> model."""

import hashlib
from typing import Any

import numpy as np
import torch

from neuralfields.domain import RADIANCE
from neuralfields.errors import InputError
from neuralfields.fields import field_class
from neuralfields.fitting import description, make_field, rate, record, run_loop, watched
from neuralfields.images import LoadedFrames, load_frames
from neuralfields.loop import Budget, Loop
from neuralfields.metrics import psnr_from_mse
from neuralfields.model import Model
from neuralfields.options import FitOptions
from neuralfields.pixels import Pixels
from neuralfields.progress import Progress
from neuralfields.scene import Scene
from neuralfields.training import Background, Training
from neuralfields.volume import finish, render_sums

BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}
# Pixels of all held-out views together that a look during training takes: an estimate, the end measures them all.
LOOK_PIXELS = 1 << 16
SLOWER = 8  # times fewer for fields without a fused path
TARGETS = 10  # photos that a field may choose its settings by


def fit_photos(scene: Scene, options: FitOptions, config: Any, progress: Progress, device: torch.device) -> Model:
    """Fits a field of that Config to the scene's training photos and measures it on the others.

    Raises InputError for pixels that cannot be used, InterruptedFit after SIGINT or SIGTERM (checkpoint written).
    """
    loaded = load_frames(scene, scene.train, options.downscale)
    held_out = load_frames(scene, scene.test, _factor(scene, loaded)) if scene.test else None
    for line in loaded.warnings:
        progress.note(line)
    training = start(scene, options, config, loaded, device)
    pixels = _look_pixels(held_out)
    look = None if pixels is None else Look(training, pixels.to(device))
    loop = Loop(training, Budget.of(options), options, progress, look)
    with watched(scene, options, loop, lambda: _model(scene, options, training, loop, loaded, held_out)):
        run_loop(loop, options, description(options, config, "photos", _photos_hash(scene, loaded)))
    return _model(scene, options, training, loop, loaded, held_out)


def start(scene: Scene, options: FitOptions, config: Any, loaded: LoadedFrames, device: torch.device) -> Training:
    """A fit before its first step: new field, pixels, an occupancy that hides what no photo sees."""
    field = make_field(field_class(options.field), config, RADIANCE, options.seed, _targets(loaded))
    pixels = Pixels(loaded.images, loaded.cameras, loaded.masks)
    if not len(pixels):
        raise InputError(f"{scene.root}: the masks leave no pixel to train on; check their polarity (black is ignored)")
    background = choose_background(scene, options)
    training = Training(field.to(device), scene.bounds, pixels.to(device), background, options.seed)
    training.occupancy.hide_unseen(loaded.cameras, scene.bounds.centre, scene.bounds.side)
    training.occupancy.to(device)
    return training


def _targets(loaded: LoadedFrames) -> list[torch.Tensor]:
    """Some photos, evenly over the capture, as a field's `tuned` takes them: over grey where they have alpha."""
    chosen = loaded.images[:: max(1, len(loaded.images) // TARGETS)][:TARGETS]
    pictures = [torch.from_numpy(image).to(torch.float32) / 255 for image in chosen]
    return [p[..., :3] if p.shape[2] == 3 else p[..., :3] * p[..., 3:] + 0.5 * (1 - p[..., 3:]) for p in pictures]


def choose_background(scene: Scene, options: FitOptions) -> Background:
    """Random colours behind the scene in training, unless one is asked for: a ray must become opaque to be right.

    Pictures are then measured over white where photos have alpha, and over black where they have not.
    """
    colour = BACKGROUNDS.get(options.background, (1.0, 1.0, 1.0) if scene.has_alpha else (0.0, 0.0, 0.0))
    return Background(colour, options.background in ("auto", "random"))


def _factor(scene: Scene, loaded: LoadedFrames) -> int:
    """The factor by which the training photos were made smaller, so that the others are made smaller alike."""
    return max(1, round(scene.frames[loaded.indices[0]].camera.width / loaded.cameras[0].width))


def _photos_hash(scene: Scene, loaded: LoadedFrames) -> str:
    pixels = hashlib.sha256()
    pixels.update(repr(scene.bounds).encode())
    for image, camera, mask in zip(loaded.images, loaded.cameras, loaded.masks, strict=True):
        pixels.update(repr((image.shape, camera)).encode() + camera.world_from_camera.tobytes())
        pixels.update(np.ascontiguousarray(image))
        pixels.update(b"" if mask is None else np.packbits(mask).tobytes())
    return pixels.hexdigest()


def _look_pixels(held_out: LoadedFrames | None) -> Pixels | None:
    if held_out is None or not held_out.images:
        return None
    pixels = Pixels(held_out.images, held_out.cameras, held_out.masks)
    return pixels if len(pixels) else None


class Look:
    """A quick look at the held-out views: some fixed pixels of each."""

    def __init__(self, training: Training, pixels: Pixels) -> None:
        self.training, self.pixels = training, pixels

    @torch.no_grad()
    def __call__(self) -> float:
        """Mean over the held-out views of the PSNR of their pixels."""
        fused = self.training.field.fused() is not None
        batch = self.pixels.every(LOOK_PIXELS if fused else LOOK_PIXELS // SLOWER)
        colour = torch.tensor(self.training.background.colour, device=self.training.device)
        render = finish(render_sums(self.training.volume, batch.rays), colour, 1.0)
        rounded = (render.rgb.clamp(0, 1) * 255).round() / 255
        error = (rounded - batch.over(colour)).square().mean(1)
        count = torch.bincount(batch.camera)
        views = (torch.bincount(batch.camera, weights=error)[count > 0] / count[count > 0]).tolist()
        return sum(psnr_from_mse(view) for view in views) / len(views)


def _model(
    scene: Scene,
    options: FitOptions,
    training: Training,
    loop: Loop,
    loaded: LoadedFrames,
    held_out: LoadedFrames | None,
) -> Model:
    metrics: dict[str, Any] = rate(loop)
    if loop.look:
        metrics |= mean_psnr(training, held_out)
    others = held_out.cameras if held_out else []
    indices = loaded.indices + (held_out.indices if held_out else [])
    made = record(options, training, loop) | {"scene_kind": scene.kind, "downscale": _factor(scene, loaded)}
    return Model(
        field=training.field,
        bounds=scene.bounds,
        occupancy=training.occupancy.bits,
        cameras=(*loaded.cameras, *others),
        held_out=tuple(range(len(loaded.cameras), len(loaded.cameras) + len(others))),
        camera_names=tuple(scene.frames[i].name for i in indices),
        background=training.background.colour,
        made=made,
        metrics=metrics,
        lineage=[],
    )


def mean_psnr(training: Training, held_out: LoadedFrames) -> dict[str, float]:
    """Mean over the held-out views of each view's PSNR: the figure that `nf eval` gives too."""
    from neuralfields.evaluate import measure

    views = zip(held_out.images, held_out.cameras, held_out.masks, strict=True)
    colour = training.background.colour
    scores = [
        measure(training.volume, image, camera, colour, mask, structure=False).psnr
        for image, camera, mask in views
        if mask is None or mask.any()
    ]
    return {"psnr": sum(scores) / len(scores)} if scores else {}
