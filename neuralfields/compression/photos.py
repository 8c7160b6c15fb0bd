"""Photos of a capture as what compression is held to: pictures to tune against, and a judge of what they lose.

Vocabulary
  loss on photos  dB between the PSNR of the original's renderings against photos and that of the compressed Gaussians'
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.captures.images import downscale
from neuralfields.compression.tune import Judge, wanted_psnr
from neuralfields.gaussians import Gaussians
from neuralfields.pictures.background import over
from neuralfields.pictures.metrics import WINDOW, psnr, ssim
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.splat import Splats

KNOWN = (15.0, 45.0)  # dB: beyond them a PSNR against photos says little of a fit


@dataclass(frozen=True)
class Photo:
    """A photo by a pinhole: `image` uint8 [H, W, 3 or 4] (straight alpha), `mask` bool [H, W] of what counts."""

    camera: Camera
    image: np.ndarray
    mask: np.ndarray | None = None

    def over(self, background: Colour) -> np.ndarray:
        """The photo over a colour, float32 [H, W, 3] in [0, 1]."""
        values = self.image.astype(np.float32) / 255
        if values.shape[2] == 3:
            return values
        return over(values[..., :3], values[..., 3], np.asarray(background, np.float32))

    def tensors(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Colours over black [H, W, 3], opacity [H, W] if it has alpha, weights [H, W] if it has a mask."""
        values = torch.from_numpy(self.image.astype(np.float32) / 255)
        mask = None if self.mask is None else torch.from_numpy(self.mask.astype(np.float32))
        if values.shape[2] == 3:
            return values, None, mask
        return (values[..., :3] * values[..., 3:]).contiguous(), values[..., 3].contiguous(), mask

    def smaller(self, camera: Camera) -> "Photo":
        """The photo at the size of a camera, which is not larger, by means over areas."""
        size = camera.width, camera.height
        if size == (self.camera.width, self.camera.height):
            return self
        mask = self.mask
        if mask is not None:
            mask = downscale(mask * np.uint8(255), size) == 255
        return replace(self, camera=camera, image=downscale(self.image, size), mask=mask)


@dataclass(frozen=True)
class CapturePhotos:
    """Photos to tune against, and photos that judge; `held_out`: whether the original never saw the latter."""

    training: list[Photo]
    judging: list[Photo] = field(default_factory=list)
    held_out: bool = True


class PhotoJudge(Judge):
    """A judge that also keeps what photos lose: its PSNR is that of the stricter of the two.

    A loss on photos counts as the PSNR against the original at which such a fit is expected to lose as much.
    """

    def __init__(self, judge: Judge, original: Gaussians, photos: list[Photo]) -> None:
        self.__dict__.update(judge.__dict__)
        self.photos = photos
        self.references = [photo.over(self.background) for photo in photos]
        self.original = self.figures(original)
        self.fitted = min(max(self.original["psnr"], KNOWN[0]), KNOWN[1])

    def figures(self, gaussians: Gaussians, structure: bool = False) -> dict[str, float]:
        """`psnr`, and `ssim` with `structure`, against the photos: means over them."""
        splats, found = Splats(gaussians.to(self.device), self.bounds), {"psnr": [], "ssim": []}
        for photo, reference in zip(self.photos, self.references, strict=True):
            rgb = splats.render(photo.camera, self.background).rgb.clamp(0, 1).cpu().numpy()
            found["psnr"].append(min(psnr(rgb, reference, photo.mask), 100.0))
            if structure and min(rgb.shape[:2]) >= WINDOW:
                found["ssim"].append(ssim(rgb, reference, photo.mask))
        return {name: float(np.mean(values)) for name, values in found.items() if values}

    def lost(self, gaussians: Gaussians) -> float:
        """dB that the photos lose against the original; negative where they gain."""
        return self.original["psnr"] - self.figures(gaussians)["psnr"]

    def psnr(self, gaussians: Gaussians) -> float:
        """The lower of the PSNR against the original and of what the loss on photos stands for."""
        return min(super().psnr(gaussians), wanted_psnr(self.lost(gaussians), self.fitted))

    def photo_report(self, gaussians: Gaussians) -> dict[str, float]:
        """`psnr`, `ssim` against the photos, `before` that of the original, `lost`, in dB, of how many `photos`."""
        found = self.figures(gaussians, True)
        before = self.original["psnr"]
        return {**found, "before": before, "lost": before - found["psnr"], "photos": len(self.photos)}
