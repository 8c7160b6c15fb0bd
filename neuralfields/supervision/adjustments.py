"""Optional supervision beside the photometric loss: pose refinement, exposure, transient rejection, sparse depth.

Default: off, each of them; with all off a step is the same as without this module.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuralfields.rays import Rays, RaySums, Render
from neuralfields.supervision.exposure import Exposure
from neuralfields.supervision.pixels import Batch
from neuralfields.supervision.pose_refinement import PoseRefinement
from neuralfields.supervision.robust import Robust
from neuralfields.supervision.sparse_depth import DepthRays


@dataclass(frozen=True)
class Adjustments:
    """The optional parts of a fit; None is off."""

    poses: PoseRefinement | None = None
    exposure: Exposure | None = None
    robust: Robust | None = None
    depth: DepthRays | None = None

    def moved(self, rays: Rays, camera: Tensor) -> Rays:
        """Rays of the photos `camera` [R] by the refined poses."""
        return rays if self.poses is None else self.poses.moved(rays, camera)

    def exposed(self, sums: RaySums, camera: Tensor) -> RaySums:
        """Applies the exposure of each ray's photo to the rendered colours."""
        return sums if self.exposure is None else self.exposure.applied(sums, camera)

    def weight(self, valid: Tensor, batch: Batch) -> Tensor:
        """Weight of each ray of a batch in the loss, [R]; `valid` [R] bool."""
        return valid if self.robust is None else valid * self.robust.weight(batch)

    def follow(
        self, at: tuple[int, float], batch: Batch, sums: RaySums, pictures: tuple[Render, Tensor], weight: Tensor
    ) -> None:
        """Updates poses, exposure and transient rejection after a training step.

        `at` = (steps so far, progress); `pictures` = (the render compared with the photos, the background).
        """
        step, progress = at
        render, background = pictures
        seen = Render(*(part.detach() for part in (render.rgb, render.opacity, render.depth)))
        valid = sums.valid.bool()
        if self.robust is not None:
            self.robust.follow(step, batch, seen.rgb - batch.over(background), valid)
        if self.exposure is not None:
            self.exposure.follow(
                step, batch, RaySums(sums.values.detach(), sums.valid, sums.samples), background, weight
            )
        if self.poses is not None:
            self.poses.follow(step, progress, batch, seen, (background, weight.to(seen.depth.dtype)))

    def tensors(self) -> dict[str, Tensor]:
        """State that the next step depends on, for a checkpoint."""
        return {name: t for part in self._learning() for name, t in part.tensors().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The reverse of `tensors`."""
        for part in self._learning():
            part.restore(tensors)

    def _learning(self) -> list[Any]:
        return [part for part in (self.poses, self.exposure, self.robust) if part is not None]


NONE = Adjustments()


def concatenate_rays(rays: Rays, jitter: Tensor, more: Rays | None) -> tuple[Rays, Tensor]:
    """Appends rays to a batch, with a jitter of 0.5: the middle of their first step."""
    if more is None:
        return rays, jitter
    return Rays.concatenate([rays, more]), torch.cat([jitter, jitter.new_full((len(more),), 0.5)])


def split_sums(sums: RaySums, count: int) -> tuple[RaySums, RaySums]:
    """Splits rendered sums after `count` rays; all samples are counted with the first part."""
    first = RaySums(sums.values[:count], sums.valid[:count], sums.samples)
    return first, RaySums(sums.values[count:], sums.valid[count:], 0)
