"""Training pixels in one flat store, drawn as random batches of rays.

Vocabulary
  P  pixels of all photos, one photo after the other, row by row       R  rays of a batch
"""

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.captures.photo_store import joined
from neuralfields.ops.pixel_rays import camera_table, camera_times, pixel_rays
from neuralfields.pictures.background import over
from neuralfields.rays import Rays


@dataclass(frozen=True)
class Batch:
    """A batch of rays [R] with their target colours.

    `rgb` [R, 3] in [0, 1] (straight), `alpha` [R] where the photos have it; `camera` [R]: the photo that each pixel is
    of; `uv` [R, 2]: the pixel's centre in it, (u, v).
    """

    rays: Rays
    rgb: Tensor
    alpha: Tensor | None
    camera: Tensor
    uv: Tensor

    def over(self, background: Tensor) -> Tensor:
        """Target colours over a background [R, 3] or [3]."""
        if self.alpha is None:
            return self.rgb
        return over(self.rgb, self.alpha, background)


class Pixels:
    """Photos of any sizes as uint8, one byte a channel; a batch reads only the pixels that it draws.

    Photos that lie in one store (captures/photo_store.py) stay there: nothing is copied.

    `images`: uint8 [H, W, 3 or 4] each at its camera's size; `masks`: bool [H, W] or None each, False is never drawn.
    """

    def __init__(
        self, images: list[np.ndarray], cameras: list[Camera], masks: list[np.ndarray | None] | None = None
    ) -> None:
        self.values = torch.from_numpy(joined(images))
        counts = [image.shape[0] * image.shape[1] for image in images]
        self.cameras, self.times = camera_table(cameras), camera_times(cameras)
        self.widths = torch.tensor([camera.width for camera in cameras])
        self.heights = torch.tensor([camera.height for camera in cameras])
        self.first = torch.tensor([0, *counts]).cumsum(0)
        self.kept: Tensor | None = None
        if masks is not None and any(mask is not None for mask in masks):
            keep = [
                np.ones(count, bool) if mask is None else mask.reshape(-1)
                for count, mask in zip(counts, masks, strict=True)
            ]
            self.kept = torch.from_numpy(np.flatnonzero(np.concatenate(keep)))

    def to(self, device: torch.device | str) -> "Pixels":
        """The same pixels on another device, where batches are then made."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        return moved

    def photo(self, index: int) -> Tensor:
        """One photo, uint8 [H, W, channels]."""
        begin, end = self.first[index : index + 2].tolist()
        return self.values[begin:end].reshape(int(self.heights[index]), int(self.widths[index]), -1)

    def __len__(self) -> int:
        return len(self.values) if self.kept is None else len(self.kept)

    def batch(self, rays: int, generator: torch.Generator) -> Batch:
        """Draws `rays` pixels uniformly with replacement; the generator is on the pixels' device."""
        return self.at(torch.randint(0, len(self), (rays,), generator=generator, device=generator.device))

    def every(self, count: int) -> Batch:
        """About `count` pixels evenly spaced over all photos, the same ones each time (for validation)."""
        count = min(count, len(self))
        return self.at(torch.arange(count, device=self.values.device) * (len(self) - 1) // max(count - 1, 1))

    def timed(self, rays: Rays, camera: Tensor) -> Rays:
        """The rays with the times of the photos `camera` [R], where those have times."""
        return rays if self.times is None else replace(rays, times=self.times[camera])

    def at(self, index: Tensor) -> Batch:
        """The batch of pixels at indices [R] into the unmasked pixels."""
        pixel = index if self.kept is None else self.kept[index]
        camera = torch.searchsorted(self.first, pixel, right=True) - 1
        inside, width = pixel - self.first[camera], self.widths[camera]
        uv = (torch.stack([inside % width, inside // width], 1) + 0.5).to(torch.float32)
        rays = self.timed(Rays(*pixel_rays(self.cameras, camera, uv)), camera)
        values = self.values[pixel].to(torch.float32) / 255
        return Batch(rays, values[:, :3], values[:, 3] if values.shape[1] == 4 else None, camera, uv)
