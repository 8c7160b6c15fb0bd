"""Rays and occupancy that the tests of marching share."""

import torch

from neuralfields.ops.occupancy_bits import BRICKS

WORDS = BRICKS**3


def sparse(cascades: int, generator: torch.Generator) -> torch.Tensor:
    """A fifth of the bricks hold random cells, in each cascade others."""
    words = torch.randint(-(2**63), 2**63 - 1, (cascades, WORDS), generator=generator)
    return words * (torch.rand(cascades, WORDS, generator=generator) < 0.2)


def rays(count: int, cascades: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """From inside and outside, most towards the middle, some past it, some along axes."""
    reach = 2.0 ** (cascades - 1)
    origins = 0.5 + (torch.rand(count, 3, generator=generator, dtype=torch.float64) - 0.5) * 3 * reach
    origins[::3] = 0.5 + (origins[::3] - 0.5) / 4
    target = 0.5 + (torch.rand(count, 3, generator=generator, dtype=torch.float64) - 0.5) * 1.2 * reach
    directions = target - origins
    for axis in range(3):
        directions[axis::17, axis] = 0
        directions[axis::31] = torch.eye(3, dtype=torch.float64)[axis] * (-1) ** axis
    jitter = torch.rand(count, generator=generator, dtype=torch.float64)
    return origins, torch.nn.functional.normalize(directions, dim=1), jitter


def nested(cascades: int, generator: torch.Generator) -> torch.Tensor:
    """Random boxes of whole coarsest bricks, occupied in every cascade alike: what a learned grid is like."""
    side = 2.0 ** (cascades - 1)
    coarse = torch.rand(BRICKS, BRICKS, BRICKS, generator=generator) < 0.1
    middle = (torch.arange(BRICKS) + 0.5) / BRICKS - 0.5
    rows = []
    for cascade in range(cascades):
        i = ((middle * 2.0**cascade / side + 0.5) * BRICKS).floor().long()
        rows.append(coarse[i][:, i][:, :, i].reshape(-1))
    return torch.where(torch.stack(rows), -1, 0)
