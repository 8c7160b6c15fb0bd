"""Gaussians to write into files and to look for in what comes back."""

import torch

from neuralfields.gaussians import COUNTS, Gaussians


def random_gaussians(count: int, degree: int = 3, seed: int = 0, extra: tuple[str, ...] = ()) -> Gaussians:
    """Gaussians of which no two values are alike: all within the ranges that every format can hold."""
    chance = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(count, *shape, generator=chance)

    return Gaussians(
        means=normal(3) * torch.tensor([1.0, 2.0, 3.0]) + torch.tensor([0.5, -1.0, 4.0]),
        scales=normal(3) - 4,
        rotations=normal(4),
        opacities=normal() * 2,
        harmonics=normal(COUNTS[degree], 3) * torch.tensor([1.0] + [0.2] * (COUNTS[degree] - 1))[:, None],
        extra={name: normal() for name in extra},
    )
