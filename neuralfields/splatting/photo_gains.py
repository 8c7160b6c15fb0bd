"""Gains of photos by what they show of the same points: exposure and white balance, before a fit begins.

  r_ij = median over the points that photos i and j share of log(colour in i / colour in j), for each channel
  g minimises sum over pairs of w_ij (g_i - g_j - r_ij)^2, w_ij the number of shared points; the mean of g is 0

Points are where a plane sweep agrees (depth_maps.py), which compares by ZNCC: no gain changes that. A fit alone cannot
tell gains from fog before each camera: once it has explained a photo by itself, no gain moves any more.
"""

import numpy as np
import torch
from torch import Tensor

from neuralfields.pictures.box_filter import box_filtered
from neuralfields.splatting.depth_maps import CONFIRMED, depth_maps, depth_range, met, sources
from neuralfields.splatting.initial import Photos

DARK, BRIGHT = 12, 245  # of 255: darker pixels are noise, brighter ones have lost their exposure
FEWEST = 40  # shared points of a pair that counts


def photo_gains(photos: Photos) -> Tensor:
    """Natural logarithms of the gains of photos, [N, 3]; their mean is 0.

    Zeros where nothing is shared, and of a scene that moves. Photos that share nothing with the others, not by way of
    more either, have gains among themselves.
    """
    images, cameras, bounds = photos.images, photos.cameras, photos.bounds
    count = len(images)
    maps = [] if bounds.times is not None else depth_maps(images, cameras, bounds)
    if not maps:
        return torch.zeros(count, 3)
    times = maps[0].times
    small = [_smaller(image, inside, times) for image, inside in zip(images, photos.inside, strict=True)]
    poses = torch.from_numpy(np.stack([camera.world_from_camera for camera in cameras]))
    chosen = sources(poses, cameras, depth_range(poses, bounds)[1])
    laplacian, right = torch.zeros(count, count, dtype=torch.float64), torch.zeros(count, 3, dtype=torch.float64)
    depths = [found.depth for found in maps]
    for i in range(count):
        sure = (maps[i].votes >= CONFIRMED).flatten()
        own = small[i].flatten(0, 1)
        for j, row, column, _, agrees in met(i, chosen[i].tolist(), depths, cameras, poses, times):
            pair = torch.stack([own, small[j][row, column]])
            kept = sure & agrees & ((pair > DARK) & (pair < BRIGHT)).all(2).all(0)
            weight = int(kept.sum())
            if weight < FEWEST:
                continue
            ratio = torch.log(pair[0, kept] / pair[1, kept]).median(0).values.double()
            laplacian[[i, j], [i, j]] += weight
            laplacian[[i, j], [j, i]] -= weight
            right[i] += weight * ratio
            right[j] -= weight * ratio
    gain = torch.linalg.pinv(laplacian, hermitian=True, rtol=1e-9) @ right
    return (gain - gain.mean(0)).float()


def _smaller(image: Tensor, inside: Tensor | None, times: int) -> Tensor:
    """A photo as means of squares of `times` pixels, float [h, w, 3]; 0, which is dark, where it shows no scene."""
    if inside is None:
        return box_filtered(image, times)
    whole = box_filtered(inside, times) == 1
    return box_filtered(image * inside[..., None], times) * whole[..., None]
