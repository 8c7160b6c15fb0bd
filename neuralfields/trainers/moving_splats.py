"""Fits Gaussians to photos of a scene that moves: steps as in splats.py, each at the moment of its photo.

Each Gaussian also learns when it is there, for how long, and where it goes (motion.py; arXiv:2312.16812).
"""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from neuralfields.gaussians import Gaussians
from neuralfields.motion import briefest
from neuralfields.ops.project import View
from neuralfields.ops.splat_pass import Adam, Packed
from neuralfields.rendering.moving_splats import MotionRates, MovingPass, packed, unpacked
from neuralfields.trainers.splats import ROTATIONS_RATE, SplatTrainer
from neuralfields.trainers.trainer import mixed_seed

CENTRES_RATE, DURATIONS_RATE = 2e-3, 2e-2
LASTING = 1e-7
PATH_RATES = (3.2e-3, 6.4e-3, 6.4e-3)  # in extents, of each power: a Gaussian sees little of its path in one photo
# Photos' times by which a photo is drawn earlier or later than it was taken, at most: what explains it at its very
# moment alone explains little.
BLUR = 0.5
LAST = 0.02  # share of these rates at the end
EACH_PHOTO = 6.0  # Gaussians that a photo of one pixel may have


class MovingSplatTrainer(SplatTrainer):
    """Gaussians in time being fitted."""

    run: MovingPass
    free = False  # whether each may follow few photos: brief lives, paths of twice the rate, photos at their moments

    @cached_property
    def _briefest(self) -> float:
        moments = torch.tensor([photo.moment for photo in self.photos])
        return briefest(moments, 0.0) if self.free else briefest(moments)

    @property
    def gaussians(self) -> Gaussians:
        """The Gaussians as they are."""
        self.run.sync()
        return unpacked(self.state.values, self.antialiased)

    def packed(self, gaussians: Gaussians) -> Packed:
        """Gaussians with their motion in one core."""
        return packed(gaussians)

    def pass_of(self, values: Packed) -> MovingPass:
        """The pass of a moment."""
        return MovingPass(values)

    def _grow(self, progress: float, generator: torch.Generator) -> None:
        self.run.sync()
        super()._grow(progress, generator)

    def _forget(self) -> None:
        self.run.sync()
        super()._forget()
        self.run.replace(self.state.values)  # which reads the moments anew

    def weights(self) -> dict[Tensor, str]:
        """What is averaged, brought up to date."""
        self.run.sync()
        return super().weights()

    def tensors(self) -> dict[str, Tensor]:
        """Everything the next step depends on, for a checkpoint."""
        self.run.sync()
        return super().tensors()

    def _view(self, turn: int, smaller: int) -> View:
        """The photo's view; the pass goes to about its moment."""
        self.run.moment = self.photos[turn].moment
        if not self.free:
            generator = torch.Generator().manual_seed(mixed_seed(self.seed + 2, self.step_count))
            aside = BLUR * (2 * float(torch.rand((), generator=generator)) - 1) / len(self.photos)
            self.run.moment = min(max(self.run.moment + aside, 0.0), 1.0)
        return super()._view(turn, smaller)

    def _rates(self, progress: float) -> Adam:
        rates = super()._rates(progress)
        slower = LAST**progress
        paths = tuple(rate * self.extent * slower * (2 if self.free else 1) for rate in PATH_RATES)
        lives = CENTRES_RATE * slower, DURATIONS_RATE * slower
        self.run.rates = MotionRates(*lives, paths, 4 * ROTATIONS_RATE, LASTING, self._briefest)
        return rates


def budget_in_time(photos: int, pixels: int) -> int:
    """Gaussians that a fit may grow to where things move: by the number of photos, less by their pixels altogether.

    A moment is seen by few photos, which many Gaussians learn one by one: five scenes of about 110 photos gained
    0.5 to 2.2 dB by 6 thousand in place of 38 (of 100x100 pixels), two nothing by more than 12 thousand at 400x400.
    """
    return max(1000, round(EACH_PHOTO * photos**0.75 * pixels**0.25))


def trainer_of(gaussians: Gaussians, *arguments: Any) -> SplatTrainer:
    """The trainer of Gaussians, by whether they move; arguments as of `SplatTrainer`."""
    kind = SplatTrainer if gaussians.motion is None else MovingSplatTrainer
    return kind(gaussians, *arguments)
