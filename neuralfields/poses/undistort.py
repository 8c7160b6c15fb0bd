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
import torch
from torch.nn.functional import grid_sample

from neuralfields.cameras import Camera, distort
from neuralfields.captures.colmap_files import MODELS, ColmapCamera
from neuralfields.captures.images import WORKERS
from neuralfields.poses.photos import Photo, save_photo, upright

NOTHING = 0.02  # px: a lens that moves no pixel further leaves the photo as it is


def camera_of(lens: dict[str, Any]) -> Camera:
    """Our camera of COLMAP's lens as plain data: {"model", "width", "height", "parameters"}."""
    names = dict(MODELS.values())[lens["model"]].split()
    parameters = dict(zip(names, lens["parameters"], strict=True))
    return ColmapCamera(lens["model"], lens["width"], lens["height"], parameters).posed(np.eye(4))


def lookup(before: Camera, after: Camera) -> np.ndarray:
    """Where each pixel of the flat photo lies in the original: [H, W, 2] float32, pixel centres at +0.5."""
    u, v = np.meshgrid(np.arange(after.width) + 0.5, np.arange(after.height) + 0.5)
    a, b = distort(before, (u - after.cx) / after.fx, (v - after.cy) / after.fy)
    return np.stack([a * before.fx + before.cx, b * before.fy + before.cy], axis=-1).astype(np.float32)


def flat(photo: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The photo uint8 [H, W, 3] seen at `places` [h, w, 2], bicubic, uint8 [h, w, 3]; edges are repeated."""
    size = np.array([photo.shape[1], photo.shape[0]], np.float32)
    grid = torch.from_numpy(places / size * 2 - 1)
    picture = torch.from_numpy(np.ascontiguousarray(photo)).permute(2, 0, 1).to(torch.float32)
    seen = grid_sample(picture[None], grid[None], mode="bicubic", padding_mode="border", align_corners=False)
    return (seen[0].permute(1, 2, 0).clamp(0, 255) + 0.5).to(torch.uint8).numpy()


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
