"""Reads transforms.json in its three dialects: Blender, instant-ngp, nerfstudio.

All three hold camera-to-world matrices with OpenGL axes (x right, y up, z back). The world frame is kept as it is;
instant-ngp's `scale` and `offset` go into the bounds, nerfstudio's `applied_transform` to points from elsewhere.

  Blender      transforms_{train,val,test}.json, `camera_angle_x`, file paths without suffix, straight alpha
  instant-ngp  `fl_x` ... in pixels, `aabb_scale`, `scale`, `offset`, `is_fisheye`
  nerfstudio   `camera_model`, intrinsics shared or per frame, `mask_path` (black is ignored), its own split
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np

from neuralfields.cameras import Camera, CameraModel, focal_from_angle, pose_from_matrix, without_eighth_order
from neuralfields.captures.bounds import Hints
from neuralfields.captures.capture import (
    Capture,
    Finder,
    Listed,
    checked_size,
    checked_time,
    place,
    with_cloud,
    with_points,
)
from neuralfields.captures.depth_files import named_depth
from neuralfields.errors import InputError
from neuralfields.files import require_ordinary

LARGEST_FILE = 256 * 2**20
LARGEST_CHECKED_TWICE = 16 * 2**20
SAME_FOCAL = 0.01
PERSPECTIVE = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV", "PERSPECTIVE")
FISHEYE = ("OPENCV_FISHEYE", "RADIAL_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "FISHEYE")
FOCAL_FIELDS = ("fl_x", "fl_y", "camera_angle_x", "camera_angle_y")


class _Lens(msgspec.Struct, kw_only=True):
    """Intrinsics at the top of the file or in a frame; a frame's take precedence."""

    camera_model: str | None = None
    is_fisheye: bool | None = None
    fl_x: float | None = None
    fl_y: float | None = None
    cx: float | None = None
    cy: float | None = None
    w: float | None = None
    h: float | None = None
    k1: float | None = None
    k2: float | None = None
    k3: float | None = None
    k4: float | None = None
    k5: float | None = None
    k6: float | None = None
    p1: float | None = None
    p2: float | None = None
    camera_angle_x: float | None = None
    camera_angle_y: float | None = None


class _Frame(_Lens, kw_only=True):
    file_path: str
    transform_matrix: list[list[float]] | None = None
    transform_matrix_start: list[list[float]] | None = None
    mask_path: str | None = None
    near: float | None = None
    far: float | None = None
    K: list[list[float]] | None = None
    intrinsic_matrix: list[list[float]] | None = None
    time: float | str | None = None
    depth_path: Any = None
    depth_file_path: Any = None


class _File(_Lens, kw_only=True):
    frames: list[_Frame]
    aabb_scale: float | None = None
    scale: float | None = None
    offset: float | list[float] | None = None
    from_mitsuba: bool = False
    applied_transform: list[list[float]] | None = None
    applied_scale: float | None = None
    train_filenames: list[str] | None = None
    val_filenames: list[str] | None = None
    test_filenames: list[str] | None = None
    K: list[list[float]] | None = None
    intrinsic_matrix: list[list[float]] | None = None
    ply_file_path: Any = None
    integer_depth_scale: float | None = None


def transforms_files(root: Path) -> list[Path]:
    """The transforms files to read in a folder: transforms.json alone, or else its train, val and test files."""
    if (root / "transforms.json").is_file():
        return [root / "transforms.json"]
    return [p for p in (root / f"transforms_{part}.json" for part in ("train", "val", "test")) if p.is_file()]


def read_transforms(path: Path, allow_outside: bool = False) -> Capture:
    """Reads a folder with transforms files, or one such file; raises InputError naming file, frame and remedy."""
    root = path if path.is_dir() else path.parent
    files = transforms_files(root)
    if not path.is_dir() and not (path.stem.startswith("transforms_") and path in files):
        files = [path]
    if not files:
        raise InputError(f"{root}: no transforms.json and no transforms_train.json")
    documents = [(file, _decode(file)) for file in files]
    kind = _dialect([document for _, document in documents])
    warnings: list[str] = []
    listed: list[Listed] = []
    # Held-out files come first: a photo that is listed on both sides is then held out, never trained on.
    for file, document in sorted(documents, key=lambda entry: not entry[0].stem.endswith("_test")):
        group = _group_of_file(file, files)
        if group != "unused":
            listed += _list_frames(file, document, group, warnings)
    capture = place(listed, Finder(root, allow_outside), files[0].name if len(files) == 1 else str(root), kind)
    capture = replace(capture, hints=_hints(documents[0][1], files[0]), warnings=(*warnings, *capture.warnings))
    return _with_sparse_points(capture, root, documents[0][1], allow_outside)


def transforms_cameras(path: Path, size: tuple[int, int] | None = None) -> tuple[list[Camera], list[str]]:
    """The cameras of a transforms file and the names of its frames, whether or not their photos are there.

    `size` (width, height): of frames that state none. Raises InputError naming file and frame.
    """
    document = _decode(path)
    listed = _list_frames(path, document, None, [])
    cameras = []
    for entry in listed:
        sides = entry.declared or size
        if sides is None:
            raise InputError(f"{entry.where}: states no size; w and h in pixels are needed, or --width and --height")
        cameras.append(replace(entry.camera(*sides), time=entry.time))
    return cameras, [entry.name for entry in listed]


def _group_of_file(file: Path, files: Sequence[Path]) -> str | None:
    """The side of the split of a Blender file; val replaces a missing test and is unused otherwise."""
    if file.stem == "transforms_val":
        return "unused" if any(f.stem == "transforms_test" for f in files) else "test"
    return {"transforms_train": "train", "transforms_test": "test"}.get(file.stem) if len(files) > 1 else None


def _decode(file: Path) -> _File:
    require_ordinary(file)
    try:
        size = file.stat().st_size
        if size > LARGEST_FILE:
            raise InputError(f"{file}: {size / 2**20:.0f} MB; a transforms file has at most {LARGEST_FILE >> 20} MB")
        data = file.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); check the path and its permissions") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{file}: is text in UTF-16; JSON is UTF-8, save the file as that")
    try:
        document = msgspec.json.decode(data, type=_File)
    except RecursionError:
        raise InputError(f"{file}: JSON is nested too deeply; export it again") from None
    except msgspec.ValidationError as error:
        raise InputError(f"{file}: {_lower(error)}; correct that field or export again") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not valid JSON: {_lower(error)}; NaN and trailing commas are not JSON") from None
    if not document.frames:
        raise InputError(f"{file}: `frames` is empty; a capture lists its photos there")
    if len(data) <= LARGEST_CHECKED_TWICE:
        _refuse_repeated_keys(data, file)
    return document


def _lower(error: Exception) -> str:
    text = str(error)
    return text[:1].lower() + text[1:]


def _refuse_repeated_keys(data: bytes, file: Path) -> None:
    """Refuses a key given twice in one JSON object: it has two readings."""

    def check(pairs: list[tuple[str, object]]) -> None:
        keys = [key for key, _ in pairs]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InputError(f"{file}: key {twice!r} is given twice in one object; keep one")

    try:
        json.loads(data, object_pairs_hook=check, parse_float=lambda _: None)
    except (ValueError, RecursionError):
        raise InputError(f"{file}: not valid JSON; export it again") from None


def _dialect(documents: Sequence[_File]) -> str:
    first = documents[0]
    if first.aabb_scale is not None:
        return "transforms/instant-ngp"
    nerfstudio = (first.camera_model, first.applied_transform, first.train_filenames, first.frames[0].mask_path)
    if any(value is not None for value in nerfstudio):
        return "transforms/nerfstudio"
    if any(value is not None for value in (first.scale, first.offset, first.is_fisheye)) or first.from_mitsuba:
        return "transforms/instant-ngp"
    if any(lens.fl_x is not None or lens.fl_y is not None for lens in (first, first.frames[0])):
        return "transforms/nerfstudio"
    return "transforms/blender"


def _list_frames(file: Path, document: _File, group: str | None, warnings: list[str]) -> list[Listed]:
    axes = "mitsuba" if document.from_mitsuba else "opengl"
    sides = _filename_groups(document)
    listed, scaled, rolling = [], [], 0
    for index, frame in enumerate(document.frames):
        where = f"{file.name} frames[{index}] ({frame.file_path!r})"
        matrix = frame.transform_matrix
        if matrix is None:
            matrix, rolling = frame.transform_matrix_start, rolling + 1
        if matrix is None:
            raise InputError(f"{where}: has no transform_matrix; every frame needs its pose")
        pose, scale = pose_from_matrix(matrix, axes, where)
        if scale != 1.0:
            scaled.append(scale)
        lens = _with_matrix(_merged(document, frame), document, frame, where)
        camera = _camera_builder(lens, pose, where, warnings if index == 0 else [])
        declared = checked_size(lens.w, lens.h, where)
        side = sides.get(_plain(frame.file_path)) if sides else group
        unit = document.integer_depth_scale if frame.depth_path is not None else None
        depth = named_depth(frame), unit if unit and 0 < unit < 1e9 else None
        time = checked_time(frame.time, where)
        listed.append(Listed(frame.file_path, camera, declared, where, frame.mask_path, side, *depth, time))
    if scaled:
        warnings.append(
            f"{file.name}: rotations of {len(scaled)} frames are scaled by {np.median(scaled):.4g}; the scale was"
            " taken out and positions were kept"
        )
    warnings += _unused(file.name, document)
    if rolling:
        warnings.append(f"{file.name}: {rolling} frames have a rolling shutter; their starting pose is used")
    return listed


def _plain(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def _filename_groups(document: _File) -> dict[str, str]:
    """nerfstudio's own split by file path; val replaces a missing test."""
    sides = dict.fromkeys(map(_plain, document.train_filenames or ()), "train")
    sides.update(dict.fromkeys(map(_plain, document.test_filenames or document.val_filenames or ()), "test"))
    return sides


def _merged(shared: _Lens, frame: _Frame) -> _Lens:
    """Merges shared intrinsics with a frame's, which take precedence; focal lengths and angles go together."""
    own_focal = any(getattr(frame, name) is not None for name in FOCAL_FIELDS)
    values = {}
    for name in _Lens.__struct_fields__:
        value = getattr(frame, name)
        if value is None and not (own_focal and name in FOCAL_FIELDS):
            value = getattr(shared, name)
        values[name] = value
    return _Lens(**values)


def _with_matrix(lens: _Lens, shared: _File, frame: _Frame, where: str) -> _Lens:
    """Adds focal lengths and principal point from a 3x3 matrix `K` or `intrinsic_matrix`, for what is not given."""
    own = frame.K or frame.intrinsic_matrix
    matrix = own or shared.K or shared.intrinsic_matrix
    stated = frame if own else lens
    if matrix is None or any(getattr(stated, name) is not None for name in FOCAL_FIELDS):
        return lens
    if len(matrix) not in (3, 4) or any(len(row) not in (3, 4) for row in matrix):
        raise InputError(f"{where}: K is not 3x3; rows of fx 0 cx, 0 fy cy, 0 0 1 are needed")
    (fx, skew, cx), (_, fy, cy) = matrix[0][:3], matrix[1][:3]
    if abs(skew) > 1e-3 * abs(fx):
        raise InputError(f"{where}: K has a skew of {skew:g}, which no camera model here has; rectify the photos")
    return msgspec.structs.replace(lens, fl_x=fx, fl_y=fy, cx=cx, cy=cy, camera_angle_x=None, camera_angle_y=None)


def _unused(file: str, document: _File) -> list[str]:
    """Lines on what a file states that a fit of a still scene from photos does not use."""
    lines = []
    timed = sum(frame.time is not None for frame in document.frames)
    if 0 < timed < len(document.frames):
        lines.append(f"{file}: {timed} of {len(document.frames)} frames have a `time`; none is used, give one to each")
    if depth := sum(named_depth(frame) is not None for frame in document.frames):
        lines.append(
            f"{file}: {depth} frames name depth files, which are not used; --depth-weight 0.1 teaches a field by them"
            " (Gaussians not)"
        )
    return lines


def _camera_builder(lens: _Lens, pose: np.ndarray, where: str, warnings: list[str]) -> Callable[[int, int], Camera]:
    """Validates the intrinsics and returns a function from the image's size to the camera."""
    model = _model(lens, where)
    if all(getattr(lens, name) is None for name in FOCAL_FIELDS):
        raise InputError(f"{where}: no focal length; fl_x in pixels, camera_angle_x in radians or a matrix K is needed")
    for name in ("fl_x", "fl_y"):
        value = getattr(lens, name)
        if value is not None and not 0 < value < 1e7:
            raise InputError(f"{where}: {name} is {value:g}; a focal length in pixels above 0 is needed")
    for name in ("camera_angle_x", "camera_angle_y"):
        value = getattr(lens, name)
        if value is not None and not 1e-4 < value < np.pi:
            raise InputError(f"{where}: {name} is {value:g}; an angle in radians between 0.0001 and pi is needed")
    for name in ("cx", "cy"):
        value = getattr(lens, name)
        if value is not None and not abs(value) < 1e7:
            raise InputError(f"{where}: {name} is {value:g}; the principal point in pixels is needed")
    _warn_of_two_focals(lens, model, where, warnings)

    def camera(width: int, height: int) -> Camera:
        fx, fy = _focal(lens, width, height)
        cx = lens.cx if lens.cx is not None else 0.5 * width
        cy = lens.cy if lens.cy is not None else 0.5 * height
        radius = float(np.hypot(max(cx, width - cx) / fx, max(cy, height - cy) / fy))
        return Camera(pose, width, height, fx, fy, cx, cy, model, _distortion(lens, model, radius, where))

    return camera


def _focal(lens: _Lens, width: int, height: int) -> tuple[float, float]:
    fx, fy = lens.fl_x, lens.fl_y
    if fx is None and lens.camera_angle_x is not None:
        fx = focal_from_angle(lens.camera_angle_x, width)
    if fy is None and lens.camera_angle_y is not None and lens.fl_x is None:
        fy = focal_from_angle(lens.camera_angle_y, height)
    return (fx if fx is not None else fy), (fy if fy is not None else fx)


def _warn_of_two_focals(lens: _Lens, model: CameraModel, where: str, warnings: list[str]) -> None:
    pairs = (
        ("fl_x", lens.fl_x, "camera_angle_x", lens.camera_angle_x, lens.w),
        ("fl_y", lens.fl_y, "camera_angle_y", lens.camera_angle_y, lens.h),
    )
    for name, focal, angle_name, angle, size in pairs:
        if focal is None or angle is None or size is None or model == "fisheye":
            continue
        other = focal_from_angle(angle, size)
        if abs(other / focal - 1) > SAME_FOCAL:
            warnings.append(f"{where}: {name} is {focal:.5g} but {angle_name} means {other:.5g}; {name} is used")


def _model(lens: _Lens, where: str) -> CameraModel:
    name = (lens.camera_model or "PINHOLE").upper()
    if name not in PERSPECTIVE + FISHEYE:
        raise InputError(f"{where}: camera_model {name} is not read; {', '.join(PERSPECTIVE + FISHEYE)} are")
    return "fisheye" if name in FISHEYE or lens.is_fisheye else "perspective"


def _distortion(lens: _Lens, model: CameraModel, radius: float, where: str) -> tuple[float, ...]:
    """Distortion coefficients in the order of Camera; `radius`: the furthest corner's distance on the plane z = 1."""
    k1, k2, k3, k4, k5, k6 = (getattr(lens, f"k{i}") or 0.0 for i in range(1, 7))
    values = (k1, k2, lens.p1 or 0.0, lens.p2 or 0.0, k3, k4, k5, k6)
    if max(map(abs, values)) > 1e6:
        raise InputError(f"{where}: a distortion coefficient is above 1e6; export the intrinsics again")
    if model == "fisheye":
        return (k1, k2, k3, k4, 0.0, 0.0, 0.0, 0.0)
    if k4 and (lens.camera_model or "").upper() != "FULL_OPENCV":
        k1, k2, k3 = without_eighth_order(k1, k2, k3, k4, radius)
        return (k1, k2, values[2], values[3], k3, 0.0, 0.0, 0.0)
    return values


def _hints(document: _File, file: Path) -> Hints:
    scale, offset = document.scale, document.offset
    if scale is not None and not 1e-9 < scale < 1e9:
        raise InputError(f"{file}: scale is {scale:g}; a number between 1e-9 and 1e9 is needed")
    if document.aabb_scale is not None and not 0 < document.aabb_scale <= 2**20:
        raise InputError(f"{file}: aabb_scale is {document.aabb_scale:g}; a power of two from 1 to 128 is usual")
    if isinstance(offset, list) and len(offset) != 3:
        raise InputError(f"{file}: offset has {len(offset)} numbers; 3 are needed")
    near = [frame.near for frame in document.frames if frame.near is not None and frame.near > 0]
    far = [frame.far for frame in document.frames if frame.far is not None and frame.far > 0]
    return Hints(
        aabb_scale=document.aabb_scale,
        scale=scale,
        offset=tuple(offset) if isinstance(offset, list) else None if offset is None else (offset,) * 3,
        near=min(near, default=None),
        far=max(far, default=None),
    )


def _with_sparse_points(capture: Capture, root: Path, document: _File, allow_outside: bool) -> Capture:
    from neuralfields.captures.colmap import sparse_points

    found = sparse_points(root)
    if found is None:
        return with_cloud(capture, Finder(root, allow_outside), document.ply_file_path)
    points, name = found
    if document.applied_transform is not None:
        try:
            moved = np.array(document.applied_transform, dtype=np.float64)[:3]
            points = points @ moved[:, :3].T + moved[:, 3]
        except (ValueError, IndexError):
            raise InputError(f"{root}: applied_transform is not a 3x4 matrix; export the capture again") from None
    points = points * (document.applied_scale or 1.0)
    return with_points(capture, points, name)
