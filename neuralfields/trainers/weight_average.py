"""Average of weights over the last steps, which becomes the weights at the end.

  average <- DECAY average + (1 - DECAY) weight       in the last tenth of a fit: an exponential moving average (EMA)
  average <- average + (weight - average) / n         without a decay: the mean of the n that were seen

Gradient noise of small batches scatters the weights around an optimum, and the average lies nearer to it. Trial runs
of the EMA of networks, 1,200 steps of the sample scene from photos: mlp +0.5 and +0.4 dB (two seeds), cam +0.1; hash,
whose table is left out, +0.05; photos as signals +0.1. Averages over more steps lose in so short fits, since the
weights still improve; so do distillations (trainers/distil.py). Gaussians end as the mean of the last tenth: one
photo a step is a noisy batch (benchmarks/gaussians_ablation.md has what it is worth).
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from neuralfields.fields.field import ParameterGroup

AVERAGED, DECAY = 0.9, 0.98


def network_weights(groups: list[ParameterGroup]) -> list[Tensor]:
    """The parameters of the networks, which are averaged; tables are not."""
    return [p for group in groups if group.role == "network" for p in group.parameters]


class MovingAverage:
    """Average of tensors, from the first call of `follow`: an EMA by `decay`, or the mean where it is None."""

    def __init__(self, decay: float | None = DECAY) -> None:
        self.decay, self.count = decay, 0
        self.of: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def follow(self, weights: Iterable[Tensor]) -> None:
        """Updates the averages after a step."""
        self.count += 1
        self.of = {weight: self._next(weight) for weight in weights}

    def _next(self, weight: Tensor) -> Tensor:
        average = self.of.get(weight)
        if average is None:
            return weight.detach().clone()
        return average.lerp_(weight.detach(), 1 / self.count if self.decay is None else 1 - self.decay)

    @torch.no_grad()
    def settle(self) -> bool:
        """Copies the averages to the weights, at the end of a fit; whether there were any."""
        found = bool(self.of)
        for weight, average in self.of.items():
            weight.copy_(average)
        self.of, self.count = {}, 0
        return found

    def tensors(self, names: dict[Tensor, str]) -> dict[str, Tensor]:
        """Averages by a weight's name, for a checkpoint; `count` belongs to them."""
        return {names[weight]: average for weight, average in self.of.items()}

    def restore(self, names: dict[Tensor, str], tensors: dict[str, Tensor], count: int = 0) -> None:
        """The reverse of `tensors`."""
        self.of = {w: tensors[name].to(w.device, copy=True) for w, name in names.items() if name in tensors}
        self.count = count
