"""The training photos of Gaussians: seen by pinholes, over grey where they have alpha, at several sizes."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import NO_DISTORTION, Camera
from neuralfields.captures.images import LoadedFrames
from neuralfields.ops.project import View
from neuralfields.pictures.undistort import lookup, sample
from neuralfields.rendering.splat import near_of, pinhole
from neuralfields.scene import Bounds
from neuralfields.splatting.initial import Photos

SIZES = (1, 2, 4)
SMALLEST = 48  # pixels of the shorter side, under which a photo is not made smaller


@dataclass(frozen=True)
class PhotoPyramid:
    """A training photo at several sizes: `images` [H, W, 3] and their `views` by how many times smaller; `alphas`,
    `masks` [H, W] likewise, or None.
    """

    images: dict[int, Tensor]
    views: dict[int, View]
    alphas: dict[int, Tensor | None]
    masks: dict[int, Tensor | None]

    def to(self, device: torch.device | str) -> "PhotoPyramid":
        """The same photo on another device."""
        moved = [
            {times: None if tensor is None else tensor.to(device) for times, tensor in part.items()}
            for part in (self.images, self.alphas, self.masks)
        ]
        return PhotoPyramid(moved[0], self.views, moved[1], moved[2])


def undistorted(
    image: np.ndarray, camera: Camera, mask: np.ndarray | None
) -> tuple[np.ndarray, Camera, np.ndarray | None]:
    """A photo as the pinhole of its focal lengths sees it, and which of its pixels count; as it is without distortion.

    Raises UsageError for a fisheye lens.
    """
    straight = pinhole(camera)
    if straight is camera:
        return image, camera, mask
    places = lookup(camera, straight)
    inside = (places >= 0).all(-1) & (places[..., 0] <= camera.width) & (places[..., 1] <= camera.height)
    values = np.clip(np.round(sample(image, places, "bicubic")), 0, 255).astype(np.uint8)
    if mask is not None:
        inside &= sample(mask[..., None].astype(np.float32), places)[..., 0] > 0.5
    return values, straight, None if inside.all() else inside


def training_photos(loaded: LoadedFrames, bounds: Bounds, antialiased: bool) -> tuple[list[PhotoPyramid], Photos]:
    """The photos of a fit at full, half and quarter size, and the same as a beginning takes them."""
    photos, images, cameras, insides = [], [], [], []
    for image, camera, mask in zip(loaded.images, loaded.cameras, loaded.masks, strict=True):
        image, camera, mask = undistorted(image, camera, mask)
        values = torch.from_numpy(np.ascontiguousarray(image)).to(torch.float32) / 255
        alpha = values[..., 3].contiguous() if values.shape[2] == 4 else None
        keep = None if mask is None else torch.from_numpy(mask).to(torch.float32)
        rgb = values[..., :3].contiguous()
        sizes = [times for times in SIZES if times == 1 or min(camera.width, camera.height) // times >= SMALLEST]
        parts: dict[str, dict] = {"images": {}, "views": {}, "alphas": {}, "masks": {}}
        for times in sizes:
            small = _smaller_camera(camera, times)
            parts["images"][times] = _smaller(rgb if alpha is None else rgb * alpha[..., None], times)
            parts["alphas"][times] = None if alpha is None else _smaller(alpha, times)
            if alpha is not None:  # straight colours again, which are laid over a step's background
                covered = parts["alphas"][times][..., None]
                parts["images"][times] = parts["images"][times] / covered.clamp(min=1e-3)
            parts["masks"][times] = None if keep is None else (_smaller(keep, times) > 0.99).to(torch.float32)
            parts["views"][times] = View.of(small, near_of(bounds), antialiased=antialiased)
        photos.append(PhotoPyramid(**parts))
        grey = rgb if alpha is None else rgb * alpha[..., None] + 0.5 * (1 - alpha[..., None])
        images.append(grey)
        cameras.append(camera)
        insides.append(_inside(alpha, keep))
    return photos, Photos(images, cameras, bounds, insides)


def _inside(alpha: Tensor | None, mask: Tensor | None) -> Tensor | None:
    """Which pixels show the scene, [H, W] bool; None: all."""
    parts = [part > 0.5 for part in (alpha, mask) if part is not None]
    return parts[0] & parts[-1] if parts else None


def _smaller(values: Tensor, times: int) -> Tensor:
    """An image [H, W (, C)] as means of squares of `times` pixels; what is left at the far edges is dropped."""
    if times == 1:
        return values.contiguous()
    height, width = values.shape[0] // times, values.shape[1] // times
    cut = values[: height * times, : width * times]
    return cut.reshape(height, times, width, times, *values.shape[2:]).mean((1, 3)).contiguous()


def _smaller_camera(camera: Camera, times: int) -> Camera:
    return replace(
        camera,
        width=camera.width // times,
        height=camera.height // times,
        fx=camera.fx / times,
        fy=camera.fy / times,
        cx=camera.cx / times,
        cy=camera.cy / times,
        distortion=NO_DISTORTION,
    )
