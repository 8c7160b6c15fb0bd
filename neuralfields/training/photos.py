"""Fits a radiance field to the photos of a scene: scene -> pixels -> steps (trainers/radiance.py) -> model."""

import hashlib
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from neuralfields.cameras import Camera
from neuralfields.captures.images import LoadedFrames, load_frames
from neuralfields.captures.mask_folder import cut_by_masks, polarity_doubt, with_masks
from neuralfields.captures.readers import boxed, silhouettes
from neuralfields.captures.sightings import with_sightings
from neuralfields.errors import InputError
from neuralfields.evaluation.evaluate import measure
from neuralfields.evaluation.held_out import align_cameras, transfer_cameras
from neuralfields.evaluation.quick import PhotoValidation
from neuralfields.fields import field_class, field_name, make_field
from neuralfields.fields.field import Field
from neuralfields.models.model import BACKGROUNDS, Model
from neuralfields.models.record import provenance, throughput
from neuralfields.options.fit import FitOptions
from neuralfields.options.training import TrainingSettings
from neuralfields.pictures.background import over
from neuralfields.progress import Progress
from neuralfields.rendering.renderable import Colour, Renderable
from neuralfields.scene import Scene
from neuralfields.splatting.photo_gains import photo_gains
from neuralfields.splatting.photos import plain_photos, source_photos
from neuralfields.splatting.swept_depth import SweptDepth
from neuralfields.supervision.adjustments import Adjustments
from neuralfields.supervision.appearance import exposure_of
from neuralfields.supervision.depth_maps import MapRays, depth_map_rays
from neuralfields.supervision.exposure import Exposure, Learned
from neuralfields.supervision.pixels import Pixels
from neuralfields.supervision.pose_refinement import PoseRefinement
from neuralfields.supervision.robust import Robust
from neuralfields.supervision.sparse_depth import DepthRays, SparseDepth
from neuralfields.trainers.radiance import Background, RadianceTrainer
from neuralfields.trainers.taught import TaughtTrainer
from neuralfields.training.field_beginning import swept_beginning
from neuralfields.training.findings import with_findings
from neuralfields.training.loop import Loop, checkpoint_identity, run_with_checkpoint
from neuralfields.training.plan import FitPlan, WatchFit, input_record
from neuralfields.training.teaching import TAUGHT_BY, teacher_of

TARGETS = 10  # photos by which a field may choose hyper-parameters (`Field.tuned`)


def fit_photos(scene: Scene, plan: FitPlan, progress: Progress, watch: WatchFit | None = None) -> Model:
    """Fits a field to the scene's training photos and evaluates it on the held-out ones; `watch`: see `WatchFit`.

    Raises InputError for pixels that cannot be used, InterruptedFit after SIGINT or SIGTERM (checkpoint written).
    """
    options, settings = plan.options, plan.settings
    known, scene = scene.warnings, prepare_scene(scene, options)
    loaded = load_frames(scene, scene.train, options.downscale)
    held_out = load_frames(scene, scene.test, scale_of(scene, loaded)) if scene.test else None
    scene, lines = framed(scene, loaded, options)
    for line in (*scene.warnings[len(known) :], *loaded.warnings, *lines):
        progress.note(line)
    maps = _depth_maps(scene, options, loaded, progress)
    swept, plan = swept_beginning(scene, plan, loaded, maps is not None, progress)
    training = new_training(scene, plan, loaded, None if maps is None else maps.rays, swept)
    if isinstance(training, TaughtTrainer) and not options.resume:
        progress.note(training.line)
    pixels, validate = _validation_pixels(held_out), None
    if pixels is not None:
        aligned = held_out.cameras if training.adjustments.poses is not None else ()
        colour = training.background.colour
        validate = PhotoValidation(training, pixels.to(plan.device), colour, settings.validation_pixels, aligned)
    loop = Loop(training, plan.budget, options, progress, validate)
    identity = checkpoint_identity(options, plan.config, settings, {"photos": photos_hash(scene, loaded)})

    identity |= asked_for(options) | ({"depth": f"{options.depth_weight:g} {maps.digest}"} if maps else {})

    def standing() -> Model:
        return _standing(scene, options, training, loop, loaded, held_out)

    def model() -> Model:
        made, volume = _measured(standing(), training, loop, loaded, held_out), training.finished
        rendered, photos = (volume, training.background.colour), (loaded, held_out)
        return with_findings(made, scene, options, rendered, photos, training.remarks())

    with nullcontext() if watch is None else watch(scene, options, loop, model):
        run_with_checkpoint(loop, options, identity, standing)
    return model()


def _depth_maps(scene: Scene, options: FitOptions, loaded: LoadedFrames, progress: Progress) -> MapRays | None:
    """Depth maps that the capture names, with the loss's weight; None without any that can be used.

    Sparse points that are asked for take their place.
    """
    if options.sparse_depth or options.depth_weight == 0:
        return None
    maps = depth_map_rays(scene, loaded)
    if maps is not None:
        progress.note(maps.line)
    if maps is None or maps.rays is None:
        return None
    maps.rays.share = options.depth_weight
    return maps


def new_training(
    scene: Scene,
    plan: FitPlan,
    loaded: LoadedFrames,
    depth: DepthRays | None = None,
    swept: SweptDepth | None = None,
) -> RadianceTrainer:
    """Makes a trainer before its first step: new field, pixels, occupancy grid without cells that no camera sees.

    `depth`: rays of known depth; `swept`: those that the photos agree on, in place of them.
    """
    depth = depth if swept is None else swept.rays
    options, device = plan.options, plan.device
    teacher = teacher_of(plan, scene.bounds.domain)
    field = _new_field(plan, scene, loaded, teacher)
    pixels = Pixels(loaded.images, loaded.cameras, loaded.masks)
    if not len(pixels):
        raise InputError(f"{scene.root}: the masks leave no pixel to train on; check their polarity (black is ignored)")
    background, pixels = choose_background(scene, options), pixels.to(device)
    adjustments = _adjustments(scene, plan, loaded, pixels)
    if depth is not None:
        adjustments = replace(adjustments, depth=depth.to(device))
    training = RadianceTrainer(field, scene.bounds, pixels, background, options.seed, adjustments, plan.settings)
    training.occupancy.hide_unseen(loaded.cameras, scene.bounds.centre, scene.bounds.side)
    training.occupancy.hide_background(silhouettes(loaded, None), scene.bounds.centre, scene.bounds.side)
    if swept is not None:
        training.occupancy.hold_empty(swept.free)
    training.occupancy.to(device)
    if teacher is None:
        return training
    return TaughtTrainer(_new_field(plan, scene, loaded, None, True), training, loaded.cameras, options.seed)


def _new_field(plan: FitPlan, scene: Scene, loaded: LoadedFrames, teacher: str | None, taught: bool = False) -> Field:
    """The plan's field, or its teacher by that name with the usual settings; `taught`: see `Field.tuned`."""
    kind = field_class(teacher or plan.options.field)
    config = kind.placed(plan.config if teacher is None else kind.Config(), scene.bounds)
    field = make_field(kind, config, scene.bounds.domain, plan.options.seed, _targets(loaded), taught)
    if kind.PHOTOS:
        field.looking_at(*source_photos(loaded), scene.bounds, plan.options.seed)
    return field.to(plan.device)


def prepare_scene(scene: Scene, options: FitOptions) -> Scene:
    """Adds to the scene the masks and the sightings of sparse points that are asked for."""
    if options.masks is not None and options.mask_means is not None:
        scene = with_masks(scene, options.masks, options.mask_means)
    elif options.mask_means == "keep":
        scene = cut_by_masks(scene)
    return with_sightings(scene) if options.sparse_depth else scene


def framed(scene: Scene, loaded: LoadedFrames, options: FitOptions) -> tuple[Scene, list[str]]:
    """The scene with the box and the backdrop that its photos show, and what there is to say of them and its masks."""
    before, scene, lines = scene, boxed(scene, loaded, options.box), []
    if scene.bounds != before.bounds:
        centre = ", ".join(f"{c + o:.4g}" for c, o in zip(scene.bounds.centre, scene.bounds.origin, strict=True))
        lines.append(f"box: side {scene.bounds.side:.4g} about ({centre}), by {scene.because}")
    if scene.backdrop is not None and options.background == "auto":
        red, green, blue = (round(255 * value) for value in scene.backdrop)
        lines.append(
            f"background: ({red}, {green}, {blue}), the one colour of the photos' borders; --background sets it"
        )
    if options.mask_means is not None:
        masks = [
            image[..., 3] >= 128 if scene.frames[index].mask_cuts else mask
            for image, mask, index in zip(loaded.images, loaded.masks, loaded.indices, strict=True)
        ]
        doubt = polarity_doubt(masks, options.mask_means)
        lines += [] if doubt is None else [doubt]
    return scene, lines


def _adjustments(scene: Scene, plan: FitPlan, loaded: LoadedFrames, pixels: Pixels) -> Adjustments:
    depth, options, settings = None, plan.options, plan.settings
    device = pixels.values.device
    if options.sparse_depth:
        sightings = [scene.frames[index].sightings for index in loaded.indices]
        depth = SparseDepth(sightings, scene.points, loaded.cameras).to(pixels.values.device)
        if not len(depth):
            raise InputError(f"{scene.root}: no training photo sees a sparse point; fit without --sparse-depth")
    return Adjustments(
        poses=PoseRefinement(pixels, loaded.cameras, settings) if options.refine_poses else None,
        exposure=_exposure(scene, loaded, options, device, settings),
        robust=Robust(pixels.widths, pixels.heights, settings) if options.robust else None,
        depth=depth,
    )


def _exposure(
    scene: Scene, loaded: LoadedFrames, options: FitOptions, device: torch.device | str, settings: TrainingSettings
) -> Exposure | None:
    """Exposures that begin as photos of the same points differ; at 0 for fisheye lenses, which are not swept."""
    made = exposure_of(options, len(loaded.images), device, settings)
    if made is not None and all(camera.model == "perspective" for camera in loaded.cameras):
        made.begin(photo_gains(plain_photos(loaded, scene.bounds)), 1 / len(loaded.images))
    return made


def _targets(loaded: LoadedFrames) -> list[torch.Tensor]:
    """Some photos, evenly spaced over the capture, for `Field.tuned`: over grey where they have alpha."""
    chosen = loaded.images[:: max(1, len(loaded.images) // TARGETS)][:TARGETS]
    pictures = [torch.from_numpy(image).to(torch.float32) / 255 for image in chosen]
    grey = torch.full((3,), 0.5)
    return [p if p.shape[2] == 3 else over(p[..., :3], p[..., 3], grey) for p in pictures]


def choose_background(scene: Scene, options: FitOptions) -> Background:
    """Chooses the background. Default: random colours in training, so that a ray must become opaque to match.

    Renders are then evaluated over white where photos have alpha, and over black where they have not. Of opaque photos
    before a plain backdrop it is the backdrop's colour: random ones would make it something opaque before the cameras.
    """
    colour = BACKGROUNDS.get(options.background, (1.0, 1.0, 1.0) if scene.has_alpha else (0.0, 0.0, 0.0))
    if options.background == "auto" and scene.backdrop is not None:
        return Background(scene.backdrop, False)
    return Background(colour, options.background in ("auto", "random"))


def scale_of(scene: Scene, loaded: LoadedFrames) -> int:
    """Downscale factor of the training photos, which held-out photos share."""
    return max(1, round(scene.frames[loaded.indices[0]].camera.width / loaded.cameras[0].width))


def photos_hash(scene: Scene, loaded: LoadedFrames) -> str:
    """A hash of all that a fit sees of a scene."""
    pixels = hashlib.sha256()
    pixels.update(repr(scene.bounds).encode())
    for image, camera, mask in zip(loaded.images, loaded.cameras, loaded.masks, strict=True):
        pixels.update(repr((image.shape, camera)).encode() + camera.world_from_camera.tobytes())
        pixels.update(np.ascontiguousarray(image))
        pixels.update(b"" if mask is None else np.packbits(mask).tobytes())
    return pixels.hexdigest()


def asked_for(options: FitOptions) -> dict[str, Any]:
    """Names of the optional supervision that is on."""
    names = ("refine_poses", "exposure", "appearance", "robust", "sparse_depth")
    return {name: True for name in names if getattr(options, name)}


def _validation_pixels(held_out: LoadedFrames | None) -> Pixels | None:
    if held_out is None or not held_out.images:
        return None
    pixels = Pixels(held_out.images, held_out.cameras, held_out.masks)
    return pixels if len(pixels) else None


def _standing(
    scene: Scene,
    options: FitOptions,
    training: RadianceTrainer,
    loop: Loop,
    loaded: LoadedFrames,
    held_out: LoadedFrames | None,
) -> Model:
    """The model as it is now, without figures of it."""
    cameras, others = loaded.cameras, held_out.cameras if held_out else []
    if training.adjustments.poses is not None:
        cameras = training.adjustments.poses.refined()
        others = transfer_cameras(others, loaded.cameras, cameras) if others else []
    indices = loaded.indices + (held_out.indices if held_out else [])
    names, field = tuple(scene.frames[i].name for i in indices), training.volume.field
    made = (
        provenance(field_name(field), training.step_count, loop.seconds, options.seed)
        | input_record(options)
        | {"scene_kind": scene.kind, "downscale": scale_of(scene, loaded)}
    )
    return Model(
        field=field,
        bounds=scene.bounds,
        occupancy=training.occupied(),
        cameras=(*cameras, *others),
        held_out=tuple(range(len(cameras), len(cameras) + len(others))),
        camera_names=names,
        background=training.background.colour,
        made=made | asked_for(options) | _learned_record(training, options, names),
    )


def _measured(
    model: Model, training: RadianceTrainer, loop: Loop, loaded: LoadedFrames, held_out: LoadedFrames | None
) -> Model:
    """The same with its figures; its held-out cameras may be aligned by the way."""
    metrics: dict[str, Any] = throughput(loop.samples, loop.seconds)
    if not loop.validate or held_out is None:
        return replace(model, metrics=metrics)
    loop.progress.note(f"measuring {len(held_out.images)} held-out views")
    adjust, colour = training.adjustments, training.background.colour
    others, scores = measured(training.finished, colour, (adjust.poses, adjust.exposure), loaded, held_out)
    return replace(model, metrics=metrics | scores, cameras=(*model.cameras[: len(loaded.cameras)], *others))


def _learned_record(training: RadianceTrainer, options: FitOptions, names: tuple[str, ...]) -> dict[str, Any]:
    """Results of the optional supervision, for the model's record."""
    adjust, found = training.adjustments, {}
    if isinstance(training, TaughtTrainer) and training.volume.field is training.field:
        found |= {TAUGHT_BY: training.taught_by}
    if options.masks is not None:
        found |= {"masks": str(options.masks.resolve())}
    if options.mask_means is not None:
        found |= {"mask_means": options.mask_means}
    if adjust.exposure is not None:
        found |= adjust.exposure.record(names)
    if adjust.robust is not None:
        found["left_out"] = round(adjust.robust.share, 4)
    return found


def measured(
    scene: Renderable,
    colour: Colour,
    learned: tuple[PoseRefinement | None, Exposure | None],
    loaded: LoadedFrames,
    held_out: LoadedFrames,
) -> tuple[list[Camera], dict[str, float]]:
    """Evaluates the held-out views: their cameras, and the mean of each view's PSNR, as `nf eval` gives it.

    Where poses are refined or exposure is learned, `psnr_given` is that by the given cameras and exposure.
    """
    (poses, exposure), cameras = learned, held_out.cameras
    if poses is not None:
        cameras = transfer_cameras(cameras, loaded.cameras, poses.refined())

    def mean(of: list[Camera], exposed: Learned) -> float | None:
        scores = [
            measure(scene, image, camera, colour, mask, structure=False, exposed=exposed).psnr
            for image, camera, mask in zip(held_out.images, of, held_out.masks, strict=True)
            if mask is None or mask.any()
        ]
        return sum(scores) / len(scores) if scores else None

    given = None
    if poses is not None or exposure is not None:
        given = mean(cameras, "")
        cameras = cameras if poses is None else align_cameras(scene, held_out, cameras, colour)
    scores = {"psnr": mean(cameras, "" if exposure is None else exposure.learned), "psnr_given": given}
    return cameras, {name: score for name, score in scores.items() if score is not None}
