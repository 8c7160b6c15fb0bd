"""Validation during training: quick PSNR on held-out photos, or against a teacher's renders."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.evaluation.held_out import HeldOut
from neuralfields.pictures.metrics import psnr, psnr_from_mse
from neuralfields.rendering.renderable import Colour, Renderable
from neuralfields.rendering.volume import Volume, finish
from neuralfields.supervision.pixels import Pixels

SLOWER = 8  # times fewer pixels for fields without a fused renderer
ALIGN_STEPS = 3  # at each scale, of aligning held-out cameras; they start from the validation before
SAME = 99.0  # dB for identical images


class Trained(Protocol):
    """A trainer: gives its current volume."""

    @property
    def volume(self) -> Volume:
        """The field with its occupancy."""
        ...


class PhotoValidation:
    """Validation on held-out photos: PSNR in dB of fixed pixels of each view, mean over views."""

    def __init__(
        self, training: Trained, pixels: Pixels, background: Colour, count: int, aligned: Sequence[Camera] = ()
    ) -> None:
        """`count`: pixels of all views together; `aligned`: the held-out cameras, where they are aligned first."""
        self.training, self.pixels, self.background, self.count = training, pixels, background, count
        self.held_out = HeldOut(pixels, background, aligned) if aligned else None

    @torch.no_grad()
    def __call__(self) -> float:
        volume = self.training.volume
        batch = self.pixels.every(self.count if volume.field.fused() is not None else self.count // SLOWER)
        colour = torch.tensor(self.background, device=volume.device)
        rays = batch.rays
        if self.held_out is not None:
            self.held_out.align(volume, ALIGN_STEPS)
            rays = self.held_out.moved(rays, batch.camera)
        render = finish(volume.sums(rays), colour, 1.0)
        rounded = (render.rgb.clamp(0, 1) * 255).round() / 255
        error = (rounded - batch.over(colour)).square().mean(1)
        count = torch.bincount(batch.camera)
        views = (torch.bincount(batch.camera, weights=error)[count > 0] / count[count > 0]).tolist()
        return sum(psnr_from_mse(view) for view in views) / len(views)


class TeacherValidation:
    """Validation of a student: PSNR in dB of its renders against its teacher's, mean over views."""

    def __init__(
        self, training: Trained, views: Sequence[Camera], pictures: Sequence[Tensor], background: Colour
    ) -> None:
        self.training, self.views, self.pictures, self.background = training, views, pictures, background

    def __call__(self) -> float:
        return mean_psnr(self.training.volume, self.views, self.pictures, self.background)[0]


def mean_psnr(
    renderable: Renderable, views: Sequence[Camera], pictures: Sequence[Tensor], background: Colour
) -> tuple[float, list[float]]:
    """Mean PSNR over views in dB, and each view's, capped at 99 dB for identical images."""
    each = [
        min(psnr(renderable.render(view, background).rgb, picture), SAME)
        for view, picture in zip(views, pictures, strict=True)
    ]
    return sum(each) / len(each), each
