"""Whether anything moves in a capture whose frames have times: two quick fits of Gaussians, with and without them.

  every eighth photo in the order of time is left out -> a fit that stands still, and one that moves -> both of the rest
  mean squared errors of both in blocks of the photos left out: nothing moves where the still one is clearly better, and
  nowhere far worse

A scene that stands still and is fitted as one that moves loses decibels: what could have been seen from all photos is
learned from those of about one time (benchmarks/still_in_time.md).
"""

import time
from dataclasses import replace

import torch
from torch import Tensor

from neuralfields.captures.images import LoadedFrames, load_frames
from neuralfields.evaluation.evaluate import photo_over
from neuralfields.fields import field_class
from neuralfields.progress import Progress
from neuralfields.scene import Scene
from neuralfields.splatting.in_time import MOVING, from_photos_in_time
from neuralfields.splatting.photos import training_photos
from neuralfields.trainers.moving_splats import MovingSplatTrainer, trainer_of
from neuralfields.trainers.radiance import Background
from neuralfields.training.loop import Budget
from neuralfields.training.photos import choose_background, framed, prepare_scene
from neuralfields.training.plan import FitPlan

# Of a quick fit; LONGEST: side of a photo, in pixels. With 6,000 Gaussians or every second photo what moves is learned
# too badly to be told from what does not.
STEPS, GAUSSIANS, LONGEST, PHOTOS = 300, 10_000, 160, 240
LEFT_OUT, FEWEST = 8, 16  # one of so many photos is left out; with fewer photos it is not tried
SHORTEST_FIT = Budget(1000, 120.0)  # shorter fits are not worth it
# Nothing moves if the still fit's mean squared error is under 0.9 of the other's, and little speaks against it: blocks
# with over three times the other's error, which is seen (a tenth of the range), are few, and under half of those for
# which the reverse holds. Something small may move in them.
BETTER, BLOCK, TIMES, SEEN, FEW = 0.9, 8, 3.0, 0.01, 0.01


def settled(plan: FitPlan, progress: Progress) -> FitPlan:
    """The plan as given, or, where photos have times but nothing moves, that of a scene that stands still.

    The time this takes is taken from the plan's. Not asked of short fits, nor with --still or --moving.
    """
    options, scene, budget = plan.options, plan.source, plan.budget
    short = budget.shorter_than(SHORTEST_FIT)
    if not isinstance(scene, Scene) or scene.bounds.times is None or options.moving or short:
        return plan
    if field_class(options.field).PHOTOS:
        return plan  # colours from the photos of an instant take those of few cameras
    lenses = [scene.frames[index].camera for index in scene.train]
    if len(lenses) < FEWEST or any(lens.model != "perspective" for lens in lenses):
        return plan  # Gaussians take no fisheye
    begin = time.perf_counter()
    if nothing_moves(scene, plan):
        progress.note("nothing moves, so it is fitted as a scene that stands still; --moving fits it as one that moves")
        plan = replace(plan, source=scene.still(), options=replace(options, still=True))
    if budget.seconds is not None:
        budget = replace(budget, seconds=max(1.0, budget.seconds - (time.perf_counter() - begin)))
    return replace(plan, budget=budget)


def nothing_moves(scene: Scene, plan: FitPlan) -> bool:
    """Whether photos left out are drawn as well by a fit that stands still as by one that moves."""
    options = plan.options
    scene = prepare_scene(scene, options)
    in_order = sorted(scene.train, key=lambda index: scene.frames[index].camera.time)
    every = max(1, -(-len(in_order) // PHOTOS))
    chosen = tuple(in_order[::every])
    side = max(max(scene.frames[index].camera.width, scene.frames[index].camera.height) for index in chosen)
    loaded = load_frames(scene, chosen, max(options.downscale or 1, -(-side // LONGEST)))
    scene, _ = framed(scene, loaded, options)
    background = choose_background(scene, options)
    places = range(len(loaded.images))
    left_out = loaded.some([place for place in places if place % LEFT_OUT == LEFT_OUT // 2])
    rest = loaded.some([place for place in places if place % LEFT_OUT != LEFT_OUT // 2])
    still, moving = (_errors(each, rest, left_out, background, plan) for each in (scene.still(), scene))
    against, by = (
        float(((one > TIMES * other) & (one > SEEN)).float().mean())
        for one, other in ((still, moving), (moving, still))
    )
    return bool(still.mean() < BETTER * moving.mean()) and against < FEW and 2 * against <= by


def _errors(scene: Scene, rest: LoadedFrames, left_out: LoadedFrames, background: Background, plan: FitPlan) -> Tensor:
    """Mean squared errors of all blocks of the photos left out, after a quick fit to the rest."""
    moves = scene.bounds.times is not None
    timed = [replace(camera, time=camera.time if moves else None) for camera in rest.cameras]
    photos, given = training_photos(replace(rest, cameras=timed), scene.bounds, False)
    generator = torch.Generator().manual_seed(plan.options.seed)
    gaussians = from_photos_in_time(given, 1, GAUSSIANS // 2, generator, MOVING if moves else 0.0)
    if not moves:
        gaussians = replace(gaussians, motion=None)
    photos = [photo.to(plan.device) for photo in photos]
    trainer = trainer_of(
        gaussians.to(plan.device), photos, scene.bounds, background, GAUSSIANS, plan.options.seed, None, None
    )
    if isinstance(trainer, MovingSplatTrainer):
        trainer.free = True  # what explains photos one by one is told best from what explains all of them
    for step in range(STEPS):
        trainer.advance(step / STEPS)
        trainer.step(step / STEPS)
    trainer.advance(1.0)
    colour, errors = background.colour, []
    for image, camera, mask in zip(left_out.images, left_out.cameras, left_out.masks, strict=True):
        drawn = trainer.volume.render(replace(camera, time=camera.time if moves else None), colour).rgb.cpu()
        error = (drawn - torch.from_numpy(photo_over(image, colour))).square().mean(2)
        if mask is not None:
            error *= torch.from_numpy(mask)
        blocks = torch.nn.functional.avg_pool2d(error[None], min(BLOCK, *error.shape))
        errors.append(blocks.flatten())
    return torch.cat(errors)
