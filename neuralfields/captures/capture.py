"""Posed captures, common to all readers: from listed photos to frames on disk, and the train/test split.

Vocabulary
  listed    a photo that the capture names; its file may be missing, and its size may differ from the intrinsics'
  declared  the image size that the capture states, (width, height), or None if it states none
"""

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from neuralfields.cameras import CAMERA_AXES, Camera
from neuralfields.captures.bounds import Hints, points_in_view
from neuralfields.captures.depth_files import read_cloud
from neuralfields.captures.images import FEWEST_IMAGES, LARGEST_BAD_SHARE, ImageHeader, image_header
from neuralfields.captures.mask_names import find_mask, unused_masks
from neuralfields.errors import InputError
from neuralfields.files import natural
from neuralfields.media import IMAGES, VIDEOS, frames_folder
from neuralfields.scene import Frame, time_range

HOLD_OUT_EVERY = 8
SAME_ASPECT = 0.01
LARGEST_SIDE = 1_000_000
FEWEST_FILMS = 3  # cameras that film together, of which one can be held out
LATEST = 1e12  # up to it float64 tells milliseconds apart


@dataclass(frozen=True)
class Listed:
    """A photo that a capture lists.

    `name` as written there; `camera(width, height)` builds its camera for an image of that size in pixels;
    `declared` is the size that the intrinsics are for; `mask` a mask's name; `where` names the entry in messages;
    `group` is its side of the capture's own split, None if there is none. `depth`: a depth file's name, `depth_unit`:
    its unit in the capture's, where that is stated. `time`: when it was taken, in the capture's own unit.
    """

    name: str
    camera: Callable[[int, int], Camera]
    declared: tuple[int, int] | None
    where: str
    mask: str | None = None
    group: Literal["train", "test"] | None = None
    depth: str | None = None
    depth_unit: float | None = None
    time: float | None = None


@dataclass(frozen=True)
class Capture:
    """A capture as read: frames sorted by name (numbers by value), how many were listed, and its own split.

    `train`, `test`: names of the capture's own split, None if it has none. `points` [P, 3] or None.
    `origin`: see `scene.Bounds`.
    """

    kind: str
    frames: tuple[Frame, ...]
    listed: int
    missing: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    has_alpha: bool = False
    train: frozenset[str] | None = None
    test: frozenset[str] | None = None
    points: np.ndarray | None = None
    hints: Hints = field(default_factory=Hints)
    warnings: tuple[str, ...] = ()
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Finder:
    """Resolves file names to files inside `root`, or anywhere with `allow_outside`; `films`: where their frames are."""

    root: Path
    allow_outside: bool = False
    folders: dict[str, dict[str, str]] = field(default_factory=dict)
    films: dict[str, Path] = field(default_factory=dict)

    def find(self, name: str, where: str) -> Path | None:
        """Resolves a name as written, then with image suffixes added, then ignoring case; None if no file matches.

        Raises InputError for URLs, NUL, and paths or links that leave the folder.
        """
        clean = name.replace("\\", "/")
        if (film := clean.rpartition("/")[0]) in self.films:
            return self.films[film] / Path(clean).name
        if "\0" in clean or not clean:
            raise InputError(f"{where}: path {name!r} is empty or holds a NUL byte; a relative file name is needed")
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://|(file|data|https?):", clean, re.IGNORECASE):
            raise InputError(f"{where}: {name!r} is a URL; nothing is fetched, copy the file beside the capture")
        if re.match(r"[A-Za-z]:", clean):
            raise InputError(f"{where}: {name!r} names a drive; write the path relative to the capture's folder")
        path = os.path.normpath(os.path.join(self.root, clean))
        self._refuse_outside(path, os.path.abspath(self.root), name, where)
        for candidate in (path, *(path + suffix for suffix in IMAGES), self._any_case(path)):
            if candidate is not None and os.path.isfile(candidate):
                self._refuse_outside(os.path.realpath(candidate), os.path.realpath(self.root), name, where)
                return Path(candidate)
        return None

    def holds(self, path: Path) -> bool:
        """Whether a file may be read: where its links lead inside the capture's folder, or anything is allowed."""
        root = os.path.realpath(self.root)
        return self.allow_outside or os.path.realpath(path).startswith(root.rstrip(os.sep) + os.sep)

    def _refuse_outside(self, path: str, root: str, name: str, where: str) -> None:
        inside = os.path.abspath(path).startswith(root.rstrip(os.sep) + os.sep)
        if not inside and not self.allow_outside:
            raise InputError(
                f"{where}: {name!r} lies outside the capture's folder; use a path inside it, or --allow-outside"
            )

    def listing(self, folder: Path | str) -> dict[str, str]:
        """Names in a folder by their lower case, read once; empty if it cannot be read."""
        folder = os.path.normpath(folder)
        if folder not in self.folders:
            try:
                entries = sorted(os.listdir(folder), reverse=True)
            except (OSError, ValueError):  # ValueError: a name that the file system cannot spell
                entries = []
            self.folders[folder] = {entry.lower(): entry for entry in entries}
        return self.folders[folder]

    def _any_case(self, path: str) -> str | None:
        folder, base = os.path.split(path)
        known = self.listing(folder)
        for suffix in ("", *IMAGES):
            if (base + suffix).lower() in known:
                return os.path.join(folder, known[(base + suffix).lower()])
        return None


def place(listed: Sequence[Listed], finder: Finder, source: str, kind: str) -> Capture:
    """Makes frames of the listed photos that exist, with cameras at their files' sizes; no pixel is decoded.

    `source` names the capture's file in messages. Photos that are missing or whose header cannot be read are left out
    with a warning. Raises InputError when fewer than 3 remain or over 20 % are unreadable, when a photo's shape
    contradicts its intrinsics, and for paths that leave the folder.
    """
    frames: dict[str, Frame] = {}
    missing: list[str] = []
    bad: list[InputError] = []
    notes = Notes()
    groups: dict[str, set[str]] = {"train": set(), "test": set()}
    alpha = False
    films = [spread(entry, finder) for entry in listed]
    if all(film[0].name != entry.name for film, entry in zip(films, listed, strict=True)):
        listed = [one for film in films for one in film]  # a folder among photos is no photo
    for entry in listed:
        path = finder.find(entry.name, entry.where)
        if path is None:
            missing.append(entry.name)
            continue
        name = _name(entry, path, finder)
        if name in frames:
            notes.add("listed twice, the first entry is used", name)
            continue
        try:
            header = image_header(path)
        except InputError as error:
            bad.append(error)
            continue
        camera = replace(_sized_camera(entry, header, notes), time=entry.time)
        alpha = alpha or header.alpha
        mask, ignores = _mask(entry, path, finder, notes)
        depth = None if entry.depth is None else finder.find(entry.depth, entry.where)
        if depth is None and entry.depth is not None:
            notes.add("depth file does not exist", entry.name)
        frames[name] = Frame(name, path, camera, mask, ignores, depth_path=depth, depth_unit=entry.depth_unit)
        if entry.group is not None:
            groups[entry.group].add(name)
    if missing and frames:
        notes.lines.insert(
            0, f"{len(missing)} of {len(listed)} listed photos do not exist and are left out: {_some(missing)}"
        )
    if bad:
        notes.lines.append(f"{len(bad)} of {len(listed)} photos cannot be read and are left out; {bad[0]}")
    _refuse_too_few(len(frames), missing, listed, source, bad)
    if not any(frame.mask_path for frame in frames.values()) and (line := unused_masks(finder)) is not None:
        notes.lines.append(line)
    ordered = tuple(frames[name] for name in sorted(frames, key=natural))
    return Capture(
        kind,
        ordered,
        len(listed),
        tuple(missing),
        tuple(str(error) for error in bad),
        alpha,
        frozenset(groups["train"]) or None,
        frozenset(groups["test"]) or None,
        warnings=tuple(notes.all()),
    )


def _refuse_too_few(
    found: int, missing: list[str], listed: Sequence[Listed], source: str, bad: Sequence[InputError]
) -> None:
    if not listed:
        raise InputError(f"{source}: lists no photos; at least {FEWEST_IMAGES} are needed")
    if len(bad) > LARGEST_BAD_SHARE * (found + len(bad)):
        raise InputError(
            f"{source}: {len(bad)} of {found + len(bad)} photos cannot be read (at most {LARGEST_BAD_SHARE:.0%} may"
            f" be); {bad[0]}"
        )
    if found == 0:
        raise InputError(
            f"{source}: none of the {len(listed)} listed photos exists (looked for {missing[0]!r}); put the photos"
            " where the capture names them"
        )
    if found < FEWEST_IMAGES:
        raise InputError(
            f"{source}: {found} photo{'s' * (found > 1)} of {len(listed)} listed; at least"
            f" {FEWEST_IMAGES} with poses are needed"
        )


def _name(entry: Listed, path: Path, finder: Finder) -> str:
    if os.path.dirname(entry.name) in finder.films:
        return os.path.normpath(entry.name)
    return Path(os.path.relpath(path, finder.root)).as_posix()


@dataclass
class Notes:
    """Groups equal warnings of many photos into one line each."""

    lines: list[str] = field(default_factory=list)
    sorts: dict[str, list[str]] = field(default_factory=dict)

    def add(self, sort: str, name: str) -> None:
        """Records that warning `sort` applies to the photo `name`."""
        self.sorts.setdefault(sort, []).append(name)

    def all(self) -> list[str]:
        """One line for each sort, with how many photos and the first few names."""
        return self.lines + [f"{len(names)} photos: {sort} ({_some(names)})" for sort, names in self.sorts.items()]


def _some(names: Sequence[str], most: int = 3) -> str:
    shown = [name if name.isprintable() else repr(name) for name in names[:most]]
    return ", ".join(shown) + (", ..." if len(names) > most else "")


def _sized_camera(entry: Listed, header: ImageHeader, notes: Notes) -> Camera:
    """Rescales the camera's intrinsics to the image file's size, if its shape agrees with the declared size."""
    if entry.declared is None or header.size == entry.declared:
        return entry.camera(*header.size)
    if header.rotated_size == entry.declared:
        notes.add("EXIF orientation applied, as the intrinsics are for the rotated photo", entry.name)
        return entry.camera(*entry.declared)
    width, height = entry.declared
    for size in (header.size, header.rotated_size):
        if abs((size[0] * height) / (size[1] * width) - 1) <= SAME_ASPECT:
            notes.add(
                f"files are {size[0]}x{size[1]}, the intrinsics are for {width}x{height} and were rescaled", entry.name
            )
            return entry.camera(width, height).resized(*size)
    raise InputError(
        f"{entry.where}: {entry.name!r} is {header.width}x{header.height} but the intrinsics are for {width}x{height};"
        " the shapes must agree, use the photos that were posed or correct the size"
    )


def _mask(entry: Listed, photo: Path, finder: Finder, notes: Notes) -> tuple[Path | None, bool]:
    """A photo's mask and whether white is ignored in it: the one that the capture names, or by its own name."""
    if entry.mask is None:
        found = find_mask(photo, finder)
        return (None, False) if found is None or found[0] == photo else found
    path = finder.find(entry.mask, entry.where)
    if path is None:
        notes.add("mask does not exist, all its pixels are used", entry.name)
    return path, False


def checked_size(width: float | None, height: float | None, where: str) -> tuple[int, int] | None:
    """Validates a declared image size in whole pixels, None if none is declared; InputError if invalid."""
    if width is None and height is None:
        return None
    if width is None or height is None:
        raise InputError(f"{where}: only one of w and h is given; give both or none")
    for value in (width, height):
        if not (0 < value <= LARGEST_SIDE and abs(value - round(value)) < 0.5 and round(value) > 0):
            raise InputError(f"{where}: image size {width:g}x{height:g} is not a size in pixels; w and h start at 1")
    return round(width), round(height)


def checked_time(value: float | str | None, where: str) -> float | None:
    """Validates a frame's time, a number or one as text; None if none is given."""
    try:
        time = None if value is None else float(value)
    except ValueError:
        time = math.nan
    if time is not None and not abs(time) < LATEST:
        raise InputError(f"{where}: time is {str(value)[:40]!r}; a number is needed: seconds, frames, or from 0 to 1")
    return time


def split(capture: Capture) -> tuple[tuple[int, ...], tuple[int, ...], list[str]]:
    """Train/test split: indices of training frames, indices of held-out (test) frames, and warnings.

    The capture's own split if it names one. Default: every 8th of the frames, sorted by name as text, from the first;
    of a scene that moves, sorted by time; or, where several cameras film it at once, every 8th of the cameras.
    """
    names = [frame.name for frame in capture.frames]
    warnings: list[str] = []
    if capture.test:
        test = {i for i, name in enumerate(names) if name in capture.test}
        train = {i for i, name in enumerate(names) if capture.train is None or name in capture.train}
        if train & test:
            warnings.append(f"{len(train & test)} photos are both for training and held out; they are only held out")
            train -= test
        if train and test:
            return tuple(sorted(train)), tuple(sorted(test)), warnings
        warnings.append("the capture's own split leaves no photo on one side; every 8th is held out instead")
    pool = [i for i, name in enumerate(names) if not capture.train or name in capture.train] or list(range(len(names)))
    if films := _films(capture.frames, pool):
        out = {index for film in films[::HOLD_OUT_EVERY] for index in film}
        return tuple(i for i in pool if i not in out), tuple(sorted(out)), warnings
    still = time_range(capture.frames) is None
    order = [(0.0 if still else frame.camera.time, frame.name) for frame in capture.frames]
    held_out = set(sorted(pool, key=order.__getitem__)[::HOLD_OUT_EVERY])  # as other programs sort, who compare by it
    return tuple(i for i in pool if i not in held_out), tuple(sorted(held_out)), warnings


def _films(frames: Sequence[Frame], pool: Sequence[int]) -> list[list[int]]:
    """The frames of each of several cameras that film a scene together; none where every instant is seen but once."""
    if time_range(frames) is None:
        return []
    films: dict[bytes, list[int]] = {}
    for index in pool:
        films.setdefault(frames[index].camera.world_from_camera.tobytes(), []).append(index)
    instants = len({frames[index].camera.time for index in pool})
    together = len(films) >= FEWEST_FILMS and len(pool) >= 2 * max(instants, len(films))
    return sorted(films.values(), key=lambda film: frames[film[0]].name) if together else []


def spread(entry: Listed, finder: Finder) -> list[Listed]:
    """The pictures of a camera's film, where `name` is the film or a folder that holds them: at times 0, 1, 2 ..."""
    if Path(entry.name).suffix.lower() in VIDEOS and (film := finder.find(entry.name, entry.where)) is not None:
        finder.films[entry.name] = frames_folder(film)
        names = sorted(path.name for path in finder.films[entry.name].iterdir())
        return [replace(entry, name=f"{entry.name}/{name}", time=float(i)) for i, name in enumerate(names)]
    folder = os.path.normpath(os.path.join(finder.root, entry.name.replace("\\", "/")))
    if "\0" in entry.name or not os.path.isdir(folder) or not finder.holds(Path(folder)):
        return [entry]
    names = sorted((n for n in finder.listing(folder).values() if Path(n).suffix.lower() in IMAGES), key=natural)
    films = [replace(entry, name=f"{entry.name}/{name}", time=float(i)) for i, name in enumerate(names)]
    return films if entry.name and films else [entry]


def points_agree(frames: Sequence[Frame], points: np.ndarray) -> bool:
    """Whether sparse points are in these cameras' world frame: each must lie in view of at least two of them.

    Points found beside a transforms.json may predate the rotation and scaling of the world by its exporter.
    """
    chosen = points[:: max(1, len(points) // 2000)]
    seen = sum(points_in_view(frame.camera, chosen).astype(int) for frame in frames)
    return len(chosen) > 0 and float(np.mean(seen >= 2)) >= 0.95


def with_points(capture: Capture, points: np.ndarray | None, source: str) -> Capture:
    """Adds sparse points found beside a capture, if they agree with its cameras; else a warning."""
    if points is None or len(points) == 0:
        return capture
    if points_agree(capture.frames, points):
        return replace(capture, points=points)
    opencv = [replace(frame, camera=_from_opencv(frame.camera)) for frame in capture.frames]
    line = f"{source} is not in the world frame of these cameras and was not used"
    if points_agree(opencv, points):
        line = f"the points of {source} lie behind the cameras: the matrices already have OpenCV axes, not OpenGL's"
    return replace(capture, warnings=(*capture.warnings, line))


def with_cloud(capture: Capture, finder: Finder, name: object) -> Capture:
    """Adds the points of `ply_file_path`, which are in the frame of the file's cameras; a damaged one is said."""
    if name is None:
        return capture
    try:
        path = finder.find(str(name), "ply_file_path")
        if path is None:
            raise InputError(f"ply_file_path {str(name)[:80]!r} does not exist")
        return with_points(capture, read_cloud(path), str(name))
    except InputError as error:
        return replace(capture, warnings=(*capture.warnings, f"{error}; its points are not used"))


def _from_opencv(camera: Camera) -> Camera:
    """The camera if its matrix had been in OpenCV axes already."""
    return replace(camera, world_from_camera=camera.world_from_camera @ CAMERA_AXES["opengl"])
