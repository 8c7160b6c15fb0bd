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
from neuralfields.fields import field_name
from neuralfields.fields.field import Field
from neuralfields.models.model import Model
from neuralfields.models.quantise import round_parameters
from neuralfields.rendering.volume import Volume
from neuralfields.trainers.distil import Distillation, Recipe
from neuralfields.trainers.radiance import RadianceTrainer
from neuralfields.trainers.sampled_cameras import Viewpoints
from neuralfields.trainers.trainer import StepReport

RECIPE = Recipe(hard_cameras=False)  # a pool of hard cameras would have to be kept in checkpoints


class TaughtTrainer(RadianceTrainer):
    """Trainer of `field`, which another one teaches: that of `teacher`, for the share `teacher_share` of the fit.

    `cameras`: of the photos; `taught_by`: the teacher's name. A finished field that goes on has a new teacher, since
    the former is in no file.
    """

    def __init__(self, field: Field, teacher: RadianceTrainer, cameras: Sequence[Camera], seed: int) -> None:
        super().__init__(
            field, teacher.bounds, teacher.pixels, teacher.background, seed, teacher.adjustments, teacher.settings
        )
        self.occupancy, self.cameras, self.taught_by = teacher.occupancy, list(cameras), field_name(teacher.field)
        self.teacher, self.distillation = teacher, None
        self.goes_on, self.begun = False, 0  # `begun`: at which millionth of the fit a finished field went on

    @property
    def line(self) -> str:
        """What it does, in words."""
        mine, theirs, share = field_name(self.field), self.taught_by, self.settings.teacher_share
        begin = f"a {theirs} field learns from the photos in the first {share:.0%} of the fit, and teaches {mine} in"
        return f"{begin} the rest (--recipe teacher_share=0: the photos alone do)"

    def step(self, progress: float) -> StepReport:
        """Takes a step of the teacher's on photos, or of the field's on the teacher."""
        if self.goes_on:
            self.goes_on, self.begun = False, int(1e6 * progress)
        first, share = self.begun / 1e6, self.settings.teacher_share
        done = max(0.0, (progress - first) / (1 - first))
        if done < share and self.distillation is None:
            report = replace(self.teacher.step(done / share), stage="teacher")
        else:
            report = self._taught().step(max(0.0, (done - share) / (1 - share)))
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
        (self.distillation or self.teacher).advance(progress)
        if progress >= 1 and self.bits == 8 and self.distillation is None:
            round_parameters(self.teacher.field)  # it is all there is, and what is measured is what is stored

    @property
    def volume(self) -> Volume:
        """The field that is learning, or its teacher while that is, with the occupancy grid."""
        return (self.distillation or self.teacher).volume

    def remarks(self) -> list[str]:
        """What the steps of both have to say, and that the teacher is all there is of a fit that ended early."""
        if self.distillation is not None:
            return self.teacher.remarks() + self.distillation.remarks()
        early = f"ended before {field_name(self.field)} was taught: the model is {self.taught_by}, its teacher"
        return [*self.teacher.remarks(), early]

    def adopt(self, model: Model) -> None:
        """Goes on from a finished field and its occupancy grid, with a new teacher for the rest of the fit."""
        super().adopt(model)
        self.goes_on = True

    def tensors(self) -> dict[str, Tensor]:
        """State of teacher and distillation, for a checkpoint; before that the field, which may be a finished one."""
        waiting = {f"field.{name}": value.detach() for name, value in self.field.state_dict().items()}
        taught = waiting if self.distillation is None else self.distillation.tensors()
        return _named("teacher", self.teacher.tensors()) | _named("taught", taught)

    def counters(self) -> dict[str, int]:
        """Counters of both, the number of steps, and where it went on."""
        taught = {} if self.distillation is None else self.distillation.counters()
        both = _named("teacher", self.teacher.counters()) | _named("taught", taught)
        return both | {"step": self.step_count, "begun": self.begun, "goes_on": int(self.goes_on)}

    def restore(self, tensors: dict[str, Tensor], counters: dict[str, int]) -> None:
        """The reverse of `tensors` and `counters`."""
        self.teacher.restore(_below("teacher", tensors), _below("teacher", counters))
        field, taught = _below("taught", tensors), _below("taught", counters)
        if taught:
            self._taught().restore(field, taught)
        else:
            self.field.load_state_dict(_below("field", field))
        self.step_count, self.begun = counters["step"], counters["begun"]
        self.goes_on = bool(counters["goes_on"])


def _named(name: str, of: dict) -> dict:
    return {f"{name}.{key}": value for key, value in of.items()}


def _below(name: str, of: dict) -> dict:
    return {key.removeprefix(f"{name}."): value for key, value in of.items() if key.startswith(f"{name}.")}
