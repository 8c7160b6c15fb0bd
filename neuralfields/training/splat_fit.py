"""Fits Gaussians to the photos of a scene: scene -> photos -> beginning -> steps (splats.py) -> model."""

import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from neuralfields.captures.images import LoadedFrames, load_frames
from neuralfields.errors import UsageError
from neuralfields.evaluation.quick import mean_psnr
from neuralfields.fields.gaussians import GaussianField
from neuralfields.models.model import Model
from neuralfields.models.record import provenance, throughput
from neuralfields.motion import motionless
from neuralfields.options.fit import FitOptions
from neuralfields.progress import Progress
from neuralfields.rendering.splat import pinhole
from neuralfields.scene import Scene
from neuralfields.settings import flag
from neuralfields.splatting.initial import Photos, one_gaussian
from neuralfields.splatting.photo_gains import photo_gains
from neuralfields.splatting.photos import PhotoPyramid, copied_bytes, training_photos
from neuralfields.supervision.appearance import exposure_of
from neuralfields.supervision.pixels import Pixels
from neuralfields.supervision.pose_refinement import PoseRefinement
from neuralfields.supervision.robust import Robust
from neuralfields.trainers.moving_splats import budget_in_time, trainer_of
from neuralfields.trainers.splats import SplatTrainer, budget
from neuralfields.training.findings import with_findings
from neuralfields.training.loop import Loop, checkpoint_identity, run_with_checkpoint
from neuralfields.training.photos import (
    asked_for,
    choose_background,
    framed,
    measured,
    photos_hash,
    prepare_scene,
    scale_of,
)
from neuralfields.training.plan import GAUSSIANS_LACK, FitPlan, WatchFit, input_record
from neuralfields.training.splat_beginning import beginning

VALIDATION_PIXELS, LEAST_VALIDATED = 1 << 20, 3  # of held-out views while a fit runs, and views at least


def fit_gaussians(scene: Scene, plan: FitPlan, progress: Progress, watch: WatchFit | None = None) -> Model:
    """Fits Gaussians to the scene's training photos and measures them on the others; errors as in `fit_photos`."""
    options = plan.options
    for name in GAUSSIANS_LACK:
        if getattr(options, name):
            raise UsageError(f"{flag(name)} is not there for --field gaussians; leave it out, or fit another field")
    if options.bits == 8:
        raise UsageError("--bits 8 is not there for --field gaussians; leave it out")
    known, scene = scene.warnings, prepare_scene(scene, options)
    bent = any(pinhole(scene.frames[index].camera) is not scene.frames[index].camera for index in scene.train)
    loaded = load_frames(scene, scene.train, options.downscale, copies=copied_bytes(scene.has_alpha, bent))
    held_out = load_frames(scene, scene.test, scale_of(scene, loaded)) if scene.test else None
    scene, lines = framed(scene, loaded, options)
    for line in (*scene.warnings[len(known) :], *loaded.warnings, *lines):
        progress.note(line)
    background = choose_background(scene, options)
    begin = time.perf_counter()
    photos, given = training_photos(loaded, scene.bounds, plan.config.antialiased)
    pixels = sum(image.shape[0] * image.shape[1] for image in given.images)
    most = plan.config.most or budget(pixels, plan.budget.seconds)
    if scene.bounds.times is not None and not plan.config.most:
        most = min(most, budget_in_time(len(given.images), pixels))
    if options.resume:  # all of it is in the checkpoint
        gaussians = one_gaussian(plan.config.degree)
        if scene.bounds.times is not None:
            gaussians = replace(gaussians, motion=motionless(1, gaussians.means))
    else:
        gaussians, how = beginning(scene, plan, given, most)
        progress.note(f"{len(gaussians)} Gaussians {how}, up to {most}")
    gaussians = replace(gaussians, antialiased=plan.config.antialiased)  # as the photos' views are
    gaussians, photos = gaussians.to(plan.device), [photo.to(plan.device) for photo in photos]
    exposure = exposure_of(options, len(photos), plan.device, plan.settings)
    if exposure is not None:
        exposure.begin(photo_gains(given))
    poses = _poses(photos, given, plan) if options.refine_poses else None
    training = trainer_of(gaussians, photos, scene.bounds, background, most, options.seed, exposure, poses)
    training.timed = plan.budget.steps is None
    if options.robust:
        sizes = torch.tensor([photo.views[1].size for photo in photos], device=plan.device)
        training.robust = Robust(*sizes.unbind(1), plan.settings)
    loop = Loop(training, plan.budget, options, progress, _validation(training, held_out, background.colour))
    loop.seconds = time.perf_counter() - begin
    identity = checkpoint_identity(options, plan.config, plan.settings, {"photos": photos_hash(scene, loaded)})
    identity |= asked_for(options)

    def standing() -> Model:
        return _standing(scene, plan, training, loop, loaded, held_out)

    def model() -> Model:
        made = _measured(standing(), training, loop, loaded, held_out)
        return with_findings(made, scene, options, (made.renderable(), background.colour), (loaded, held_out))

    with nullcontext() if watch is None else watch(scene, options, loop, model):
        run_with_checkpoint(loop, options, identity, standing)
    return model()


def _poses(photos: list[PhotoPyramid], given: Photos, plan: FitPlan) -> PoseRefinement:
    images = [photo.images[1].cpu().numpy() for photo in photos]
    return PoseRefinement(Pixels(images, given.cameras).to(plan.device), given.cameras, plan.settings)


def _validation(training: SplatTrainer, held_out: LoadedFrames | None, colour: tuple[float, ...]) -> Any:
    """Mean PSNR of held-out views, of as many as are drawn soon, or None without any.

    They keep their size: Gaussians are widened by a part of a pixel, and so are others at a quarter of it (18 dB where
    whole views had 31).
    """
    from neuralfields.evaluation.evaluate import photo_over

    if held_out is None or not held_out.images:
        return None
    pixels = [camera.width * camera.height for camera in held_out.cameras]
    most = max(LEAST_VALIDATED, VALIDATION_PIXELS * len(pixels) // sum(pixels))
    chosen = np.unique(np.linspace(0, len(pixels) - 1, min(most, len(pixels))).round().astype(int))
    cameras = [held_out.cameras[index] for index in chosen]
    pictures = [torch.from_numpy(photo_over(held_out.images[index], colour)).to(training.device) for index in chosen]
    return lambda: mean_psnr(training.volume, cameras, pictures, colour)[0]


def _standing(
    scene: Scene,
    plan: FitPlan,
    training: SplatTrainer,
    loop: Loop,
    loaded: LoadedFrames,
    held_out: LoadedFrames | None,
) -> Model:
    """The model as it is now, without figures of it."""
    options: FitOptions = plan.options
    field: GaussianField = training.field
    colour, others = training.background.colour, held_out.cameras if held_out else []
    trained, cameras = loaded.cameras, loaded.cameras
    if training.poses is not None:  # their lenses stay as they were given
        poses = [training.poses.pose(index) for index in range(len(trained))]
        cameras = [replace(camera, world_from_camera=pose) for camera, pose in zip(trained, poses, strict=True)]
    indices = loaded.indices + (held_out.indices if held_out else [])
    names = tuple(scene.frames[index].name for index in indices)
    made = provenance(options.field, training.step_count, loop.seconds, options.seed) | input_record(options)
    made |= asked_for(options)
    if training.exposure is not None:
        made |= training.exposure.record(names)
    if training.robust is not None:
        made |= {"left_out": round(training.robust.share, 4)}
    return Model(
        field=field,
        bounds=scene.bounds,
        cameras=(*cameras, *others),
        held_out=tuple(range(len(cameras), len(cameras) + len(others))),
        camera_names=names,
        background=colour,
        made=made | {"scene_kind": scene.kind, "downscale": scale_of(scene, loaded)},
    )


def _measured(
    model: Model, training: SplatTrainer, loop: Loop, loaded: LoadedFrames, held_out: LoadedFrames | None
) -> Model:
    """The same with its figures; its held-out cameras may be aligned by the way."""
    metrics: dict[str, Any] = throughput(loop.samples, loop.seconds)
    if not loop.validate or held_out is None:
        return replace(model, metrics=metrics)
    loop.progress.note(f"measuring {len(held_out.images)} held-out views")
    learned = training.poses, training.exposure
    others, scores = measured(model.renderable(), training.background.colour, learned, loaded, held_out)
    return replace(model, metrics=metrics | scores, cameras=(*model.cameras[: len(loaded.cameras)], *others))
