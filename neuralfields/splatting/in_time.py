"""Where a fit of Gaussians begins in a scene that moves: at depths that photos of about the same time agree on.

  ray of a photo -> places along it -> how other photos see them -> the place that they agree on most

Vocabulary
  others    photos that judge a place: the nearest in time for what moves, some of all times for what stands still
  cost      of a place: mean difference of colour to the half of the others that fits best (the rest may be hidden);
            infinite where one of them sees through the place, by its mask or its alpha
"""

from dataclasses import replace

import torch
from torch import Tensor

from neuralfields.cameras import project
from neuralfields.gaussians import Gaussians
from neuralfields.motion import CENTRE, DURATION, motionless
from neuralfields.ops.pixel_rays import camera_table, pixel_rays
from neuralfields.splatting.initial import OPACITY, WIDTH, Photos, gaussians_at, reach_of, widths_of

PLACES = 24  # along a ray
OTHERS = 8
MOVING = 0.6  # share of the Gaussians that begin with a short life
SHORTEST, SPREAD, LONG = -3.0, 2.0, 2.0  # logarithms of durations: the shortest, by how much more, of those that stay


def from_photos_in_time(
    photos: Photos, degree: int, count: int, generator: torch.Generator, moving: float = MOVING
) -> Gaussians:
    """Gaussians [count] at such places; a share `moving` is there for a while about its photo's time, others stay."""
    moments = torch.tensor([photos.bounds.moment(camera.time or 0.0) for camera in photos.cameras])
    brief, parts = round(moving * count), []
    for some, goes in ((brief, True), (count - brief, False)):
        if not some:
            continue
        camera, pixel = photos.detailed(some, generator)
        x = _agreed(photos, camera, pixel, moments if goes else None, generator)
        made = gaussians_at(x, photos.read(camera, pixel), WIDTH * widths_of(x, photos.bounds), OPACITY, degree)
        motion = motionless(len(x), x)
        motion[:, DURATION] = LONG
        if goes:
            motion[:, CENTRE] = moments[camera]
            motion[:, DURATION] = SHORTEST + SPREAD * torch.rand(len(x), generator=generator)
        parts.append(replace(made, motion=motion))
    return Gaussians.cat(parts)


def alive_for_a_while(gaussians: Gaussians, generator: torch.Generator) -> Gaussians:
    """The same Gaussians, of which a share begins with a short life at any time."""
    motion = motionless(len(gaussians), gaussians.means)
    draw = torch.rand(len(gaussians), 3, generator=generator)
    goes = draw[:, 0] < MOVING
    motion[:, CENTRE] = torch.where(goes, draw[:, 1], 0.5)
    motion[:, DURATION] = torch.where(goes, SHORTEST + SPREAD * draw[:, 2], LONG)
    return replace(gaussians, motion=motion)


def _agreed(
    photos: Photos, camera: Tensor, pixel: Tensor, moments: Tensor | None, generator: torch.Generator
) -> Tensor:
    """Places [N, 3] along the rays of pixels, each the one of least cost; `moments` [photos]: to those near in time."""
    origins, directions = pixel_rays(camera_table(photos.cameras), camera, pixel)
    near, far = reach_of(photos.bounds, origins, directions)
    share = (torch.arange(PLACES) + torch.rand(len(camera), PLACES, generator=generator)) / PLACES
    depth = near[:, None] + share * (far - near)[:, None]
    places = origins[:, None] + directions[:, None] * depth[..., None]
    colours = photos.read(camera, pixel)
    best = torch.empty(len(camera), 3)
    for index in camera.unique().tolist():
        mine = (camera == index).nonzero().flatten()
        if moments is not None:
            apart = (moments - moments[index]).abs()
            apart[index] = torch.inf
            others = apart.argsort(stable=True)[: min(OTHERS, len(moments) - 1)]
        else:
            others = torch.randperm(len(photos.cameras), generator=generator)[:OTHERS]
        cost = _cost(photos, others.tolist(), places[mine].flatten(0, 1), colours[mine].repeat_interleave(PLACES, 0))
        best[mine] = places[mine, cost.reshape(-1, PLACES).argmin(1)]
    return best


def _cost(photos: Photos, others: list[int], x: Tensor, colours: Tensor) -> Tensor:
    """Costs [N] of places [N, 3] where a photo has colours [N, 3]."""
    world, rows = x.double().numpy(), []
    seen_through = torch.zeros(len(x), dtype=torch.bool)
    for index in others:
        image, inside, camera = photos.images[index], photos.inside[index], photos.cameras[index]
        uv, depth = project(camera, world)
        uv = torch.from_numpy(uv).nan_to_num(-1.0)
        column, row = uv.floor().clamp(-1, 1 << 20).long().unbind(1)
        there = torch.from_numpy(depth > 0) & (column >= 0) & (row >= 0)
        there &= (column < camera.width) & (row < camera.height)
        column, row = column.clamp(0, camera.width - 1), row.clamp(0, camera.height - 1)
        apart = (image[row, column].float() / 255 - colours).abs().mean(1)
        rows.append(torch.where(there, apart, torch.ones_like(apart)))
        if inside is not None:
            seen_through |= there & ~inside[row, column]
    ordered = torch.stack(rows).sort(0).values[: max(1, len(rows) // 2)].mean(0)
    return torch.where(seen_through, ordered + 10.0, ordered)
