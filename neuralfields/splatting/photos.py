"""The training photos of Gaussians: seen by pinholes, over grey where they have alpha, at several sizes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import NO_DISTORTION, Camera
from neuralfields.captures.images import LoadedFrames
from neuralfields.captures.photo_store import PhotoStore, in_order
from neuralfields.ops.project import View
from neuralfields.pictures.background import over
from neuralfields.pictures.box_filter import box_filtered
from neuralfields.pictures.undistort import lookup, sample
from neuralfields.rendering.splat import near_of, pinhole
from neuralfields.scene import Bounds
from neuralfields.splatting.initial import Photos

SIZES = (1, 2)
SMALLEST = 48  # pixels of the shorter side, under which a photo is not made smaller


@dataclass(frozen=True)
class PhotoPyramid:
    """A training photo at several sizes, in bytes: `images` uint8 [H, W, 3 or 4] (straight alpha), their `views`
    and `masks` bool [H, W] or None by how many times smaller. `moment`: when, in [0, 1], of a scene that moves.
    """

    images: dict[int, Tensor]
    views: dict[int, View]
    masks: dict[int, Tensor | None]
    moment: float = 0.0

    def to(self, device: torch.device | str) -> "PhotoPyramid":
        """The same photo on another device."""
        moved = [
            {times: None if tensor is None else tensor.to(device) for times, tensor in part.items()}
            for part in (self.images, self.masks)
        ]
        return PhotoPyramid(moved[0], self.views, moved[1], self.moment)

    @property
    def clear(self) -> bool:
        """Whether it has alpha."""
        return self.images[1].shape[2] == 4

    def target(self, times: int, colour: tuple[float, float, float]) -> Tensor:
        """The photo at that size over a colour, [H, W, 3] in [0, 1]."""
        values = self.images[times].to(torch.float32) / 255
        if not self.clear:
            return values
        return over(values[..., :3], values[..., 3], values.new_tensor(colour))

    def mask(self, times: int) -> Tensor | None:
        """Which pixels count, [H, W] 0 or 1; None: all."""
        kept = self.masks[times]
        return None if kept is None else kept.to(torch.float32)


def copied_bytes(alpha: bool, bent: bool) -> float:
    """Bytes a pixel that `training_photos` needs beside the decoded photos: half sizes, and what is not as decoded.

    `bent`: photos of lenses with distortion lie in memory straightened too; those with `alpha` over grey too.
    """
    channels = 4 if alpha else 3
    return channels / 4 + (channels if bent else 0) + (3 if alpha else 0)


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


def plain_photos(loaded: LoadedFrames, bounds: Bounds) -> Photos:
    """Photos as pinholes see them, over grey where they have alpha, and which of their pixels show the scene."""
    return _plain(_straightened(loaded), bounds)


def _plain(straight: list[tuple[np.ndarray, Camera, np.ndarray | None]], bounds: Bounds) -> Photos:
    images, cameras, insides = [], [], []
    for image, camera, mask in straight:
        values = torch.from_numpy(np.ascontiguousarray(image))
        images.append(values if values.shape[2] == 3 else _over_grey(values))
        cameras.append(camera)
        insides.append(_inside(values, None if mask is None else torch.from_numpy(mask)))
    return Photos(images, cameras, bounds, insides)


def source_photos(loaded: LoadedFrames) -> tuple[list[np.ndarray], list[Camera]]:
    """Photos as pinholes see them, and their cameras; what a mask leaves out is transparent."""
    straight = _straightened(loaded)
    images = [image if mask is None else _transparent(image, mask) for image, _, mask in straight]
    return images, [camera for _, camera, _ in straight]


def _transparent(image: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """A photo [H, W, 4] without the pixels that do not count."""
    alpha = image[..., 3:] if image.shape[2] == 4 else np.uint8(255)
    return np.concatenate([image[..., :3], np.where(keep[..., None], alpha, np.uint8(0))], axis=2)


def training_photos(loaded: LoadedFrames, bounds: Bounds, antialiased: bool) -> tuple[list[PhotoPyramid], Photos]:
    """The photos of a fit at full and half size, and the same as a beginning takes them."""
    photos = []
    straight = _straightened(loaded)
    room = _room(loaded.images)
    for image, camera, mask in straight:
        values = torch.from_numpy(np.ascontiguousarray(image))
        keep = None if mask is None else torch.from_numpy(mask)
        sizes = _sizes(image)
        photos.append(
            PhotoPyramid(
                {times: values if times == 1 else next(room).copy_(_smaller_photo(values, times)) for times in sizes},
                {
                    times: View.of(_smaller_camera(camera, times), near_of(bounds), antialiased=antialiased)
                    for times in sizes
                },
                {times: None if keep is None else box_filtered(keep, times) > 0.99 for times in sizes},
                0.0 if camera.time is None else bounds.moment(camera.time),
            )
        )
    return photos, _plain(straight, bounds)


def _straightened(loaded: LoadedFrames) -> list[tuple[np.ndarray, Camera, np.ndarray | None]]:
    """Each photo as a pinhole sees it, in places that are made beforehand (see `_room`); as it is where it may be."""
    if not any(any(camera.distortion) for camera in loaded.cameras):
        return list(zip(loaded.images, [pinhole(c) for c in loaded.cameras], loaded.masks, strict=True))
    store = PhotoStore(loaded.cameras, 1, max(image.shape[2] for image in loaded.images))
    masks, found, at = np.empty(len(store.values), bool), [], 0

    def work(index: int) -> tuple[np.ndarray, Camera, np.ndarray | None]:
        return undistorted(loaded.images[index], loaded.cameras[index], loaded.masks[index])

    for image, camera, mask in in_order(work, range(len(loaded.images)), torch.get_num_threads()):
        kept = None
        if mask is not None:
            kept = masks[at : at + mask.size].reshape(mask.shape)
            kept[:] = mask
        at += image.shape[0] * image.shape[1]
        found.append((store.keep(image), camera, kept))
    return found


def _sizes(image: np.ndarray) -> list[int]:
    """How many times smaller a photo is kept."""
    return [times for times in SIZES if times == 1 or min(image.shape[:2]) // times >= SMALLEST]


def _room(images: list[np.ndarray]) -> Iterator[Tensor]:
    """Places for the smaller sizes of all photos, in order.

    Made before the first is computed: what stays, put between what is only needed for a moment, would split the memory
    that is freed, and the next photo would take new memory. 300 photos of 1000 x 750 took 2.4 GB so, in place of 0.2.
    """
    shapes = [(i.shape[0] // t, i.shape[1] // t, i.shape[2]) for i in images for t in _sizes(i) if t > 1]
    whole = torch.empty(sum(math.prod(shape) for shape in shapes), dtype=torch.uint8)
    parts = whole.split([math.prod(shape) for shape in shapes]) if shapes else ()
    return iter([part.view(shape) for part, shape in zip(parts, shapes, strict=True)])


def _over_grey(values: Tensor) -> Tensor:
    """uint8 [H, W, 4] over grey, uint8 [H, W, 3]."""
    straight = values.to(torch.float32)
    return over(straight[..., :3], straight[..., 3] / 255, straight.new_tensor([127.5] * 3)).round().to(torch.uint8)


def _inside(values: Tensor, mask: Tensor | None) -> Tensor | None:
    """Which pixels show the scene, [H, W] bool; None: all."""
    parts = ([values[..., 3] > 127] if values.shape[2] == 4 else []) + ([] if mask is None else [mask])
    return parts[0] & parts[-1] if parts else None


def _smaller_photo(values: Tensor, times: int) -> Tensor:
    """uint8 [H, W, 3 or 4] as means of squares; colours weighted by alpha, straight again."""
    if times == 1:
        return values
    if values.shape[2] == 3:
        return box_filtered(values, times).round().to(torch.uint8)
    straight = values.to(torch.float32)
    alpha = box_filtered(straight[..., 3:], times)
    rgb = box_filtered(straight[..., :3] * straight[..., 3:], times) / alpha.clamp(min=1)
    return torch.cat([rgb.clamp(max=255), alpha], 2).round().to(torch.uint8)


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
