"""A ball as a field of signed distance, and where rays meet it."""

import torch

from neuralfields.domain import Domain
from neuralfields.fields.field import Field

RADIUS = 0.3


class Ball(Field):
    """The exact distance to a ball, or a score of being inside that is no distance."""

    def __init__(self, channels: int = 1, bend: bool = False) -> None:
        super().__init__()
        self.domain, self.bend = Domain("shape", 3, channels), bend
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def features(self, x):
        return x

    def values(self, f):
        d = (f - 0.5).norm(dim=1, keepdim=True) - RADIUS
        d = torch.sinh(40 * d) if self.bend else d
        return torch.cat([d, f], 1) if self.domain.channels == 4 else d


def exact(origins: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Distance to the ball along rays, and whether they hit it."""
    towards = 0.5 - origins
    along = (towards * directions).sum(1)
    left = RADIUS**2 - (towards.square().sum(1) - along**2)
    return along - left.clamp(min=0).sqrt(), left > 0
