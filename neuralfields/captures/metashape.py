"""Reads Metashape's cameras.xml (File > Export > Export Cameras, Agisoft XML).

  <sensor>   calibration: f, b1 in pixels, cx, cy from the image's middle, k1..k4, and p1, p2 in the reverse of OpenCV's
             order: x' = x (1 + k1 r^2 ...) + p1 (r^2 + 2 x^2) + 2 p2 x y
  <camera>   16 numbers by rows: camera to chunk, axes as OpenCV's; none for a photo without a pose
  <transform> of the chunk, or of the camera's component: rotation, translation, scale to the world

Source: Agisoft Metashape user manual, appendix "Camera models".
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuralfields.cameras import Camera, pose_from_matrix, without_eighth_order
from neuralfields.captures.capture import Capture, Finder, Listed, place
from neuralfields.errors import InputError
from neuralfields.files import read_limited

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

LARGEST_FILE = 256 * 2**20
HEAD = 4096
IMAGE_FOLDERS = ("images", "photos", "input", ".")


def metashape_file(root: Path) -> Path | None:
    """The first .xml file in a folder that Metashape wrote, or None."""
    for path in sorted(root.glob("*.xml")):
        try:
            with path.open("rb") as file:
                head = file.read(HEAD) if path.is_file() else b""
        except OSError:
            continue
        if b"<document" in head and b"<chunk" in head:
            return path
    return None


def read_metashape(path: Path, allow_outside: bool = False) -> Capture:
    """Reads a folder with Metashape's cameras in an .xml file; raises InputError naming the file and the camera."""
    file = metashape_file(path)
    if file is None:
        raise InputError(f"{path}: no .xml file of Metashape; export the cameras as Agisoft XML into this folder")
    chunk = _chunk(file)
    sensors = {sensor.get("id"): sensor for sensor in chunk.iter("sensor")}
    placed = {part.get("id"): part.find("transform") for part in chunk.iter("component")}
    finder = Finder(path, allow_outside)
    listed, skipped = [], 0
    for camera in chunk.iter("camera"):
        label, matrix = camera.get("label") or "", camera.find("transform")
        if matrix is None or (camera.get("enabled") or "true").lower() in ("0", "false"):
            skipped += 1
            continue
        where = f"{file.name} ({label!r})"
        sensor = sensors.get(camera.get("sensor_id"))
        if sensor is None:
            raise InputError(f"{where}: names a sensor that is not there; export the cameras again")
        own = placed.get(camera.get("component_id"))
        world = _world(own if own is not None else chunk.find("transform"), where)
        pose, _ = pose_from_matrix(world @ _numbers(matrix, 16, where).reshape(4, 4), "opencv", where)
        lens = _lens(sensor, pose, where)
        listed.append(Listed(_name(label, finder, where), lens.resized, (lens.width, lens.height), where))
    if not listed:
        raise InputError(f"{file}: Metashape's, but holds no aligned camera; align the photos and export them again")
    capture = place(listed, finder, str(file), "metashape")
    if skipped:
        line = f"{file.name}: {skipped} photos are not aligned or are disabled, and left out"
        capture = replace(capture, warnings=(*capture.warnings, line))
    return capture


def _chunk(file: Path) -> "Element":
    from xml.etree import ElementTree

    data = read_limited(file, LARGEST_FILE, "export one chunk")
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:  # entities that name one another grow without bound
        raise InputError(f"{file}: declares entities, which Metashape never does; export the cameras again")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise InputError(f"{file}: is damaged XML ({str(error)[:80]}); export the cameras again") from None
    chunks = list(root.iter("chunk"))
    if not chunks:
        raise InputError(f"{file}: holds no chunk; export the cameras again")
    return max(chunks, key=lambda chunk: sum(1 for _ in chunk.iter("camera")))


def _numbers(element: "Element", count: int, where: str) -> np.ndarray:
    try:
        values = np.array([float(word) for word in (element.text or "").split()])
    except ValueError:
        values = np.empty(0)
    if len(values) != count or not np.isfinite(values).all():
        raise InputError(f"{where}: <{element.tag}> is not {count} numbers; export the cameras again")
    return values


def _world(transform: "Element | None", where: str) -> np.ndarray:
    """The chunk's or component's matrix [4, 4] to the world; the identity where there is none."""
    world = np.eye(4)
    if transform is None:
        return world
    parts: dict[str, Any] = {part.tag: part for part in transform}
    if "rotation" in parts:
        world[:3, :3] = _numbers(parts["rotation"], 9, where).reshape(3, 3)
    if "scale" in parts:
        world[:3, :3] *= float(_numbers(parts["scale"], 1, where)[0])
    if "translation" in parts:
        world[:3, 3] = _numbers(parts["translation"], 3, where)
    return world


def _lens(sensor: "Element", pose: np.ndarray, where: str) -> Camera:
    found = sensor.findall("calibration")
    adjusted = [part for part in found if part.get("class") == "adjusted"] or found
    kind = (sensor.get("type") or "frame").lower()
    if not adjusted or kind not in ("frame", "fisheye"):
        what = f"a {kind} camera" if adjusted else "a sensor without calibration"
        raise InputError(f"{where}: {what}, which is not read; export undistorted photos with a COLMAP model")
    calibration = adjusted[0]
    size = calibration.find("resolution")
    size = sensor.find("resolution") if size is None else size
    try:
        width, height = (int(size.get(side)) for side in ("width", "height"))
        given = {
            part.tag: float(part.text or "") for part in calibration if part.tag not in ("resolution", "covariance")
        }
    except (AttributeError, TypeError, ValueError):
        raise InputError(f"{where}: the sensor's size or calibration is damaged; export the cameras again") from None
    f, b1 = given.get("f", 0.0), given.get("b1", 0.0)
    sane = (
        np.isfinite(list(given.values())).all()
        and 0 < f < 1e7
        and f + b1 > 0
        and 0 < min(width, height) <= max(width, height) < 1e6
    )
    if not sane or abs(given.get("b2", 0.0)) > 0.01 * f:
        raise InputError(f"{where}: a focal length of {f:g}, or a skew (b2), that no camera has; calibrate again")
    k1, k2, k3, k4 = (given.get(f"k{i}", 0.0) for i in range(1, 5))
    middle = width / 2 + given.get("cx", 0.0), height / 2 + given.get("cy", 0.0)
    if kind == "fisheye":
        return Camera(pose, width, height, f + b1, f, *middle, "fisheye", (k1, k2, k3, k4, 0.0, 0.0, 0.0, 0.0))
    corner = float(np.hypot(width, height)) / 2 / f
    k1, k2, k3 = without_eighth_order(k1, k2, k3, k4, corner)
    distortion = (k1, k2, given.get("p2", 0.0), given.get("p1", 0.0), k3, 0.0, 0.0, 0.0)
    return Camera(pose, width, height, f + b1, f, *middle, "perspective", distortion)


def _name(label: str, finder: Finder, where: str) -> str:
    """The photo's name: its label, with or without suffix, in the first folder that has it."""
    for folder in IMAGE_FOLDERS:
        name = label if folder == "." else f"{folder}/{label}"
        if label and finder.find(name, where) is not None:
            return name
    return label or "?"
