"""Test-time pose optimisation: aligns held-out cameras to a fixed field whose training poses were refined.

A photo's given camera is transferred by the similarity that maps the given training cameras to the refined ones, and
then aligned (supervision/alignment.py). The photo is used for its own camera, so its PSNR measures the field alone, not
the given camera: reports name both, as is usual for pose-refining fields (BARF, arXiv:2104.06405).
"""

from collections.abc import Sequence

import torch

from neuralfields.cameras import Camera
from neuralfields.captures.images import LoadedFrames
from neuralfields.rays import Render
from neuralfields.rendering.renderable import Colour, Renderable
from neuralfields.rendering.splat import Splats
from neuralfields.supervision.alignment import Alignment
from neuralfields.supervision.image_gradients import scales
from neuralfields.supervision.pixels import Batch, Pixels
from neuralfields.supervision.pose_refinement import Similarity, apply_motion

# Steps at each scale, step size in the first two thirds and in the last (1 is a full step), pixels a photo and step.
STEPS, RATES, PIXELS = 20, (0.5, 0.2), 1024
PICTURE_STEPS, PICTURE_PIXELS = 8, 8192  # the same of Gaussians, which render whole pictures


class HeldOut(Alignment):
    """Alignment of held-out cameras to a fixed field."""

    # Less damping than in training: the field is fixed, so its renders can be trusted.
    damping, prior = 0.002, 1e-4

    def __init__(self, pixels: Pixels, background: Colour, cameras: Sequence[Camera]) -> None:
        super().__init__(pixels)
        self.background, self.cameras = background, tuple(cameras)

    @torch.no_grad()
    def align(self, scene: Renderable, steps: int | None = None) -> None:
        """Takes `steps` steps at each scale, always with the same random pixels."""
        device, whole = scene.device, isinstance(scene, Splats)
        steps = steps or (PICTURE_STEPS if whole else STEPS)
        generator = torch.Generator(device).manual_seed(0)
        colour = torch.tensor(self.background, device=device)
        for scale in scales(self.pixels)[1:] or (1,):
            self.set_scale(scale)
            for step in range(steps):
                batch = self.pixels.batch((PICTURE_PIXELS if whole else PIXELS) * len(self.motion), generator)
                seen = self._pictured(scene, batch) if whole else self._seen(scene, batch)
                rate = RATES[int(3 * step >= 2 * steps)]
                self.learn(batch, seen, colour, torch.ones_like(seen.opacity), rate)

    def _seen(self, scene: Renderable, batch: Batch) -> Render:
        return scene.render_rays(self.moved(batch.rays, batch.camera), self.background)

    def _pictured(self, scene: Renderable, batch: Batch) -> Render:
        """The batch's pixels of whole renders by the cameras as they are now."""
        seen = Render(torch.zeros_like(batch.rgb), *torch.zeros(2, len(batch.rgb), device=batch.rgb.device))
        column, row = batch.uv.long().unbind(1)
        for photo, camera in enumerate(apply_motion(self.cameras, self.motion)):
            mine = (batch.camera == photo).nonzero().flatten()
            picture = scene.render(camera, self.background)
            for part, whole in zip((seen.rgb, seen.opacity, seen.depth), picture.parts(), strict=False):
                part[mine] = whole[row[mine], column[mine]]
        return seen


def transfer_cameras(cameras: Sequence[Camera], given: Sequence[Camera], refined: Sequence[Camera]) -> list[Camera]:
    """Transfers cameras by the similarity between the given cameras and the refined ones."""
    similarity = Similarity.between(given, refined)
    return [similarity.moved(camera) for camera in cameras]


def align_cameras(
    scene: Renderable, loaded: LoadedFrames, starts: list[Camera], background: tuple[float, float, float]
) -> list[Camera]:
    """Aligns the cameras of photos to a fitted scene, from the initial cameras `starts`."""
    pixels = Pixels(loaded.images, starts, loaded.masks)
    if not len(pixels):
        return starts
    held_out = HeldOut(pixels.to(scene.device), background, starts)
    held_out.align(scene)
    return apply_motion(starts, held_out.motion)
