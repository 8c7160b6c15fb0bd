"""An image as a signal: sRGB values at pixel centres, and rendering of its field at any size.

Channels: 1 for grey, 3, or 4 with straight alpha. A photo is rotated upright by its EXIF orientation first.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import torch
from torch import Tensor

from neuralfields.captures import images
from neuralfields.domain import Domain
from neuralfields.fields.field import CHUNK, Field, values_at
from neuralfields.pictures.background import over
from neuralfields.pictures.metrics import WINDOW, psnr, ssim
from neuralfields.signals.lattice import Lattice, centres

Side = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
WHITE = 255  # the background of images with alpha in metrics


class ImageFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Facts of an image: its size in pixels."""

    width: Side
    height: Side


class ImageSignal(Lattice):
    """An image: `values` [H, W, C] uint8."""

    def targets(self) -> list[Tensor]:
        """The image itself, float in [0, 1]."""
        return [self.values.float() / 255]

    def measure(self, field: Field) -> dict[str, float]:
        """PSNR in dB and SSIM of the image at its own size, over white if it has alpha."""
        size = (self.facts.width, self.facts.height)
        seen, truth = three_channels(picture(field, size, size)), three_channels(self.values.numpy())
        structure = {"ssim": ssim(seen, truth)} if min(size) >= WINDOW else {}
        return {"psnr": psnr(seen, truth)} | structure


def read_image_signal(path: Path, downscale: int | None = None) -> ImageSignal:
    """Reads an image file as a signal, `downscale` times smaller if asked for. Raises as `images.read_image` does."""
    pixels = slim(images.downscale(images.read_image(path, upright=True), downscale or 1))
    height, width, channels = pixels.shape
    domain = Domain("image", 2, channels, (width, height))
    return ImageSignal(path.stem, path, domain, ImageFacts(width, height), torch.from_numpy(pixels))


def slim(pixels: np.ndarray) -> np.ndarray:
    """Drops an alpha that is opaque everywhere, and two channels if all colours are grey."""
    if pixels.shape[2] == 4 and (pixels[..., 3] == 255).all():
        pixels = pixels[..., :3]
    if pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., :1]
    return np.ascontiguousarray(pixels)


def three_channels(pixels: np.ndarray) -> np.ndarray:
    """Converts uint8 [H, W, 1, 3 or 4] to [H, W, 3], alpha composited over white."""
    if pixels.shape[2] == 4:
        return np.round(over(pixels[..., :3], pixels[..., 3].astype(np.float32) / 255, np.array(WHITE))).astype(
            np.uint8
        )
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def picture(field: Field, source: tuple[int, int], size: tuple[int, int], time: float | None = None) -> np.ndarray:
    """Renders a field's image of `size` (width, height), uint8 [H, W, C]; `time` in [0, 1]: a video's third coordinate.

    If it is smaller than its `source`, every pixel is an area average (anti-aliasing).
    """
    factor = max(1, *(math.ceil(a / b) for a, b in zip(source, size, strict=True)))
    width, height = size[0] * factor, size[1] * factor
    rows = torch.cat(list(_parts(field, (width, height), time)))
    pixels = rows.reshape(height, width, field.domain.channels).numpy()
    if factor == 1:
        return pixels
    small = images.downscale(pixels[..., 0] if pixels.shape[2] == 1 else pixels, size)
    return small[..., None] if small.ndim == 2 else small


def _parts(field: Field, size: tuple[int, int], time: float | None) -> Iterator[Tensor]:
    for first in range(0, size[0] * size[1], CHUNK):
        x = centres(size, torch.arange(first, min(first + CHUNK, size[0] * size[1])))
        if time is not None:
            x = torch.cat([x, torch.full_like(x[:, :1], time)], 1)
        yield (values_at(field, x).nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8)
