"""Reads poses of further programs: Bundler, OpenSfM (and OpenDroneMap), Nerfies, Polycam; names those it cannot read.

Bundler   bundle.out beside list.txt: f k1 k2, R (3 rows), t of each; p = -P.xy / P.z of P = R X + t, y up
OpenSfM   reconstruction.json: rotation vector and translation, world to camera; lengths in shares of the longer side
Nerfies   camera/NAME.json: orientation (world to camera), position; rgb/1x/NAME.png
Polycam   keyframes/[corrected_]cameras/NAME.json: t_00 ... t_23, camera to world with OpenGL axes
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from neuralfields.cameras import Camera, CameraModel, pose_from_matrix
from neuralfields.captures.capture import Capture, Finder, Listed, checked_size, checked_time, place
from neuralfields.captures.images import image_header
from neuralfields.errors import InputError
from neuralfields.files import read_limited
from neuralfields.scene import time_range

LARGEST_FILE = 512 * 2**20
IMAGE_FOLDERS = ("images", "input", "photos", ".")
COLMAP = "export a COLMAP model (sparse/0) into this folder"


def other_format(root: Path) -> str | None:
    """The format of a folder's poses, of those read here: bundler, opensfm, nerfies, polycam; None for others."""
    return next((name for name, find in FINDERS.items() if find(root) is not None), None)


def named_format(root: Path) -> str | None:
    """What a folder's poses are that are not read, and what to export instead; None where no such are known."""
    for pattern, program, remedy in NAMED:
        for path in sorted(root.glob(pattern)) if root.is_dir() else ():
            if path.suffix == ".csv" and not _head(path).startswith(b"#"):
                continue
            if path.name == "metadata" and b'"poses"' not in _head(path):
                continue
            return f"{path.name} looks like {program}'s poses, which are not read; {remedy}"
    return None


NAMED = (
    ("*.csv", "RealityCapture", f"{COLMAP} (Registration > Export > COLMAP)"),
    ("*.nvm", "VisualSFM", COLMAP),
    ("*.sfm", "Meshroom", f"{COLMAP} (node ExportColmap)"),
    ("sfm_data.json", "OpenMVG", f"{COLMAP} (openMVG_main_openMVG2Colmap)"),
    ("*.psx", "Metashape", "File > Export > Export Cameras as Agisoft XML (cameras.xml) into this folder"),
    ("metadata", "Record3D", "convert it with ns-process-data record3d, whose transforms.json is read"),
)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4096) if path.is_file() else b""
    except OSError:
        return b""


def _data(path: Path) -> bytes:
    return read_limited(path, LARGEST_FILE, COLMAP)


def _json(path: Path, type: Any) -> Any:
    try:
        return msgspec.json.decode(_data(path), type=type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:120]
        raise InputError(f"{path}: is not as its program writes it ({reason}); export it again") from None


def _first(root: Path, *names: str) -> Path | None:
    return next((root / name for name in names if (root / name).is_file()), None)


def _folder_of(root: Path, *names: str) -> Path | None:
    return next((root / name for name in names if any((root / name).glob("*.json"))), None)


def _within(finder: Finder, name: str, where: str) -> str:
    """A photo's name with the first folder that has it."""
    name = name.removeprefix("./")
    for folder in IMAGE_FOLDERS:
        joined = name if folder == "." else f"{folder}/{name}"
        if finder.find(joined, where) is not None:
            return joined
    return name


def _posed(rotation: object, centre: object, axes: str, where: str) -> np.ndarray:
    """`world_from_camera` of a camera-to-world rotation [3, 3] and a position [3]."""
    try:
        matrix = np.concatenate([np.array(rotation, dtype=float), np.array(centre, dtype=float).reshape(3, 1)], axis=1)
    except (TypeError, ValueError):
        raise InputError(f"{where}: rotation or position is not of 3 numbers; export it again") from None
    return pose_from_matrix(matrix, axes, where)[0]


def _require_lens(lens: tuple[float, ...], where: str) -> None:
    if not np.isfinite(lens).all() or not (0 < lens[0] < 1e7 and 0 < lens[1] < 1e7) or max(map(abs, lens)) > 1e7:
        raise InputError(f"{where}: a focal length or distortion that no camera has; calibrate or export again")


def _listed(name: str, camera: Camera, where: str) -> Listed:
    _require_lens((camera.fx, camera.fy, camera.cx, camera.cy, *camera.distortion), where)
    return Listed(name, camera.resized, (camera.width, camera.height), where)


# ---------------------------------------------------------------- Bundler


def _bundle_file(root: Path) -> Path | None:
    found = _first(root, "bundle.out", "bundle/bundle.out", "bundle.rd.out")
    return found if found is not None and _head(found).startswith(b"# Bundle") else None


def read_bundler(path: Path, allow_outside: bool = False) -> Capture:
    """Reads bundle.out with the photos of list.txt; raises InputError naming the file and the camera."""
    file = _required(path, "bundler")
    names_file = _first(file.parent, "list.txt", "../list.txt")
    if names_file is None:
        raise InputError(f"{file}: Bundler's, without the list.txt that names its photos; copy that beside it")
    names = [line.split()[0] for line in _data(names_file).decode(errors="replace").splitlines() if line.split()]
    words = iter(_data(file).partition(b"\n")[2].split())
    finder, listed = Finder(path, allow_outside), []
    cameras, points = (int(v) for v in _take(words, 2, file))
    if cameras != len(names):
        raise InputError(f"{file}: has {cameras} cameras but {names_file.name} names {len(names)} photos")
    for name in names:
        values = _take(words, 15, file)
        if values[0] == 0:  # a photo without a pose
            continue
        where, rotation = f"{file.name} ({name!r})", values[3:12].reshape(3, 3)
        pose = _posed(rotation.T, -rotation.T @ values[12:], "opengl", where)
        name, (f, k1, k2) = _within(finder, name, where), values[:3]
        size = _size_of(finder, name, where)
        if size is None:
            listed.append(Listed(name, _unknown, None, where))  # its file is missing, which `place` says
            continue
        distortion = (float(k1), float(k2), *(0.0,) * 6)
        camera = Camera(pose, *size, float(f), float(f), size[0] / 2, size[1] / 2, "perspective", distortion)
        listed.append(_listed(name, camera, where))
    return replace(place(listed, finder, str(file), "bundler"), points=_bundle_points(words, points, file))


def _unknown(width: int, height: int) -> Camera:
    return Camera(np.eye(4), width, height, width, width, width / 2, height / 2)


def _size_of(finder: Finder, name: str, where: str) -> tuple[int, int] | None:
    found = finder.find(name, where)
    try:
        return None if found is None else image_header(found).size
    except InputError:  # `place` counts and names it
        return None


def _take(words: Iterator[bytes], count: int, file: Path) -> np.ndarray:
    try:
        values = np.array([float(next(words)) for _ in range(count)])
    except (StopIteration, ValueError):
        values = np.full(1, np.nan)
    if not np.isfinite(values).all():
        raise InputError(f"{file}: is cut short, or holds something else than numbers; export it again")
    return values


def _bundle_points(words: Iterator[bytes], count: int, file: Path) -> np.ndarray:
    """Positions of points that two photos or more see, [P, 3]."""
    points = []
    for _ in range(count):
        values = _take(words, 7, file)  # position, colour, number of views
        for _ in range(4 * int(values[6])):  # camera, key, x, y
            if next(words, None) is None:
                raise InputError(f"{file}: is cut short; export it again")
        if values[6] >= 2 and np.abs(values[:3]).max() < 1e9:
            points.append(values[:3])
    return np.array(points).reshape(-1, 3)


# ---------------------------------------------------------------- OpenSfM


class _SfmLens(msgspec.Struct):
    width: float
    height: float
    projection_type: str = "perspective"
    focal: float | None = None
    focal_x: float | None = None
    focal_y: float | None = None
    c_x: float = 0.0
    c_y: float = 0.0
    k1: float = 0.0
    k2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0
    p1: float = 0.0
    p2: float = 0.0


class _Shot(msgspec.Struct):
    camera: str
    rotation: tuple[float, float, float]
    translation: tuple[float, float, float]


class _SfmPoint(msgspec.Struct):
    coordinates: tuple[float, float, float]


class _Reconstruction(msgspec.Struct):
    cameras: dict[str, _SfmLens]
    shots: dict[str, _Shot]
    points: dict[str, _SfmPoint] = {}


OPENSFM_MODELS: dict[str, CameraModel] = {
    "perspective": "perspective", "simple_radial": "perspective", "radial": "perspective", "brown": "perspective",
    "fisheye": "fisheye", "fisheye_opencv": "fisheye",
}  # fmt: skip


def read_opensfm(path: Path, allow_outside: bool = False) -> Capture:
    """Reads the largest part of a reconstruction.json; raises InputError naming the file and the photo."""
    file = _required(path, "opensfm")
    parts = _json(file, list[_Reconstruction])
    if not parts:
        raise InputError(f"{file}: holds no reconstruction; run OpenSfM again")
    part = max(parts, key=lambda one: len(one.shots))
    finder, listed = Finder(path, allow_outside), []
    for name, shot in part.shots.items():
        where = f"{file.name} ({name!r})"
        if shot.camera not in part.cameras:
            raise InputError(f"{where}: names a camera that is not there; export it again")
        rotation = _rotation(np.array(shot.rotation))
        pose = _posed(rotation.T, -rotation.T @ np.array(shot.translation), "opencv", where)
        camera = _sfm_camera(part.cameras[shot.camera], pose, where)
        listed.append(_listed(_within(finder, name, where), camera, where))
    capture = place(listed, finder, str(file), "opensfm")
    points = np.array([point.coordinates for point in part.points.values()], dtype=float).reshape(-1, 3)
    if len(parts) > 1:
        line = f"{file.name}: {len(parts)} parts; the one with {len(part.shots)} photos is used"
        capture = replace(capture, warnings=(*capture.warnings, line))
    return replace(capture, points=points[np.isfinite(points).all(1) & (np.abs(points) < 1e9).all(1)])


def _rotation(vector: np.ndarray) -> np.ndarray:
    """Rotation matrix [3, 3] of a rotation vector (axis times angle), by Rodrigues' formula."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _sfm_camera(lens: _SfmLens, pose: np.ndarray, where: str) -> Camera:
    model = OPENSFM_MODELS.get(lens.projection_type)
    if model is None:
        raise InputError(f"{where}: projection {lens.projection_type[:40]!r} is not read; undistort, then {COLMAP}")
    width, height = checked_size(lens.width, lens.height, where) or (0, 0)
    unit = max(width, height)
    fx = lens.focal_x if lens.focal_x is not None else lens.focal
    fy = lens.focal_y if lens.focal_y is not None else fx
    if fx is None or fy is None:
        raise InputError(f"{where}: its camera has no focal length; run OpenSfM again")
    fisheye = (lens.k1, lens.k2, lens.k3, lens.k4, 0.0, 0.0, 0.0, 0.0)
    brown = (lens.k1, lens.k2, lens.p1, lens.p2, lens.k3, 0.0, 0.0, 0.0)
    middle = width / 2 + unit * lens.c_x, height / 2 + unit * lens.c_y
    return Camera(pose, width, height, unit * fx, unit * fy, *middle, model, fisheye if model == "fisheye" else brown)


# ---------------------------------------------------------------- Nerfies, Polycam


class _Nerfies(msgspec.Struct):
    orientation: list[list[float]]
    position: list[float]
    focal_length: float
    principal_point: tuple[float, float]
    image_size: tuple[int, int]
    pixel_aspect_ratio: float = 1.0
    radial_distortion: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tangential_distortion: tuple[float, float] = (0.0, 0.0)


def read_nerfies(path: Path, allow_outside: bool = False) -> Capture:
    """Reads the cameras of a Nerfies or HyperNeRF capture; raises InputError naming the file."""
    finder, listed, (times, held_out) = Finder(path, allow_outside), [], _nerfies_facts(path)
    for file in sorted(_required(path, "nerfies").glob("*.json")):
        given, where = _json(file, _Nerfies), f"{file.parent.name}/{file.name}"
        width, height = checked_size(*given.image_size, where) or (0, 0)
        pose = _posed(np.array(given.orientation, dtype=float).T, given.position, "opencv", where)
        (k1, k2, k3), (p1, p2), f = given.radial_distortion, given.tangential_distortion, given.focal_length
        lens = (f, f * given.pixel_aspect_ratio, *given.principal_point)
        camera = Camera(pose, width, height, *lens, "perspective", (k1, k2, p1, p2, k3, 0.0, 0.0, 0.0))
        _require_lens((*lens, *camera.distortion), where)
        folders = [name for name in ("rgb/1x", "rgb/2x", "rgb/4x", "rgb/8x") if (path / name).is_dir()]
        entry = _listed(f"{folders[0] if folders else 'rgb/1x'}/{file.stem}", camera, where)
        group = None if not held_out else "test" if file.stem in held_out else "train"
        listed.append(replace(entry, time=times.get(file.stem), group=group))
    capture = place(listed, finder, str(path / "camera"), "nerfies")
    if time_range(capture.frames) is not None:
        return capture
    line = "Nerfies captures often move, metadata.json gives no times: what moves is blurred"
    return replace(capture, warnings=(*capture.warnings, line))


class _Moment(msgspec.Struct):
    """What metadata.json says of a photo: HyperNeRF's time, or the warp that Nerfies learns for each instant."""

    time_id: float | None = None
    warp_id: float | None = None


class _Ids(msgspec.Struct):
    val_ids: list[str] = []


def _nerfies_facts(path: Path) -> tuple[dict[str, float], set[str]]:
    """The time of each photo, and the photos that are held out, where the capture says so."""
    metadata, dataset = path / "metadata.json", path / "dataset.json"
    moments = _json(metadata, dict[str, _Moment]) if metadata.is_file() else {}
    times = {name: m.warp_id if m.time_id is None else m.time_id for name, m in moments.items()}
    found = {name: checked_time(time, f"metadata.json {name!r}") for name, time in times.items()}
    held_out = set(_json(dataset, _Ids).val_ids) if dataset.is_file() else set()
    return {name: time for name, time in found.items() if time is not None}, held_out


def read_polycam(path: Path, allow_outside: bool = False) -> Capture:
    """Reads the cameras of Polycam's raw data; raises InputError naming the file."""
    folder = _required(path, "polycam")
    photos = "keyframes/corrected_images" if folder.name == "corrected_cameras" else "keyframes/images"
    finder, listed = Finder(path, allow_outside), []
    for file in sorted(folder.glob("*.json")):
        given, where = _json(file, dict[str, Any]), f"{folder.name}/{file.name}"
        try:
            matrix = np.array([[float(given[f"t_{row}{column}"]) for column in range(4)] for row in range(3)])
            fx, fy, cx, cy, width, height = (float(given[key]) for key in ("fx", "fy", "cx", "cy", "width", "height"))
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{where}: lacks fx ... or t_00 to t_23 as numbers; export the raw data again") from None
        size = checked_size(width, height, where) or (0, 0)
        pose, _ = pose_from_matrix(matrix, "opengl", where)
        listed.append(_listed(f"{photos}/{file.stem}", Camera(pose, *size, fx, fy, cx, cy), where))
    return place(listed, finder, str(folder), "polycam")


FINDERS: dict[str, Callable[[Path], Path | None]] = {
    "bundler": _bundle_file,
    "opensfm": lambda root: _first(root, "reconstruction.json", "opensfm/reconstruction.json"),
    "nerfies": lambda root: _folder_of(root, "camera") if _first(root, "dataset.json", "scene.json") else None,
    "polycam": lambda root: _folder_of(root, "keyframes/corrected_cameras", "keyframes/cameras"),
}


def _required(path: Path, name: str) -> Path:
    found = FINDERS[name](path)
    if found is None:
        raise InputError(f"{path}: no poses of {name} here; leave --format out, or name the folder that has them")
    return found
