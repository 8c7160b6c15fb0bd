"""Fits a slow field through a fast one: that learns from the photos, and teaches the slow one for the rest of the fit.

  photos -> hash field (radiance.py) -> its points and pictures -> the field (distil.py)

A coordinate network finds out slowly where anything is: it evaluates all of a fog, in few rays a step. A hash field
knows it after seconds, and what is known at every point is learned many times as fast (PVD, AAAI 2023). The network
ends with the teacher's occupancy grid, and with poses and exposures that the teacher learned.

Photos once more behind the teacher take quality away: the network is far below its teacher, and is in fog again.
"""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.errors import InputError
from neuralfields.fields import field_name
from neuralfields.fields.field import Field
from neuralfields.models.model import Model
from neuralfields.rendering.volume import Volume
from neuralfields.trainers.distil import Distillation, Recipe
from neuralfields.trainers.radiance import RadianceTrainer
from neuralfields.trainers.sampled_cameras import Viewpoints
from neuralfields.trainers.trainer import StepReport

RECIPE = Recipe(hard_cameras=False)  # a pool of hard cameras would have to be kept in checkpoints


class TaughtTrainer(RadianceTrainer):
    """Trainer of `field`, which another one teaches: that of `teacher`, for the share `teacher_share` of the fit.

    `cameras`: of the photos; `taught_by`: the teacher's name. A finished field that goes on learns from photos alone.
    """

    def __init__(self, field: Field, teacher: RadianceTrainer, cameras: Sequence[Camera], seed: int) -> None:
        super().__init__(
            field, teacher.bounds, teacher.pixels, teacher.background, seed, teacher.adjustments, teacher.settings
        )
        self.occupancy, self.cameras, self.taught_by = teacher.occupancy, list(cameras), field_name(teacher.field)
        self.teacher: RadianceTrainer | None = teacher
        self.distillation: Distillation | None = None

    @property
    def line(self) -> str:
        """What it does, in words."""
        mine, theirs, share = field_name(self.field), self.taught_by, self.settings.teacher_share
        begin = f"a {theirs} field learns from the photos in the first {share:.0%} of the fit, and teaches {mine} in"
        return f"{begin} the rest (--recipe teacher_share=0: the photos alone do)"

    def step(self, progress: float) -> StepReport:
        """Takes a step of the teacher's on photos, or of the field's on the teacher."""
        if self.teacher is None:
            return super().step(progress)
        share = self.settings.teacher_share
        if progress < share and self.distillation is None:
            report = replace(self.teacher.step(progress / share), stage="teacher")
        else:
            report = self._taught().step(max(0.0, (progress - share) / (1 - share)))
        self.step_count += 1
        return report

    def _taught(self) -> Distillation:
        """The distillation; the first call ends the teacher's learning."""
        if self.distillation is None:
            self.teacher.advance(1.0)
            poses = self.adjustments.poses
            cameras = self.cameras if poses is None else poses.refined()
            self.distillation = Distillation(
                self.field, self.teacher.volume, Viewpoints(cameras, self.bounds), RECIPE, self.seed, cameras,
                self.settings,
            )  # fmt: skip
            self.distillation.bits = self.bits
        return self.distillation

    def advance(self, progress: float) -> None:
        """Begins a step, or ends the fit, of who is learning."""
        if self.teacher is None:
            super().advance(progress)
        else:
            (self.distillation or self.teacher).advance(progress)

    @property
    def volume(self) -> Volume:
        """The field that is learning, or its teacher while that is, with the occupancy grid."""
        if self.distillation is not None:
            return self.distillation.volume
        return super().volume if self.teacher is None else self.teacher.volume

    def remarks(self) -> list[str]:
        """What the steps of both have to say, and that the teacher is all there is of a fit that ended early."""
        if self.teacher is None:
            return super().remarks()
        if self.distillation is not None:
            return self.teacher.remarks() + self.distillation.remarks()
        early = f"ended before {field_name(self.field)} was taught: the model is {self.taught_by}, its teacher"
        return [*self.teacher.remarks(), early]

    def adopt(self, model: Model) -> None:
        """Goes on from a finished field, without its teacher, which is in no file."""
        self.teacher = None
        super().adopt(model)

    def tensors(self) -> dict[str, Tensor]:
        """State of teacher and distillation, for a checkpoint."""
        if self.teacher is None:
            return super().tensors()
        taught = {} if self.distillation is None else self.distillation.tensors()
        return _named("teacher", self.teacher.tensors()) | _named("taught", taught)

    def counters(self) -> dict[str, int]:
        """Counters of both, and the number of steps."""
        if self.teacher is None:
            return super().counters()
        taught = {} if self.distillation is None else self.distillation.counters()
        both = _named("teacher", self.teacher.counters()) | _named("taught", taught)
        return both | {"step": self.step_count}

    def restore(self, tensors: dict[str, Tensor], counters: dict[str, int]) -> None:
        """The reverse of `tensors` and `counters`."""
        known = _below("teacher", counters)
        if not known:  # of a finished field that went on
            self.teacher = None
            super().restore(tensors, counters)
            return
        if self.teacher is None:
            raise InputError("the checkpoint is of a field that is taught, this fit goes on from a finished one")
        self.teacher.restore(_below("teacher", tensors), known)
        if taught := _below("taught", counters):
            self._taught().restore(_below("taught", tensors), taught)
        self.step_count = counters["step"]


def _named(name: str, of: dict) -> dict:
    return {f"{name}.{key}": value for key, value in of.items()}


def _below(name: str, of: dict) -> dict:
    return {key.removeprefix(f"{name}."): value for key, value in of.items() if key.startswith(f"{name}.")}
