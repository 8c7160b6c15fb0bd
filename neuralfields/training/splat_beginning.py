"""Where a fit of Gaussians begins: at depths that photos agree on, at sparse points, on a fitted surface, at random."""

import time
from dataclasses import replace

import torch

from neuralfields.captures.images import LoadedFrames
from neuralfields.errors import UsageError
from neuralfields.fields import field_class
from neuralfields.gaussians import Gaussians
from neuralfields.rendering.volume import Volume
from neuralfields.scene import Scene
from neuralfields.splatting.depth_maps import depth_maps
from neuralfields.splatting.in_time import alive_for_a_while, from_photos_in_time
from neuralfields.splatting.initial import (
    Photos,
    at_random,
    from_depth_maps,
    from_depth_maps_and_volume,
    from_points,
)
from neuralfields.training.photos import new_training
from neuralfields.training.plan import FitPlan

SWEPT = 120  # photos at most whose depth is looked for
# Share of a beginning by depth, without sparse points, that fills where photos do not agree, as far away as they do
# elsewhere: 0.5 dB on the fox after 400 steps. Anywhere along rays gains as much there, but floats before cameras of
# captures of few photos.
FILL = 0.1
FEW = 0.25  # share of the Gaussians asked for under which another beginning is tried
FEW_POINTS = 500  # sparse points below which there are too few to begin with
SURFACE = "surface"  # the field that shows surfaces
SURFACE_SHARE, SURFACE_SECONDS = 0.3, 60.0  # of a fit's time that it may take, and seconds at most
SURFACE_STEPS = 2 / 3, 300, 1500  # of a fit by steps: a share of them, at least and at most


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
    some = photos.spread(SWEPT)
    if kind == SURFACE:
        volume = _surface(scene, plan, loaded)
        maps = depth_maps(some.images, some.cameras, some.bounds)
        found = from_depth_maps_and_volume(maps, some, degree, first, generator, volume)
        if len(found):
            return found, "where photos agree on the depth, and on a fitted surface"
    if kind in ("auto", "depth"):
        wanted, fill = (first - len(parts[0]) // 2, 0.0) if parts else (round((1 - FILL) * first), FILL)
        found = from_depth_maps(
            depth_maps(some.images, some.cameras, some.bounds), some, degree, wanted, generator, fill
        )
        if parts or len(found) >= (FEW * first if kind == "auto" else 1):
            parts.append(found)
            places.append("where photos agree on the depth")
    if parts:
        return Gaussians.cat(parts), " and ".join(places)
    return at_random(photos, degree, first, generator), "at random"


def beginning_in_time(scene: Scene, plan: FitPlan, photos: Photos, count: int) -> tuple[Gaussians, str]:
    """Gaussians of a scene that moves to begin with, and where they are from.

    Raises UsageError for sparse points that are not there, and for a fitted surface.
    """
    kind, degree, generator = (
        plan.config.beginning,
        plan.config.degree,
        torch.Generator().manual_seed(plan.options.seed),
    )
    sparse = 0 if scene.points is None else len(scene.points)
    if kind == SURFACE or (kind == "points" and not sparse):
        lacks = "moves, which has no such beginning" if kind == SURFACE else "has no sparse points to begin with"
        raise UsageError(f"{scene.root}: {lacks}; leave out --set beginning={kind}")
    if kind == "random":
        return alive_for_a_while(at_random(photos, degree, count, generator), photos, generator), "at random"
    if kind == "points" or (kind == "auto" and sparse >= FEW_POINTS):
        still = from_points(scene.points, photos, degree, count // 2)
        moving = from_photos_in_time(photos, degree, count - len(still), generator, moving=1.0)
        return Gaussians.cat([still, moving]), "at sparse points and where photos of a time agree"
    return from_photos_in_time(photos, degree, count, generator), "where photos of a time agree"


def _surface(scene: Scene, plan: FitPlan, loaded: LoadedFrames) -> Volume:
    """A surface field after a part of the fit; by a number of steps where the fit is by steps, so that it repeats."""
    config = field_class(SURFACE).Config()
    trainer = new_training(scene, replace(plan, options=replace(plan.options, field=SURFACE), config=config), loaded)
    share, least, most = SURFACE_STEPS
    steps = min(max(least, round(share * (plan.budget.steps or 0))), most)
    seconds = min(SURFACE_SECONDS, SURFACE_SHARE * (plan.budget.seconds or 0))
    begin = time.perf_counter()
    while True:
        done = (time.perf_counter() - begin) / seconds if seconds else trainer.step_count / steps
        if done >= 1:
            return trainer.volume
        trainer.step(done)
