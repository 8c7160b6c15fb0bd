"""The optimiser: Adam with warm-up and exponential learning-rate decay, and sparse updates for grids."""

import torch
from torch import Tensor

from neuralfields.fields.field import Field
from neuralfields.ops.adam import adam

# A mean of the gradients over five steps: over the usual ten, hash loses 0.3 to 0.9 dB after 600 steps
# (benchmarks/ablation.md), since what is learned changes sooner than that.
BETAS = (0.8, 0.99)
SHAPE_BETAS = (0.9, 0.99)  # of shapes: by the shorter mean, occupancy fitted to a ball has more specks in empty space
EPSILON = 1e-15


class Optimiser:
    """Adam over a field's parameter groups (fields/field.py); the field says which gradients are sparse."""

    def __init__(self, field: Field) -> None:
        self.field = field
        self.betas = SHAPE_BETAS if field.domain.kind == "shape" else BETAS
        self.steps = 0
        self.moments: dict[Tensor, tuple[Tensor, Tensor]] = {}
        self.renew()

    def renew(self) -> None:
        """Reads the field's parameter groups again; parameters that stayed keep their moments, new ones start at 0."""
        self.groups = self.field.groups()
        self.moments = {
            p: self.moments.get(p) or (torch.zeros_like(p), torch.zeros_like(p))
            for group in self.groups
            for p in group.parameters
        }

    @torch.no_grad()
    def step(self, decay: float) -> None:
        """Takes an Adam step from the gradients in `.grad`, which are cleared; `decay` scales every learning rate."""
        self.steps += 1
        for group in self.groups:
            rise = min(1.0, self.steps / group.warmup) if group.warmup else 1.0
            settings = (group.learning_rate * decay * rise, *self.betas, EPSILON)
            for p in group.parameters:
                if p.grad is not None:
                    adam(p, p.grad, self.moments[p], self.steps, settings, group.sparse)

    def state(self, names: dict[Tensor, str]) -> dict[str, Tensor]:
        """The moments by parameter name, for a checkpoint."""
        return {f"{kind}.{names[p]}": m for p, pair in self.moments.items() for kind, m in zip("mv", pair, strict=True)}

    def load(self, names: dict[Tensor, str], tensors: dict[str, Tensor], steps: int) -> None:
        """The reverse of `state`."""
        self.steps = steps
        for p, pair in self.moments.items():
            for kind, m in zip("mv", pair, strict=True):
                m.copy_(tensors[f"{kind}.{names[p]}"])
