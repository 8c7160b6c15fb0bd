"""Knowledge distillation of fields without photos: Progressive Volume Distillation (PVD, AAAI 2023) in three stages.

Vocabulary
  teacher, student   volumes that share bounds and, unless the recipe says otherwise, the teacher's occupancy
  points             samples along random rays, with early termination by the teacher, shuffled (point_pool.py)
  f, log_density, rgb  features, log-density and colour at a point, by the two halves of the field contract
  weight             compositing weight of a sample in the teacher's render

Stages (fractions of the whole)
  1 features         mean (f_s - f_t)^2 / variance of f_t, where the student copied the teacher's heads
  2 points           point-wise supervision: density and colour at the same points, without rendering
  3 pictures         photometric supervision: rendered colours over random backgrounds, each with its own samples

Three things make it fast: the teacher's occupancy grid; shuffled points; and steps of a quarter of the samples of a
step on photos, which are enough where every sample is supervised (stage 3, in which coordinate networks gain the last
decibels, takes steps four times as large). Inherited heads, which the paper's speed rests on, gain nothing here
(benchmarks/convert_ablation_sample_mlp.md): they stay an option. The paper evaluates the teacher at the student's
samples in the third stage as well; here the teacher renders by itself, with its fused renderer and its own early
termination, and supervises the same colour.

All losses are means; the paper's are sums of norms, with weights that depend on the batch. Target log-densities are
clamped to `clamp`: beyond it space is empty, or opaque, to any degree. (The paper clamps both sides, and a student far
below the range then gets no gradient; here the teacher alone is clamped, and a student beyond it has no error.)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.fields.field import Field, Shown, Teacher
from neuralfields.ops.composite import composite
from neuralfields.ops.occupancy_bits import CELLS, grown, occupied
from neuralfields.options import training as training_options
from neuralfields.options.training import TrainingSettings
from neuralfields.pictures.background import premultiplied_over
from neuralfields.rays import Rays, Samples
from neuralfields.rendering.in_time import at_random, in_segments
from neuralfields.rendering.masked import Masked
from neuralfields.rendering.occupancy import Occupancy
from neuralfields.rendering.visible_samples import take, visible_samples
from neuralfields.rendering.volume import PIECE, Volume
from neuralfields.trainers.hard_examples import ROUND, CameraPool, RayPool
from neuralfields.trainers.picture_size import picture_side, points_for
from neuralfields.trainers.point_pool import PointPool, Points
from neuralfields.trainers.radiance import next_rays, samples_of, update_occupancy, usual_samples
from neuralfields.trainers.sampled_cameras import Viewpoints
from neuralfields.trainers.trainer import StepReport, Trainer

STAGES = {1: "features", 2: "points", 3: "pictures"}
NETWORKS = "heads."  # parameters of the heads, which a student may inherit
TOP_POINTS, OPAQUE_ENOUGH = 0.3, 0.5
# Points of low weight: as a fraction of those of high weight, and at least of all, so that translucent ones count too.
OTHERS, FEWEST = 0.25, 0.02
POOL_STEPS, MOST_POINTS = 64, 1 << 18  # size of the pool that is shuffled: points of so many steps, and at most this
RAYS = 4096  # along which the teacher is sampled at once
LIGHT = 0.01  # weight below which a sample is mostly empty space


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of a distillation; every part can be switched off, for ablations."""

    features: float = 0.07
    """fraction of the steps in stage 1 (features alone); skipped where features are not comparable"""
    points: float | None = None
    """fraction of the steps in stage 2 (density and colour at points), which also takes that of a skipped stage 1;
    none: 0.68, or 0.83 for large pictures (picture_size.py)"""
    colour: float = 30.0
    """weight of the squared error of a point's colour beside the error of its log-density; at three times hash to mlp
    loses 0.5 dB and rbf to lowrank 0.3, and voxels to hash gains 0.5; at a third they lose 0.1, nothing and 0.2"""
    clamp: tuple[float, float] | None = (-2.0, 8.0)
    """range of target log-densities, in 1/inner cube"""
    inherit_heads: bool = False
    """whether a student copies the teacher's heads where shapes allow, and learns the features that they read"""
    inherit_encoding: bool = True
    """whether a student with the encoding of its teacher copies its parameters"""
    inherit_occupancy: bool = True
    """whether a student uses the teacher's occupancy grid, instead of learning its own"""
    read_nodes: bool = True
    """whether a grid whose nodes are samples of the field is initialised from the teacher (Field.initialise_from)"""
    hard_cameras: bool = True
    """hard-example mining of cameras: camera level of PVD-AL"""
    hard_rays: bool = True
    """hard-example mining of rays: ray level of PVD-AL"""
    heavy_points: bool = True
    """importance sampling of points: point level of PVD-AL, mostly where teacher or student have weight; all three
    levels together gain 0.3 dB from hash to mlp, 0.6 from rbf to lowrank and 0.1 from hash to triplane"""
    shuffle: bool = True
    """whether points are shuffled, or drawn ray by ray"""
    step_share: float = 0.25
    """samples of a step, as a fraction of those of a step on photos"""
    picture_share: float = 0.25
    """samples of a step of stage 3, as a fraction of those of a grid's step on photos: four times those of a
    coordinate network, which gains up to 0.3 dB by it, and nothing by as much more time in small steps"""


def copy(student: Field, teacher: Field) -> bool:
    """Copies all parameters to a student of the teacher's architecture and Config; returns whether it was one."""
    if type(student) is not type(teacher) or student.config != teacher.config or student.domain != teacher.domain:
        return False
    student.load_state_dict(teacher.state_dict())
    return True


def inherit(student: Field, teacher: Field) -> list[str]:
    """Copies the teacher's heads where names and shapes are the same; all of them or none. Returns their names."""
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
    """Copies the parameters of the encoding where student and teacher share its layout; returns whether they do."""
    mine, theirs = student.encoding_of(), teacher.encoding_of()
    if mine is None or theirs is None or mine.facts != theirs.facts or student.domain != teacher.domain:
        return False
    with torch.no_grad():
        for parameter, source in zip(mine.parameters, theirs.parameters, strict=True):
            parameter.copy_(source)
    return True


class Distillation(Trainer):
    """Trainer that distils a teacher into a student, on the teacher's device.

    `real`: cameras of the capture, used beside sampled ones.
    """

    averaging = False  # still improving at its end: a moving average of the weights is 0.03 to 0.08 dB worse

    def __init__(
        self,
        student: Field,
        teacher: Volume,
        viewpoints: Viewpoints,
        recipe: Recipe,
        seed: int,
        real: Sequence[Camera] = (),
        settings: TrainingSettings | None = None,
    ) -> None:
        origin = teacher.field.inner if isinstance(teacher.field, Masked) else teacher.field
        self.copied = copy(student, origin)
        self.inherited = inherit(student, origin) if recipe.inherit_heads else []
        self.encoded = not self.copied and recipe.inherit_encoding and inherit_encoding(student, origin)
        self.initialised = (
            not self.copied
            and recipe.read_nodes
            and student.initialise_from(_teacher_at(teacher, recipe.clamp), shown_by(teacher))
        )
        super().__init__(student, seed, grown=self.copied or self.initialised)
        if recipe.points is None:
            recipe = replace(recipe, points=points_for(picture_side(viewpoints.cameras)))
        self.teacher, self.recipe, self.settings = teacher, recipe, settings or training_options.DEFAULT
        self.occupancy = None
        if not recipe.inherit_occupancy:
            self.occupancy = Occupancy(teacher.bounds.cascades, teacher.moves).to(self.device)
        self.poses = CameraPool(viewpoints, list(real), seed, recipe.hard_cameras, self.device)
        self.pool = RayPool(self.device)
        size = min(MOST_POINTS, POOL_STEPS * self._wanted()) if recipe.shuffle else 1
        self.points = PointPool(self._sample_teacher, size, recipe.shuffle)
        self.rays = 256
        self.points_compared = self.rays_compared = 0
        self.round_at = 0

    @property
    def volume(self) -> Volume:
        """The current student with its occupancy grid."""
        bits = self.teacher.occupancy
        if self.occupancy is not None:
            bits = in_segments(self.occupancy.bits, bits)
        return Volume(self.field, self.teacher.bounds, bits)

    def stage_of(self, progress: float) -> int:
        """Stage 1, 2 or 3 (see above) at that progress."""
        comparable = self.inherited and self.recipe.features > 0
        first = self.recipe.features if comparable else 0.0
        return 1 if progress < first else 2 if progress < self.recipe.features + self.recipe.points else 3

    def step(self, progress: float) -> StepReport:
        """Takes a training step; the report's loss is that of points or, in stage 3, the squared error of rays."""
        self.advance(progress)
        generator = self.generator()
        if self.occupancy is not None:
            update_occupancy(self.occupancy, self.volume, self.step_count, generator, self.settings)
        stage = self.stage_of(progress)
        if stage < 3:
            return self._compare_points(stage, progress, generator)
        return self._compare_pictures(progress, generator)

    def _compare_points(self, stage: int, progress: float, generator: torch.Generator) -> StepReport:
        taught = self.points.draw(self._wanted(), generator)
        self.points_compared += len(taught)
        f = self.field.features(taught.x)
        loss = self._feature_loss(f, taught) if stage == 1 else self._point_loss(f, taught)
        report = StepReport(0, len(taught), float(loss.detach()), STAGES[stage], rendered=False)
        self.descend(loss, progress)
        return report

    def _compare_pictures(self, progress: float, generator: torch.Generator) -> StepReport:
        """Stage 3: teacher and student each render with their own samples, by a fused renderer where there is one."""
        rays, camera = self._rays(generator)
        jitter = torch.rand(len(rays), generator=generator, device=self.device)
        with torch.no_grad():
            taught = self.teacher.sums(rays, jitter)
        wanted = max(1, round(self.recipe.picture_share * usual_samples(self.device, self.settings)))
        learned = self.volume.sums(rays, jitter, 2 * wanted)
        background = torch.rand(len(rays), 3, generator=generator, device=self.device)
        pictures = [premultiplied_over(sums.rgb, sums.opacity, background) for sums in (learned, taught)]
        difference = (pictures[0] - pictures[1]) * learned.valid[:, None]
        error = difference.detach().square().mean(1)
        report = StepReport(len(rays), learned.samples, float(error.mean()), STAGES[3])
        self.descend(difference.square().mean(), progress)
        self.rays_compared += len(rays)
        self.poses.learn(camera, error[: len(camera)])
        if self.recipe.hard_rays:
            self.pool.learn(rays, error)
        self.rays = next_rays(self.rays, report.samples, wanted, self.settings)
        return report

    def notes(self) -> list[str]:
        """What the student begins with of the teacher's, in words."""
        found = (
            (self.inherited, "the student copies the teacher's networks"),
            (self.encoded, "the student copies the teacher's encoding"),
            (self.initialised, "the student's nodes are initialised from the teacher"),
        )
        return [line for there, line in found if there]

    def counts(self) -> str:
        """Counts of points and rays, and of the hard examples among them, in words."""
        levels = [
            f"{self.poses.from_pool} cameras" if self.recipe.hard_cameras else "",
            f"{self.pool.seen_again} rays" if self.recipe.hard_rays else "",
            "points by weight" if self.recipe.heavy_points else "",
        ]
        again = " and ".join(filter(None, levels)) or "none"
        return f"compared {self.points_compared} points and {self.rays_compared} rays; hard examples: {again}"

    def tensors(self) -> dict[str, Tensor]:
        """State of the trainer, its points and hard rays, for a checkpoint; whole without hard cameras."""
        return super().tensors() | self.points.tensors() | self.pool.tensors()

    def counters(self) -> dict[str, int]:
        """Counters of the trainer, of points and rays, and the round of cameras."""
        own = {"rays": self.rays, "round": self.poses.round, "round_at": self.round_at, "again": self.pool.seen_again}
        return super().counters() | own | {"points": self.points_compared, "pictures": self.rays_compared}

    def restore(self, tensors: dict[str, Tensor], counters: dict[str, int]) -> None:
        """The reverse of `tensors` and `counters`."""
        super().restore(tensors, counters)
        self.points.restore(tensors)
        self.pool.restore(tensors, counters["again"])
        self.poses.go_to(counters["round"])
        self.rays, self.round_at = counters["rays"], counters["round_at"]
        self.points_compared, self.rays_compared = counters["points"], counters["pictures"]

    def _wanted(self) -> int:
        """Number of points of a step."""
        return max(1, round(self.recipe.step_share * samples_of(self.field, self.device, self.settings)))

    def _rays(self, generator: torch.Generator) -> tuple[Rays, Tensor]:
        """New rays with the camera of each, and hard examples behind them."""
        self._next_round()
        rays, camera = self.poses.rays(self.rays, generator)
        rays = at_random(rays, self.teacher.bounds, generator)
        if self.recipe.hard_rays:
            again = self.pool.draw(self.rays, generator)
            rays = Rays.concatenate([rays, again]) if len(again) else rays
        return rays, camera

    def _next_round(self) -> None:
        """Samples new cameras when a round has had its steps."""
        if self.step_count - self.round_at >= ROUND:
            self.poses.end()
            self.round_at = self.step_count

    @torch.no_grad()
    def _sample_teacher(self, generator: torch.Generator) -> Points:
        """Samples the teacher along new rays with early termination: points of high weight, and some of low weight."""
        self._next_round()
        rays = at_random(self.poses.rays(RAYS, generator)[0], self.teacher.bounds, generator)
        jitter = torch.rand(len(rays), generator=generator, device=self.device)
        samples = self.teacher.march(rays, jitter)
        index, density, _ = visible_samples(samples, self.teacher.density)
        samples = take(samples, index)
        weight = _weight(samples, density)
        if self.recipe.heavy_points:
            keep = _heavy(weight, samples) | _heavy(_weight(samples, self.volume.density(samples.x)), samples)
            share = (OTHERS * keep.float().mean()).clamp(min=FEWEST)
            keep |= torch.rand(len(weight), generator=generator, device=self.device) < share
        else:
            heavy = weight > LIGHT
            share = heavy.sum() / (~heavy).sum().clamp(min=1)
            keep = heavy | (torch.rand(len(weight), generator=generator, device=self.device) < share)
        x, directions = self.teacher.unit(samples.x[keep]), rays.directions[samples.ray[keep]]
        parts = []
        for piece, towards in zip(x.split(PIECE), directions.split(PIECE), strict=True):
            f = self.teacher.field.features(piece)
            parts.append((f, *self.teacher.field.decode(f, towards)))
        f, log_density, rgb = (torch.cat(part) for part in zip(*parts, strict=True))
        return Points(x, directions, f, log_density, rgb, weight[keep])

    def _point_loss(self, f: Tensor, taught: Points) -> Tensor:
        """Loss of log-density (Huber) and colour at the points; a mean over points."""
        value, rgb = self.field.decode(f, taught.directions)
        target = taught.log_density
        difference = value - target
        if self.recipe.clamp is not None:
            low, high = self.recipe.clamp
            target = target.clamp(low, high)
            beyond = ((target == low) & (value < low)) | ((target == high) & (value > high))
            difference = torch.where(beyond, 0, value - target)
        loss = _mean(torch.nn.functional.smooth_l1_loss(difference, torch.zeros_like(difference), reduction="none"))
        share = taught.weight + 1e-3
        colour = (share * (rgb - taught.rgb).square().mean(1)).sum() / share.sum().clamp(min=1e-6)
        return loss + self.recipe.colour * colour

    def _feature_loss(self, f: Tensor, taught: Points) -> Tensor:
        """Squared error of features in units of the teacher's variance; a mask behind the features is left out."""
        target = taught.f[:, : f.shape[1]]
        scale = target.var(0, unbiased=False).mean().clamp(min=1e-8) if len(target) else 1.0
        return _mean((f - target).square()) / scale


def _teacher_at(teacher: Volume, clamp: tuple[float, float] | None) -> Teacher:
    """Evaluates a teacher at points from several directions, with log-densities clamped."""

    def ask(x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        f = teacher.field.features(x)  # once: they do not depend on the direction
        decoded = [teacher.field.decode(f, direction.expand(len(x), 3)) for direction in directions]
        log_density, rgb = decoded[0][0], torch.stack([rgb for _, rgb in decoded])
        return (log_density if clamp is None else log_density.clamp(*clamp)), rgb

    return ask


def shown_by(teacher: Volume) -> Shown | None:
    """Says what is near an occupied cell; None, for everywhere, of a scene that reaches beyond its inner cube.

    Nine tenths of an object's cube are empty, and a teacher takes microseconds a node.
    """
    if teacher.bounds.cascades > 1 or teacher.moves:
        return None
    grown_by: dict[int, Tensor] = {0: teacher.occupancy}

    def shown(x: Tensor, reach: float) -> Tensor:
        cells = math.ceil(reach * CELLS)
        for count in range(1, cells + 1):
            if count not in grown_by:
                grown_by[count] = grown(grown_by[count - 1], 1)
        return occupied(x, torch.zeros(len(x), dtype=torch.int64, device=x.device), grown_by[cells])

    return shown


def _weight(samples: Samples, density: Tensor) -> Tensor:
    rgb = density.new_zeros(len(density), 3)
    return composite(density, samples.length, samples.t, rgb, samples.offsets)[1]


def _mean(values: Tensor) -> Tensor:
    """Mean of values; 0 of none."""
    return values.sum() / max(values.numel(), 1)


def _heavy(weight: Tensor, samples: Samples) -> Tensor:
    """Mask [S] of the 30 % of a ray's samples of highest weight, on rays of enough opacity (PVD-AL's point level)."""
    ray, count = samples.ray, samples.offsets.diff()
    order = weight.argsort(descending=True)
    order = order[ray[order].argsort(stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=ray.device) - samples.offsets[ray[order]]
    opacity = weight.new_zeros(len(count)).index_add_(0, ray, weight)
    return (rank < torch.ceil(TOP_POINTS * count[ray])) & (opacity[ray] >= OPAQUE_ENOUGH)
