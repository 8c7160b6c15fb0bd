"""Masks of photos by the names that other programs give them, and what their colours mean.

masks/x.jpg.png, masks/x.png, masks/x.jpg        COLMAP and nerfstudio: black is ignored
x.jpg.mask.png, x.mask.png                       RealityScan, beside the photo or in masks: black is ignored
x_mask.png                                       Metashape, beside the photo or in masks: black is ignored
dynamic_mask_x.png                               instant-ngp, beside the photo: white is ignored
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from neuralfields.media import IMAGES

if TYPE_CHECKING:
    from neuralfields.captures.capture import Finder

MASK_FOLDERS = ("masks", "mask")
IN_FOLDER = ("{name}.png", "{stem}.png", "{name}", "{stem}.jpg")
ANYWHERE = ("{name}.mask.png", "{stem}.mask.png", "{stem}_mask.png", "{name}_mask.png")
IGNORING = "dynamic_mask_{stem}.png"


def is_mask_name(name: str, names: Mapping[str, str]) -> bool:
    """Whether a file beside photos is the mask of one of them; `names`: lower case to name, of all files there."""
    low = name.lower()
    if low.startswith("dynamic_mask_"):
        return any(low[len("dynamic_mask_") :].removesuffix(".png") + suffix in names for suffix in IMAGES)
    for end in (".mask.png", "_mask.png"):
        stem = low.removesuffix(end)
        if stem != low:
            return stem in names or any(stem + suffix in names for suffix in IMAGES)
    return False


def find_mask(photo: Path, finder: "Finder") -> tuple[Path, bool] | None:
    """The mask of a photo by its name, and whether white is ignored in it; None if there is none.

    Links that leave the capture's folder count as none.
    """
    places = [(photo.parent, IGNORING, True), *((photo.parent, pattern, False) for pattern in ANYWHERE)]
    for folder in _mask_folders(photo, finder):
        places += [(folder, pattern, False) for pattern in IN_FOLDER + ANYWHERE]
    for folder, pattern, ignores in places:
        name = finder.listing(folder).get(pattern.format(name=photo.name, stem=photo.stem).lower())
        if name is not None and (folder / name).is_file() and finder.holds(folder / name):
            return folder / name, ignores
    return None


def _mask_folders(photo: Path, finder: "Finder") -> list[Path]:
    """Folders that may hold a photo's mask: `masks`, with the photo's own folders below it where there are any."""
    try:
        parts = PurePosixPath(photo.relative_to(finder.root).as_posix()).parent.parts
    except ValueError:  # a photo outside the capture
        parts = ()
    roots = [finder.root / name for name in MASK_FOLDERS if name in finder.listing(finder.root)]
    below = [root.joinpath(*parts[start:]) for root in roots for start in range(len(parts))]
    return [*below, *roots]


def unused_masks(finder: "Finder") -> str | None:
    """A line on a folder of masks of which no photo has one; for captures in which none was found."""
    for name in MASK_FOLDERS:
        files = [file for low, file in finder.listing(finder.root / name).items() if low.endswith(IMAGES)]
        if files:
            return (
                f"{name}/ holds {len(files)} images ({min(files)}, ...), none named like a photo: not used; say"
                f" --masks {name} --mask-means keep (white is kept) or ignore, or rename them like the photos"
            )
    return None
