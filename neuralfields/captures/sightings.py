"""Visibility of a capture's sparse points: which photo observes which point, by the tracks of its COLMAP model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from neuralfields.captures.colmap import model_folders, most_images, sparse_points_file
from neuralfields.captures.colmap_files import (
    Tracks,
    read_images_bin,
    read_images_txt,
    read_tracks_bin,
    read_tracks_txt,
)
from neuralfields.errors import InputError
from neuralfields.scene import Frame, Scene, Sightings

READERS: dict[str, tuple[Callable[[Path], dict], Callable[[Path], Tracks]]] = {
    ".bin": (read_images_bin, read_tracks_bin),
    ".txt": (read_images_txt, read_tracks_txt),
}


def with_sightings(scene: Scene) -> Scene:
    """Adds to each frame the sparse points that it observes, for depth supervision.

    Raises InputError if the scene has no sparse points, or none of its photos is in their model.
    """
    points_file = _points_file(scene)
    images_file = None if points_file is None else points_file.with_name(f"images{points_file.suffix}")
    if scene.points is None or images_file is None or not images_file.is_file():
        raise InputError(
            f"{scene.root}: has no sparse points in the world frame of its cameras; --sparse-depth needs a COLMAP model"
            " (sparse/0 with images and points3D) that the cameras are of"
        )
    read_images, read_tracks = READERS[points_file.suffix]
    images, tracks = read_images(images_file), read_tracks(points_file)
    if tracks.count != len(scene.points):
        raise InputError(f"{points_file}: has {tracks.count} points, the capture {len(scene.points)}; read it again")
    by_name: dict[str, list[int]] = {}
    for image_id, image in images.items():
        by_name.setdefault(PurePosixPath(image.name).stem, []).append(image_id)
    frames = tuple(_with_sightings(frame, by_name, images, tracks) for frame in scene.frames)
    if not any(frame.sightings for frame in frames):
        raise InputError(f"{images_file}: none of its photos is one of the capture; fit without --sparse-depth")
    return replace(scene, frames=frames)


def _points_file(scene: Scene) -> Path | None:
    if scene.kind == "colmap":
        folder = most_images(model_folders(scene.root))
        for suffix in READERS:
            if (folder / f"points3D{suffix}").is_file() and (folder / f"images{suffix}").is_file():
                return folder / f"points3D{suffix}"
        return None
    return sparse_points_file(scene.root)


def _with_sightings(frame: Frame, by_name: dict[str, list[int]], images: dict, tracks: Tracks) -> Frame:
    """Matches a frame to the model's image of its name; of several, the one whose path ends alike."""
    path = PurePosixPath(frame.name)
    ids = by_name.get(path.stem, [])
    if len(ids) > 1:
        ids = [i for i in ids if PurePosixPath(images[i].name).parts[-2:-1] == path.parts[-2:-1]]
    if len(ids) != 1:
        return frame
    rows = tracks.image == ids[0]
    points = np.unique(tracks.point[rows])
    if not len(points):
        return frame
    return replace(frame, sightings=Sightings(points, tracks.error[points]))
