"""Where a fit of Gaussians begins: at depths that photos agree on, at sparse points, on a hash field, or at random."""

import time
from typing import Any

import torch

from neuralfields.captures.images import LoadedFrames
from neuralfields.domain import RADIANCE
from neuralfields.errors import UsageError
from neuralfields.fields import field_class, make_field
from neuralfields.gaussians import Gaussians
from neuralfields.options.training import TrainingSettings
from neuralfields.scene import Scene
from neuralfields.splatting.depth_maps import depth_maps
from neuralfields.splatting.in_time import alive_for_a_while, from_photos_in_time
from neuralfields.splatting.initial import Photos, at_random, from_depth_maps, from_points, from_volume
from neuralfields.supervision.pixels import Pixels
from neuralfields.training.photos import choose_background
from neuralfields.training.plan import FitPlan
from neuralfields.training.radiance import RadianceTrainer

SWEPT = 120  # photos at most whose depth is looked for
# Share of a beginning by depth, without sparse points, that fills where photos do not agree, as far away as they do
# elsewhere: 0.5 dB on the fox after 400 steps. Anywhere along rays gains as much there, but floats before cameras of
# captures of few photos.
FILL = 0.1
FEW = 0.25  # share of the Gaussians asked for under which another beginning is tried
FEW_POINTS = 500  # sparse points below which there are too few to begin with
FIELD_SHARE, FIELD_MOST = 0.25, 15.0  # of a fit's time that a hash field may take for the beginning, and seconds
QUICK_FIELD = {"levels": 6, "table": 15, "finest": 512, "hidden": 16}
QUICK_SAMPLES, LEAST_QUICK_STEPS, QUICK_STEPS_A_SECOND = 1 << 14, 150, 60
STEPS_A_SECOND = 60  # taken for fits by steps, to give the beginning its part


def beginning(scene: Scene, plan: FitPlan, loaded: LoadedFrames, photos: Photos, most: int) -> tuple[Gaussians, str]:
    """Gaussians to begin with, and where they are from. By itself: sparse points of the capture where there are
    some and depth that photos agree on, else places along random rays.

    Raises UsageError for sparse points that are not there.
    """
    if scene.bounds.times is not None:
        return beginning_in_time(scene, plan, photos, max(1000, most // 2))
    kind, degree = plan.config.beginning, plan.config.degree
    generator = torch.Generator().manual_seed(plan.options.seed)
    first = max(1000, most // 2)
    sparse = 0 if scene.points is None else len(scene.points)
    if kind == "points" and not sparse:
        raise UsageError(f"{scene.root}: has no sparse points to begin with; leave out --set beginning=points")
    parts, places = [], []
    if kind == "points" or (kind == "auto" and sparse >= FEW_POINTS):
        parts.append(from_points(scene.points, photos, degree, first))
        places.append("at sparse points")
    if kind in ("auto", "depth"):
        some = photos.spread(SWEPT)
        wanted, fill = (first - len(parts[0]) // 2, 0.0) if parts else (round((1 - FILL) * first), FILL)
        found = from_depth_maps(
            depth_maps(some.images, some.cameras, some.bounds), some, degree, wanted, generator, fill
        )
        if parts or len(found) >= (FEW * first if kind == "auto" else 1):
            parts.append(found)
            places.append("where photos agree on the depth")
    if parts:
        return Gaussians.cat(parts), " and ".join(places)
    if kind == "field":
        seconds = plan.budget.seconds or (plan.budget.steps or 1) / STEPS_A_SECOND
        volume = _quick_field(scene, plan, loaded, min(FIELD_MOST, FIELD_SHARE * seconds))
        found = from_volume(volume, photos, degree, first, generator)
        if len(found):
            return found, "on the surfaces of a hash field"
    return at_random(photos, degree, first, generator), "at random"


def beginning_in_time(scene: Scene, plan: FitPlan, photos: Photos, count: int) -> tuple[Gaussians, str]:
    """Gaussians of a scene that moves to begin with, and where they are from.

    Raises UsageError for sparse points that are not there, and for a hash field's surfaces.
    """
    kind, degree, generator = (
        plan.config.beginning,
        plan.config.degree,
        torch.Generator().manual_seed(plan.options.seed),
    )
    sparse = 0 if scene.points is None else len(scene.points)
    if kind == "field" or (kind == "points" and not sparse):
        lacks = "moves, which has no such beginning" if kind == "field" else "has no sparse points to begin with"
        raise UsageError(f"{scene.root}: {lacks}; leave out --set beginning={kind}")
    if kind == "random":
        return alive_for_a_while(at_random(photos, degree, count, generator), photos, generator), "at random"
    if kind == "points" or (kind == "auto" and sparse >= FEW_POINTS):
        still = from_points(scene.points, photos, degree, count // 2)
        moving = from_photos_in_time(photos, degree, count - len(still), generator, moving=1.0)
        return Gaussians.cat([still, moving]), "at sparse points and where photos of a time agree"
    return from_photos_in_time(photos, degree, count, generator), "where photos of a time agree"


def _quick_field(scene: Scene, plan: FitPlan, loaded: LoadedFrames, seconds: float) -> Any:
    """A small hash field after some seconds; by a number of steps where the fit is by steps, so that it repeats."""
    kind = field_class("hash")
    field = make_field(kind, kind.Config(**QUICK_FIELD), RADIANCE, plan.options.seed, [])
    pixels = Pixels(loaded.images, loaded.cameras, loaded.masks)
    background = choose_background(scene, plan.options)
    settings = TrainingSettings(samples=QUICK_SAMPLES)
    trainer = RadianceTrainer(field, scene.bounds, pixels, background, plan.options.seed, settings=settings)
    trainer.occupancy.hide_unseen(loaded.cameras, scene.bounds.centre, scene.bounds.side)
    steps = None if plan.budget.seconds else max(LEAST_QUICK_STEPS, round(QUICK_STEPS_A_SECOND * seconds))
    begin = time.perf_counter()
    while True:
        done = trainer.step_count / steps if steps else (time.perf_counter() - begin) / seconds
        if done >= 1:
            return trainer.volume
        trainer.step(done)
