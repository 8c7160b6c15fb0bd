"""Analytic functions that fields made of grids must learn, and how they are taught them."""

from collections.abc import Callable

import torch
from torch import Tensor

from neuralfields.fields.field import Field
from neuralfields.trainers.optimiser import Optimiser

POINTS = 512


def points(count: int, dimensions: int, seed: int = 0) -> Tensor:
    """Points of the unit cube, the same for the same seed."""
    return torch.rand(count, dimensions, generator=torch.Generator().manual_seed(seed))


def lopsided(x: Tensor) -> Tensor:
    """A function [S, 1] of x [S, 3] that no exchange of two axes leaves as it is; each pair of axes matters."""
    a, b, c = x.unbind(1)
    return (torch.sin(6 * a) * torch.cos(3 * b) + 2 * b * c**2 - 0.5 * torch.cos(5 * c) * a)[:, None]


def learnt(field: Field, truth: Callable[[Tensor], Tensor], dimensions: int, steps: int) -> Callable[[Tensor], Tensor]:
    """Fits the field's values (a radiance field's log-density) to the truth; gives what it then says of points."""

    def says(x: Tensor) -> Tensor:
        f = field.features(x)
        return field.log_density(f)[:, None] if field.domain.radiance else field.values(f)

    optimiser = Optimiser(field)
    for step in range(steps):
        x = points(POINTS, dimensions, seed=step)
        loss = (says(x) - truth(x)).square().mean()
        penalty = field.penalty()
        (loss if penalty is None else loss + penalty).backward()
        optimiser.step(0.1 ** (step / steps))
    return says


@torch.no_grad()
def error(says: Callable[[Tensor], Tensor], truth: Callable[[Tensor], Tensor], dimensions: int) -> float:
    """Root mean square on points of their own, as a share of the truth's deviation."""
    x = points(POINTS, dimensions, seed=1 << 20)
    return float((says(x) - truth(x)).square().mean().sqrt() / truth(x).std())
