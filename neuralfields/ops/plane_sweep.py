"""Plane sweep (Collins 1996): the depth at which a photo's pixels agree best with other photos.

For each inverse depth q = centre + offset, other photos are warped onto the reference and windows of 5 x 5 pixels are
compared by ZNCC; a hypothesis counts by its two best photos (what one photo does not see, others may), or by four
fifths of the only one that looks there, and by the mean over 3 x 3 pixels. The best q is refined by a parabola through
its score and its neighbours'. No gradients.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32
from torch import Tensor

from neuralfields.ops.native import array, kernel, threads

RADIUS, NOISE, ALONE = 2, 1e-4, 0.8  # as in cuda/plane_sweep.h
OUTSIDE = -1.0  # the score of what a photo does not see
NONE = -2.0  # the score beside the first and the last hypothesis


@dataclass(frozen=True)
class Sources:
    """Photos to compare with: grey values [S, h, w] in [0, 1], each with its own size (width, height) [S, 2] int32.

    `a` [S, 3, 3], `b` [S, 3]: pixel p = (column, row, 1) of the reference at inverse depth q is seen at a p + b q.
    """

    grey: Float[Tensor, "S h w"]
    sizes: Int32[Tensor, "S 2"]
    a: Float[Tensor, "S 3 3"]
    b: Float[Tensor, "S 3"]


def plane_sweep(
    reference: Float[Tensor, "H W"],
    sources: Sources,
    centre: Float[Tensor, "H W"],
    offsets: Float[Tensor, " D"],
    least: float = 0.0,
) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"]]:
    """Inverse depth and score [H, W] of each pixel of a reference photo [H, W] of grey values in [0, 1].

    Hypotheses are `centre` [H, W] + `offsets` [D], ascending, evenly spaced and not under `least`; the score is in
    [-1, 1].
    """
    height, width = reference.shape
    scores, previous = reference.new_empty(height, width, 3), torch.empty_like(reference)
    index = torch.empty(height, width, dtype=torch.int32)
    kernel("plane_sweep", reference.dtype)(
        array(reference),
        array(sources.grey),
        array(sources.sizes),
        array(sources.a.reshape(-1, 9)),
        array(sources.b),
        array(centre),
        array(offsets),
        least,
        scores,
        index,
        previous,
        threads(),
    )
    return _refined(centre, offsets, least, index.long(), scores)


def _refined(centre: Tensor, offsets: Tensor, least: float, index: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse depth at the top of a parabola through three scores, at most half a hypothesis away."""
    before, best, after = scores.unbind(2)
    bent = before - 2 * best + after
    shift = torch.where(bent < 0, 0.5 * (before - after) / bent.clamp(max=-1e-12), 0.0).clamp(-0.5, 0.5)
    shift = torch.where((before == NONE) | (after == NONE), torch.zeros_like(shift), shift)
    step = offsets[1] - offsets[0] if len(offsets) > 1 else offsets.new_zeros(())
    return (centre + offsets[index] + shift * step).clamp(min=least), best


def plane_sweep_reference(
    reference: Float[Tensor, "H W"],
    sources: Sources,
    centre: Float[Tensor, "H W"],
    offsets: Float[Tensor, " D"],
    least: float = 0.0,
) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"]]:
    """The same in plain torch."""
    height, width = reference.shape
    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=reference.dtype) + 0.5,
        torch.arange(width, dtype=reference.dtype) + 0.5,
        indexing="ij",
    )
    pixels = torch.stack([columns, rows, torch.ones_like(rows)]).reshape(3, -1)
    found = []
    for offset in offsets:
        q = (centre + offset).clamp(min=least).flatten()
        each = []
        for grey, (w, h), a, b in zip(sources.grey, sources.sizes.tolist(), sources.a, sources.b, strict=True):
            x, y, z = (a @ pixels + b[:, None] * q).unbind(0)
            place = torch.stack([x, y], 1) / z.clamp(min=1e-6)[:, None]
            grid = (place / place.new_tensor([w, h]) * 2 - 1).reshape(1, height, width, 2)
            warped = F.grid_sample(grey[None, None, :h, :w], grid, padding_mode="border", align_corners=False)[0, 0]
            seen = ((z > 1e-6) & (place >= 0).all(1) & (place <= place.new_tensor([w, h])).all(1)).view(height, width)
            each.append(torch.where(seen, _correlation(warped, reference), OUTSIDE))
        found.append(_mean(_pair(torch.stack(each)), 1))
    scores = torch.stack(found)
    index = scores.argmax(0)
    around = F.pad(scores, (0, 0, 0, 0, 1, 1), value=NONE)
    three = [around.gather(0, (index + k)[None])[0] for k in range(3)]
    return _refined(centre, offsets, least, index, torch.stack(three, 2))


def _pair(scores: Tensor) -> Tensor:
    """Of scores [S, H, W] the mean of the two best; where one photo alone looks, a part of its score."""
    if len(scores) == 1:
        return scores[0]
    best, second = scores.topk(2, 0).values
    alone = torch.where(best > OUTSIDE, ALONE * best, best)
    return torch.where(second > OUTSIDE, (best + second) / 2, alone)


def _mean(picture: Tensor, radius: int) -> Tensor:
    """Mean over the window of each pixel, the outermost pixels repeated."""
    padded = F.pad(picture[None, None], (radius,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * radius + 1, 1)[0, 0]


def _correlation(u: Tensor, v: Tensor) -> Tensor:
    """ZNCC of the windows round each pixel."""
    mu, mv = _mean(u, RADIUS), _mean(v, RADIUS)
    uu, vv = _mean(u * u, RADIUS) - mu * mu, _mean(v * v, RADIUS) - mv * mv
    return (_mean(u * v, RADIUS) - mu * mv) / ((uu.clamp(min=0) + NOISE) * (vv.clamp(min=0) + NOISE)).sqrt()
