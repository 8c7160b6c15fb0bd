"""Distilling one field into another without photos: Progressive Volume Distillation (PVD, AAAI 2023) in three stages.

Vocabulary
  teacher, student   volumes that share bounds and, unless the recipe says otherwise, the teacher's occupancy
  points             samples along random rays, from the front until teacher and student are both opaque
  f, log_density, rgb  what the two halves of the field contract say at a point
  w                  a sample's weight in the teacher's picture

Stages (shares of the whole)
  1 features         mean (f_s - f_t)^2 / variance of f_t, where the student has the teacher's heads
  2 points           + density and colour at the same points; up to here nothing is rendered
  3 pictures         the rays' colours over random backgrounds, and a little of the losses of the points

Two preconditions carry the speed: the student inherits the teacher's heads where shapes allow, and its occupancy. All
losses are means; the paper's are sums of norms, with weights that depend on the batch. Log-densities count within
`clamp` alone: emptiness of any degree is empty, and every wall is a wall. (The paper clamps both sides, and a student
that is far below the range then gets no gradient; here the teacher alone is clamped, and a student may be beyond it.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuralfields.active import ROUND, HardRays, Poses
from neuralfields.cameras import Camera
from neuralfields.fields.field import Field, Told
from neuralfields.masks import Masked
from neuralfields.occupancy import Occupancy
from neuralfields.ops.composite import composite
from neuralfields.ops.contract import contract
from neuralfields.ops.march import Samples, march
from neuralfields.rays import Rays
from neuralfields.trainer import StepReport, Trainer
from neuralfields.training import look_again, next_rays, samples_of
from neuralfields.viewpoints import Viewpoints
from neuralfields.visible import chosen, visible
from neuralfields.volume import TruncatedExp, Volume

NETWORKS = "heads."  # parameters that read features: what a student may inherit
TOP_POINTS, OPAQUE_ENOUGH = 0.3, 0.5


@dataclass(frozen=True)
class Recipe:
    """What a distillation does; every part can be switched off, so that its worth can be measured."""

    features: float = 0.07
    """share of the whole that compares features alone; skipped where they are not comparable"""
    points: float = 0.10
    """share after it that compares density and colour at points"""
    clamp: tuple[float, float] | None = (-2.0, 8.0)
    """range of log-densities that count, in 1/inner cube"""
    inherit_heads: bool = True
    inherit_encoding: bool = True
    """whether a student that encodes points as its teacher does takes over the parameters of it"""
    inherit_occupancy: bool = True
    read_nodes: bool = True
    """whether a student whose nodes say what is there begins with what the teacher says there"""
    hard_cameras: bool = True
    """camera level of PVD-AL"""
    hard_rays: bool = True
    """ray level of PVD-AL"""
    heavy_points: bool = False
    """point level of PVD-AL: losses of the points only where there is weight"""
    point_weight: float = 0.02
    """of the losses of the points in the third stage, falling to a tenth"""


@dataclass(frozen=True)
class Points:
    """What both say at shared samples [S]: features, log-densities, densities, colours."""

    f: Tensor
    log_density: Tensor
    density: Tensor
    rgb: Tensor


def copy(student: Field, teacher: Field) -> bool:
    """Gives a student of the teacher's own architecture and Config all its parameters; whether it was one."""
    if type(student) is not type(teacher) or student.config != teacher.config or student.domain != teacher.domain:
        return False
    student.load_state_dict(teacher.state_dict())
    return True


def inherit(student: Field, teacher: Field) -> list[str]:
    """Copies the teacher's heads where names and shapes are the same; all of them or none. Returns what was copied."""
    mine, theirs = dict(student.named_parameters()), dict(teacher.named_parameters())
    names = [name for name in mine if name.startswith(NETWORKS)]
    same = {name for name in theirs if name.startswith(NETWORKS)} == set(names)
    if not names or not same or any(mine[name].shape != theirs[name].shape for name in names):
        return []
    with torch.no_grad():
        for name in names:
            mine[name].copy_(theirs[name])
    return names


def inherit_encoding(student: Field, teacher: Field) -> bool:
    """Copies what the features are read from, where both read it alike; whether they do."""
    mine, theirs = student.encoding_of(), teacher.encoding_of()
    if mine is None or theirs is None or mine.facts != theirs.facts or student.domain != teacher.domain:
        return False
    with torch.no_grad():
        for parameter, source in zip(mine.parameters, theirs.parameters, strict=True):
            parameter.copy_(source)
    return True


class Distillation(Trainer):
    """A student being taught; `real`: cameras of the capture, looked through beside those drawn."""

    def __init__(
        self,
        student: Field,
        teacher: Volume,
        viewpoints: Viewpoints,
        recipe: Recipe,
        seed: int,
        real: Sequence[Camera] = (),
    ) -> None:
        origin = teacher.field.inner if isinstance(teacher.field, Masked) else teacher.field
        self.copied = copy(student, origin)
        self.inherited = inherit(student, origin) if recipe.inherit_heads else []
        self.encoded = not self.copied and recipe.inherit_encoding and inherit_encoding(student, origin)
        self.read = not self.copied and recipe.read_nodes and student.read(_told(teacher, recipe.clamp))
        super().__init__(student, seed, grown=self.copied or self.read)
        self.teacher, self.recipe = teacher, recipe
        self.occupancy = None if recipe.inherit_occupancy else Occupancy(teacher.bounds.cascades)
        self.poses = Poses(viewpoints, list(real), seed, recipe.hard_cameras)
        self.pool = HardRays()
        self.rays = 1024
        self.points_compared = 0
        self.round_at = 0

    @property
    def volume(self) -> Volume:
        """The student as it is now."""
        bits = self.teacher.occupancy if self.occupancy is None else self.occupancy.bits
        return Volume(self.field, self.teacher.bounds, bits)

    def stage_of(self, progress: float) -> int:
        """1, 2 or 3 (see above)."""
        comparable = self.inherited and self.recipe.features > 0
        first = self.recipe.features if comparable else 0.0
        return 1 if progress < first else 2 if progress < self.recipe.features + self.recipe.points else 3

    def step(self, progress: float) -> StepReport:
        """One step; the report's loss is the squared error of the rays' colours over the same background."""
        self.advance(progress)
        generator = self.generator()
        if self.occupancy is not None:
            look_again(self.occupancy, self.volume, self.step_count, generator)
        stage = self.stage_of(progress)
        rays, camera = self._rays(generator)
        samples, directions = self._samples(rays, generator, stage)
        taught = self._teacher_says(samples, directions)
        if stage == 1:
            f = self.field.features(contract(samples.x, *self.teacher.space))
            loss, error = _feature_loss(f, taught.f), None
        else:
            learned = _say(self.field, self.teacher, samples, directions)
            taught_sums, weight = _composite(taught, samples)
            error = None
            loss = self._point_loss(learned, taught, weight, samples)
            if stage == 3:
                learned_sums, _ = _composite(learned, samples)
                background = torch.rand(len(rays), 3, generator=generator)
                difference = _over(learned_sums, background) - _over(taught_sums, background)
                error = difference.detach().square().mean(1)
                fading = self.recipe.point_weight * 0.1**progress
                loss = difference.square().mean() + fading * loss
        report = StepReport(len(rays), len(samples.t), float(loss.detach() if error is None else error.mean()))
        self.descend(loss, progress)
        if error is not None:
            self._learn_what_is_hard(rays, camera, error)
        self.rays = next_rays(self.rays, report.samples, samples_of(self.field, self.device))
        return report

    def _rays(self, generator: torch.Generator) -> tuple[Rays, Tensor]:
        """New rays with the camera of each, and behind them those that are looked at again."""
        if self.step_count - self.round_at >= ROUND:
            self.poses.end()
            self.round_at = self.step_count
        rays, camera = self.poses.rays(self.rays, generator)
        if self.recipe.hard_rays:
            again = self.pool.draw(self.rays, generator)
            rays = Rays(torch.cat([rays.origins, again.origins]), torch.cat([rays.directions, again.directions]))
        return rays, camera

    def _learn_what_is_hard(self, rays: Rays, camera: Tensor, error: Tensor) -> None:
        self.poses.learn(camera, error[: len(camera)])
        if self.recipe.hard_rays:
            self.pool.learn(rays, error)

    @torch.no_grad()
    def _samples(self, rays: Rays, generator: torch.Generator, stage: int) -> tuple[Samples, Tensor]:
        """Samples that the teacher sees or, once pictures count, that either sees; and their rays' directions."""
        volume = self.volume
        origins, directions = volume.normalise(rays)
        jitter = torch.rand(len(rays), generator=generator)
        samples = march(origins, directions, jitter, volume.occupancy, volume.settings())
        index, _ = visible(samples, self.teacher.density)
        if stage == 3:
            also, _ = visible(samples, volume.density)
            index = torch.cat([index, also]).unique()
        samples = chosen(samples, index)
        return samples, directions[samples.ray]

    @torch.no_grad()
    def _teacher_says(self, samples: Samples, directions: Tensor) -> Points:
        return _say(self.teacher.field, self.teacher, samples, directions)

    def _point_loss(self, learned: Points, taught: Points, weight: Tensor, samples: Samples) -> Tensor:
        """Density and colour at the points, and features where they can be compared; a mean over points."""
        keep = torch.ones_like(weight, dtype=torch.bool)
        if self.recipe.heavy_points:
            _, mine = _composite(Points(*(t.detach() for t in vars(learned).values())), samples)
            keep = _heavy(weight, samples) | _heavy(mine, samples)
        self.points_compared += int(keep.sum())
        target, value = taught.log_density[keep], learned.log_density[keep]
        difference = value - target
        if self.recipe.clamp is not None:
            low, high = self.recipe.clamp
            target = target.clamp(low, high)
            beyond = ((target == low) & (value < low)) | ((target == high) & (value > high))
            difference = torch.where(beyond, 0, value - target)
        loss = _mean(torch.nn.functional.smooth_l1_loss(difference, torch.zeros_like(difference), reduction="none"))
        share = weight[keep] + 1e-3
        colour = (learned.rgb[keep] - taught.rgb[keep]).square().mean(1)
        loss = loss + 10 * (share * colour).sum() / share.sum().clamp(min=1e-6)
        if self.inherited:
            loss = loss + _feature_loss(learned.f[keep], taught.f[keep])
        return loss


def _told(teacher: Volume, clamp: tuple[float, float] | None) -> Told:
    """The teacher as a student reads it: log-densities within the clamp."""

    def told(x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        log_density, rgb = teacher.field.decode(teacher.field.features(x), directions)
        return (log_density if clamp is None else log_density.clamp(*clamp)), rgb

    return told


def _say(field: Field, volume: Volume, samples: Samples, directions: Tensor) -> Points:
    f = field.features(contract(samples.x, *volume.space))
    log_density, rgb = field.decode(f, directions)
    return Points(f, log_density, TruncatedExp.apply(log_density), rgb)


def _composite(points: Points, samples: Samples) -> tuple[Tensor, Tensor]:
    return composite(points.density, samples.length, samples.t, points.rgb, samples.offsets)


def _over(sums: Tensor, background: Tensor) -> Tensor:
    return sums[:, :3] + (1 - sums[:, 3:4]) * background


def _mean(values: Tensor) -> Tensor:
    """The mean; 0 of nothing."""
    return values.sum() / max(values.numel(), 1)


def _feature_loss(f: Tensor, taught: Tensor) -> Tensor:
    """Squared difference in units of the teacher's own variance; a mask behind the features is left out."""
    taught = taught[:, : f.shape[1]]
    scale = taught.var(0, unbiased=False).mean().clamp(min=1e-8) if len(taught) else 1.0
    return _mean((f - taught).square()) / scale


def _heavy(weight: Tensor, samples: Samples) -> Tensor:
    """The heaviest 30 % of a ray's samples, on rays that are opaque enough [S] (PVD-AL's point level)."""
    ray, count = samples.ray, samples.offsets.diff()
    order = weight.argsort(descending=True)
    order = order[ray[order].argsort(stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order)) - samples.offsets[ray[order]]
    opacity = torch.zeros(len(count), dtype=weight.dtype).index_add_(0, ray, weight)
    return (rank < torch.ceil(TOP_POINTS * count[ray])) & (opacity[ray] >= OPAQUE_ENOUGH)
