"""Decodes images of more than 8 bits a channel (HDR, deep) to 8-bit sRGB: EXR, 16-bit and float TIFF, 16-bit PNG.

Vocabulary
  linear         floating-point pixels are light, 1 is white: they are clipped to [0, 1] and encoded by sRGB's curve;
                 whole numbers are sRGB as stored
  premultiplied  colour that is multiplied by its alpha, as in EXR; it is divided out before the encoding
  straight       colour beside its alpha, as in all pixels that leave this file

A file's size is read before anything is decoded, and too large ones are refused; a damaged file raises its decoder's
error, which images.py converts to one line.
"""

import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuralfields.errors import InputError
from neuralfields.files import size_text
from neuralfields.media import import_plugin

LARGEST_PIXELS = 178_956_970  # Pillow's own limit
LARGEST_BYTES = 4 * LARGEST_PIXELS  # of decoded samples: Pillow's limit in 8-bit RGBA
SPAN = {"uint8": 255, "uint16": 65535, "uint32": 2**32 - 1}
FLOATS = ("float16", "float32", "float64")
GREY_FROM_WHITE, GREY, RGB = 0, 1, 2  # TIFF's PhotometricInterpretation
VALUES_AT_ONCE = 1 << 20  # of samples on their way to 8 bits
PREMULTIPLIED, STRAIGHT = 1, 2  # TIFF's ExtraSamples
RAW, LZW, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 5, 8, 32946, 32773  # TIFF's Compression
FLOAT_PREDICTOR = 3


@dataclass(frozen=True)
class DeepHeader:
    """A deep file's header, read without decoding: stored size, TIFF orientation (1 to 8), alpha."""

    width: int
    height: int
    orientation: int
    alpha: bool


def srgb_from_linear(linear: np.ndarray) -> np.ndarray:
    """Applies sRGB's transfer function to linear light in [0, 1], IEC 61966-2-1."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def deep_header(path: Path, format: str) -> DeepHeader:
    """Reads size, orientation and alpha of a file of `format` EXR, TIFF or PNG16; no pixel is decoded.

    Raises InputError for an unsupported file or a missing package, and the decoder's own error for a damaged file.
    """
    if format == "EXR":
        _, header, names = _exr_header(path)
        return DeepHeader(*window_size(header["displayWindow"]), 1, len(names) % 2 == 0)
    if format == "PNG16":
        with path.open("rb") as file:
            head = file.read(26)
        width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
        refuse_large(path, width * height, 8 * width * height)
        return DeepHeader(width, height, 1, head[25] in (4, 6))
    with _tiff(path) as (image, tags):
        shape = image.properties(index=..., page=0).shape
        height, width = shape[1:] if len(shape) == 3 and tags.get("PlanarConfiguration") == 2 else shape[:2]
        return DeepHeader(width, height, int(tags.get("Orientation", 1)), _tiff_alpha(tags) is not None)


def linear_from_srgb(coded: np.ndarray) -> np.ndarray:
    """The reverse of `srgb_from_linear`."""
    return np.where(coded <= 0.0031308 * 12.92, coded / 12.92, ((np.maximum(coded, 0) + 0.055) / 1.055) ** 2.4)


def read_deep(path: Path, format: str) -> np.ndarray:
    """Decodes a file's pixels as uint8 [H, W, 3], or [H, W, 4] with straight alpha, as stored (not rotated).

    Raises as `deep_header` does.
    """
    samples, premultiplied = read_samples(path, format)
    height, width, channels = samples.shape
    out = np.empty((height, width, 3 + (channels % 2 == 0)), np.uint8)
    rows = max(1, VALUES_AT_ONCE // max(1, width * channels))
    for begin in range(0, height, rows):  # each step of the way makes a copy
        band = slice(begin, begin + rows)
        colour, alpha = straight(samples[band], premultiplied)
        colour = np.clip(colour, 0, 1)
        out[band, :, :3] = _whole(srgb_from_linear(colour) if samples.dtype.kind == "f" else colour)
        if alpha is not None:
            out[band, :, 3:] = _whole(alpha)
    return out


def _whole(values: np.ndarray) -> np.ndarray:
    return np.rint(values * 255)


def read_samples(path: Path, format: str) -> tuple[np.ndarray, bool]:
    """Decodes a file's samples [H, W, 1 to 4] in their own type, and whether colour is multiplied by alpha.

    Raises as `deep_header` does.
    """
    if format == "EXR":
        return _read_exr(path), True
    if format == "PNG16":
        return _read_png(path), False
    with _tiff(path) as (image, tags):
        _check_segments(path, tags)
        values = _tiff_channels(path, image.read(index=..., page=0), tags)
        return values, _tiff_alpha(tags) == PREMULTIPLIED


def straight(samples: np.ndarray, premultiplied: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Samples [H, W, 1 to 4], integer or floating-point, as colour [H, W, 1 or 3] >= 0 and alpha [H, W, 1], if any.

    Integers become [0, 1]; light stays light, and may be infinite.
    """
    scale = 1 if samples.dtype.kind == "f" else SPAN[samples.dtype.name]
    # float64 for 32-bit integers: their steps are finer than float32's.
    values = samples.astype(np.float64 if scale > 65535 else np.float32) / np.float32(scale)
    values = np.maximum(np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=0.0), 0)
    colour, alpha = (values, None) if values.shape[2] % 2 else (values[..., :-1], values[..., -1:])
    if alpha is not None and premultiplied:
        colour = np.where(alpha > 0, colour / np.maximum(alpha, 1e-12), 0)
    return colour, None if alpha is None else np.clip(alpha, 0, 1)


def refuse_large(path: Path, pixels: int, samples: int) -> None:
    """Raises InputError for an image of too many pixels, or bytes of decoded samples."""
    if pixels > LARGEST_PIXELS:
        limit = LARGEST_PIXELS // 1_000_000
        raise InputError(f"{path}: image declares more than {limit} million pixels; make it smaller first")
    if samples > LARGEST_BYTES:
        raise InputError(
            f"{path}: image decodes to {size_text(samples)}, at most {size_text(LARGEST_BYTES)} are read; make it"
            " smaller first, or save it with 8 bits"
        )


# ---------------------------------------------------------------- PNG


def require_plausible_png(path: Path) -> None:
    """Refuses a PNG with a chunk that is longer than the file: its decoder asks for memory before it looks.

    Raises InputError.
    """
    with path.open("rb") as file:
        size, at = file.seek(0, 2), 8
        while at + 8 <= size:
            file.seek(at)
            head = file.read(8)
            length = int.from_bytes(head[:4], "big")
            at += 12 + length
            if length > size:
                raise InputError(f"{path}: the image data is damaged or cut short; copy it again or remove it")
            if head[4:] == b"IEND":
                break


def _read_png(path: Path) -> np.ndarray:
    """Decodes samples uint16 [H, W, 3 or 4]."""
    av = import_plugin("av", path, "a PNG with 16 bits a channel")
    deep_header(path, "PNG16")
    with av.open(str(path), format="png_pipe") as file:
        frame = next(file.decode(video=0))
    # Grey with alpha becomes RGBA: PyAV hands out no arrays of it.
    return frame.to_ndarray(format="rgb48le" if len(frame.format.components) == 3 else "rgba64le")


# ---------------------------------------------------------------- TIFF


@contextmanager
def _tiff(path: Path) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Opens the first page of a TIFF file with imageio, and its tags, checked to be supported."""
    import imageio.v3 as iio

    # An open file, not a name: imageio takes some names for URLs, archives and the like.
    with path.open("rb") as file, iio.imopen(file, "r", plugin="tifffile") as image:
        about, tags = image.properties(index=..., page=0), image.metadata(index=..., page=0)
        kind, photometric = np.dtype(about.dtype), int(tags.get("PhotometricInterpretation", -1))
        if kind.name not in (*SPAN, *FLOATS) or photometric not in (GREY_FROM_WHITE, GREY, RGB):
            raise InputError(f"{path}: a TIFF of {kind.name} pixels that is neither grey nor RGB; convert it to RGB")
        samples = int(np.prod([int(side) for side in about.shape], dtype=object))
        refuse_large(path, samples // max(1, int(tags.get("SamplesPerPixel", 1))), samples * kind.itemsize)
        yield image, tags


def _tiff_alpha(tags: Mapping[str, Any]) -> int | None:
    """The kind of alpha: PREMULTIPLIED, STRAIGHT, or None if there is none."""
    extra = tags.get("ExtraSamples", ())
    first = int(next(iter(extra), 0)) if isinstance(extra, tuple | list) else int(extra)
    return first if first in (PREMULTIPLIED, STRAIGHT) else None


def _tiff_channels(path: Path, values: np.ndarray, tags: Mapping[str, Any]) -> np.ndarray:
    """Arranges samples [H, W, 1 to 4]: interleaved, black is 0, without channels that are neither colour nor alpha."""
    if values.ndim == 2:
        values = values[..., None]
    elif tags.get("PlanarConfiguration") == 2:
        values = np.moveaxis(values, 0, -1)
    photometric = int(tags["PhotometricInterpretation"])
    colours = 3 if photometric == RGB else 1
    wanted = colours + (_tiff_alpha(tags) is not None)
    if values.ndim != 3 or values.shape[2] < wanted:
        raise InputError(f"{path}: a TIFF of shape {values.shape} that is neither grey nor RGB; convert it")
    values = values[..., :wanted]
    if photometric == GREY_FROM_WHITE:
        white = 1 if values.dtype.kind == "f" else SPAN[values.dtype.name]
        values = np.concatenate([white - values[..., :1], values[..., 1:]], axis=2).astype(values.dtype)
    return values


def _check_segments(path: Path, tags: Mapping[str, Any]) -> None:
    """Refuses compressions that tifffile cannot undo, and strips or tiles that inflate to more than their pixels.

    Without imagecodecs tifffile inflates a strip whole, whatever its size: a megabyte on disk may be a gigabyte.
    """
    how = int(tags.get("Compression", RAW))
    if how == LZW or int(tags.get("Predictor", 1)) == FLOAT_PREDICTOR:
        import_plugin("imagecodecs", path, "a TIFF with LZW compression or floating-point prediction")
    elif how not in (RAW, DEFLATE, OLD_DEFLATE, PACKBITS):
        raise InputError(f"{path}: a TIFF with compression {how}; save it uncompressed, or with Deflate (ZIP)")
    if how not in (DEFLATE, OLD_DEFLATE):
        return
    kind = "Tile" if "TileOffsets" in tags else "Strip"
    if kind == "Tile":
        pixels = int(tags["TileWidth"]) * int(tags["TileLength"])
    else:
        pixels = int(tags["ImageWidth"]) * min(int(tags.get("RowsPerStrip", 2**32 - 1)), int(tags["ImageLength"]))
    bits = tags.get("BitsPerSample", 1)
    bits = max(bits) if isinstance(bits, tuple | list) else bits
    most = pixels * int(tags.get("SamplesPerPixel", 1)) * int(bits) // 8
    refuse_large(path, pixels, most)
    with path.open("rb") as file:
        for offset, count in zip(tags[f"{kind}Offsets"], tags[f"{kind}ByteCounts"], strict=True):
            file.seek(offset)
            if len(zlib.decompressobj().decompress(file.read(count), most + 1)) > most:
                raise InputError(f"{path}: the image data is larger than its pixels; copy it again or remove it")


# ---------------------------------------------------------------- EXR


def open_exr(path: Path, header_only: bool) -> Any:
    """Opens an EXR file, its channels one by one. Raises InputError where the package is missing."""
    exr = import_plugin("OpenEXR", path, "an OpenEXR image")
    return exr.File(str(path), separate_channels=True, header_only=header_only)


def window_size(window: Any) -> tuple[int, int]:
    """(width, height) of an EXR window, whose corners are both inside."""
    (left, top), (right, bottom) = (tuple(map(int, corner)) for corner in window)
    return right - left + 1, bottom - top + 1


def _exr_layer(header: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of R, G, B and A, or Y and A, without a layer's name, else in the first layer by name that has them."""
    whole = {channel.name for channel in header["channels"] if channel.xSampling == channel.ySampling == 1}
    layers = sorted({name.rpartition(".")[0] for name in whole})
    for letters in ("RGB", "Y"):
        for layer in layers:
            names = tuple(f"{layer}.{letter}" if layer else letter for letter in f"{letters}A")
            if whole.issuperset(names[:-1]):
                return names if names[-1] in whole else names[:-1]
    return ()


def _exr_header(path: Path) -> tuple[int, Mapping[str, Any], tuple[str, ...]]:
    """Reads the header of an EXR file's first part with colour: its number, header, and the names of its channels.

    Raises InputError if there is no colour, or if the file would not fit into memory.
    """
    headers = [part.header for part in open_exr(path, header_only=True).parts]
    found = next(((i, header, _exr_layer(header)) for i, header in enumerate(headers) if _exr_layer(header)), None)
    if found is None:
        raise InputError(f"{path}: an OpenEXR image without channels R, G, B or Y; export colour")
    width, height = window_size(found[1]["displayWindow"])
    if min(width, height) < 1:
        raise InputError(f"{path}: an OpenEXR image of {width}x{height} pixels; export it again")
    # All parts and channels are decoded, whichever are wanted.
    held = sum(4 * math.prod(window_size(header["dataWindow"])) * len(header["channels"]) for header in headers)
    refuse_large(path, width * height, max(held, 4 * width * height * len(found[2])))
    return found


def _read_exr(path: Path) -> np.ndarray:
    """Decodes samples float32 [H, W, 1 to 4] of the display window; pixels outside the data window are 0."""
    index, header, names = _exr_header(path)
    part = open_exr(path, header_only=False).parts[index]
    channels = [np.asarray(part.channels[name].pixels) for name in names]
    if any(channel.dtype.kind != "f" or channel.ndim != 2 for channel in channels):
        raise InputError(f"{path}: an OpenEXR image whose colour is no floating point; export it again")
    values = np.stack(channels, axis=2).astype(np.float32)
    width, height = window_size(header["displayWindow"])
    left, top = (int(a) - int(b) for a, b in zip(header["dataWindow"][0], header["displayWindow"][0], strict=True))
    if (left, top) == (0, 0) and values.shape[:2] == (height, width):
        return values
    canvas = np.zeros((height, width, values.shape[2]), np.float32)
    inside = canvas[max(0, top) : max(0, top + values.shape[0]), max(0, left) : max(0, left + values.shape[1])]
    inside[:] = values[max(0, -top) :, max(0, -left) :][: inside.shape[0], : inside.shape[1]]
    return canvas
