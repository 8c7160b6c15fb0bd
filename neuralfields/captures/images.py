"""Decodes photos and masks of a capture and downscales them.

Vocabulary
  stored size   width and height as the file holds them
  rotated size  the same after the file's EXIF orientation; it is applied only if the intrinsics are for it
  keep          [H, W] bool, True for a valid pixel; masks on disk are black where a pixel is ignored, unless their
                frame has the opposite polarity
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuralfields.captures.deep_images import DeepHeader, deep_header, read_deep, require_plausible_png
from neuralfields.captures.mask_folder import cut_out
from neuralfields.captures.photo_store import LoadedFrames, PhotoStore, in_order, require_memory
from neuralfields.errors import InputError
from neuralfields.files import require_ordinary
from neuralfields.media import HEAD, RAW, image_format, import_plugin
from neuralfields.scene import Frame, Scene

if TYPE_CHECKING:
    from PIL.Image import Image

# Of Pillow's formats; others are left out on purpose: EPS, for one, runs Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF", "HEIF")
DEEP_FORMATS = ("EXR", "PNG16")
ORIENTATION_TAG, EXIF_FOLDER, BITS_TAG = 0x0112, 0x8769, 0x0102
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
NO_PIXELS = "image declares no pixels; copy it again or remove it"
LONGEST_SIDE, WORKERS = 1000, 2
LARGEST_BAD_SHARE, FEWEST_IMAGES, SAME_MASK_SHAPE = 0.2, 3, 0.01


@dataclass(frozen=True)
class ImageHeader:
    """A file's header, read without decoding: stored size, EXIF orientation (1 to 8), alpha.

    `format`: Pillow's name, or EXR or PNG16; `mode` of Pillow's pixels, empty if another package decodes them.
    """

    width: int
    height: int
    orientation: int
    alpha: bool
    format: str = ""
    mode: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Stored (width, height)."""
        return self.width, self.height

    @property
    def rotated_size(self) -> tuple[int, int]:
        """(width, height) once the EXIF orientation is applied."""
        return (self.height, self.width) if self.orientation in SIDEWAYS else (self.width, self.height)


def format_of(path: Path) -> str:
    """Detects a file's format by its first bytes. Raises InputError for one that is not read."""
    if path.suffix.lower() in RAW:  # raw files are TIFF inside, and a preview would be taken for the photo
        raise InputError(
            f"{path}: {path.suffix[1:].upper()} is not read; convert it to JPEG, or let the camera save it"
        )
    require_ordinary(path)
    try:
        with path.open("rb") as file:
            found = image_format(file.read(HEAD))
    except FileNotFoundError:
        raise InputError(f"{path}: no such image") from None
    except (OSError, ValueError):
        found = None
    if found is None:
        raise InputError(f"{path}: not a readable image; {_remedy(path)}")
    return found


def open_image(path: Path, format: str) -> "Image | None":
    """Opens a file with Pillow; None if its pixels are deeper than Pillow decodes them."""
    from PIL import Image, UnidentifiedImageError, features

    if format == "HEIF":
        import_plugin("pillow_heif", path, "an image in HEIC").register_heif_opener()
    if format == "AVIF" and not features.check("avif"):
        raise InputError(f"{path}: an image in AVIF, which needs Pillow 11.3; run: pip install -U pillow")
    if format in DEEP_FORMATS:
        return None
    try:
        image = Image.open(path, formats=(format,))
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise InputError(f"{path}: image declares more than {limit} million pixels; make it smaller first") from None
    except MemoryError:
        raise
    except Exception as error:  # a decoder may raise anything on bad bytes, and its text is not for users
        if format == "TIFF" and isinstance(error, UnidentifiedImageError):
            return None  # floating-point and 32-bit colour
        raise InputError(f"{path}: not a readable {format} image; {_remedy(path)}") from None
    if min(image.size) < 1:
        raise InputError(f"{path}: {NO_PIXELS}")
    if format == "TIFF" and (image.mode == "F" or (image.mode[0] != "I" and _bits(image) > 8)):
        image.close()
        return None
    return image


def _bits(image: Any) -> int:
    """Bits a channel of a TIFF image."""
    bits = image.tag_v2.get(BITS_TAG, 1)
    return max(bits) if isinstance(bits, tuple) else int(bits)


def _remedy(path: Path) -> str:
    try:
        if path.stat().st_size == 0:
            return "the file is empty, copy it again or remove it"
    except OSError:
        return "check that the file exists and may be read"
    return "JPEG, PNG, WebP, TIFF, BMP, EXR, HEIC and AVIF are read, convert it or remove it"


def _deep(path: Path, format: str) -> DeepHeader:
    """The header of a file that Pillow does not decode."""
    try:
        header = deep_header(path, format)
        if min(header.width, header.height) < 1:
            raise InputError(f"{path}: {NO_PIXELS}")
        return header
    except (InputError, MemoryError):
        raise
    except Exception:
        raise InputError(f"{path}: not a readable {format} image; {_remedy(path)}") from None


def image_header(path: Path) -> ImageHeader:
    """Reads size, orientation and alpha from the header; pixels are not decoded. Raises InputError."""
    format = format_of(path)
    image = open_image(path, format)
    if image is None:
        deep = _deep(path, format)
        width, height = (deep.height, deep.width) if deep.orientation in SIDEWAYS else (deep.width, deep.height)
        return ImageHeader(width, height, 1, deep.alpha, format)  # tifffile applies TIFF's orientation, as Pillow does
    with image:
        # Pillow applies TIFF's orientation itself, and would decode a whole PNG to find EXIF that is not up front.
        ahead = "exif" in image.info and format != "TIFF"
        orientation = orientation_of(image) if ahead else 1
        return ImageHeader(image.width, image.height, orientation, _has_alpha(image), str(image.format), image.mode)


def orientation_of(image: "Image") -> int:
    """EXIF orientation, 1 to 8. Default: 1."""
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # broken EXIF says nothing about the pixels
        return 1


def exif_fields(path: Path) -> dict[int, Any]:
    """Reads a photo's EXIF fields by number, those of its sub-IFD among them; empty if there are none."""
    image = open_image(path, format_of(path))
    if image is None:
        return {}
    with image:
        if "exif" not in image.info:
            return {}
        try:
            exif = image.getexif()
            return {**exif, **exif.get_ifd(EXIF_FOLDER)}
        except Exception:  # broken EXIF says nothing about the pixels
            return {}


def _has_alpha(image: "Image") -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def read_image(
    path: Path, size: tuple[int, int] | None = None, at_least: int | None = None, upright: bool = False
) -> np.ndarray:
    """Decodes a photo as uint8 [H, W, 3], or [H, W, 4] with straight alpha if the file has alpha; sRGB as stored.

    Grey, palette, CMYK, 16-bit and floating-point files (linear light, deep_images.py) are converted; a colour profile
    is not applied. `size` (width, height) is what the intrinsics expect: the EXIF orientation is applied only when that
    is how the size matches, or always when `upright`. `at_least`: a JPEG may come back smaller (1/2, 1/4, 1/8) as long
    as its shorter side keeps that many pixels; a fast preview, not an exact area average.
    Raises InputError naming the file when it cannot be decoded, or when the package is missing that decodes it.
    """
    format = format_of(path)
    if format == "PNG":
        require_plausible_png(path)
    image = open_image(path, format)
    try:
        if image is None:
            return turned(read_deep(path, format), _deep(path, format).orientation)
        with image:
            stored = image.size
            if at_least is not None and image.format == "JPEG":
                image.draft(None, tuple(max(1, s * at_least // min(stored)) for s in stored))
            image.load()
            asked = upright or (size is not None and stored != tuple(size) and stored[::-1] == tuple(size))
            return turned(_to_uint8(image, path), orientation_of(image) if asked else 1)
    except (InputError, MemoryError):
        raise
    except Exception:
        raise InputError(f"{path}: the image data is damaged or cut short; copy it again or remove it") from None


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an EXIF orientation (1 to 8) to a photo [H, W, C]."""
    if orientation in SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _to_uint8(image: "Image", path: Path) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey, or 32-bit integers that must hold 16-bit values
        values = np.asarray(image).astype(np.int64)
        if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
            raise InputError(f"{path}: 32-bit integer pixels are not read; convert it to 8 or 16 bits")
        grey = ((values + 128) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(image.convert("RGBA" if _has_alpha(image) else "RGB"))


def read_mask(path: Path, size: tuple[int, int], ignores: bool = False) -> np.ndarray:
    """Reads a mask file as `keep` [H, W] bool: black (below half) is ignored, everything else is kept; with `ignores`
    the reverse.

    `size` (width, height) is its photo's. A mask of another size but the same shape is stretched to it; a pixel that
    is ignored in part is ignored. Raises InputError with both sizes for another shape.
    """
    from PIL import Image

    pixels = read_image(path, size)
    values = pixels[..., :3].max(axis=2)
    if pixels.shape[2] == 4 and values.min() == values.max() and pixels[..., 3].min() < pixels[..., 3].max():
        values = pixels[..., 3]  # one colour throughout: the mask is the file's alpha
    keep = (values >= 128) != ignores
    height, width = keep.shape
    if (width, height) == tuple(size):
        return keep
    if abs(width * size[1] / (height * size[0]) - 1) > SAME_MASK_SHAPE:
        raise InputError(
            f"{path}: mask is {width}x{height} but its photo is {size[0]}x{size[1]}; a mask needs its photo's size, or"
            " its shape"
        )
    whole = keep.astype(np.uint8) * 255
    if width >= size[0] and height >= size[1]:
        return downscale(whole, tuple(size)) == 255
    return np.array(Image.fromarray(whole).resize(tuple(size), Image.Resampling.BILINEAR)) == 255


def automatic_downscale(width: int, height: int) -> int:
    """Smallest integer factor that brings the longer side to at most 1000 pixels."""
    return max(1, -(-max(width, height) // LONGEST_SIDE))


def downscale(image: np.ndarray, to: int | tuple[int, int]) -> np.ndarray:
    """Downscales a uint8 image [H, W], [H, W, 3 or 4] by area averaging, by an integer factor or to (width, height).

    Each output pixel is the mean over the exact rectangle it covers, fractions of pixels included, rounded to
    nearest. With four channels colour is weighted by alpha, and is 0 where alpha is 0. Enlarging is refused.
    """
    height, width = image.shape[:2]
    to_width, to_height = (max(1, width // to), max(1, height // to)) if isinstance(to, int) else to
    if (to_width, to_height) == (width, height):
        return image
    if not (0 < to_width <= width and 0 < to_height <= height):
        raise ValueError(f"cannot downscale {width}x{height} to {to_width}x{to_height}")
    if image.ndim == 3 and image.shape[2] == 4:
        alpha = image[..., 3:].astype(np.float32)
        weighted = np.concatenate([image[..., :3] * alpha, alpha], axis=2)
        mean = area_average(weighted, to_width, to_height)
        colour = mean[..., :3] / np.maximum(mean[..., 3:], 1e-6)
        return _rounded(np.concatenate([colour, mean[..., 3:]], axis=2))
    if width % to_width == 0 and height % to_height == 0:
        from PIL import Image

        # Pillow's whole-number reduction is exact to the rounding, and ten times faster.
        return np.array(Image.fromarray(image).reduce((width // to_width, height // to_height)))
    return _rounded(area_average(image, to_width, to_height))


def area_average(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """Means over equal, possibly fractional, rectangles of an array [H, W, ...], float32."""
    rows = _average_rows(values, height)
    return _average_rows(np.ascontiguousarray(rows.swapaxes(0, 1)), width).swapaxes(0, 1)


def _average_rows(values: np.ndarray, count: int) -> np.ndarray:
    """Means over `count` equal, possibly fractional, spans of axis 0, float32."""
    length = values.shape[0]
    out = np.empty((count, *values.shape[1:]), dtype=np.float32)
    for i in range(count):
        # Whole-number arithmetic: span i runs from i length / count to (i + 1) length / count.
        first, last = i * length // count, -(-(i + 1) * length // count)
        weights = np.ones(last - first, dtype=np.float32)
        weights[0] -= (i * length - first * count) / count
        weights[-1] -= (last * count - (i + 1) * length) / count
        out[i] = np.tensordot(weights / weights.sum(), values[first:last].astype(np.float32, copy=False), axes=1)
    return out


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


def load_frames(
    scene: Scene,
    indices: Sequence[int],
    downscale: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    copies: float = 0.0,
) -> LoadedFrames:
    """Decodes the chosen frames of a scene, each `downscale` times smaller, with cameras to match.

    `downscale`: Default: one factor for all, so that the largest photo has at most 1000 pixels along its longer side.
    `progress(done, total)` is called from this thread. Unreadable photos are skipped with a warning. `copies`: bytes a
    pixel that will be needed besides, of which the estimate knows.
    Raises InputError when over 20 % are unreadable, under 3 are left, or a mask does not fit; ResourceError for memory.
    """
    chosen = [scene.frames[i] for i in indices]
    if downscale is None:
        downscale = max((automatic_downscale(f.camera.width, f.camera.height) for f in chosen), default=1)
    if downscale < 1:
        raise InputError(f"--downscale {downscale}: a whole number from 1 on is needed")
    cameras = [frame.camera for frame in chosen]
    channels, masked = 4 if scene.has_alpha else 3, sum(frame.mask_path is not None for frame in chosen)
    require_memory(cameras, downscale, channels + copies, masked, WORKERS, str(scene.root))
    store = PhotoStore(cameras, downscale, channels)
    loaded = LoadedFrames([], [], [], [], [])
    bad: list[str] = []
    results = in_order(lambda frame: _load(frame, downscale), chosen, WORKERS)
    for done, (index, result) in enumerate(zip(indices, results, strict=True), start=1):
        if isinstance(result, InputError):
            bad.append(str(result))
        else:
            image, mask = result
            loaded.images.append(store.keep(image))
            loaded.masks.append(mask)
            loaded.cameras.append(scene.frames[index].camera.resized(image.shape[1], image.shape[0]))
            loaded.indices.append(index)
        if progress is not None:
            progress(done, len(chosen))
    if bad:
        _judge_unreadable(scene, bad, len(chosen))
        loaded.warnings.append(f"{len(bad)} of {len(chosen)} photos cannot be read and are left out; {bad[0]}")
    return loaded


def _load(frame: Frame, factor: int) -> tuple[np.ndarray, np.ndarray | None] | InputError:
    """Loads one frame's pixels and mask at the smaller size; an unreadable photo's error is returned, not raised."""
    size = (frame.camera.width, frame.camera.height)
    try:
        image = read_image(frame.path, size)
    except InputError as error:
        return error
    if (image.shape[1], image.shape[0]) != size:
        raise InputError(
            f"{frame.path}: image is {image.shape[1]}x{image.shape[0]} but its camera is for {size[0]}x{size[1]};"
            " read the capture again"
        )
    mask = None
    if frame.mask_path is not None:
        keep = read_mask(frame.mask_path, size, frame.mask_ignores)
        if frame.mask_cuts:
            return downscale(cut_out(image, keep), factor), None
        mask = downscale(keep.astype(np.uint8) * 255, factor) == 255  # nothing ignored leaks into a small pixel
    return downscale(image, factor), mask


def _judge_unreadable(scene: Scene, bad: list[str], asked: int) -> None:
    left = asked - len(bad)
    if len(bad) > LARGEST_BAD_SHARE * asked or left < min(FEWEST_IMAGES, asked):
        raise InputError(
            f"{scene.root}: {len(bad)} of {asked} photos cannot be read (at most {LARGEST_BAD_SHARE:.0%} may be, and"
            f" {FEWEST_IMAGES} must be left); {bad[0]}"
        )
