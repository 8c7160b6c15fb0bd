"""Averages of the networks' weights over the last steps of a fit, which become the weights at its end.

  average <- DECAY average + (1 - DECAY) weight       in the last tenth of a fit

Steps of few samples throw weights around the place that they all aim at, and the average lies nearer to it. Trial runs,
1,200 steps of the sample scene from photos: mlp +0.5 and +0.4 dB (two seeds), cam +0.1; hash, whose table is left out,
+0.05; photos as signals +0.1. Over longer stretches fits of so few steps lose by it, since they still get better all
the time; so do distillations (distillation/distil.py).
"""

import torch
from torch import Tensor

from neuralfields.fields.field import ParameterGroup

AVERAGED, DECAY = 0.9, 0.98


class MovingAverage:
    """Of every parameter of the networks, from the first step that is followed."""

    def __init__(self) -> None:
        self.of: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def follow(self, groups: list[ParameterGroup]) -> None:
        """Takes in what a step has made of the networks."""
        networks = [p for group in groups if group.role == "network" for p in group.parameters]
        self.of = {p: self._next(p) for p in networks}

    def _next(self, parameter: Tensor) -> Tensor:
        average = self.of.get(parameter)
        return parameter.detach().clone() if average is None else average.lerp_(parameter.detach(), 1 - DECAY)

    @torch.no_grad()
    def settle(self) -> None:
        """The end: the averages become the weights."""
        for parameter, average in self.of.items():
            parameter.copy_(average)
        self.of = {}

    def tensors(self, names: dict[Tensor, str]) -> dict[str, Tensor]:
        """By parameter name, for a checkpoint."""
        return {names[p]: average for p, average in self.of.items()}

    def restore(self, names: dict[Tensor, str], tensors: dict[str, Tensor]) -> None:
        """The reverse of `tensors`."""
        self.of = {p: tensors[name].to(p.device, copy=True) for p, name in names.items() if name in tensors}
