"""Detects the format of a posed capture and reads it.

transforms.json, transforms_train.json   -> captures/transforms.py
sparse/0, sparse_txt, cameras.bin ...     -> captures/colmap.py
poses_bounds.npy                          -> captures/llff.py
cameras.xml of Metashape                  -> captures/metashape.py
bundle.out, reconstruction.json ...       -> captures/other_poses.py
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from neuralfields.captures.bounds import estimate_bounds
from neuralfields.captures.capture import Capture, split
from neuralfields.captures.colmap import model_folders, read_colmap
from neuralfields.captures.llff import read_llff
from neuralfields.captures.metashape import metashape_file, read_metashape
from neuralfields.captures.origin import near_origin
from neuralfields.captures.other_poses import (
    named_format,
    other_format,
    read_bundler,
    read_nerfies,
    read_opensfm,
    read_polycam,
)
from neuralfields.captures.preview import before_plain_backdrop
from neuralfields.captures.transforms import read_transforms, transforms_files
from neuralfields.errors import InputError, UsageError
from neuralfields.files import require_ordinary
from neuralfields.media import unread
from neuralfields.scene import Scene, time_range

READERS: dict[str, Callable[[Path, bool], Capture]] = {
    "transforms": read_transforms,
    "colmap": read_colmap,
    "llff": read_llff,
    "metashape": read_metashape,
    "bundler": read_bundler,
    "opensfm": read_opensfm,
    "nerfies": read_nerfies,
    "polycam": read_polycam,
}
BLENDER = "transforms/blender"
EXPECTED = "transforms.json, transforms_train.json, a COLMAP model (sparse/0) or poses_bounds.npy"


def formats_in(path: Path) -> list[str]:
    """Detects the formats in a folder, in the order of preference."""
    found = []
    if transforms_files(path):
        found.append("transforms")
    if model_folders(path):
        found.append("colmap")
    if (path / "poses_bounds.npy").is_file():
        found.append("llff")
    if not found:  # further programs', only where there is nothing more usual
        found += ["metashape"] if metashape_file(path) is not None else []
        found += [name] if (name := other_format(path)) is not None else []
    return found


def read_capture(path: Path | str, format: str | None = None, allow_outside: bool = False) -> Capture:
    """Reads the capture at `path`, a folder or a transforms file, as `format`. Default: the detected format.

    Raises InputError for an unusable capture, UsageError for an unknown format.
    """
    path = Path(path)
    if format is not None and format not in READERS:
        raise UsageError(f"--format {format}: unknown; {', '.join(READERS)} are read")
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give the folder of a posed capture")
    require_ordinary(path)
    if path.is_file():
        if path.suffix.lower() != ".json" or format not in (None, "transforms"):
            if (known := unread(path)) is not None:
                raise InputError(f"{path}: {known}")
            raise InputError(
                f"{path}: a file; give the capture's folder, its transforms.json, or an image, mesh, video or sound"
            )
        return near_origin(read_transforms(path, allow_outside))
    found = formats_in(path)
    if format is None and not found:
        if (known := named_format(path)) is not None:
            raise InputError(f"{path}: {known}, or find poses anew with nf poses")
        empty = not any(path.iterdir())
        raise InputError(f"{path}: {'empty folder' if empty else 'no posed capture'}; expected {EXPECTED}")
    chosen = format if format is not None else found[0]
    capture = READERS[chosen](path, allow_outside)
    others = [name for name in found if name != chosen]
    if chosen == "transforms" and (path / "colmap").is_dir():  # nerfstudio's layout: the model that the file is made of
        others = [name for name in others if name != "colmap"]
    if others and format is None:
        line = f"read as {chosen}; {' and '.join(others)} found too, --format {others[0]} reads that"
        capture = replace(capture, warnings=(line, *capture.warnings))
    return near_origin(capture)


def read_scene(path: Path | str, format: str | None = None, allow_outside: bool = False) -> Scene:
    """Reads a posed capture as a Scene: frames that exist, split, bounds. No pixel is decoded but a Blender capture's.

    `format`: a key of `READERS`. Default: detected. `allow_outside` lets photos lie outside the capture's
    folder. Raises InputError with file, field and remedy.
    """
    return scene_from_capture(read_capture(path, format, allow_outside), Path(path))


def scene_from_capture(capture: Capture, path: Path) -> Scene:
    """Makes a Scene of a capture: adds the train/test split and the bounds."""
    root = path if path.is_dir() else path.parent
    train, test, warnings = split(capture)
    cameras = [frame.camera for frame in capture.frames]
    kind = capture.kind
    if kind == BLENDER and (any(capture.origin) or not before_plain_backdrop(capture.frames)):
        kind = ""  # its box is for an object about the origin; a room, or a far background, is unbounded
    bounds = estimate_bounds(cameras, capture.points, kind, capture.hints)
    return Scene(
        name=root.resolve().name,
        root=root,
        kind=capture.kind,
        frames=capture.frames,
        train=train,
        test=test,
        bounds=replace(bounds, origin=capture.origin, times=time_range(capture.frames)),
        has_alpha=capture.has_alpha,
        points=capture.points,
        warnings=(*capture.warnings, *warnings),
    )
