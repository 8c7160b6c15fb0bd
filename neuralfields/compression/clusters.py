"""Clusters of Gaussians of like attributes: k-means (Lloyd 1982), from centres drawn far apart (k-means++)."""

import torch
from torch import Tensor

ROUNDS = 20
MOST_DRAWN = 50_000  # Gaussians that centres are found from


def clusters_of(values: Tensor, many: int, seed: int = 0) -> Tensor:
    """Labels int64 [N] of values [N, D] in `many` clusters or fewer, none of them empty.

    Clusters next to one another along the values' main direction have labels next to one another.
    """
    if many <= 1 or len(values) <= many:
        return torch.zeros(len(values), dtype=torch.int64)
    chance = torch.Generator().manual_seed(seed)
    drawn = values[torch.randperm(len(values), generator=chance)[:MOST_DRAWN]]
    centres = _far_apart(drawn, many, chance)
    for _ in range(ROUNDS):
        labels = nearest(drawn, centres)
        counts = torch.bincount(labels, minlength=len(centres))
        sums = torch.zeros_like(centres).index_add_(0, labels, drawn)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
    labels = nearest(values, centres)
    used = torch.unique(labels)
    main = torch.linalg.eigh(torch.cov(values.T))[1][:, -1] if values.shape[1] > 1 else values.new_ones(1)
    order = used[torch.argsort(centres[used] @ main)]
    rank = torch.zeros(len(centres), dtype=torch.int64)
    rank[order] = torch.arange(len(order))
    return rank[labels]


def nearest(values: Tensor, centres: Tensor) -> Tensor:
    """Number of the nearest centre [N] of values [N, D] in centres [K, D]."""
    return ((centres * centres).sum(1) - 2 * values @ centres.T).argmin(1)


def _far_apart(values: Tensor, many: int, chance: torch.Generator) -> Tensor:
    """Centres [many, D], each drawn by its squared distance from those before it."""
    centres = [values[int(torch.randint(len(values), (), generator=chance))]]
    distance = ((values - centres[0]) ** 2).sum(1)
    for _ in range(many - 1):
        if float(distance.sum()) <= 0:  # fewer than `many` are different
            break
        centres.append(values[int(torch.multinomial(distance, 1, generator=chance))])
        distance = torch.minimum(distance, ((values - centres[-1]) ** 2).sum(1))
    return torch.stack(centres)
