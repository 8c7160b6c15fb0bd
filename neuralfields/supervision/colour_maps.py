"""Affine maps of colours: found by regularised least squares, applied, and led back through.

Vocabulary
  x        [..., 4] = (own, opacity): colours of a field's render without background, and how much of it there is
  map      [..., 3, 4] = (A | b): a photo's colours are M x = A own + b opacity
  moments  [..., 4, 7]: means of x (x | photo)^T, all that the least squares need to know

  M minimises mean |photo - M x|^2 + sum over columns k of RIDGE_k |M_k - M0_k|^2,  M0 = (diag(gain) | 0)

The ridge lets what few or grey pixels leave open be as the gains of the channels say. Maps of several photos are known
but for one that all share: M_i after D explains what M_i explains of colours D x. Their mean is made the identity.
"""

import torch
from torch import Tensor

RIDGE = (3e-4, 3e-4, 3e-4, 3e-3)  # beside means of x^2: of a photo as a whole; the last one holds the offset


def identity_maps(count: int, like: Tensor) -> Tensor:
    """Maps that change nothing, [count, 3, 4]."""
    return torch.eye(3, 4, dtype=like.dtype, device=like.device).repeat(count, 1, 1)


def with_opacity(own: Tensor, opacity: Tensor) -> Tensor:
    """The features x [..., 4] of colours [..., 3] and opacities [...]."""
    return torch.cat([own, opacity[..., None]], -1)


def picture_moments(x: Tensor, photo: Tensor, kept: Tensor) -> Tensor:
    """Moments [4, 7] of a picture: x [H, W, 4], photo [H, W, 3], weights kept [H, W].

    Row by row, and then over the rows: the same bits with any number of threads.
    """
    rows = (x * kept[..., None]).mT @ torch.cat([x, photo], -1)
    return rows.sum(0) / kept.numel()


def fitted_maps(moments: Tensor, gain: Tensor, share: float = 1.0) -> Tensor:
    """Maps [..., 3, 4] of moments [..., 4, 7]; gain [..., 3] as factors. `share`: of all pixels that are a photo's."""
    ridge = torch.tensor(RIDGE, dtype=torch.float64, device=moments.device) * share
    gram, cross = moments.double().split([4, 3], -1)
    towards = torch.nn.functional.pad(torch.diag_embed(gain.double()), (0, 0, 0, 1))
    found = torch.linalg.solve(gram + torch.diag(ridge), cross + ridge[:, None] * towards)
    return found.mT.to(moments.dtype)


def about_mean(maps: Tensor) -> Tensor:
    """The maps [N, 3, 4] after the inverse of their mean: their mean is then the identity.

    As they are where the mean has no inverse: of maps that leave one colour of all photos there is nothing to keep.
    """
    mean = maps.double().mean(0)
    inverse, failed = torch.linalg.inv_ex(mean[:, :3])
    if bool(failed):
        return maps
    linear = maps[..., :3].double() @ inverse
    return torch.cat([linear, maps[..., 3:].double() - linear @ mean[:, 3:]], -1).to(maps.dtype)


def mapped_rays(maps: Tensor, own: Tensor, opacity: Tensor) -> Tensor:
    """Colours of rays [R, 3], each by a map of its own, maps [R, 3, 4]."""
    return (maps * with_opacity(own, opacity)[:, None]).sum(-1)


def mapped_picture(colour_map: Tensor, own: Tensor, opacity: Tensor) -> Tensor:
    """Colours of a picture [H, W, 3] by one map [3, 4]."""
    return own @ colour_map[:, :3].T + opacity[..., None] * colour_map[:, 3]


def led_back(colour_map: Tensor, d_mapped: Tensor) -> tuple[Tensor, Tensor]:
    """Leads the gradient [H, W, 3] of a mapped picture back to own colours [H, W, 3] and opacity [H, W]."""
    return d_mapped @ colour_map[:, :3], d_mapped @ colour_map[:, 3]
