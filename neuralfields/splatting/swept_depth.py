"""Depth that photos tell themselves: a plane sweep's depths that other photos confirm (splatting/depth_maps.py).

Two things follow for a field that is fitted to photos, while it still is fog:
  rays    through pixels of known depth, whose expected depth should be that (the loss of sparse points), less and less
  free    bricks of the occupancy grid that such rays pass and hardly one ends in: they are empty at first
Later the photos alone decide: what no photo confirms, as a wire before a wall, may grow in what was free.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from neuralfields.captures.images import LoadedFrames
from neuralfields.ops.occupancy_bits import BRICKS
from neuralfields.ops.pixel_rays import camera_table, pixel_rays
from neuralfields.scene import Bounds
from neuralfields.splatting.depth_maps import CONFIRMED, DepthMap, depth_maps
from neuralfields.splatting.initial import evenly
from neuralfields.splatting.photos import plain_photos
from neuralfields.supervision.depth_maps import rays_through
from neuralfields.supervision.sparse_depth import DepthRays

SWEPT, PIXELS = 120, 4096  # photos at most that are swept, and pixels of each, drawn once
# Shares of a fit at which the loss has faded to 0, and at which free bricks may be filled.
UNTIL, FREE_UNTIL = 0.25, 0.5
FEWEST = 1000  # pixels of known depth, with fewer of which nothing is learned from them
# A brick is free if so many rays pass it, and few end there: places along each, and how far from its end it counts as
# passing (shares of its length, and bricks) and as ending.
PASSED, ENDING, PLACES, MOST_RAYS = 3, 0.05, 48, 40_000
SHORT, SHORT_BRICKS = 0.05, 1.0
ABOUT_ENDS, ABOUT_BRICKS = (-0.08, -0.04, 0.0, 0.04, 0.08), (-0.7, 0.0, 0.7)


@dataclass(frozen=True)
class SweptDepth:
    """Rays of known depth, of the swept photos' cameras, and the bricks [cascades, 32768] that they show to be free."""

    rays: DepthRays
    free: Bool[Tensor, "cascades 32768"]
    line: str


def swept_depth(loaded: LoadedFrames, bounds: Bounds, weight: float) -> SweptDepth | None:
    """Sweeps the photos of a scene that stands still; None where they confirm too little.

    `weight` of the loss at first, beside the photos'. Cameras must be perspective ones.
    """
    some, parts = plain_photos(loaded.some(evenly(len(loaded.images), SWEPT)), bounds), []
    for index, found in enumerate(depth_maps(some.images, some.cameras, bounds)):
        known = _known(found, some.inside[index], index)
        scale = float(found.times), float(found.times)
        parts.append(rays_through(index, known, found.depth, scale, some.cameras[index]))
    if sum(len(part[0]) for part in parts) < FEWEST:
        return None
    camera, pixel, distance = (torch.cat(part) for part in zip(*parts, strict=True))
    rays = DepthRays(camera, pixel, distance, torch.ones(len(camera)), camera_table(some.cameras))
    rays.share, rays.until = weight, UNTIL
    free = free_bricks(rays, bounds)
    line = f"photos agree on the depth of {len(camera)} pixels, which the field begins with"
    return SweptDepth(rays, free, line)


def _known(found: DepthMap, inside: Tensor | None, seed: int) -> Tensor:
    """Rows and columns [K, 2] of some pixels of a map that are confirmed and show the scene."""
    sure = found.votes >= CONFIRMED
    if inside is not None:
        height, width = sure.shape
        middle = found.times // 2
        shown = inside[middle :: found.times, middle :: found.times][:height, :width]
        sure[: shown.shape[0], : shown.shape[1]] &= shown
    known = sure.nonzero()
    return known[torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))[:PIXELS]]


def free_bricks(rays: DepthRays, bounds: Bounds) -> Bool[Tensor, "cascades 32768"]:
    """Bricks of each cascade that rays of known depth pass and hardly one ends in."""
    generator = torch.Generator().manual_seed(0)
    some = torch.randperm(len(rays), generator=generator)[:MOST_RAYS]
    origin, direction = pixel_rays(rays.cameras, rays.camera[some], rays.pixel[some])
    distance, free = rays.distance[some], []
    for cascade in range(bounds.cascades):
        side = bounds.side * 2.0**cascade
        brick = side / BRICKS
        passed, ends = torch.zeros(2, BRICKS**3, dtype=torch.int64)
        reach = distance * (1 - SHORT) - SHORT_BRICKS * brick
        for place in range(PLACES):
            t = distance * ((place + torch.rand(len(origin), generator=generator)) / PLACES)
            x = origin + direction * torch.minimum(t, reach)[:, None]
            passed += _counts(x[reach > 0], bounds, side)
        for share in ABOUT_ENDS:
            for bricks in ABOUT_BRICKS:
                t = distance * (1 + share) + bricks * brick
                ends += _counts(origin + direction * t[:, None], bounds, side)
        free.append((passed >= PASSED) & (ends < ENDING * passed))
    return torch.stack(free)


def _counts(x: Tensor, bounds: Bounds, side: float) -> Tensor:
    """How many of points [N, 3] lie in each brick of a cascade, [32768]."""
    u = (x - torch.tensor(bounds.centre, dtype=x.dtype)) / side + 0.5
    i = (u[((u >= 0) & (u < 1)).all(1)] * BRICKS).long().clamp(max=BRICKS - 1)
    return torch.bincount(i[:, 0] + BRICKS * (i[:, 1] + BRICKS * i[:, 2]), minlength=BRICKS**3)
