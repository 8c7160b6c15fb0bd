"""Neighbours go the same way: the paths of Gaussians that move are led towards those beside them in space and time.

Where one camera films, a photo says where a thing is across its rays, not along them, and Gaussians that live for a few
photos may each have a path of its own that explains these photos and no other view. Things move as wholes: of
Gaussians beside each other the mean path is more likely right than each one's own (Luiten et al., arXiv:2308.09713,
hold the nearest neighbours of each rigid). Where still and moving things meet, means mix them and much is lost, so that
it is an option of fits (`--recipe together=0.3`). Neighbours are not searched for: they follow each other on a Z-curve.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

TOGETHER = 8  # neighbours that share a mean
BITS = 12  # of each of the four coordinates
DEVIATIONS = 6.0  # of places, across which the curve runs


def beside_each_other(places: Float[Tensor, "3 N"], moments: Float[Tensor, " N"]) -> Int64[Tensor, " N"]:
    """An order [N] in which neighbours in space and time follow each other: a Z-curve over the four coordinates.

    `places` [3, N] in world units, `moments` [N] in [0, 1]: all of the time is as long as the places' spread.
    """
    if places.shape[1] < 2:
        return torch.arange(places.shape[1], device=places.device)
    middle, spread = places.double().mean(1, keepdim=True), places.double().std(1, keepdim=True).clamp(min=1e-12)
    share = torch.cat([(places.double() - middle) / spread / DEVIATIONS + 0.5, moments.double()[None]])
    cell = (share.clamp(0, 1) * ((1 << BITS) - 1)).long()
    for shift, keep in ((24, 0x000000FF000000FF), (12, 0x000F000F000F000F), (6, 0x0303030303030303)):
        cell = (cell | cell << shift) & keep
    cell = (cell | cell << 3) & 0x1111111111111111
    return torch.argsort(cell[0] | cell[1] << 1 | cell[2] << 2 | cell[3] << 3, stable=True)


def lead_together(paths: Float[Tensor, "D N"], order: Int64[Tensor, " M"], share: float) -> None:
    """Leads the paths of each eight that follow each other in `order` by a `share` of the way to their mean, in place.

    `paths` [D, N]: D numbers of each of N Gaussians, in any unit; `order` [M]: of all or some of them. What fills no
    group stays as it is.

        >>> paths = torch.tensor([[0.0, 8, 0, 0, 0, 0, 0, 0, 5]])
        >>> lead_together(paths, torch.arange(9), 0.5)
        >>> paths[0].tolist()
        [0.5, 4.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 5.0]
    """
    order = order[: len(order) // TOGETHER * TOGETHER]
    groups = paths[:, order].unflatten(1, (-1, TOGETHER))
    paths[:, order] = torch.lerp(groups, groups.mean(2, keepdim=True), share).flatten(1)
