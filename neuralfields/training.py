"""One training step of a field, and the state that a step depends on: nothing else, so that a fit can be resumed.

  batch of pixels -> rays -> march, field, composite -> squared error + distortion -> backward -> Adam -> occupancy

Randomness is a function of (seed, step), never of what ran before. The number of rays follows the number of samples
that the last step took, so that every step costs about the same.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neuralfields.errors import NeuralfieldsError
from neuralfields.fields.field import Field
from neuralfields.occupancy import Occupancy
from neuralfields.optim import Optimiser
from neuralfields.pixels import Pixels
from neuralfields.scene import Bounds
from neuralfields.volume import Volume, finish, render_sums

# Small batches win on a CPU: twice the samples a step learn less a second.
SAMPLES = 1 << 15
FEWEST_RAYS, MOST_RAYS = 64, 1 << 15
# At first everything is fog and a ray takes hundreds of samples: coarse steps clear it.
COARSE_STEPS, COARSENESS = 200, 4.0
# One look per 2^3 cells: eight times as many places are looked at for the same work.
OCCUPANCY_EVERY, OCCUPANCY_SHARE, OCCUPANCY_WARMUP = 16, 0.25, 400
LEARNING_RATE_FALL = 0.1
# A ray's weight in one place: clears the fog between camera and surface, which costs held-out quality and samples.
DISTORTION, DISTORTION_RAMP = 0.1, 1000
BAD_STEPS_IN_A_ROW = 20


@dataclass(frozen=True)
class Background:
    """What lies behind photos with alpha: a colour, or `random` in training and that colour in evaluation."""

    colour: tuple[float, float, float]
    random: bool


@dataclass(frozen=True)
class StepReport:
    """What one step did; `psnr` is of its own pixels, in dB."""

    rays: int
    samples: int
    loss: float

    @property
    def psnr(self) -> float:
        """Training PSNR of the step's pixels, without rounding to 8 bits."""
        return -10 * math.log10(max(self.loss, 1e-10))


def _mixed(seed: int, step: int) -> int:
    """One generator seed for each pair (splitmix64), so that neighbouring seeds share no step's randomness."""
    mask = (1 << 64) - 1
    z = (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) >> 1


class Training:
    """A field being fitted: parameters, moments, occupancy, the number of rays, the number of steps."""

    def __init__(self, field: Field, bounds: Bounds, pixels: Pixels, background: Background, seed: int) -> None:
        self.field, self.bounds, self.pixels, self.background, self.seed = field, bounds, pixels, background, seed
        self.optimiser = Optimiser(field)
        self.occupancy = Occupancy(bounds.cascades)
        self.rays = 512
        self.step_count = 0
        self.bad_steps = 0

    @property
    def volume(self) -> Volume:
        """What a renderer needs, as it is now."""
        return Volume(self.field, self.bounds, self.occupancy.bits)

    def step(self, progress: float) -> StepReport:
        """One step; `progress` in [0, 1] says how far the fit is, for the learning rate."""
        generator = torch.Generator().manual_seed(_mixed(self.seed, self.step_count))
        if self.step_count % OCCUPANCY_EVERY == 0:
            self.update_occupancy(generator)
        batch = self.pixels.batch(self.rays, generator)
        jitter = torch.rand(self.rays, generator=generator)
        colour = self._background(generator)
        coarseness = COARSENESS if self.step_count < COARSE_STEPS else 1.0
        sums = render_sums(self.volume, batch.rays, jitter, 2 * SAMPLES, coarseness)
        valid = sums.valid.bool()
        error = (finish(sums, colour, self.bounds.side).rgb - batch.over(colour)).square()
        count = valid.sum().clamp(min=1)
        loss = (error * valid[:, None]).sum() / (3 * count)
        ramp = DISTORTION * min(1.0, self.step_count / DISTORTION_RAMP)
        total = loss + ramp * (sums.distortion * valid).sum() / count
        report = StepReport(self.rays, sums.samples, float(loss.detach()))
        if bool(torch.isfinite(total)):
            total.backward()
        if self._gradients_finite(bool(torch.isfinite(total))):
            self.optimiser.step(LEARNING_RATE_FALL**progress)
            self.bad_steps = 0
        else:
            self._skip()
        self.step_count += 1
        change = SAMPLES / max(sums.samples, 1)
        self.rays = int(min(max(self.rays * min(max(change, 0.5), 2), FEWEST_RAYS), MOST_RAYS))
        return report

    def update_occupancy(self, generator: torch.Generator) -> None:
        """Looks at a part of space again."""
        share = 1.0 if self.step_count < OCCUPANCY_WARMUP else OCCUPANCY_SHARE
        self.occupancy.update(self.volume.density, generator, share, coarse=True)

    def _background(self, generator: torch.Generator) -> Tensor:
        if self.background.random:
            return torch.rand(self.rays, 3, generator=generator)
        return torch.tensor(self.background.colour)

    def _gradients_finite(self, loss_finite: bool) -> bool:
        """Looks at the networks' gradients: what is wrong in a grid's gradient has passed through them."""
        networks = [p for group in self.optimiser.groups if not group.sparse for p in group.parameters]
        return loss_finite and all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in networks)

    def _skip(self) -> None:
        """A step whose loss or gradient is not finite changes nothing; too many in a row are an error that says why."""
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
            "occupancy.density": self.occupancy.density,
            "occupancy.bits": self.occupancy.bits,
        }

    def counters(self) -> dict[str, int]:
        """The same, of plain numbers."""
        return {
            "step": self.step_count,
            "rays": self.rays,
            "adam_steps": self.optimiser.steps,
            "cursor": self.occupancy.cursor,
        }

    def restore(self, tensors: dict[str, Tensor], counters: dict[str, int]) -> None:
        """The reverse of `tensors` and `counters`."""
        state = {name[6:]: t for name, t in tensors.items() if name.startswith("field.")}
        self.field.load_state_dict(state)
        names = {p: name for name, p in self.field.named_parameters()}
        moments = {name[5:]: t for name, t in tensors.items() if name.startswith("adam.")}
        self.optimiser.load(names, moments, counters["adam_steps"])
        self.occupancy.restore(tensors["occupancy.density"], tensors["occupancy.bits"], counters["cursor"])
        self.step_count, self.rays = counters["step"], counters["rays"]
