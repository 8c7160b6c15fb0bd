"""Reads the files of a COLMAP sparse model, binary and text, with every count checked against the file's size.

COLMAP stores camera_from_world as a quaternion (w, x, y, z) and a translation, OpenCV axes, pixel centres at +0.5.
`rigs` and `frames` files of COLMAP 4 repeat poses that images already hold, and are not read.

  cameras   id, model, size, parameters
  images    id, pose, camera id, name (may hold spaces and folders), keypoints (skipped)
  points3D  id, position, colour, error, track: the keypoints of images that observe it
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuralfields.cameras import LARGEST_COORDINATE, Camera, CameraModel, rotation_from_quaternion
from neuralfields.captures.capture import LARGEST_SIDE
from neuralfields.errors import InputError
from neuralfields.files import require_ordinary

MODELS = {
    # id: (name, parameters in order). f is both focal lengths; the rest are named as in OpenCV.
    0: ("SIMPLE_PINHOLE", "f cx cy"),
    1: ("PINHOLE", "fx fy cx cy"),
    2: ("SIMPLE_RADIAL", "f cx cy k1"),
    3: ("RADIAL", "f cx cy k1 k2"),
    4: ("OPENCV", "fx fy cx cy k1 k2 p1 p2"),
    5: ("OPENCV_FISHEYE", "fx fy cx cy k1 k2 k3 k4"),
    6: ("FULL_OPENCV", "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6"),
    8: ("SIMPLE_RADIAL_FISHEYE", "f cx cy k1"),
    9: ("RADIAL_FISHEYE", "f cx cy k1 k2"),
}
UNREAD_MODELS = {7: "FOV", 10: "THIN_PRISM_FISHEYE", 11: "RAD_TAN_THIN_PRISM_FISHEYE"}
PERSPECTIVE_ORDER = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
FISHEYE_ORDER = ("k1", "k2", "k3", "k4")
LONGEST_NAME = 4096


@dataclass(frozen=True)
class ColmapCamera:
    """Intrinsics of one COLMAP camera, `parameters` by name."""

    model: str
    width: int
    height: int
    parameters: dict[str, float]

    def posed(self, world_from_camera: np.ndarray) -> Camera:
        """The camera with that pose, at the COLMAP camera's own image size."""
        p = self.parameters
        kind: CameraModel = "fisheye" if self.model.endswith("FISHEYE") else "perspective"
        order = FISHEYE_ORDER if kind == "fisheye" else PERSPECTIVE_ORDER
        distortion = tuple(p.get(name, 0.0) for name in order) + (0.0,) * (8 - len(order))
        fx, fy = (p["f"], p["f"]) if "f" in p else (p["fx"], p["fy"])
        return Camera(world_from_camera, self.width, self.height, fx, fy, p["cx"], p["cy"], kind, distortion)


@dataclass(frozen=True)
class ColmapImage:
    """One posed photo: name, camera id and `world_from_camera` [4, 4]."""

    name: str
    camera_id: int
    world_from_camera: np.ndarray


@dataclass(frozen=True)
class Tracks:
    """Feature tracks: image `image` [K] observes point `point` [K]; reprojection `error` [count] in pixels.

    Points are numbered as `read_points_bin` and `read_points_txt` give them: those of two images or more.
    """

    count: int
    image: np.ndarray
    point: np.ndarray
    error: np.ndarray


class Cursor:
    """Reads numbers from a memory-mapped file, never past its end; `at` is the byte offset."""

    def __init__(self, path: Path) -> None:
        self.path, self.at = path, 0
        require_ordinary(path)
        try:
            with path.open("rb") as file:
                self.size = path.stat().st_size
                self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.size else b""
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); check the path and permissions") from None

    def fail(self, reason: str, at: int | None = None) -> InputError:
        """An error that names the file and the byte."""
        return InputError(f"{self.path}: byte {self.at if at is None else at}: {reason}; copy or export it again")

    def take(self, layout: struct.Struct) -> tuple:
        """Reads the next numbers, little-endian."""
        if self.at + layout.size > self.size:
            raise self.fail(f"file ends at byte {self.size}, {layout.size} more bytes are needed here")
        values = layout.unpack_from(self.data, self.at)
        self.at += layout.size
        return values

    def skip(self, count: int, each: int, what: str) -> None:
        """Skips `count` records of `each` bytes."""
        if count > (self.size - self.at) // each:
            raise self.fail(f"{count} {what} are declared, but the file ends at byte {self.size}")
        self.at += count * each

    def count(self, smallest: int, what: str) -> int:
        """Reads a count of records of `smallest` bytes or more each, checked against the rest of the file."""
        (count,) = self.take(_U64)
        if count * smallest > self.size - self.at:
            raise self.fail(f"{count} {what} are declared, more than the file has bytes for", self.at - 8)
        return count

    def name(self) -> str:
        """Reads a zero-terminated UTF-8 name."""
        end = self.data.find(b"\0", self.at, self.at + LONGEST_NAME)
        if end < 0:
            raise self.fail("an image name does not end")
        raw, start, self.at = self.data[self.at : end], self.at, end + 1
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail("an image name is not UTF-8", start) from None


_U64 = struct.Struct("<Q")
_CAMERA = struct.Struct("<iiQQ")
_IMAGE = struct.Struct("<I4d3dI")
_POINT = struct.Struct("<Q3d3BdQ")


def read_cameras_bin(path: Path) -> dict[int, ColmapCamera]:
    """Reads cameras.bin, by camera id."""
    cursor = Cursor(path)
    cameras = {}
    for _ in range(cursor.count(_CAMERA.size + 24, "cameras")):
        at = cursor.at
        camera_id, model_id, width, height = cursor.take(_CAMERA)
        if model_id not in MODELS:
            name = UNREAD_MODELS.get(model_id, "unknown")
            raise cursor.fail(f"camera model {model_id} ({name}) is not read, only {_model_names()}", at + 4)
        name, fields = MODELS[model_id]
        keys = fields.split()
        values = cursor.take(struct.Struct(f"<{len(keys)}d"))
        cameras[camera_id] = _checked_camera(
            name, width, height, dict(zip(keys, values, strict=True)), f"{path}: byte {at}"
        )
    return cameras


def _model_names() -> str:
    return ", ".join(name for name, _ in MODELS.values())


def _checked_camera(model: str, width: int, height: int, parameters: dict[str, float], where: str) -> ColmapCamera:
    if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
        raise InputError(f"{where}: camera size {width}x{height} is not an image size; export it again")
    values = np.array(list(parameters.values()))
    focal = [value for name, value in parameters.items() if name.startswith("f")]
    if not np.isfinite(values).all() or np.abs(values).max() > 1e7 or min(focal) <= 0:
        raise InputError(f"{where}: camera parameters hold NaN, huge numbers or a focal length of 0; export it again")
    return ColmapCamera(model, width, height, parameters)


def read_images_bin(path: Path) -> dict[int, ColmapImage]:
    """Reads images.bin, by image id; keypoints are skipped."""
    cursor = Cursor(path)
    images = {}
    for _ in range(cursor.count(_IMAGE.size + 1 + 8, "images")):
        at = cursor.at
        image_id, *pose, camera_id = cursor.take(_IMAGE)
        matrix = _world_from_camera(np.array(pose), f"{path}: byte {at}")
        images[image_id] = ColmapImage(cursor.name(), camera_id, matrix)
        (keypoints,) = cursor.take(_U64)
        cursor.skip(keypoints, 24, "keypoints")
    return images


def count_images_bin(path: Path) -> int:
    """Reads the number of images that images.bin declares."""
    return Cursor(path).count(_IMAGE.size + 1 + 8, "images")


def _world_from_camera(pose: np.ndarray, where: str) -> np.ndarray:
    """Inverts (qw, qx, qy, qz, tx, ty, tz): R = R(q)^T, centre = -R(q)^T t."""
    if not np.isfinite(pose).all() or np.abs(pose).max() > LARGEST_COORDINATE or np.linalg.norm(pose[:4]) < 1e-6:
        raise InputError(
            f"{where}: pose holds NaN, huge numbers or a zero quaternion; remove the image or export again"
        )
    rotation = rotation_from_quaternion(pose[:4])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation.T, -rotation.T @ pose[4:]
    return matrix


def read_points_bin(path: Path, image_ids: set[int] | None = None) -> np.ndarray:
    """Reads points3D.bin, [P, 3] float64: points of two images or more. `image_ids`: tracks may name only these."""
    cursor = Cursor(path)
    count = cursor.count(_POINT.size, "points")
    positions, lengths, starts = np.empty((count, 3)), np.empty(count, np.int64), np.empty(count, np.int64)
    for i in range(count):
        point = cursor.take(_POINT)
        starts[i], lengths[i], positions[i] = cursor.at, min(point[8], cursor.size), point[1:4]
        cursor.skip(point[8], 8, "track entries")
    bad = ~np.isfinite(positions).all(axis=1) | (np.abs(positions) > LARGEST_COORDINATE).any(axis=1)
    if bad.any():
        raise cursor.fail("a point holds NaN or huge numbers", int(starts[bad.argmax()]) - _POINT.size + 8)
    if image_ids is not None and lengths.sum():
        _refuse_unknown_images(cursor, starts, lengths, image_ids)
    return positions[lengths >= 2]


def read_tracks_bin(path: Path) -> Tracks:
    """Reads the feature tracks of points3D.bin."""
    cursor = Cursor(path)
    images, points, errors = [], [], []
    for _ in range(cursor.count(_POINT.size, "points")):
        point = cursor.take(_POINT)
        at, length = cursor.at, point[8]
        cursor.skip(length, 8, "track entries")
        if length >= 2:
            entries = np.frombuffer(cursor.data, dtype="<u4", count=2 * length, offset=at)
            images.append(entries[::2].astype(np.int64))
            points.append(np.full(length, len(errors)))
            errors.append(point[7])
    return _tracks(images, points, errors)


def _tracks(images: list[np.ndarray], points: list[np.ndarray], errors: list[float]) -> Tracks:
    image, point = (np.concatenate(part or [np.zeros(0, np.int64)]) for part in (images, points))
    error = np.array(errors, dtype=np.float64)
    largest = float(np.max(error[np.isfinite(error)], initial=1.0))
    return Tracks(len(error), image, point, np.where(np.isfinite(error) & (error >= 0), error, largest))


def _refuse_unknown_images(cursor: Cursor, starts: np.ndarray, lengths: np.ndarray, image_ids: set[int]) -> None:
    first = np.cumsum(lengths) - lengths
    at = np.repeat(starts - 8 * first, lengths) + 8 * np.arange(lengths.sum())
    raw = np.frombuffer(cursor.data, dtype=np.uint8)
    ids = raw[at[:, None] + np.arange(4)].view("<u4")[:, 0]
    wrong = ~np.isin(ids, np.array(sorted(image_ids), dtype=np.uint32))
    if wrong.any():
        i = int(wrong.argmax())
        raise cursor.fail(f"a point's track names image {ids[i]}, which images.bin does not have", int(at[i]))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines without comments; empty lines are kept, since images.txt gives them a meaning."""
    require_ordinary(path)
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.startswith("#"):
                    yield number, line.rstrip("\r\n")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; export it again") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path and permissions") from None


def read_cameras_txt(path: Path) -> dict[int, ColmapCamera]:
    """Reads cameras.txt, by camera id."""
    layouts = {name: fields.split() for name, fields in MODELS.values()}
    cameras = {}
    for number, line in _lines(path):
        words = line.split()
        if not words:
            continue
        where = f"{path}: line {number}"
        if len(words) > 1 and words[1] not in layouts:
            raise InputError(f"{where}: camera model {words[1]} is not read, only {_model_names()}; convert it")
        keys = layouts[words[1]] if len(words) > 1 else []
        if len(words) != 4 + len(keys):
            raise InputError(f"{where}: {len(words)} words where {4 + len(keys)} are needed; export it again")
        try:
            camera_id, width, height = int(words[0]), int(words[2]), int(words[3])
            values = dict(zip(keys, map(float, words[4:]), strict=True))
        except ValueError:
            raise InputError(f"{where}: not a number where one is needed; export it again") from None
        cameras[camera_id] = _checked_camera(words[1], width, height, values, where)
    return cameras


def read_images_txt(path: Path) -> dict[int, ColmapImage]:
    """Reads images.txt, by image id: two lines an image, of which the second, the keypoints, may be empty.

    Others write files without second lines; a line that cannot be keypoints is then the next image's.
    """
    images = {}
    after_image = False
    for number, line in _lines(path):
        keypoints, after_image = after_image and _may_be_keypoints(line), False
        if keypoints or not line.strip():
            continue
        words = line.split(maxsplit=9)
        where = f"{path}: line {number}"
        if len(words) < 10:
            raise InputError(f"{where}: {len(words)} words where 10 are needed; export it again")
        try:
            image_id, pose, camera_id = int(words[0]), np.array([float(w) for w in words[1:8]]), int(words[8])
        except ValueError:
            raise InputError(f"{where}: not a number where one is needed; export it again") from None
        if image_id in images:
            raise InputError(f"{where}: image {image_id} is there twice; export it again")
        images[image_id] = ColmapImage(words[9].rstrip(), camera_id, _world_from_camera(pose, where))
        after_image = True
    return images


def _may_be_keypoints(line: str) -> bool:
    """Whether a line may be keypoints: x, y and a point's number again and again, or nothing."""
    words = line.split()
    if len(words) % 3:
        return False
    try:
        return all(np.isfinite(float(word)) for word in (*words[:12], *words[-3:]))
    except ValueError:
        return False


def read_points_txt(path: Path, image_ids: set[int] | None = None) -> np.ndarray:
    """Reads points3D.txt, [P, 3] float64: points of two images or more."""
    positions = []
    for number, line in _lines(path):
        words = line.split()
        if not words:
            continue
        where = f"{path}: line {number}"
        try:
            position = [float(w) for w in words[1:4]]
            track = [int(w) for w in words[8::2]]
        except ValueError:
            raise InputError(f"{where}: not a number where one is needed; export it again") from None
        if len(words) < 8 or not np.isfinite(position).all() or max(map(abs, position)) > LARGEST_COORDINATE:
            raise InputError(f"{where}: a point needs 8 finite numbers and a track; export it again")
        if image_ids is not None and not image_ids.issuperset(track):
            raise InputError(f"{where}: the track names an image that images.txt does not have; export it again")
        if len(track) >= 2:
            positions.append(position)
    return np.array(positions, dtype=np.float64).reshape(-1, 3)


def read_tracks_txt(path: Path) -> Tracks:
    """Reads the feature tracks of points3D.txt."""
    images, points, errors = [], [], []
    for number, line in _lines(path):
        words = line.split()
        try:
            track, error = [int(w) for w in words[8::2]], float(words[7]) if words else 0.0
        except (ValueError, IndexError):
            raise InputError(f"{path}: line {number}: not a number where one is needed; export it again") from None
        if len(track) >= 2:
            images.append(np.array(track))
            points.append(np.full(len(track), len(errors)))
            errors.append(error)
    return _tracks(images, points, errors)
