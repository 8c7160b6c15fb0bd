"""Where a fit of Gaussians begins in a scene that moves: at depths that photos of about the same time agree on.

  ray of a photo -> places along it -> how other photos see them -> the place that they agree on most

Vocabulary
  others    photos that judge a place: the nearest in time for what moves, some of all times for what stands still
  cost      of a place: mean difference of colour to the half of the others that fits best (the rest may be hidden);
            more than of any colour where one of them sees through the place, by its mask or its alpha
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from neuralfields.cameras import project
from neuralfields.gaussians import Gaussians
from neuralfields.motion import CENTRE, DURATION, PATH, briefest, motionless
from neuralfields.ops.pixel_rays import camera_table, pixel_rays
from neuralfields.splatting.initial import OPACITY, WIDTH, Photos, gaussians_at, reach_of, widths_of

PLACES = 24  # along a ray
OTHERS = 8
HOLE = 10.0  # cost of a place that is seen through, above all costs of colours
MOVING = 0.6  # share of the Gaussians that begin with a short life
# Of these, half are on pixels whose place photos of about their time agree on most more than photos of all times, of so
# many times as many that are looked at, by fewer places: what moves may be a small part of the pictures.
LOOKED_AT, FEW_PLACES = 4, 10
LONGEST = math.log(0.4)  # of short lives
SURER = 0.65  # of the cost at rest, which a speed must be under
ROUNDS, TRIED, BESIDE, JITTER = 4, 8, 40, 0.1  # of the search for speeds: what is tried, how near in time, how changed
FASTEST, APART = 3.0, 0.02  # sides a moment, and sides that places are shifted by
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
        speeds = torch.zeros_like(x)
        if goes is not None:
            x, speeds = _in_motion(photos, (camera, pixel), x, generator)
        made = gaussians_at(x, photos.read(camera, pixel), WIDTH * widths_of(x, photos.bounds), OPACITY, degree)
        motion = motionless(len(x), x)
        motion[:, DURATION] = LONG
        if goes is not None:
            motion[:, CENTRE] = moments[camera]
            motion[:, DURATION] = _lives(moments, torch.rand(len(x), generator=generator))
            motion[:, PATH.start : PATH.start + 3] = speeds
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
    low = min(briefest(moments), LONGEST)
    return low + (LONGEST - low) * share


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
    if moments is None:
        others = torch.randint(0, len(photos.cameras), (len(camera), OTHERS), generator=generator)
    else:
        others = _near(moments, generator)[camera]
    least, which = _cost(photos, others, places, photos.read(camera, pixel)).min(1)
    return places[torch.arange(len(places)), which], least


def _near(moments: Tensor, generator: torch.Generator, elsewhen: bool = False) -> Tensor:
    """The photos that are nearest in time to each, [photos, at most OTHERS]; of equally near ones any.

    `elsewhen`: half of them at other times than its own, if cameras film together.
    """
    apart = (moments[:, None] - moments).abs()
    together = bool((apart.fill_diagonal_(torch.inf) == 0).any())
    apart = apart + 1e-5 * torch.rand(apart.shape, generator=generator)
    count = max(1, min(OTHERS, len(moments) - 1))
    first = apart.argsort(dim=1)[:, :count]
    if not (elsewhen and together):
        return first
    later = torch.where(apart < 2e-5, torch.inf, apart).argsort(dim=1)[:, : count - count // 2]
    return torch.cat([first[:, : count // 2], later], 1)


def _in_motion(
    photos: Photos, ray: tuple[Tensor, Tensor], x: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Places [N, 3] and speeds [N, 3] (world units a moment) that photos near in time agree on more than `x` at rest.

    A search at random, then among the speeds of others of about the time (after Barnes et al., PatchMatch, 2009), with
    places a little nearer or farther; 0 where none is clearly better.
    """
    camera, pixel = ray
    moments, colours = moments_of(photos), photos.read(camera, pixel)
    others = _near(moments, generator, elsewhen=True)[camera]
    later = moments[others] - moments[camera][:, None]
    order = moments[camera].argsort(stable=True)
    rank, away = order.argsort(), pixel_rays(camera_table(photos.cameras), camera, pixel)[1]
    cost = _cost(photos, others, x[:, None], colours)[:, 0]
    x, speed, least = x.clone(), torch.zeros_like(x), cost * SURER
    for turn in range(ROUNDS):
        tried = _tried(turn, speed, least / cost.clamp(min=1e-6), (order, rank), photos.bounds.side, generator)
        apart = torch.randn(len(x), TRIED, generator=generator) * (torch.arange(TRIED) % 2) * APART * photos.bounds.side
        places = x[:, None] + apart[..., None] * away[:, None]
        now, which = _cost(photos, others, places, colours, tried, later).min(1)
        better = (now < least).nonzero().flatten()
        which = which[better]
        x[better], speed[better], least[better] = places[better, which], tried[better, which], now[better]
    return x, speed


def _tried(
    turn: int, speed: Tensor, share: Tensor, ranks: tuple[Tensor, Tensor], side: float, generator: torch.Generator
) -> Tensor:
    """Speeds to try [N, TRIED, 3]: of all sizes and directions at first, then those of others, the best of three.

    `share` [N]: of the cost at rest that is left; `ranks`: the order in time, and the place of each in it.
    """
    shape, (order, rank) = (len(speed), TRIED, 3), ranks
    random = torch.randn(shape, generator=generator)
    if turn == 0:
        size = FASTEST * side * torch.rand(*shape[:2], 1, generator=generator).square()
        return torch.nn.functional.normalize(random, dim=2) * size
    near = rank[:, None, None] + torch.randint(-BESIDE, BESIDE + 1, shape, generator=generator)
    picks = order[near.clamp(0, len(speed) - 1)]
    best = picks.gather(2, share[picks].argmin(2, keepdim=True))[..., 0]
    return speed[best] * (1 + JITTER * random)


def _cost(
    photos: Photos,
    others: Tensor,
    x: Tensor,
    colours: Tensor,
    speeds: Tensor | None = None,
    later: Tensor | None = None,
) -> Tensor:
    """Costs [N, K] of places [N, K, 3] where a photo has colours [N, 3], by its `others` [N, O].

    With `speeds` [N, K, 3] they have gone on where another is so much `later` [N, O].
    """
    apart = torch.ones(*others.shape, x.shape[1])
    seen_through = torch.zeros(x.shape[:2], dtype=torch.bool)
    for index in others.unique().tolist():
        rays, slots = (others == index).nonzero().unbind(1)
        image, inside, camera = photos.images[index], photos.inside[index], photos.cameras[index]
        places = x[rays] if speeds is None else x[rays] + speeds[rays] * later[rays, slots, None, None]
        uv, depth = project(camera, places.double().numpy())
        column, row = torch.from_numpy(uv).nan_to_num(-1.0).floor().clamp(-1, 1 << 20).long().unbind(-1)
        there = torch.from_numpy(depth > 0) & (column >= 0) & (row >= 0)
        there &= (column < camera.width) & (row < camera.height)
        column, row = column.clamp(0, camera.width - 1), row.clamp(0, camera.height - 1)
        difference = (image[row, column].float() / 255 - colours[rays, None]).abs().mean(2)
        apart[rays, slots] = torch.where(there, difference, 1.0)
        if inside is not None:
            seen_through[rays] |= there & ~inside[row, column]
    fits = apart.sort(1).values[:, : max(1, others.shape[1] // 2)].mean(1)
    return fits + HOLE * seen_through
