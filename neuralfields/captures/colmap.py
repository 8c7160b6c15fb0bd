"""Reads COLMAP captures: picks the sparse model, finds its photos, makes their cameras.

The files themselves are read in captures/colmap_files.py. Masks are in COLMAP's layout (`masks/<photo>.png`, or the
photo's stem); black is ignored.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from neuralfields.captures.capture import Capture, Finder, Listed, place
from neuralfields.captures.colmap_files import (
    ColmapCamera,
    ColmapImage,
    count_images_bin,
    read_cameras_bin,
    read_cameras_txt,
    read_images_bin,
    read_images_txt,
    read_points_bin,
    read_points_txt,
)
from neuralfields.errors import InputError

MODEL_FOLDERS = ("sparse", "colmap/sparse", "sparse_txt", ".")
IMAGE_FOLDERS = ("images", "images_2", "images_4", "images_8", "input", ".")
# Where other programs keep models, read where there is none in the usual folders: model folder, its photos.
ELSEWHERE = {"distorted/sparse": "input", "dense/sparse": "dense/images", "undistorted/sparse": "undistorted/images"}


def model_folders(root: Path) -> list[Path]:
    """Folders with a COLMAP model (cameras and images) in or under `root`, in search order."""
    found = [folder for folder in _candidates(root) if _suffix(folder) is not None]
    return found or [folder for folder in _candidates(root, tuple(ELSEWHERE)) if _suffix(folder) is not None]


def _candidates(root: Path, names: Sequence[str] = MODEL_FOLDERS) -> list[Path]:
    folders = []
    for name in names:
        folder = root / name
        if name != ".":
            parts = (p for p in folder.glob("*") if p.is_dir() and p.name.isdigit())
            folders += sorted(parts, key=lambda p: int(p.name))
        folders.append(folder)
    return folders


def _suffix(folder: Path) -> str | None:
    for suffix in (".bin", ".txt"):
        if (folder / f"cameras{suffix}").is_file() and (folder / f"images{suffix}").is_file():
            return suffix
    return None


def _image_count(folder: Path) -> int:
    if _suffix(folder) == ".bin":
        return count_images_bin(folder / "images.bin")
    return len(read_images_txt(folder / "images.txt"))


def sparse_points(root: Path) -> tuple[np.ndarray, str] | None:
    """Reads sparse points [P, 3] beside a capture of another kind, with the file's name; None if there are none.

    They may be in another world frame than that capture's cameras. A damaged file counts as none: nothing depends
    on it.
    """
    for folder in _candidates(root):
        for name, read in (("points3D.bin", read_points_bin), ("points3D.txt", read_points_txt)):
            if (folder / name).is_file():
                try:
                    return read(folder / name), (folder / name).relative_to(root).as_posix()
                except InputError:
                    continue
    return None


def sparse_points_file(root: Path) -> Path | None:
    """The file that `sparse_points` reads, or None."""
    found = sparse_points(root)
    return None if found is None else root / found[1]


def most_images(folders: Sequence[Path]) -> Path:
    """The model with the most images; the first on a tie."""
    return max(folders, key=_image_count)


def read_colmap(path: Path, allow_outside: bool = False) -> Capture:
    """Reads the largest model in or under a folder, or a model folder itself (sparse/0).

    Raises InputError with the byte or line for damaged files, and for camera models that are not read.
    """
    root, folders = path, model_folders(path)
    if _suffix(path) is not None and path.name.isdigit():
        root, folders = path.resolve().parent.parent, [path]  # the photos of sparse/0 lie beside sparse
    if not folders:
        raise InputError(f"{path}: no COLMAP model; sparse/0 with cameras and images, .bin or .txt, is expected")
    counts = [_image_count(folder) for folder in folders]
    model = folders[counts.index(max(counts))]
    suffix = _suffix(model)
    if suffix == ".bin":
        read_cameras, read_images, read_points = read_cameras_bin, read_images_bin, read_points_bin
    else:
        read_cameras, read_images, read_points = read_cameras_txt, read_images_txt, read_points_txt
    cameras, images = read_cameras(model / f"cameras{suffix}"), read_images(model / f"images{suffix}")
    finder = Finder(root, allow_outside)
    beside = next((photos for name, photos in ELSEWHERE.items() if (root / name) in (model, model.parent)), None)
    folders_of = IMAGE_FOLDERS if beside is None else (beside,)
    listed = _list_images(cameras, images, finder, f"{model.name}/images{suffix}", folders_of)
    capture = place(listed, finder, str(model), "colmap")
    points_file = model / f"points3D{suffix}"
    if points_file.is_file():
        capture = replace(capture, points=read_points(points_file, set(images)))
    return replace(capture, warnings=(*_which_model(path, folders, counts, model), *capture.warnings))


def _which_model(path: Path, folders: Sequence[Path], counts: Sequence[int], model: Path) -> list[str]:
    if len(folders) == 1:
        return []
    names = [f.relative_to(path).as_posix() for f in folders]
    others = ", ".join(f"{n} with {c}" for n, c, f in zip(names, counts, folders, strict=True) if f != model)
    return [
        f"{len(folders)} COLMAP models: {names[folders.index(model)]} with {max(counts)} images is used, not {others}"
    ]


def _list_images(
    cameras: dict[int, ColmapCamera],
    images: dict[int, ColmapImage],
    finder: Finder,
    source: str,
    folders: Sequence[str],
) -> list[Listed]:
    names = [image.name for image in images.values()]
    folder = _image_folder(finder, names, source, folders)
    has_masks = (finder.root / "masks").is_dir()
    listed = []
    for image in images.values():
        where = f"{source} ({image.name!r})"
        if image.camera_id not in cameras:
            raise InputError(f"{where}: refers to camera {image.camera_id}, which is not there; export the model again")
        camera = cameras[image.camera_id]
        mask = _mask_name(finder, image.name, where) if has_masks else None
        listed.append(
            Listed(
                name=image.name if folder == "." else f"{folder}/{image.name}",
                camera=lambda width, height, c=camera, m=image.world_from_camera: c.posed(m).resized(width, height),
                declared=(camera.width, camera.height),
                where=where,
                mask=mask,
            )
        )
    return listed


def _image_folder(finder: Finder, names: Sequence[str], source: str, folders: Sequence[str]) -> str:
    """The first folder that holds one of the photos; full-size photos come before smaller copies."""
    for folder in folders:
        for name in names if (finder.root / folder).is_dir() else ():
            if finder.find(name if folder == "." else f"{folder}/{name}", source) is not None:
                return folder
    return folders[0]


def _mask_name(finder: Finder, name: str, where: str) -> str | None:
    stem = name.rsplit(".", 1)[0]
    for candidate in (f"masks/{name}.png", f"masks/{stem}.png"):
        if finder.find(candidate, where) is not None:
            return candidate
    return None
