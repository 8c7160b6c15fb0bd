"""Quantisation-aware training of a field: weights that are shown rounded learn the original's renderings.

Vocabulary
  latent   weights behind the rounded ones: float32, and what a file's whole numbers are rounded from
  shown    a part's latent at its step, as the file will hold it; the field has these while it renders

Straight through (arXiv:1308.3432): the picture is that of the shown weights, and the step that Adam takes from them is
taken by the latent ones.  rays -> shown field -> mean (rgb - original's)^2 over random backgrounds -> Adam -> latent
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.compression.field_file import Part, parts_of, rows_of
from neuralfields.compression.fields import Tune, rounded
from neuralfields.fields.field import Field
from neuralfields.models.loops import MOMENT, Loops
from neuralfields.models.model import Model, volume_of
from neuralfields.options import training as training_options
from neuralfields.pictures.background import premultiplied_over
from neuralfields.rendering.in_time import at_random
from neuralfields.rendering.volume import Volume
from neuralfields.trainers.hard_examples import ROUND, CameraPool
from neuralfields.trainers.radiance import next_rays, usual_samples
from neuralfields.trainers.sampled_cameras import Viewpoints
from neuralfields.trainers.trainer import StepReport, Trainer

RATE = 0.1  # of the learning rates of a fit
SHARE = 0.5  # of the samples of a fit's step
COUNTER = "counter."


class RoundedTrainer(Trainer):
    """Trains a field whose parts are shown at `steps` to the renderings of `original`, along rays of `pool`."""

    averaging = False

    def __init__(
        self,
        field: Field,
        steps: dict[int, float],
        original: Volume,
        pool: CameraPool,
        seed: int,
        rate: float = RATE,
    ) -> None:
        """`rate`: as a share of the learning rates of a fit."""
        super().__init__(field, seed, grown=True)
        self.optimiser.groups = [replace(g, learning_rate=rate * g.learning_rate) for g in self.optimiser.groups]
        self.original, self.pool, self.settings = original, pool, training_options.DEFAULT
        parts = parts_of(field)
        self.parts: dict[str, tuple[Part, float]] = {f"latent{i}": (parts[i], step) for i, step in steps.items()}
        self.latent = {name: self._rows(part).detach().clone() for name, (part, _) in self.parts.items()}
        self.rays = self.settings.fewest_rays

    def _rows(self, part: Part) -> Tensor:
        """The rows of a part in the field itself."""
        parameter = self.field.get_parameter(part.name).data
        return parameter.view(*rows_of(tuple(parameter.shape)))[part.begin : part.end]

    @torch.no_grad()
    def show(self) -> None:
        """Puts the rounded weights into the field."""
        for name, (part, step) in self.parts.items():
            self._rows(part).copy_(rounded(self.latent[name], step))

    @torch.no_grad()
    def follow(self) -> None:
        """Takes the step of the shown weights with the latent ones."""
        for name, (part, step) in self.parts.items():
            latent = self.latent[name]
            latent += self._rows(part) - rounded(latent, step)

    @torch.no_grad()
    def settle(self) -> None:
        """Leaves the latent weights in the field."""
        for name, (part, _) in self.parts.items():
            self._rows(part).copy_(self.latent[name])

    @property
    def volume(self) -> Volume:
        """The field as it is, in the original's space."""
        return replace(self.original, field=self.field)

    def step(self, progress: float) -> StepReport:
        """Takes a step; the report's loss is the squared error of rays against the original."""
        self.show()
        generator = self.generator()
        if self.pool.round != 1 + self.step_count // ROUND:
            self.pool.round = self.step_count // ROUND
            self.pool.begin()
        rays = at_random(self.pool.rays(self.rays, generator)[0], self.original.bounds, generator)
        jitter = torch.rand(len(rays), generator=generator, device=self.device)
        wanted = max(1, round(SHARE * usual_samples(self.device, self.settings)))
        with torch.no_grad():
            taught = self.original.sums(rays, jitter)
        learned = self.volume.sums(rays, jitter, 2 * wanted)
        background = torch.rand(len(rays), 3, generator=generator, device=self.device)
        pictures = [premultiplied_over(sums.rgb, sums.opacity, background) for sums in (learned, taught)]
        loss = ((pictures[0] - pictures[1]) * learned.valid[:, None]).square().mean()
        report = StepReport(len(rays), learned.samples, float(loss.detach()))
        self.descend(loss, progress)
        self.follow()
        self.rays = next_rays(self.rays, report.samples, wanted, self.settings)
        return report

    def state(self) -> dict[str, Tensor]:
        """What the next step depends on, for models/loops.py."""
        plain = {f"{MOMENT}{COUNTER}{name}": torch.tensor(number) for name, number in self.counters().items()}
        names = {p: name for name, p in self.field.named_parameters()}
        moments = {f"{MOMENT}{name}": tensor for name, tensor in self.optimiser.state(names).items()}
        return {**{f"field.{n}": t for n, t in self.field.state_dict().items()}, **self.latent, **moments, **plain}

    def counters(self) -> dict[str, int]:
        """Plain numbers that the next step depends on."""
        return super().counters() | {"rays": self.rays}

    def restored(self, kept: dict[str, Tensor]) -> None:
        """Takes the plain numbers of a state that was copied into this one's tensors."""
        found = {name.removeprefix(MOMENT + COUNTER): int(t) for name, t in kept.items() if COUNTER in name}
        self.step_count = found.get("step", self.step_count)
        self.optimiser.steps = found.get("adam_steps", self.optimiser.steps)
        self.rays = found.get("rays", self.rays)


def field_tuner(model: Model, cameras: Sequence[Camera], seed: int, loops: Loops) -> Tune:
    """Makes what tunes a model for steps of its parts, in so many steps: see compression/fields.py.

    `model`: the original; `cameras`: those of its capture, and others.
    """
    original, viewpoints = volume_of(model), Viewpoints(list(cameras), model.bounds)

    def tuned(latent: Model, steps: dict[int, float], count: int) -> Model:
        field, result = copy.deepcopy(latent.field), copy.deepcopy(latent.field)
        pool = CameraPool(viewpoints, list(cameras), seed, False, original.device)
        trainer = RoundedTrainer(field, steps, original, pool, seed)
        for i in loops.run(range(count), trainer.state, trainer.restored):
            trainer.step(i / count)
        trainer.settle()
        result.load_state_dict(field.state_dict())
        return replace(latent, field=result)  # without what rendering has made, which cannot be copied

    return tuned
