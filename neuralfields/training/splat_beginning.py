"""Where a fit of Gaussians begins: at depths that photos agree on, at sparse points, or at random."""

import torch

from neuralfields.errors import UsageError
from neuralfields.gaussians import Gaussians
from neuralfields.scene import Scene
from neuralfields.splatting.depth_maps import depth_maps
from neuralfields.splatting.in_time import alive_for_a_while, from_photos_in_time
from neuralfields.splatting.initial import Photos, at_random, from_depth_maps, from_points
from neuralfields.training.plan import FitPlan

SWEPT = 120  # photos at most whose depth is looked for
# Share of a beginning by depth that fills where photos do not agree, as far away as what is beside it. Anywhere along
# rays gains as much in some captures, but floats before cameras of those of few photos.
FILL = 0.25
FEW = 0.25  # share of the Gaussians asked for under which another beginning is tried
NO_POINTS = "{}: has no sparse points to begin with; leave out --set beginning=points"
FEW_POINTS = 500  # sparse points below which there are too few to begin with


def beginning(scene: Scene, plan: FitPlan, photos: Photos, most: int) -> tuple[Gaussians, str]:
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
        raise UsageError(NO_POINTS.format(scene.root))
    parts, places = [], []
    if kind == "points" or (kind == "auto" and sparse >= FEW_POINTS):
        parts.append(from_points(scene.points, photos, degree, first))
        places.append("at sparse points")
    if kind in ("auto", "depth"):
        some = photos.spread(SWEPT)
        wanted = first - len(parts[0]) // 2 if parts else round((1 - FILL) * first)
        found = from_depth_maps(
            depth_maps(some.images, some.cameras, some.bounds), some, degree, wanted, generator, FILL
        )
        if parts or len(found) >= (FEW * first if kind == "auto" else 1):
            parts.append(found)
            places.append("where photos agree on the depth")
    if parts:
        return Gaussians.cat(parts), " and ".join(places)
    return at_random(photos, degree, first, generator), "at random"


def beginning_in_time(scene: Scene, plan: FitPlan, photos: Photos, count: int) -> tuple[Gaussians, str]:
    """Gaussians of a scene that moves to begin with, and where they are from.

    Raises UsageError for sparse points that are not there.
    """
    kind, degree = plan.config.beginning, plan.config.degree
    generator = torch.Generator().manual_seed(plan.options.seed)
    sparse = 0 if scene.points is None else len(scene.points)
    if kind == "points" and not sparse:
        raise UsageError(NO_POINTS.format(scene.root))
    if kind == "random":
        return alive_for_a_while(at_random(photos, degree, count, generator), photos, generator), "at random"
    if kind == "points" or (kind == "auto" and sparse >= FEW_POINTS):
        still = from_points(scene.points, photos, degree, count // 2)
        moving = from_photos_in_time(photos, degree, count - len(still), generator, moving=1.0)
        return Gaussians.cat([still, moving]), "at sparse points and where photos of a time agree"
    return from_photos_in_time(photos, degree, count, generator), "where photos of a time agree"
