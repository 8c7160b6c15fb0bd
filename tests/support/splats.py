"""Gaussians to write into files and to look for in what comes back."""

import torch

from neuralfields.gaussians import COUNTS, Gaussians, logit


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


def lopsided(antialiased: bool = False, count: int = 400) -> Gaussians:
    """An L of three slabs with needles and discs of every size; nothing of it is symmetric. Degree 3."""
    chance = torch.Generator().manual_seed(3)

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=chance)

    means = random(count, 3) * torch.tensor([1.2, 0.4, 0.5]) - torch.tensor([0.6, 0.2, 0.3])
    means[: count // 3] = random(count // 3, 3) * torch.tensor([0.3, 0.5, 1.0]) - torch.tensor([0.6, 0.2, 0.1])
    scales = torch.log(0.01 + 0.09 * random(count, 3) ** 2)
    harmonics = 0.25 * torch.randn(count, 16, 3, generator=chance) * torch.tensor([4.0] + [1.0] * 15)[:, None]
    rotations = torch.randn(count, 4, generator=chance) * 3
    opacities = logit(0.05 + 0.9 * random(count))
    return Gaussians(means, scales, rotations, opacities, harmonics, antialiased=antialiased)
