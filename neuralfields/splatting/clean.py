"""What an edit takes from a set of Gaussians, and a check counts: floaters, the largest blobs, what shows nothing."""

import math

import torch
from torch import Tensor

from neuralfields.gaussians import Gaussians
from neuralfields.splatting.densify import DEAD, NEEDLE
from neuralfields.splatting.initial import nearest_distance

NEIGHBOURS, DEVIATIONS = 8, 4.0


def floaters(gaussians: Gaussians) -> Tensor:
    """Mask [N] of Gaussians that stand far from all others: statistical outlier removal (Rusu et al. 2008).

    The distance to eight neighbours, in logarithms since scenes are dense here and sparse there, is beyond the
    median by four deviations, taken from the median too (1.4826 of it): repeated places must not widen it.
    """
    if len(gaussians) <= NEIGHBOURS:
        return torch.zeros(len(gaussians), dtype=torch.bool)
    distance = nearest_distance(gaussians.means.cpu(), NEIGHBOURS).clamp(min=1e-12).log()
    off = distance - distance.median()
    return off > DEVIATIONS * 1.4826 * off.abs().median()


def largest(gaussians: Gaussians, share: float) -> Tensor:
    """Mask [N] of the `share` of Gaussians with the greatest longest axis."""
    count = round(share * len(gaussians))
    found = torch.zeros(len(gaussians), dtype=torch.bool)
    found[gaussians.scales.amax(1).topk(count).indices.cpu()] = True
    return found


def shares(gaussians: Gaussians) -> dict[str, float]:
    """What of a set is of no use, as shares of it: `transparent`, `needles`, `floaters`, and `repeated` places."""
    if not len(gaussians):
        return dict.fromkeys(("transparent", "needles", "floaters", "repeated"), 0.0)
    longest, middle = gaussians.scales.sort(1, descending=True).values.unbind(1)[:2]
    distinct = len(gaussians.means.unique(dim=0))
    return {
        "transparent": float((gaussians.opacity() < DEAD).float().mean()),
        "needles": float((longest - middle > math.log(NEEDLE)).float().mean()),
        "floaters": float(floaters(gaussians).float().mean()),
        "repeated": 1 - distinct / len(gaussians),
    }
