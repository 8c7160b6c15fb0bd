"""An image as a signal: sRGB values at pixel centres, and rendering of its field at any size.

Channels: 1 for grey, 3, or 4 with straight alpha. A photo is rotated upright by its EXIF orientation first. What a file
holds beyond 8 bits is kept (deep.py).
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor

from neuralfields.captures import images
from neuralfields.domain import Domain
from neuralfields.fields.field import CHUNK, Field, values_at
from neuralfields.pictures.background import over
from neuralfields.pictures.deep_files import sixteen_bit
from neuralfields.pictures.metrics import WINDOW, psnr, psnr_from_mse, ssim
from neuralfields.signals.deep import LARGEST_LIGHT, DeepPixels, read_deep_pixels, smaller
from neuralfields.signals.lattice import Lattice, centres

Side = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
WHITE = 255  # the background of images with alpha in metrics


class ImageFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Facts of an image: its size in pixels; `bits` of a channel, 8, 16, or 32 for light, and then its `peak`."""

    width: Side
    height: Side
    bits: Literal[8, 16, 32] = 8
    peak: Annotated[float, msgspec.Meta(ge=1, le=LARGEST_LIGHT)] = 1.0


class ImageSignal(Lattice):
    """An image: `values` [H, W, C] uint8, or float32 in [0, 1] where it is deeper."""

    def targets(self) -> list[Tensor]:
        """The image itself, float in [0, 1]."""
        return [self.values.float() / 255 if self.values.dtype == torch.uint8 else self.values]

    def measure(self, field: Field) -> dict[str, float]:
        """PSNR in dB and SSIM of the image at its own size, over white if it has alpha.

        PSNR of a deep image is of its own steps: 16 bits, or none for light, by sRGB's curve up to its peak.
        """
        size = (self.facts.width, self.facts.height)
        if self.facts.bits > 8:
            return _measure_deep(picture(field, size, size, deep=True), self.values.numpy(), self.facts.bits)
        seen, truth = three_channels(picture(field, size, size)), three_channels(self.values.numpy())
        structure = {"ssim": ssim(seen, truth)} if min(size) >= WINDOW else {}
        return {"psnr": psnr(seen, truth)} | structure


def read_image_signal(path: Path, downscale: int | None = None) -> ImageSignal:
    """Reads an image file as a signal, `downscale` times smaller if asked for. Raises as `images.read_image` does."""
    deep = read_deep_pixels(path)
    if deep is not None:
        return _deep_signal(path, deep, downscale or 1)
    pixels = slim(images.downscale(images.read_image(path, upright=True), downscale or 1))
    height, width, channels = pixels.shape
    domain = Domain("image", 2, channels, (width, height))
    return ImageSignal(path.stem, path, domain, ImageFacts(width, height), torch.from_numpy(pixels))


def _deep_signal(path: Path, deep: DeepPixels, factor: int) -> ImageSignal:
    values = deep.values
    if values.shape[2] == 2:  # grey with alpha: a field has 1, 3 or 4 channels
        values = np.concatenate([values[..., :1], values[..., :1], values], 2)
    height, width = values.shape[:2]
    pixels = slim(smaller(values, (max(1, width // factor), max(1, height // factor))))
    height, width, channels = pixels.shape
    facts, domain = ImageFacts(width, height, deep.bits, deep.peak), Domain("image", 2, channels, (width, height))
    return ImageSignal(path.stem, path, domain, facts, torch.from_numpy(pixels), warnings=deep.warnings)


def _measure_deep(seen: np.ndarray, truth: np.ndarray, bits: int) -> dict[str, float]:
    if bits == 16:
        seen, truth = sixteen_bit(seen) / 65535, sixteen_bit(truth) / 65535
    if truth.shape[2] == 4:
        seen, truth = (over(p[..., :3], p[..., 3], np.ones(3)) for p in (seen, truth))
    error = float(np.mean((seen.astype(np.float64) - truth) ** 2))
    wide = [np.repeat(p, 3, axis=2) if p.shape[2] == 1 else p for p in (seen, truth)]
    structure = {"ssim": ssim(*wide)} if min(seen.shape[:2]) >= WINDOW else {}
    return {"psnr": psnr_from_mse(error)} | structure


def slim(pixels: np.ndarray) -> np.ndarray:
    """Drops an alpha that is opaque everywhere, and two channels if all colours are grey."""
    opaque = 255 if pixels.dtype == np.uint8 else 1
    if pixels.shape[2] == 4 and (pixels[..., 3] == opaque).all():
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


def picture(
    field: Field, source: tuple[int, int], size: tuple[int, int], time: float | None = None, deep: bool = False
) -> np.ndarray:
    """Renders a field's image of `size` (width, height), [H, W, C] uint8, or float32 in [0, 1] if `deep`.

    `time` in [0, 1]: a video's third coordinate. If it is smaller than its `source`, every pixel is an area average
    (anti-aliasing).
    """
    factor = max(1, *(math.ceil(a / b) for a, b in zip(source, size, strict=True)))
    width, height = size[0] * factor, size[1] * factor
    rows = torch.cat(list(_parts(field, (width, height), time, deep)))
    pixels = rows.reshape(height, width, field.domain.channels).numpy()
    if factor == 1:
        return pixels
    if deep:
        return smaller(pixels, size)
    small = images.downscale(pixels[..., 0] if pixels.shape[2] == 1 else pixels, size)
    return small[..., None] if small.ndim == 2 else small


def _parts(field: Field, size: tuple[int, int], time: float | None, deep: bool) -> Iterator[Tensor]:
    for first in range(0, size[0] * size[1], CHUNK):
        x = centres(size, torch.arange(first, min(first + CHUNK, size[0] * size[1])))
        if time is not None:
            x = torch.cat([x, torch.full_like(x[:, :1], time)], 1)
        values = values_at(field, x).nan_to_num().clamp(0, 1)
        yield values if deep else (values * 255).round().to(torch.uint8)
