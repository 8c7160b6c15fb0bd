"""Masks from a folder, matched to photos by name; their polarity (white keeps or ignores) is stated, never guessed.

A mask belongs to the photo whose name it has but for the suffix (photo.jpg: photo.png or photo.jpg.png), in the folder
or below it; of several such the one whose folder has the name of the photo's.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from neuralfields.errors import InputError
from neuralfields.media import IMAGES
from neuralfields.options.common import MaskMeaning
from neuralfields.scene import Frame, Scene

SUSPECT = 0.6  # share of ignored pixels from which the stated polarity is doubted
SHOWN = 3


def with_masks(scene: Scene, folder: Path, means: MaskMeaning) -> Scene:
    """Replaces the scene's masks by those of a folder, with a warning that names photos without one.

    Raises InputError if there is no such folder, or it holds no mask of any photo, or two of one photo.
    """
    if not folder.is_dir():
        raise InputError(f"--masks {folder}: no such folder; give the folder that holds the masks")
    by_stem: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGES and path.is_file():
            for stem in {path.stem, PurePosixPath(path.stem).stem if path.stem.lower().endswith(IMAGES) else path.stem}:
                by_stem.setdefault(stem, []).append(path)
    stems = [PurePosixPath(frame.name).stem for frame in scene.frames]
    found = [
        _of_photo(frame, by_stem.get(stem, []), stems.count(stem) > 1, folder)
        for frame, stem in zip(scene.frames, stems, strict=True)
    ]
    missing = [frame.name for frame, path in zip(scene.frames, found, strict=True) if path is None]
    if len(missing) == len(found):
        raise InputError(
            f"--masks {folder}: no file is named like a photo ({scene.frames[0].name} needs {stems[0]}.png); rename the"
            " masks like their photos"
        )
    frames = tuple(
        replace(
            frame,
            mask_path=path,
            mask_ignores=path is not None and means == "ignore",
            mask_cuts=path is not None and means == "keep",
        )
        for frame, path in zip(scene.frames, found, strict=True)
    )
    warnings = scene.warnings
    if missing:
        names = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        line = f"--masks: {len(missing)} of {len(found)} photos have none, all their pixels are used: {names}"
        warnings = (*warnings, line)
    return replace(scene, frames=frames, warnings=warnings, has_alpha=scene.has_alpha or means == "keep")


def cut_by_masks(scene: Scene) -> Scene:
    """The scene, its own masks cutting out the object: what they ignore is empty.

    Raises InputError if it has none.
    """
    if not any(frame.mask_path for frame in scene.frames):
        raise InputError(f"{scene.root}: --mask-means keep, but the capture has no masks; name their folder by --masks")
    frames = tuple(replace(frame, mask_cuts=frame.mask_path is not None) for frame in scene.frames)
    return replace(scene, frames=frames, has_alpha=True)


def _of_photo(frame: Frame, paths: list[Path], shared: bool, folder: Path) -> Path | None:
    """Picks a photo's mask among those of its stem; `shared`: other photos have that stem too."""
    parent = PurePosixPath(frame.name).parent.name
    beside = [path for path in paths if path.parent.name == parent and path.parent != folder]
    if len(beside) == 1:
        return beside[0]
    if shared or len(paths) > 1:
        if not paths:
            return None
        given = ", ".join(path.relative_to(folder).as_posix() for path in paths[:SHOWN])
        raise InputError(
            f"--masks {folder}: which of {given} is for {frame.name} is not clear; put the masks into folders named"
            " like the photos'"
        )
    return paths[0] if paths else None


def cut_out(image: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """A photo [H, W, 3 or 4], transparent where a mask [H, W] does not keep it: uint8 [H, W, 4].

    The edge is soft, a pixel to either side (binomial filter), since a mask of whole pixels says no more exactly.
    """
    soft = keep.astype(np.float32)
    for axis in (0, 1):
        padded = np.pad(soft, [(1, 1) if axis == a else (0, 0) for a in (0, 1)], mode="edge")
        count = soft.shape[axis]
        before, here, after = (np.take(padded, range(k, k + count), axis) for k in range(3))
        soft = 0.25 * before + 0.5 * here + 0.25 * after
    alpha = np.round(255 * soft).astype(np.uint8)
    if image.shape[2] == 4:
        alpha = np.minimum(alpha, image[..., 3])
    return np.concatenate([image[..., :3], alpha[..., None]], axis=2)


def polarity_doubt(masks: Sequence[np.ndarray | None], means: MaskMeaning) -> str | None:
    """A warning if the masks' polarity is probably the opposite: masks [H, W], True where a pixel counts, that ignore
    most pixels, or of an object that fills the photos' borders more than the rest.
    """
    given = [mask for mask in masks if mask is not None]
    ignored = 1 - float(np.mean([mask.mean() for mask in given])) if given else 0.0
    if means == "ignore" and ignored <= SUSPECT:
        return None
    if means == "keep":
        borders = [np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]]).mean() for mask in given]
        if not given or float(np.mean(borders)) <= 1 - ignored:
            return None
    other = "keep" if means == "ignore" else "ignore"
    return (
        f"--mask-means {means}: {ignored:.0%} of the pixels of photos with a mask are ignored; if white means {other},"
        f" say --mask-means {other}"
    )
