"""Camera paths for videos: made from the cameras of a capture, or read from a keyframe file.

Vocabulary
  focus      the point that is nearest, in the least-squares sense, to all optical axes
  up         the world's up direction (arrangement.common_up); unit [3]
  azimuth    angle about `up`; elevation: angle above the plane through the focus
  swing      to and fro over the photographed azimuths, if they leave a gap of more than 120 degrees
  size       (width, height) of the images; the focal length is scaled so that a whole photo fits in

Every path is a list of pinhole `Camera`s (OpenCV axes, no distortion) in the frame of the given cameras; `orbit` and
`spiral` are closed, so that a video of them loops.
"""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from neuralfields.cameras import (
    CAMERA_AXES,
    Camera,
    fitted,
    look_at,
    quaternion,
    rotation_from_quaternion,
    unit_vector,
)
from neuralfields.captures.arrangement import common_up, focus_point, is_forward_facing
from neuralfields.errors import InputError, UsageError
from neuralfields.files import atomic_write_bytes, read_limited
from neuralfields.scene import Bounds

Size = tuple[int, int]

RINGS, AROUND = (-30.0, 10.0, 50.0), 16  # degrees of elevation; cameras of each
RING_SIDE, RING_FOCAL, RING_DISTANCE = 512, 1.2, 1.6  # pixels; in widths; in sides of the cube
WIDE_GAP = 120.0  # degrees without a camera that an orbit does not cross
KEYS_MOST = 24  # cameras that a path through a long capture keeps
FILE_MOST = 64_000_000  # bytes of a keyframe file
SIDE_MOST = 16_384  # pixels


def _check(cameras: list[Camera], frames: int, size: Size | None = None) -> None:
    if not cameras:
        raise UsageError("camera path: no cameras were given; it needs at least one")
    if frames < 1:
        raise UsageError(f"frames {frames}: a camera path needs at least 1")
    if size is not None and not (1 <= min(size) and max(size) <= SIDE_MOST):
        raise UsageError(f"size {size[0]}x{size[1]}: each side must be 1 to {SIDE_MOST} pixels")


def _lens(cameras: list[Camera], size: Size) -> float:
    """Focal length in pixels at `size`: the median of the photos' focal lengths, scaled so that a photo fits in."""
    return float(np.median([np.sqrt(c.fx * c.fy) * min(size[0] / c.width, size[1] / c.height) for c in cameras]))


def _camera(pose: np.ndarray, focal: float, size: Size) -> Camera:
    return Camera(pose, size[0], size[1], focal, focal, size[0] / 2, size[1] / 2)


def _azimuths(around: np.ndarray, frames: int) -> np.ndarray:
    """Azimuths [frames] in radians of an orbit that starts at the first camera, or of a swing over the seen ones."""
    ordered = np.sort(around)
    gaps = np.diff(np.append(ordered, ordered[0] + 2 * np.pi))
    turn = np.arange(frames) / frames * 2 * np.pi
    widest = int(np.argmax(gaps))
    if len(around) < 2 or np.degrees(gaps[widest]) <= WIDE_GAP:
        return around[0] + turn
    half = 0.5 * (2 * np.pi - gaps[widest])
    return ordered[(widest + 1) % len(ordered)] + half + 0.9 * half * np.sin(turn)


def orbit(cameras: list[Camera], bounds: Bounds, frames: int, size: Size) -> list[Camera]:
    """Orbits the focus at the cameras' median distance and elevation; a swing if they saw only one side.

    Raises UsageError for no cameras, no frames or an impossible size.
    """
    _check(cameras, frames, size)
    up, focus = common_up(cameras), focus_point(cameras, bounds)
    east = unit_vector(np.cross(up, np.eye(3)[int(np.argmin(np.abs(up)))]))
    north = np.cross(up, east)
    offset = np.stack([c.centre for c in cameras]) - focus
    distance = np.linalg.norm(offset, axis=1)
    radius = float(np.median(distance))
    if radius < 1e-6 * bounds.side:
        radius = 0.5 * bounds.side
    elevation = float(np.median(np.arcsin(np.clip(offset @ up / np.maximum(distance, 1e-12), -1.0, 1.0))))
    elevation = float(np.clip(elevation, -np.radians(85), np.radians(85)))
    focal, path = _lens(cameras, size), []
    for azimuth in _azimuths(np.arctan2(offset @ north, offset @ east), frames):
        level = np.cos(azimuth) * east + np.sin(azimuth) * north
        position = focus + radius * (np.cos(elevation) * level + np.sin(elevation) * up)
        path.append(_camera(look_at(position, focus, up), focal, size))
    return path


def rings(bounds: Bounds) -> list[Camera]:
    """Pinholes in three rings round a scene with z upwards, for models that record no cameras."""
    centre, found = np.asarray(bounds.centre), []
    for elevation in np.radians(RINGS):
        for azimuth in np.arange(AROUND) / AROUND * 2 * np.pi:
            level = np.cos(elevation)
            away = np.array([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)])
            pose = look_at(centre + RING_DISTANCE * bounds.side * away, centre, np.array([0.0, 0.0, 1.0]))
            focal, middle = RING_FOCAL * RING_SIDE, RING_SIDE / 2
            found.append(Camera(pose, RING_SIDE, RING_SIDE, focal, focal, middle, middle))
    return found


def spiral(cameras: list[Camera], bounds: Bounds, frames: int, size: Size) -> list[Camera]:
    """Spirals about the mean camera: an ellipse that covers most of the cameras' positions, facing the focus.

    It moves along the viewing direction too, twice a turn, by a quarter of the smaller half axis. Raises UsageError
    as `orbit` does.
    """
    _check(cameras, frames, size)
    centre = np.stack([c.centre for c in cameras])
    mean, forward = centre.mean(0), unit_vector(np.stack([c.forward for c in cameras]).mean(0))
    depth = float((focus_point(cameras, bounds) - mean) @ forward)
    if depth <= 1e-3 * bounds.side:
        depth = 0.5 * bounds.side
    target = mean + depth * forward
    up = common_up(cameras)
    axes = look_at(mean, target, up)[:3, :3]
    across, down = 0.7 * np.percentile(np.abs((centre - mean) @ axes[:, :2]), 80, axis=0)
    least = 0.02 * depth
    across, down = max(float(across), least), max(float(down), least)
    focal, path = _lens(cameras, size), []
    for turn in np.arange(frames) / frames * 2 * np.pi:
        local = np.array([across * np.cos(turn), down * np.sin(turn), 0.25 * min(across, down) * np.sin(2 * turn)])
        path.append(_camera(look_at(mean + axes @ local, target, up), focal, size))
    return path


def _catmull_rom(keys: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Values at s in [0, K - 1] of the C1 curve through `keys` [K, D]; the end tangents are one-sided."""
    padded = np.concatenate([2 * keys[:1] - keys[1:2], keys, 2 * keys[-1:] - keys[-2:-1]])
    index = np.clip(np.floor(s).astype(int), 0, len(keys) - 2)
    t = (s - index)[:, None]
    a, b, c, d = (padded[index + k] for k in range(4))
    return 0.5 * (2 * b + t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a))))


def interpolate(cameras: list[Camera], frames: int, size: Size | None = None) -> list[Camera]:
    """Interpolates a smooth path through the given cameras, first to last, `frames` cameras evenly over the keys.

    Catmull-Rom curves through the positions and, normalised, through the quaternions: slerp has the same shape but
    turns with a jerk at every key. The focal length follows its own curve. `size`: Default: the first camera's.
    Raises UsageError for no cameras or no frames.
    """
    size = size or (cameras[0].width, cameras[0].height) if cameras else None
    _check(cameras, frames, size)
    focal = np.array([[np.log(_lens([c], size))] for c in cameras])
    turns = np.stack([quaternion(c.world_from_camera[:3, :3]) for c in cameras])
    for i in range(1, len(turns)):
        turns[i] = turns[i] if turns[i] @ turns[i - 1] >= 0 else -turns[i]
    keys = np.concatenate([np.stack([c.centre for c in cameras]), turns, focal], axis=1)
    s = np.linspace(0.0, len(cameras) - 1.0, frames) if frames > 1 else np.zeros(1)
    values = _catmull_rom(keys, s) if len(cameras) > 1 else np.repeat(keys, frames, axis=0)
    times, path = _times_between(cameras, s), []
    for value, time in zip(values, times, strict=True):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation_from_quaternion(value[3:7]), value[:3]
        path.append(replace(_camera(pose, float(np.exp(value[7])), size), time=time))
    return path


def _times_between(cameras: list[Camera], s: np.ndarray) -> list[float | None]:
    """Times at s in [0, K - 1], straight between those of K cameras; None where a camera has none."""
    times = [camera.time for camera in cameras]
    if None in times:
        return [None] * len(s)
    return np.interp(s, np.arange(len(times)), times).tolist()


def fixed(cameras: list[Camera], frames: int, size: Size) -> list[Camera]:
    """The first camera, `frames` times: a film of a scene that moves. Raises UsageError as `orbit` does."""
    _check(cameras, frames, size)
    return [fitted(replace(cameras[0], time=None), size)] * frames


def in_time(path: list[Camera], given: str | None, bounds: Bounds) -> list[Camera]:
    """The cameras of a path with the times that they see: `given` as one number or from one to another, "0..1".

    None keeps the times that they have; those without pass evenly from the scene's first time to its last. Raises
    UsageError for a scene that stands still, and for anything else than numbers.
    """
    if bounds.times is None:
        if given is not None:
            raise UsageError(f"--time {given}: the scene stands still; leave --time out")
        return path
    if given is None:
        if all(camera.time is not None for camera in path):
            return path
        first, last = bounds.times
    else:
        first, last = _span(given)
    times = np.linspace(first, last, len(path)).tolist()
    return [replace(camera, time=time) for camera, time in zip(path, times, strict=True)]


def _span(given: str) -> tuple[float, float]:
    begin, dots, end = given.partition("..")
    try:
        first, last = float(begin), float(end if dots else begin)
    except ValueError:
        first = last = float("nan")
    if not (np.isfinite(first) and np.isfinite(last)):
        raise UsageError(f"--time {given}: must be a number, or two as in 0..1")
    return first, last


def automatic(cameras: list[Camera], bounds: Bounds, frames: int, size: Size) -> list[Camera]:
    """Chooses the path by the capture's layout.

    A spiral for a forward-facing capture, an orbit for cameras that look inward, and a path along the cameras
    themselves if they look outward. Raises UsageError as `orbit` does.
    """
    _check(cameras, frames, size)
    if is_forward_facing(cameras):
        return spiral(cameras, bounds, frames, size)
    focus = focus_point(cameras, bounds)
    facing = np.mean([(focus - c.centre) @ c.forward > 0 for c in cameras])
    if facing >= 0.8:
        return orbit(cameras, bounds, frames, size)
    chosen = np.unique(np.linspace(0, len(cameras) - 1, min(KEYS_MOST, len(cameras))).round().astype(int))
    return interpolate([cameras[i] for i in chosen], frames, size)


class _Key(msgspec.Struct, omit_defaults=True):
    """One camera of a keyframe file: pose row-major with OpenGL axes, vertical field of view in degrees, time."""

    camera_to_world: list[float]
    fov: float
    aspect: float = 1.0
    render_time: float | None = None


class _KeyframeFile(msgspec.Struct):
    """The fields of nerfstudio's camera path that are read."""

    camera_path: list[_Key]
    render_height: int
    render_width: int
    camera_type: str = "perspective"
    fps: float = 24.0
    seconds: float = 0.0


def _pose(values: list[float], where: str) -> np.ndarray:
    """Converts 16 numbers with OpenGL axes to `world_from_camera`; a uniform scale is removed."""
    if len(values) != 16:
        raise InputError(f"{where}.camera_to_world: has {len(values)} numbers; it must have 16, a 4x4 matrix by rows")
    pose = np.array(values, dtype=np.float64).reshape(4, 4)
    sane = np.isfinite(pose).all() and np.abs(pose).max() < 1e15
    scale = float(np.cbrt(np.linalg.det(pose[:3, :3]))) if sane else 0.0
    turn = pose[:3, :3] / scale if scale > 1e-12 else np.zeros((3, 3))
    if not np.allclose(turn.T @ turn, np.eye(3), atol=1e-3):
        raise InputError(f"{where}.camera_to_world: is not a finite rotation and position; export the path again")
    pose[:3, :3] = rotation_from_quaternion(quaternion(turn))
    return pose @ CAMERA_AXES["opengl"]


def read_keyframes(path: Path) -> list[Camera]:
    """Reads the cameras of a keyframe file in nerfstudio's format (`ns-render camera-path`), one a frame of the video.

    `camera_path`: list of `camera_to_world` (16 numbers by rows, OpenGL axes), `fov` (vertical, degrees), `aspect`;
    `render_height`, `render_width` in pixels. Poses are taken to be in the world frame of the scene.
    Raises InputError naming the file and the field.
    """
    path = Path(path)
    data = read_limited(path, FILE_MOST, "a keyframe file is smaller", "give a keyframe file (.json)")
    try:
        keyframes = msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"), type=_KeyframeFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: is not a camera path: {error}; nerfstudio's viewer writes one") from None
    if keyframes.camera_type != "perspective":
        raise InputError(f"{path}: camera_type {keyframes.camera_type!r}: only 'perspective' can be rendered")
    size = (keyframes.render_width, keyframes.render_height)
    if not (1 <= min(size) and max(size) <= SIDE_MOST):
        raise InputError(f"{path}: render size {size[0]}x{size[1]}: each side must be 1 to {SIDE_MOST} pixels")
    if not keyframes.camera_path:
        raise InputError(f"{path}: camera_path is empty; it must hold at least one camera")
    cameras = []
    for number, key in enumerate(keyframes.camera_path):
        where = f"{path}: camera_path[{number}]"
        if not 0.1 <= key.fov <= 179.0:
            raise InputError(f"{where}.fov: {key.fov:g} degrees; it must be 0.1 to 179")
        focal = 0.5 * size[1] / np.tan(np.radians(key.fov) / 2)
        cameras.append(replace(_camera(_pose(key.camera_to_world, where), float(focal), size), time=key.render_time))
    return cameras


def write_keyframes(path: Path, cameras: list[Camera], fps: float = 24.0) -> None:
    """Writes cameras as a keyframe file that `read_keyframes` and nerfstudio read; all must have one size.

    Raises UsageError for no cameras or mixed sizes.
    """
    _check(cameras, 1)
    size = (cameras[0].width, cameras[0].height)
    if any((c.width, c.height) != size for c in cameras):
        raise UsageError(f"{path}: cameras of several sizes; a keyframe file has one, resize them first")
    keys = []
    for camera in cameras:
        pose = camera.world_from_camera @ CAMERA_AXES["opengl"]
        fov = float(np.degrees(2 * np.arctan(0.5 * size[1] / camera.fy)))
        keys.append(_Key([float(v) for v in pose.ravel()], fov, size[0] / size[1], camera.time))
    keyframes = _KeyframeFile(keys, size[1], size[0], fps=fps, seconds=len(keys) / fps)
    atomic_write_bytes(Path(path), msgspec.json.format(msgspec.json.encode(keyframes), indent=1))
