"""Test-time pose optimisation: aligns held-out cameras to a fixed field whose training poses were refined.

A photo's given camera is transferred by the similarity that maps the given training cameras to the refined ones, and
then aligned (supervision/alignment.py). The photo is used for its own camera, so its PSNR measures the field alone, not
the given camera: reports name both, as is usual for pose-refining fields (BARF, arXiv:2104.06405).
"""

from collections.abc import Sequence

import torch

from neuralfields.cameras import Camera
from neuralfields.captures.images import LoadedFrames
from neuralfields.rendering.volume import Volume, finish
from neuralfields.supervision.alignment import Alignment
from neuralfields.supervision.image_gradients import scales
from neuralfields.supervision.pixels import Pixels
from neuralfields.supervision.pose_refinement import Similarity, apply_motion

# Steps at each scale, step size in the first two thirds and in the last (1 is a full step), pixels a photo and step.
STEPS, RATES, PIXELS = 20, (0.5, 0.2), 1024


class HeldOut(Alignment):
    """Alignment of held-out cameras to a fixed field."""

    # Less damping than in training: the field is fixed, so its renders can be trusted.
    damping, prior = 0.002, 1e-4

    def __init__(self, pixels: Pixels, background: tuple[float, float, float]) -> None:
        super().__init__(pixels)
        self.background = background

    @torch.no_grad()
    def align(self, volume: Volume, steps: int = STEPS) -> None:
        """Takes `steps` steps at each scale, always with the same random pixels."""
        device = volume.device
        generator = torch.Generator(device).manual_seed(0)
        colour = torch.tensor(self.background, device=device)
        for scale in scales(self.pixels)[1:] or (1,):
            self.set_scale(scale)
            for step in range(steps):
                batch = self.pixels.batch(PIXELS * len(self.motion), generator)
                sums = volume.sums(self.moved(batch.rays, batch.camera))
                seen = finish(sums, colour, volume.bounds.side)
                rate = RATES[int(3 * step >= 2 * steps)]
                self.learn(batch, seen, colour, torch.ones_like(seen.opacity), rate)


def transfer_cameras(cameras: Sequence[Camera], given: Sequence[Camera], refined: Sequence[Camera]) -> list[Camera]:
    """Transfers cameras by the similarity between the given cameras and the refined ones."""
    similarity = Similarity.between(given, refined)
    return [similarity.moved(camera) for camera in cameras]


def align_cameras(
    volume: Volume, loaded: LoadedFrames, starts: list[Camera], background: tuple[float, float, float]
) -> list[Camera]:
    """Aligns the cameras of photos to the field, from the initial cameras `starts`."""
    pixels = Pixels(loaded.images, starts, loaded.masks)
    if not len(pixels):
        return starts
    held_out = HeldOut(pixels.to(volume.device), background)
    held_out.align(volume)
    return apply_motion(starts, held_out.motion)
