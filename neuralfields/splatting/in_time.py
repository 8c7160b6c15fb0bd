"""Where a fit of Gaussians begins in a scene that moves: at depths that photos of about the same time agree on.

  ray of a photo -> places along it -> how other photos see them -> the place that they agree on most

Vocabulary
  others    photos that judge a place: the nearest in time for what moves, some of all times for what stands still
  cost      of a place: mean difference of colour to the half of the others that fits best (the rest may be hidden);
            infinite where one of them sees through the place, by its mask or its alpha
"""

import math
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
# Of these, half are on pixels whose place photos of about their time agree on most more than photos of all times, of so
# many times as many that are looked at, by fewer places: what moves may be a small part of the pictures.
LOOKED_AT, FEW_PLACES = 4, 10
LIVES = (2.0, 0.4)  # of short lives: times between two photos, and share of the scene's time
LONG = 2.0  # logarithm of the duration of those that stay


def from_photos_in_time(
    photos: Photos, degree: int, count: int, generator: torch.Generator, moving: float = MOVING
) -> Gaussians:
    """Gaussians [count] at such places; a share `moving` is there for a while about its photo's time, others stay."""
    moments, brief, parts = moments_of(photos), round(moving * count), []
    for some, goes in ((brief, moments), (count - brief, None)):
        if not some:
            continue
        camera, pixel = photos.detailed(some, generator) if goes is None else _changing(photos, some, generator)
        x, _ = _agreed(photos, (camera, pixel), goes, generator)
        made = gaussians_at(x, photos.read(camera, pixel), WIDTH * widths_of(x, photos.bounds), OPACITY, degree)
        motion = motionless(len(x), x)
        motion[:, DURATION] = LONG
        if goes is not None:
            motion[:, CENTRE] = moments[camera]
            motion[:, DURATION] = _lives(moments, torch.rand(len(x), generator=generator))
        parts.append(replace(made, motion=motion))
    return Gaussians.cat(parts)


def alive_for_a_while(gaussians: Gaussians, photos: Photos, generator: torch.Generator) -> Gaussians:
    """The same Gaussians, of which a share begins with a short life at any time."""
    motion = motionless(len(gaussians), gaussians.means)
    draw = torch.rand(len(gaussians), 3, generator=generator)
    goes = draw[:, 0] < MOVING
    motion[:, CENTRE] = torch.where(goes, draw[:, 1], 0.5)
    motion[:, DURATION] = torch.where(goes, _lives(moments_of(photos), draw[:, 2]), LONG)
    return replace(gaussians, motion=motion)


def moments_of(photos: Photos) -> Tensor:
    """Moments [photos] in [0, 1]."""
    return torch.tensor([photos.bounds.moment(camera.time or 0.0) for camera in photos.cameras])


def _lives(moments: Tensor, share: Tensor) -> Tensor:
    """Logarithms of short lives [N], evenly between the shortest and the longest by shares [N]."""
    shortest, longest = LIVES[0] / max(1, len(moments.unique()) - 1), LIVES[1]
    low = math.log(min(shortest, longest))
    return low + (math.log(longest) - low) * share


def _changing(photos: Photos, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Photos [count] and pixels [count, 2]: half drawn as others are, half where photos of other times disagree."""
    camera, pixel = photos.detailed(LOOKED_AT * count, generator)
    if not len(camera):
        return camera, pixel
    ray = camera, pixel
    costs = [_agreed(photos, ray, moments, generator, FEW_PLACES)[1] for moments in (None, moments_of(photos))]
    plain = count - count // 2
    most = (costs[0] - costs[1])[plain:].topk(count // 2).indices + plain
    kept = torch.cat([torch.arange(plain), most])
    return camera[kept], pixel[kept]


def _agreed(
    photos: Photos, ray: tuple[Tensor, Tensor], moments: Tensor | None, generator: torch.Generator, count: int = PLACES
) -> tuple[Tensor, Tensor]:
    """Places [N, 3] along the rays of pixels, of `count` the one of least cost each, and these costs [N].

    By photos near in time where their `moments` [photos] are given.
    """
    camera, pixel = ray
    origins, directions = pixel_rays(camera_table(photos.cameras), camera, pixel)
    near, far = reach_of(photos.bounds, origins, directions)
    share = (torch.arange(count) + torch.rand(len(camera), count, generator=generator)) / count
    depth = near[:, None] + share * (far - near)[:, None]
    places = origins[:, None] + directions[:, None] * depth[..., None]
    colours = photos.read(camera, pixel)
    best, least = torch.empty(len(camera), 3), torch.empty(len(camera))
    for index in camera.unique().tolist():
        mine = (camera == index).nonzero().flatten()
        if moments is not None:
            apart = (moments - moments[index]).abs()
            apart[index] = torch.inf
            others = apart.argsort(stable=True)[: min(OTHERS, len(moments) - 1)]
        else:
            others = torch.randperm(len(photos.cameras), generator=generator)[:OTHERS]
        cost = _cost(photos, others.tolist(), places[mine].flatten(0, 1), colours[mine].repeat_interleave(count, 0))
        cost, place = cost.reshape(-1, count).min(1)
        best[mine], least[mine] = places[mine, place], cost
    return best, least


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
