"""Training step of a radiance field on photos.

  pixels -> rays -> ray marching, field, compositing -> photometric + distortion loss -> descend -> occupancy grid

Dynamic batch size: the number of rays follows the number of samples that the last step took, so that every step costs
about the same.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from neuralfields import ranks
from neuralfields.errors import InputError
from neuralfields.fields.field import Field
from neuralfields.models.model import Model
from neuralfields.options import training as training_options
from neuralfields.options.training import TrainingSettings
from neuralfields.rays import RaySums
from neuralfields.rendering.occupancy import Occupancy
from neuralfields.rendering.volume import Volume, finish
from neuralfields.scene import Bounds
from neuralfields.splatting.swept_depth import FREE_UNTIL
from neuralfields.supervision.adjustments import NONE, Adjustments, concatenate_rays, split_sums
from neuralfields.supervision.pixels import Batch, Pixels
from neuralfields.supervision.sparse_depth import depth_loss
from neuralfields.trainers.trainer import StepReport, Trainer

# Share and steps of a fit after which a scene that moves has an occupancy grid for each segment of time: before, little
# is known of when a cell is empty, and eight grids would take eight times as long to learn.
SPLIT_AT, SPLIT_AFTER = 0.3, 1000  # steps


@dataclass(frozen=True)
class Background:
    """Background of a scene: a colour, or `random` colours in training and that colour in evaluation."""

    colour: tuple[float, float, float]
    random: bool


def usual_samples(device: torch.device, settings: TrainingSettings) -> int:
    """Default number of samples of a step on this device."""
    return settings.samples * (settings.gpu_times if device.type == "cuda" else 1)


def samples_of(field: Field, device: torch.device, settings: TrainingSettings) -> int:
    """Number of samples of a step for this field and device."""
    return round(field.BATCH * usual_samples(device, settings))


def next_rays(rays: int, samples: int, wanted: int, settings: TrainingSettings) -> int:
    """Number of rays of the next step, so that it takes `wanted` samples, after one whose `rays` took `samples`."""
    change = wanted / max(samples, 1)
    most = settings.most_rays * max(1, wanted // settings.samples)
    return int(min(max(rays * min(max(change, 0.5), 2), settings.fewest_rays), most))


def update_occupancy(
    occupancy: Occupancy, volume: Volume, step: int, generator: torch.Generator, settings: TrainingSettings
) -> None:
    """Updates a part of the occupancy grid every few steps; all of it during warm-up, for fused fields.

    A field without a fused renderer would spend a third of its time with full updates.
    """
    if step % settings.occupancy_every == 0:
        early = step < settings.occupancy_warmup and volume.field.fused() is not None
        share = settings.occupancy_share * min(1.0, 2 / occupancy.segments)
        occupancy.update(volume.density, generator, 1.0 if early else share, coarse=True)


class RadianceTrainer(Trainer):
    """Trainer of a radiance field on photos; its state adds occupancy grid, number of rays and optional supervision."""

    def __init__(
        self,
        field: Field,
        bounds: Bounds,
        pixels: Pixels,
        background: Background,
        seed: int,
        adjustments: Adjustments = NONE,
        settings: TrainingSettings | None = None,
    ) -> None:
        super().__init__(field, seed)
        self.settings = settings or training_options.DEFAULT
        self.bounds, self.pixels, self.background, self.adjustments = bounds, pixels, background, adjustments
        self.occupancy = Occupancy(bounds.cascades, field.domain.dimensions == 4)
        self.rays = 512

    @property
    def volume(self) -> Volume:
        """The current field with its occupancy grid, to render."""
        return Volume(self.field, self.bounds, self.occupancy.bits)

    @property
    def finished(self) -> Volume:
        """The field as a model renders it: with the gaps in the occupancy's edges opened, if that is asked for."""
        return replace(self.volume, occupancy=self._final_bits())

    def _final_bits(self) -> Tensor:
        least = self.settings.open_edges
        return self.occupancy.edges_open(least) if least else self.occupancy.bits

    def occupied(self) -> Tensor:
        """The occupancy bits as a model holds them: of every segment of time, also where a short fit had one."""
        bits = self._final_bits()
        parts = bits.reshape(self.occupancy.segments, -1, bits.shape[1])
        return parts.repeat_interleave(self.field.domain.segments // len(parts), 0).flatten(0, 1)

    def step(self, progress: float) -> StepReport:
        """Takes a training step; `progress` of the fit in [0, 1] sets learning rate and coarse-to-fine stage."""
        self.advance(progress)
        if progress >= FREE_UNTIL:
            self.occupancy.release()
        late = progress >= SPLIT_AT and self.step_count >= SPLIT_AFTER
        if self.occupancy.moves and late and self.occupancy.segments == 1:
            self.occupancy.split()
        generator = self.generator()
        update_occupancy(self.occupancy, self.volume, self.step_count, generator, self.settings)
        if ranks.rank():  # all processes update the same cells, and draw rays of their own
            generator = self.generator(ranks.rank())
        batch = self.pixels.batch(self.rays, generator)
        batch = self._about_its_time(batch, generator, progress)
        jitter = torch.rand(self.rays, generator=generator, device=self.device)
        colour = self._background(generator)
        sums, depth = self._render(batch, jitter, generator, progress)
        picture = finish(self.adjustments.exposed(sums, batch.camera), colour, self.bounds.side)
        valid = sums.valid.bool()
        weight = self.adjustments.weight(valid, batch)
        error = (picture.rgb - batch.over(colour)).square()
        count = weight.sum().clamp(min=1)
        loss = (error * weight[:, None]).sum() / (3 * count)
        ramp = self.settings.distortion * min(1.0, self.step_count / self.settings.distortion_ramp)
        report = StepReport(self.rays, sums.samples, float(loss.detach()))
        total = loss + ramp * (sums.distortion * weight).sum() / count
        self.descend(total if depth is None else total + depth, progress)
        if not self.bad_steps:
            self.adjustments.follow((self.step_count, progress), batch, sums, (picture, colour), weight)
        self.rays = next_rays(self.rays, sums.samples, self._wanted, self.settings)
        return report

    def _about_its_time(self, batch: Batch, generator: torch.Generator, progress: float) -> Batch:
        """The batch with each ray some photos earlier or later, fewer and fewer over a fit.

        Each moment is seen by a photo or two, and a field can show what stands still otherwise at each of them. Of many
        cameras that film together as many photos are less time. It falls with what is left of the fit, and by half in
        some hundred steps besides, since what is fast is blurred by it.
        """
        times, bounds, settings = batch.rays.times, self.bounds.times, self.settings
        left = (1 - progress) * 0.5 ** (self.step_count / settings.time_jitter_halving)
        aside = settings.time_jitter * left / len(self.pixels.widths)
        if times is None or bounds is None or self.field.SMOOTH_IN_TIME or not aside:
            return batch
        first, last = bounds
        by = 2 * torch.rand(len(times), generator=generator, device=self.device) - 1
        times = (times + aside * (last - first) * by).clamp(first, last)
        return replace(batch, rays=replace(batch.rays, times=times))

    @property
    def _wanted(self) -> int:
        return samples_of(self.field, self.device, self.settings)

    def _render(
        self, batch: Batch, jitter: Tensor, generator: torch.Generator, progress: float
    ) -> tuple[RaySums, Tensor | None]:
        """Renders the batch's rays; also the depth loss where it is on."""
        adjust, points = self.adjustments, None
        rays = adjust.moved(batch.rays, batch.camera)
        share = 0.0 if adjust.depth is None else adjust.depth.weight_at(progress, self.settings.sparse_depth_weight)
        if share:
            points = adjust.depth.batch(generator)
            more = self.pixels.timed(points.rays, points.camera)
            rays, jitter = concatenate_rays(rays, jitter, adjust.moved(more, points.camera))
        coarseness = self.settings.coarseness if self.step_count < self.settings.coarse_steps else 1.0
        sums = self.volume.sums(rays, jitter, 2 * self._wanted, coarseness)
        if points is None:
            return sums, None
        sums, behind = split_sums(sums, len(batch.rays))
        return sums, depth_loss(behind, points, self.bounds.side, share)

    def _background(self, generator: torch.Generator) -> Tensor:
        if self.background.random:
            return torch.rand(self.rays, 3, generator=generator, device=self.device)
        return torch.tensor(self.background.colour, device=self.device)

    def tensors(self) -> dict[str, Tensor]:
        """State of the trainer, the occupancy grid and the optional supervision, for a checkpoint."""
        grid = {"occupancy.density": self.occupancy.density, "occupancy.bits": self.occupancy.bits}
        return super().tensors() | grid | self.adjustments.tensors()

    def counters(self) -> dict[str, int]:
        """Counters of the trainer, the number of rays, and the next part of the occupancy grid to update."""
        return super().counters() | {"rays": self.rays, "cursor": self.occupancy.cursor}

    def adopt(self, model: Model) -> None:
        """The same with its occupancy grid; optional supervision begins anew."""
        super().adopt(model)
        if model.bounds != self.bounds:
            raise InputError("the finished model is of a scene with other bounds; start anew with --overwrite")
        if model.occupancy is not None:
            self.occupancy.adopt(model.occupancy)

    def restore(self, tensors: dict[str, Tensor], counters: dict[str, int]) -> None:
        """The reverse of `tensors` and `counters`."""
        super().restore(tensors, counters)
        self.occupancy.restore(tensors["occupancy.density"], tensors["occupancy.bits"], counters["cursor"])
        self.rays = counters["rays"]
        self.adjustments.restore(tensors)
