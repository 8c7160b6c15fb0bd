"""Undistorts photos, as other tools want them: each pixel of the output is sampled in the original.

Vocabulary
  before  the lens with its distortion, at the photo's size
  after   a pinhole camera whose whole image lies inside the photo
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from neuralfields.cameras import Camera
from neuralfields.captures.colmap_files import MODELS, ColmapCamera
from neuralfields.captures.images import WORKERS
from neuralfields.pictures.undistort import lookup, sample
from neuralfields.poses.photos import Photo, save_photo, upright

NOTHING = 0.02  # px: largest distortion that is ignored, so that the photo is copied


def camera_of(lens: dict[str, Any]) -> Camera:
    """Converts COLMAP intrinsics as plain data, {"model", "width", "height", "parameters"}, to a Camera."""
    names = dict(MODELS.values())[lens["model"]].split()
    parameters = dict(zip(names, lens["parameters"], strict=True))
    return ColmapCamera(lens["model"], lens["width"], lens["height"], parameters).posed(np.eye(4))


def flat(photo: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Samples a photo uint8 [H, W, 3] at `places` [h, w, 2], bicubic: uint8 [h, w, 3]; edges are repeated."""
    return (np.clip(sample(photo, places, "bicubic"), 0, 255) + np.float32(0.5)).astype(np.uint8)


def write_flat(
    result: dict[str, Any], photos: Sequence[Photo], out: Path, progress: Callable[[int, int], None]
) -> None:
    """Writes the undistorted photos of a model (colmap_child.flatten) into the folder `out`.

    A plain photo whose lens has negligible distortion is copied byte by byte.
    """
    out.mkdir(parents=True)
    lenses = {key: (camera_of(lens["before"]), camera_of(lens["after"])) for key, lens in result["lenses"].items()}
    done, total = 0, len(result["photos"])
    for key, (before, after) in lenses.items():
        members = [p for p in photos if p.name in result["photos"] and result["photos"][p.name]["lens"] == key]
        for _ in _write(members, before, after, out):
            done += 1
            progress(done, total)


def _write(photos: Sequence[Photo], before: Camera, after: Camera, out: Path) -> Iterator[None]:
    places = lookup(before, after)
    same = (after.width, after.height) == (before.width, before.height)
    same = same and float(np.abs(places - lookup(after, after)).max()) < NOTHING

    def one(photo: Photo) -> None:
        if same and photo.plain:
            shutil.copyfile(photo.path, out / photo.name)
            return
        from PIL import Image

        save_photo(Image.fromarray(flat(upright(photo), places)), out / photo.name)

    with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1)) as pool:
        yield from pool.map(one, photos)
