"""What every fit has in common: steps of Adam on a field, and the state that a step depends on, for a resumed fit.

  loss + the field's penalty -> backward -> Adam, with a field that may grow from stage to stage

Randomness is a function of (seed, step), never of what ran before.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neuralfields import ranks
from neuralfields.errors import NeuralfieldsError
from neuralfields.fields.field import Field
from neuralfields.models.quantise import freeze_rounded, round_in_turn
from neuralfields.training.optimiser import Optimiser
from neuralfields.training.weight_average import AVERAGED, MovingAverage

LEARNING_RATE_FALL = 0.1
ROUNDED = 0.9  # share of a fit after which what will be stored in 8 bits is rounded, one tensor after the other
BAD_STEPS_IN_A_ROW = 20


@dataclass(frozen=True)
class StepReport:
    """What one step did. `stage`: its name, where training has several; `rendered`: whether `loss` is of a picture,
    the squared error.
    """

    rays: int
    samples: int
    loss: float
    stage: str = ""
    rendered: bool = True

    @property
    def psnr(self) -> float | None:
        """Training PSNR of the step's pixels in dB, without rounding to 8 bits; of other losses none."""
        return None if not self.rendered else -10 * math.log10(max(self.loss, 1e-10))


def mixed_seed(seed: int, step: int) -> int:
    """One generator seed for each pair (splitmix64), so that neighbouring seeds share no step's randomness."""
    mask = (1 << 64) - 1
    z = (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) >> 1


class Trainer:
    """A field being fitted to anything: parameters, moments, the stage of its growth, the number of steps.

    A subclass makes a loss in its `step` and ends it with `descend`; it extends `tensors`, `counters` and `restore` by
    what its own next step depends on.

    `bits` 8: towards the end one tensor after the other takes the values that an 8-bit file gives back, and stays; the
    others learn around it. (Gradients of rounded weights that move exact ones, arXiv:1308.3432, never settle: of 45 dB
    a picture lost 3.1 by them, 2.0 by rounding at the end alone, and -0.2 in turn.) With 32 bits the networks end as
    their averages over the last steps (training/weight_average.py).
    """

    bits = 32
    averaging = True

    def __init__(self, field: Field, seed: int, grown: bool = False) -> None:
        """`grown`: the field goes on from what it is, instead of growing from its first stage."""
        self.field, self.seed = field, seed
        self.stage = len(field.stages())
        self.step_count = 0
        self.bad_steps = 0
        self.rounded = 0
        if self.stage and not grown:
            self.stage = 0
            field.grow(0)
        self.optimiser = Optimiser(field)
        self.averages = MovingAverage()

    def step(self, progress: float) -> StepReport:
        """One step; `progress` in [0, 1] says how far the fit is, for the learning rate and the growth."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the field is."""
        return next(self.field.parameters()).device

    def generator(self, rank: int = 0) -> torch.Generator:
        """The randomness of this step, on the field's device; of a process's own (see ranks.py) by its rank."""
        seed = mixed_seed(self.seed, rank) if rank else self.seed
        return torch.Generator(self.device).manual_seed(mixed_seed(seed, self.step_count))

    def advance(self, progress: float) -> None:
        """Begins a step: lets the field grow to the stage of that progress; 1 ends the fit, and no step follows."""
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
        """Ends a step: backward and Adam; where the loss or a gradient is not finite nothing changes."""
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
                self.averages.follow(self.optimiser.groups)
            self.bad_steps = 0
        else:
            self._skip()
        self.step_count += 1

    def _gradients_finite(self, loss_finite: bool) -> bool:
        """Looks at the networks' gradients: what is wrong in a grid's gradient has passed through them."""
        networks = [p for group in self.optimiser.groups if not group.sparse for p in group.parameters]
        finite = [torch.isfinite(p.grad).all() for p in networks if p.grad is not None]
        return loss_finite and (not finite or bool(torch.stack(finite).all()))  # one wait for a GPU, not one each

    def _skip(self) -> None:
        """Too many such steps in a row are an error that says why."""
        for parameter in self.field.parameters():
            parameter.grad = None
        self.bad_steps += 1
        if self.bad_steps >= BAD_STEPS_IN_A_ROW:
            bad = [name for name, p in self.field.named_parameters() if not bool(torch.isfinite(p).all())]
            culprit = f"parameter {bad[0]} is not finite" if bad else "the loss is not finite"
            raise NeuralfieldsError(
                f"{culprit} for {self.bad_steps} steps, now at step {self.step_count}; lower --set learning_rate=..."
                " and --resume from the last checkpoint"
            )

    def tensors(self) -> dict[str, Tensor]:
        """Everything the next step depends on, for a checkpoint."""
        names = {p: name for name, p in self.field.named_parameters()}
        return {
            **{f"field.{name}": p.detach() for name, p in self.field.state_dict().items()},
            **{f"adam.{name}": m for name, m in self.optimiser.state(names).items()},
            **{f"average.{name}": a for name, a in self.averages.tensors(names).items()},
        }

    def counters(self) -> dict[str, int]:
        """The same, of plain numbers."""
        numbers = {"step": self.step_count, "adam_steps": self.optimiser.steps, "stage": self.stage}
        return numbers | {"rounded": self.rounded}

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
