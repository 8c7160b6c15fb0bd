"""Affine colour maps of photos by what they show of the same points, before a fit begins: photo_gains.py for maps.

Vocabulary
  y     [4] = (colour of a point in a photo, 1)
  T_ij  [4, 4]: what leads colours of photo j to those of photo i, by the points that both show: y_i = T_ij y_j
  N_i   [3, 4]: leads colours of photo i to those that all photos would agree on; its inverse is the photo's map

  N minimises the sum over pairs of tr D G D^T, D = N_i T_ij - N_j, G = sum of y_j y_j^T, and a little of what N
  changes of the colours; its mean over photos that pairs connect is the identity. One linear system, of 4 unknowns of
  each photo.

Least squares from j to i makes T too small, as noise in y_j hides what goes with it; from i to j it makes the inverse
too small. So T is the mean of one and the inverse of the other. Along a chain of photos such errors would add up.
"""

import torch
from torch import Tensor

from neuralfields.splatting.initial import Photos
from neuralfields.splatting.photo_gains import photo_gains, shared_colours
from neuralfields.supervision.appearance import Appearance
from neuralfields.supervision.colour_maps import about_mean, identity_maps
from neuralfields.supervision.exposure import Exposure

DARK = 3  # of 255: an offset leaves more of dark pixels than a gain does
MOST = 4000  # points of a pair
ODD = 0.04  # residual of points that agree, in colours of 0 to 1
ROUNDS = 4
RIDGE = 2e-3  # of the colours that a photo shares: small errors of pairs add up to drifts along a chain of photos
LEAST = 1e-6  # the same of a photo that shares none, of a point
HELD = 1e-4  # of a point, beside squares of colours: T is near the identity where they say nothing


def begin_exposure(exposure: Exposure, photos: Photos, share: float = 1.0) -> None:
    """Begins what is learned of the photos' colours with what they show; `share` as in `Exposure.begin`."""
    if isinstance(exposure, Appearance):
        exposure.begin_with_maps(photo_maps(photos), share)
    else:
        exposure.begin(photo_gains(photos), share)


def photo_maps(photos: Photos) -> Tensor:
    """Maps of photos, [N, 3, 4]; their mean is the identity.

    Identities where nothing is shared, and of a scene that moves.
    """
    pairs = []
    for i, j, colours in shared_colours(photos, DARK):
        chosen = colours[:, :: -(-colours.shape[1] // MOST)].double() / 255
        one, other = torch.cat([chosen, torch.ones_like(chosen[..., :1])], 2)
        pairs.append((i, j, *_between(one, other)))
    count = len(photos.images)
    to_common = _agreed(count, pairs) if pairs else identity_maps(count, torch.zeros((), dtype=torch.float64))
    linear = torch.linalg.inv(to_common[..., :3])
    maps = torch.cat([linear, -linear @ to_common[..., 3:]], 2)
    return about_mean(maps).float()


def _between(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """T [4, 4] from colours `other` [P, 4] to `one`, and the weighted sum of squares G [4, 4] of `other`.

    Weights are 1 / (1 + (residual / ODD)^2), found again and again: wrong pairs of points hardly count.
    """
    weight = torch.ones_like(one[:, :1])
    for _ in range(ROUNDS):
        there, back = _led(other, one, weight), _led(one, other, weight)
        between = (there + torch.linalg.inv(back)) / 2
        residual = one - other @ between.T
        weight = 1 / (1 + residual.square().sum(1, keepdim=True) / ODD**2)
    return between, (other * weight).T @ other


def _led(source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The matrix [4, 4] that leads `source` [P, 4] to `target` by least squares."""
    held = HELD * float(weight.sum()) * torch.eye(4, dtype=source.dtype)
    weighted = (source * weight).T
    return torch.linalg.solve(weighted @ source + held, weighted @ target + held).T


def _agreed(count: int, pairs: list[tuple[int, int, Tensor, Tensor]]) -> Tensor:
    """The N of all photos, [count, 3, 4], by pairs (i, j, T, G)."""
    normal, group = torch.zeros(count, 4, count, 4, dtype=torch.float64), torch.arange(count)
    for i, j, between, squares in pairs:
        normal[i, :, i] += between @ squares @ between.T
        normal[j, :, j] += squares
        normal[i, :, j] -= between @ squares
        normal[j, :, i] -= squares @ between.T
        group[group == group[j]] = int(group[i])
    mean = float(normal.diagonal(dim1=0, dim2=2)[3].sum()) / count  # points of a photo
    identity = torch.eye(4, dtype=torch.float64)
    alike = (group[:, None] == group).double()
    holding = mean * torch.kron(alike / alike.sum(1), identity)  # |mean of N - I|^2 of those that are connected
    places = torch.arange(count)
    kept = RIDGE * normal[places, :, places] + LEAST * mean * identity
    normal[places, :, places] += kept
    system = normal.reshape(4 * count, 4 * count) + holding
    right = (kept + mean * identity)[..., :3].flatten(0, 1)
    return torch.linalg.solve(system, right).reshape(count, 4, 3).mT
