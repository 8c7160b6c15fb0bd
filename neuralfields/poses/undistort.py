"""Photos without lens distortion, as other tools want them: each pixel of the flat photo looked up in the original.

Vocabulary
  before  the lens as it is, with distortion, at the photo's size
  after   a pinhole whose whole picture lies inside the photo's
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

NOTHING = 0.02  # px: a lens that moves no pixel further leaves the photo as it is


def camera_of(lens: dict[str, Any]) -> Camera:
    """Our camera of COLMAP's lens as plain data: {"model", "width", "height", "parameters"}."""
    names = dict(MODELS.values())[lens["model"]].split()
    parameters = dict(zip(names, lens["parameters"], strict=True))
    return ColmapCamera(lens["model"], lens["width"], lens["height"], parameters).posed(np.eye(4))


def flat(photo: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The photo uint8 [H, W, 3] seen at `places` [h, w, 2], bicubic, uint8 [h, w, 3]; edges are repeated."""
    return (np.clip(sample(photo, places, "bicubic"), 0, 255) + np.float32(0.5)).astype(np.uint8)


def write_flat(
    result: dict[str, Any], photos: Sequence[Photo], out: Path, progress: Callable[[int, int], None]
) -> None:
    """Writes the photos of a flattened model (colmap_child.flatten) into the folder `out`.

    A plain photo whose lens has no distortion to speak of is taken over byte by byte.
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
