"""Base class of trainers: Adam steps on a field, learning-rate decay, coarse-to-fine stages, and state for checkpoints.

  loss + the field's regulariser -> backward -> Adam, with a field that may grow from stage to stage

Reproducible: randomness is a function of (seed, step), never of earlier calls.
"""

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from neuralfields import ranks
from neuralfields.errors import InputError, NeuralfieldsError
from neuralfields.fields.field import Field
from neuralfields.models.model import Model
from neuralfields.models.quantise import freeze_rounded, round_in_turn
from neuralfields.trainers.optimiser import Optimiser
from neuralfields.trainers.weight_average import AVERAGED, MovingAverage, network_weights

LEARNING_RATE_FALL = 0.1  # learning rate at the end of a fit, over that of its start
ROUNDED = 0.9  # fraction of a fit after which tensors are rounded to 8 bits, one after the other (with bits 8)
BAD_STEPS_IN_A_ROW = 20
MOST_SKIPPED = 0.001  # share of the steps, that nothing is said about


@dataclass(frozen=True)
class StepReport:
    """Report of a training step.

    `stage`: its name, where training has several; `rendered`: whether `loss` is the squared error of rendered colours.
    """

    rays: int
    samples: int
    loss: float
    stage: str = ""
    rendered: bool = True

    @property
    def psnr(self) -> float | None:
        """Training PSNR of the step's pixels in dB, without rounding to 8 bits; None for other losses."""
        return None if not self.rendered else -10 * math.log10(max(self.loss, 1e-10))


def mixed_seed(seed: int, step: int) -> int:
    """Hashes (seed, step) to a generator seed (splitmix64), so that neighbouring seeds share no randomness."""
    mask = (1 << 64) - 1
    z = (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) >> 1


class Trainer:
    """Trains a field; its state: parameters, Adam moments, coarse-to-fine stage, number of steps.

    A subclass computes a loss in its `step` and ends it with `descend`; it extends `tensors`, `counters` and `restore`
    by the rest of the state that its next step depends on.

    `bits` 8 is quantisation-aware: towards the end one tensor after the other is rounded to the values of an 8-bit file
    and frozen; the others adapt. (The straight-through estimator, arXiv:1308.3432, does not converge: of 45 dB an image
    lost 3.1 by it, 2.0 by rounding at the end alone, and -0.2 in turn.) With 32 bits the networks end as the
    exponential moving average (EMA) of their weights over the last steps (trainers/weight_average.py).
    """

    bits = 32
    averaging = True

    def __init__(self, field: Field, seed: int, grown: bool = False) -> None:
        """`grown`: starts at the last coarse-to-fine stage, from the field's parameters, instead of the first."""
        self.field, self.seed = field, seed
        self.stage = len(field.stages())
        self.step_count = 0
        self.bad_steps = self.skipped = 0
        self.rounded = 0
        if self.stage and not grown:
            self.stage = 0
            field.grow(0)
        self.optimiser = Optimiser(field)
        self.averages = MovingAverage()

    def step(self, progress: float) -> StepReport:
        """Takes a training step; `progress` of the fit in [0, 1] sets learning rate and coarse-to-fine stage."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Device of the field."""
        return next(self.field.parameters()).device

    def generator(self, rank: int = 0) -> torch.Generator:
        """Random generator of this step, on the field's device; each `rank` of several processes has its own."""
        seed = mixed_seed(self.seed, rank) if rank else self.seed
        return torch.Generator(self.device).manual_seed(mixed_seed(seed, self.step_count))

    def advance(self, progress: float) -> None:
        """Begins a step: grows the field to the coarse-to-fine stage of that progress; 1 ends the fit."""
        stage = sum(progress >= share for share in self.field.stages())
        if stage > self.stage:
            self._grow(stage)
            self.optimiser.renew()
        if self.bits == 8 and ROUNDED <= progress < 1:
            self.rounded = round_in_turn(self.field, (progress - ROUNDED) / (1 - ROUNDED), self.rounded)
        if progress >= 1:
            self.averages.settle()

    def _grow(self, stage: int) -> None:
        self.field.grow(stage)
        self.stage = stage

    def descend(self, loss: Tensor, progress: float) -> None:
        """Ends a step: backward pass and Adam; skipped where the loss or a gradient is not finite."""
        penalty = self.field.penalty()
        total = loss if penalty is None else loss + penalty
        finite = bool(torch.isfinite(total))
        if finite:
            total.backward()
        finite = ranks.average((p for group in self.optimiser.groups for p in group.parameters), finite)
        if self._gradients_finite(finite):
            if self.rounded:
                freeze_rounded(self.field, self.rounded)
            self.optimiser.step(LEARNING_RATE_FALL**progress)
            if self.averaging and self.bits != 8 and progress >= AVERAGED:
                self.averages.follow(network_weights(self.optimiser.groups))
            self.bad_steps = 0
        else:
            self._skip()
        self.step_count += 1

    def _gradients_finite(self, loss_finite: bool) -> bool:
        """Checks the networks' gradients; those of grids have passed through the networks, so these are enough."""
        networks = [p for group in self.optimiser.groups if not group.sparse for p in group.parameters]
        finite = [torch.isfinite(p.grad).all() for p in networks if p.grad is not None]
        return loss_finite and (not finite or bool(torch.stack(finite).all()))  # one wait for a GPU, not one each

    def _skip(self) -> None:
        """Skips a step; raises NeuralfieldsError after BAD_STEPS_IN_A_ROW of them."""
        for parameter in self.field.parameters():
            parameter.grad = None
        self.bad_steps += 1
        self.skipped += 1
        if self.bad_steps >= BAD_STEPS_IN_A_ROW:
            bad = [name for name, p in self.field.named_parameters() if not bool(torch.isfinite(p).all())]
            culprit = f"parameter {bad[0]} is not finite" if bad else "the loss is not finite"
            raise NeuralfieldsError(
                f"{culprit} for {self.bad_steps} steps, now at step {self.step_count}; lower --set learning_rate=..."
                " and --resume from the last checkpoint"
            )

    def tensors(self) -> dict[str, Tensor]:
        """Tensors that the next step depends on, for a checkpoint."""
        names = {p: name for name, p in self.field.named_parameters()}
        return {
            **{f"field.{name}": p.detach() for name, p in self.field.state_dict().items()},
            **{f"adam.{name}": m for name, m in self.optimiser.state(names).items()},
            **{f"average.{name}": a for name, a in self.averages.tensors(names).items()},
        }

    def counters(self) -> dict[str, int]:
        """Plain numbers that the next step depends on, for a checkpoint."""
        numbers = {"step": self.step_count, "adam_steps": self.optimiser.steps, "stage": self.stage}
        return numbers | {"rounded": self.rounded, "skipped": self.skipped}

    def remarks(self) -> list[str]:
        """What the steps have to say at the end of a fit, a line each."""
        if self.skipped <= MOST_SKIPPED * self.step_count:
            return []
        return [
            f"{self.skipped} of {self.step_count} steps were skipped, as their loss or a gradient was not finite; try a"
            " lower --set learning_rate=..."
        ]

    def continues(self, model: Model) -> bool:
        """Whether a finished model's field has the settings of the one that is fitted here."""
        return asdict(model.field.config) == asdict(self.field.config)

    def adopt(self, model: Model) -> None:
        """Goes on from a finished model of the same field: its parameters and number of steps, new moments.

        Raises InputError where the parameters have other shapes.
        """
        if self.stage < len(self.field.stages()):
            self._grow(len(self.field.stages()))
            self.optimiser.renew()
        try:
            self.field.load_state_dict(model.field.state_dict())
        except RuntimeError:
            raise InputError("the finished model has parameters of other shapes; start anew with --overwrite") from None
        self.step_count = int(model.made.get("steps", 0))

    def restore(self, tensors: dict[str, Tensor], counters: dict[str, int]) -> None:
        """The reverse of `tensors` and `counters`."""
        if counters["stage"] != self.stage:
            self._grow(counters["stage"])
            self.optimiser.renew()
        state = {name[6:]: t for name, t in tensors.items() if name.startswith("field.")}
        self.field.load_state_dict(state)
        names = {p: name for name, p in self.field.named_parameters()}
        moments = {name[5:]: t for name, t in tensors.items() if name.startswith("adam.")}
        self.optimiser.load(names, moments, counters["adam_steps"])
        averages = {name[8:]: t for name, t in tensors.items() if name.startswith("average.")}
        self.averages.restore(names, averages)
        self.step_count, self.rounded = counters["step"], counters.get("rounded", 0)
        self.skipped = counters.get("skipped", 0)
