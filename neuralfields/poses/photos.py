"""Reads a folder of photos without poses: their sizes, focal lengths by EXIF, and copies for COLMAP.

Vocabulary
  photo   one readable image of the folder, upright: the EXIF orientation is applied
  copy    input of COLMAP: the photo downscaled, or a link to it where it is small and plain
  lens    photos of one size, camera and focal length; they share their intrinsics
  focal   in pixels of the upright photo, from the EXIF 35 mm equivalent or from focal length and sensor
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neuralfields.captures.images import (
    FEWEST_IMAGES,
    LARGEST_BAD_SHARE,
    WORKERS,
    downscale,
    exif_fields,
    image_header,
    read_image,
)
from neuralfields.captures.mask_names import is_mask_name
from neuralfields.captures.other_poses import named_format
from neuralfields.captures.preview import SHORT_SIDE, sharpness_and_contrast
from neuralfields.captures.readers import formats_in
from neuralfields.errors import InputError
from neuralfields.files import natural
from neuralfields.media import IMAGES, RAW

if TYPE_CHECKING:
    from PIL.Image import Image

PHOTO_FOLDERS = (".", "images", "photos", "input")
NO_CAMERAS = ("masks", "mask", "depth", "depths", "normals", "thumbnails")  # folders of no photos
PLAIN = {"JPEG": ".jpg", "PNG": ".png"}  # formats of plain photos
JPEG_QUALITY = 95
FULL_FRAME_DIAGONAL = 43.267  # mm, of 36 x 24
MAKER, CAMERA, FOCAL_LENGTH, FOCAL_35 = 0x010F, 0x0110, 0x920A, 0xA405
PLANE_RESOLUTION, PLANE_UNIT, STORED_WIDTH = 0xA20E, 0xA210, 0xA002
UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0}
SAME_FOCAL = 0.02
LONGEST_STEM = 80


@dataclass(frozen=True)
class Photo:
    """A photo: `name` in the capture, `width` and `height` upright, `focal` in pixels or None, `camera` as EXIF has it.

    `sharpness`: variance of the Laplacian over that of grey, as in preview.py; `contrast`: standard deviation of grey.
    `plain`: an upright JPEG or PNG without alpha, which can be copied as it is.
    """

    path: Path
    name: str
    width: int
    height: int
    focal: float | None
    camera: str
    sharpness: float
    contrast: float
    plain: bool
    alpha: bool


@dataclass(frozen=True)
class Lens:
    """Photos that share their intrinsics: names, size in pixels, focal length in pixels or None."""

    names: tuple[str, ...]
    width: int
    height: int
    focal: float | None

    def at(self, largest: int) -> "Lens":
        """The same lens for downscaled photos (see `shrunk`)."""
        width, height = shrunk((self.width, self.height), largest)
        focal = None if self.focal is None else self.focal * width / self.width
        return Lens(self.names, width, height, focal)


@dataclass(frozen=True)
class PhotoSet:
    """Readable photos sorted by path, and a line on each file that was left out."""

    root: Path
    photos: tuple[Photo, ...]
    unreadable: tuple[str, ...]
    notes: tuple[str, ...]


def photo_folder(path: Path) -> Path | None:
    """Folder of photos at or in `path`, if it has photos and no poses, not even such as are not read; else None."""
    if not path.is_dir() or formats_in(path) or named_format(path) is not None:
        return None
    for find in (_files_in, _files_below):
        for name in PHOTO_FOLDERS:
            if find(path / name):
                return path / name
    return None


def photo_files(folder: Path) -> list[Path]:
    """Files of a folder with the suffix of a photo, or else of the folders in it, one a camera (a rig's layout).

    Sorted by name (numbers by value), without hidden ones and masks of others.
    """
    return _files_in(folder) or _files_below(folder)


def _files_below(folder: Path) -> list[Path]:
    """Photos in the folders of a folder; none where such a folder is a capture or a set of masks of its own."""
    with suppress(OSError):
        below = sorted((p for p in folder.iterdir() if p.is_dir() and p.name[:1] != "."), key=lambda p: natural(p.name))
        below = [p for p in below if p.name.lower() not in NO_CAMERAS]
        if not any(formats_in(p) for p in below):
            return [file for p in below for file in _files_in(p)]
    return []


def _files_in(folder: Path) -> list[Path]:
    known = IMAGES + RAW
    with suppress(OSError):
        files = [p for p in folder.iterdir() if p.suffix.lower() in known and p.name[:1] != "." and p.is_file()]
        names = {p.name.lower(): p.name for p in files}
        return sorted((p for p in files if not is_mask_name(p.name, names)), key=lambda p: natural(p.name))
    return []


def read_photos(folder: Path, strict: bool = False) -> PhotoSet:
    """Inspects every photo of a folder, each decoded once (downscaled), so that damage shows now.

    Raises InputError when fewer than 3 are there or left, when over 20 % cannot be read, and with `strict` for the
    first that cannot.
    """
    files = photo_files(folder)
    rig = any(file.parent != folder for file in files)
    if len(files) < FEWEST_IMAGES:
        found = f"{len(files)} photo{'s' * (len(files) != 1)}" if files else "no photos"
        raise InputError(f"{folder}: {found}; at least {FEWEST_IMAGES} that overlap are needed, 30 and more are better")
    # In a rig's folders the same names come again; there the folder is part of the name, and says which camera it was.
    names = safe_names([Path(f"{file.parent.name}_{file.name}") for file in files] if rig else files)
    with ThreadPoolExecutor(WORKERS) as pool:
        inspected = list(pool.map(inspect_photo, files, names))
    bad = [str(result) for result in inspected if isinstance(result, InputError)]
    photos = [result for result in inspected if isinstance(result, Photo)]
    if rig:
        photos = [replace(photo, camera=f"{photo.camera} {photo.path.parent.name}".strip()) for photo in photos]
    if bad and strict:
        raise InputError(f"{bad[0]} (--strict)")
    if len(bad) > LARGEST_BAD_SHARE * len(files) or len(photos) < FEWEST_IMAGES:
        raise InputError(
            f"{folder}: {len(bad)} of {len(files)} photos cannot be read (at most {LARGEST_BAD_SHARE:.0%} may be, and"
            f" {FEWEST_IMAGES} must be left); {bad[0]}"
        )
    return PhotoSet(folder, tuple(photos), tuple(bad), tuple(_notes(photos, bad, len(files))))


def _notes(photos: Sequence[Photo], bad: Sequence[str], count: int) -> list[str]:
    lines = []
    if bad:
        lines.append(f"{len(bad)} of {count} photos cannot be read and are left out: " + "; ".join(bad[:5]))
    lenses = lens_groups(photos)
    if len(lenses) > 1:
        sizes = ", ".join(f"{len(lens.names)} of {lens.width}x{lens.height}" for lens in lenses[:4])
        lines.append(f"{len(lenses)} lenses by size, camera and focal length: {sizes}{', ...' * (len(lenses) > 4)}")
    alpha = sum(photo.alpha for photo in photos)
    if alpha:
        lines.append(f"{alpha} photos have alpha: they are composited over black, the posed photos have none")
    renamed = [photo for photo in photos if not Path(photo.name).stem.endswith(photo.path.stem)]
    if renamed:
        first = renamed[0]
        lines.append(f"{len(renamed)} photos are renamed in the capture, such as {first.path.name!r}: {first.name}")
    return lines


def safe_names(files: Iterable[Path]) -> list[str]:
    """File stems safe on any file system and in COLMAP's lists of pairs: no spaces, short, unique in any case."""
    taken: set[str] = set()
    names = []
    for path in files:
        clean = "".join(letter if letter.isalnum() or letter in "-_.()" else "_" for letter in path.stem)
        while len(clean.encode(errors="replace")) > LONGEST_STEM:
            clean = clean[:-1]
        stem, number = clean.strip(".") or "photo", 2
        while stem.casefold() in taken:
            stem, number = f"{clean}-{number}", number + 1
        taken.add(stem.casefold())
        names.append(stem)
    return names


def inspect_photo(path: Path, stem: str) -> Photo | InputError:
    """Inspects one photo; an unreadable one is returned as the error that says why."""
    try:
        header = image_header(path)
        pixels = read_image(path, at_least=SHORT_SIDE, upright=True)
    except InputError as error:
        return error
    pixels = downscale(pixels, max(1, min(pixels.shape[:2]) // SHORT_SIDE))
    sharpness, contrast = sharpness_and_contrast(pixels[..., :3])
    plain = header.format in PLAIN and header.mode in ("RGB", "L") and header.orientation == 1
    width, height = header.rotated_size
    name = stem + (PLAIN[header.format] if plain else ".jpg")
    fields = exif_fields(path)
    camera = f"{fields.get(MAKER, '')} {fields.get(CAMERA, '')}".strip(" \0")
    focal = focal_pixels(fields, header.size)
    return Photo(path, name, width, height, focal, camera, sharpness, contrast, plain, header.alpha)


def focal_pixels(fields: dict[int, object], size: tuple[int, int]) -> float | None:
    """Focal length in pixels by EXIF fields, for a photo of `size` as stored; None where they state none.

    With the 35 mm equivalent f35: f35 / 43.27 mm x the diagonal in pixels. Otherwise focal length x pixels per mm of
    the sensor, scaled as the photo was scaled. Implausible values are ignored.
    """
    width, height = size
    diagonal = float(np.hypot(width, height))
    focal = None
    if _number(fields.get(FOCAL_35)):
        focal = _number(fields.get(FOCAL_35)) / FULL_FRAME_DIAGONAL * diagonal
    elif _number(fields.get(FOCAL_LENGTH)) and _number(fields.get(PLANE_RESOLUTION)):
        unit = UNIT_MM.get(int(_number(fields.get(PLANE_UNIT)) or 2), 25.4)
        shrunk = width / (_number(fields.get(STORED_WIDTH)) or width)
        focal = _number(fields.get(FOCAL_LENGTH)) * _number(fields.get(PLANE_RESOLUTION)) / unit * shrunk
    return focal if focal is not None and 0.2 < focal / max(width, height) < 20 else None


def _number(value: object) -> float:
    """Converts a field to a number; 0.0 where it is missing or none."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return number if np.isfinite(number) and number > 0 else 0.0


def lens_groups(photos: Sequence[Photo]) -> list[Lens]:
    """Groups photos by size, camera and focal length (within 2 %), the largest group first."""
    groups: dict[tuple, list[Photo]] = {}
    for photo in photos:
        step = None if photo.focal is None else round(np.log(photo.focal) / SAME_FOCAL)
        groups.setdefault((photo.width, photo.height, photo.camera, step), []).append(photo)
    lenses = []
    for (width, height, _, step), members in groups.items():
        focal = None if step is None else float(np.median([photo.focal for photo in members]))
        lenses.append(Lens(tuple(photo.name for photo in members), width, height, focal))
    return sorted(lenses, key=lambda lens: (-len(lens.names), lens.names))


def shrunk(size: tuple[int, int], largest: int) -> tuple[int, int]:
    """Size (width, height) of a photo downscaled to `largest` pixels along its longer side; never larger."""
    factor = min(1.0, largest / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def write_copies(photos: Sequence[Photo], folder: Path, largest: int) -> None:
    """Writes the copies for COLMAP: photos downscaled to `largest` pixels, or links to smaller ones."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(lambda photo: _copy(photo, folder / photo.name, largest), photos))


def _copy(photo: Photo, target: Path, largest: int) -> None:
    from PIL import Image

    size = shrunk((photo.width, photo.height), largest)
    if photo.plain and size == (photo.width, photo.height):
        try:
            os.symlink(photo.path.resolve(), target)
        except OSError:  # a file system or a system without links
            shutil.copyfile(photo.path, target)
        return
    pixels = upright(photo, at_least=2 * min(size))
    picture = Image.fromarray(pixels)
    save_photo(picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0), target)


def upright(photo: Photo, at_least: int | None = None) -> np.ndarray:
    """A photo's pixels uint8 [H, W, 3], upright, over black where it has alpha; `at_least` as in images.read_image.

    Raises InputError where the file has changed since it was inspected.
    """
    pixels = read_image(photo.path, at_least=at_least, upright=True)
    if at_least is None and pixels.shape[:2] != (photo.height, photo.width):
        raise InputError(f"{photo.path}: changed during the run; run again")
    if pixels.shape[2] == 4:
        pixels = (pixels[..., :3] * (pixels[..., 3:] / np.float32(255)) + np.float32(0.5)).astype(np.uint8)
    return pixels


def save_photo(picture: "Image", path: Path) -> None:
    """Writes a photo as its suffix says; JPEG with all of its colour."""
    picture.save(path, **({} if path.suffix == ".png" else {"quality": JPEG_QUALITY, "subsampling": 0}))


def fingerprint(paths: Iterable[Path]) -> str:
    """Hashes files by name, size and both ends (1 MB each): fast for large files."""
    total = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        total.update(repr((path.name, size)).encode())
        with path.open("rb") as file:
            total.update(file.read(1 << 20))
            file.seek(max(0, size - (1 << 20)))
            total.update(file.read(1 << 20))
    return total.hexdigest()
