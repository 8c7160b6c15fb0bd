"""What an edit takes from a set of Gaussians: floaters and the largest blobs."""

import torch
from torch import Tensor

from neuralfields.gaussians import Gaussians
from neuralfields.splatting.initial import nearest_distance

NEIGHBOURS, DEVIATIONS = 8, 3.0


def floaters(gaussians: Gaussians) -> Tensor:
    """Mask [N] of Gaussians that stand far from all others: statistical outlier removal (Rusu et al. 2008).

    The distance to eight neighbours, in logarithms since scenes are dense here and sparse there, is beyond the mean by
    three standard deviations.
    """
    if len(gaussians) <= NEIGHBOURS:
        return torch.zeros(len(gaussians), dtype=torch.bool)
    distance = nearest_distance(gaussians.means.cpu(), NEIGHBOURS).clamp(min=1e-12).log()
    return distance > distance.mean() + DEVIATIONS * distance.std()


def largest(gaussians: Gaussians, share: float) -> Tensor:
    """Mask [N] of the `share` of Gaussians with the greatest longest axis."""
    count = round(share * len(gaussians))
    found = torch.zeros(len(gaussians), dtype=torch.bool)
    found[gaussians.scales.amax(1).topk(count).indices.cpu()] = True
    return found
