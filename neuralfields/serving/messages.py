"""Messages between page and viewer: every message is checked against its type before it is handled.

Vocabulary
  page      the browser's side      viewer   this side (the server)
  eye       viewpoint of the page: a pinhole camera with square pixels and a centred principal point
  look      view settings: an eye and how the scene is shown
  packet    a binary message: 4 bytes length of a JSON header (little endian), the header, then its payload
"""

import json
import math
import struct
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from neuralfields.cameras import LARGEST_COORDINATE, Camera
from neuralfields.errors import InputError
from neuralfields.scene import Bounds, kept_near

LARGEST_MESSAGE = 1 << 16  # bytes; a camera path of 400 keyframes is half of it
MOST_KEYS = 400
LATEST = 1e12  # of a time, as of those in a capture
NARROWEST, WIDEST = 1.0, 160.0  # vertical field of view in degrees
Shown = Literal["rgb", "depth", "opacity", "normals", "error"]
Behind = Literal["auto", "white", "grey", "black"]
Number = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Side = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Vector = tuple[float, float, float]


class Eye(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Viewpoint. `pose`: upper three rows of world_from_camera, row by row, OpenCV axes; `fov`: vertical, degrees.

    `time`: what is seen of a scene that moves, in its own unit.
    """

    pose: Annotated[list[float], msgspec.Meta(min_length=12, max_length=12)]
    fov: float
    time: Annotated[float, msgspec.Meta(ge=-LATEST, le=LATEST)] | None = None


class ViewSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """View settings: viewpoint, shown quantity, background, and corners of the crop box (world).

    `fade`: what no training camera saw is faded (rendering/seen.py).
    """

    eye: Eye
    what: Shown = "rgb"
    background: Behind = "auto"
    crop: tuple[Vector, Vector] | None = None
    fade: bool = False


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """Base class of the messages of the page."""


class View(Message, frozen=True, tag="view"):
    """Requests the view to render now, of one subject or of two beside each other; it replaces the last request."""

    number: Number
    look: ViewSettings
    width: Side
    height: Side
    subjects: Annotated[list[Number], msgspec.Meta(min_length=1, max_length=2)]


class Seen(Message, frozen=True, tag="seen"):
    """Acknowledges that the page has drawn frame `number`."""

    number: Number


class Photo(Message, frozen=True, tag="photo"):
    """Requests the photo of a camera."""

    camera: Number


class Thumbs(Message, frozen=True, tag="thumbs"):
    """Requests small photos of all cameras, and the sparse points in their colours."""


class Still(Message, frozen=True, tag="still"):
    """Requests an image as a PNG file."""

    number: Number
    look: ViewSettings
    width: Side
    height: Side
    subject: Number


class Film(Message, frozen=True, tag="film"):
    """Requests a video along keyframes (`look.eye` is not used); `file`: a video, or the camera path as JSON."""

    number: Number
    look: ViewSettings
    keys: Annotated[list[Eye], msgspec.Meta(min_length=1, max_length=MOST_KEYS)]
    seconds: Annotated[float, msgspec.Meta(ge=0.05, le=600)]
    fps: Annotated[float, msgspec.Meta(ge=1, le=120)]
    width: Side
    height: Side
    subject: Number
    file: Literal["film", "keys"] = "film"


class CameraPath(Message, frozen=True, tag="path"):
    """Requests the interpolated viewpoints along keyframes, for a preview in the page."""

    number: Number
    keys: Annotated[list[Eye], msgspec.Meta(min_length=1, max_length=MOST_KEYS)]
    frames: Annotated[int, msgspec.Meta(ge=1, le=2000)]


class Cancel(Message, frozen=True, tag="cancel"):
    """Cancels the image or video that is being rendered."""


class StandIn(Message, frozen=True, tag="stand_in"):
    """Requests something that the page can draw in place of a subject that it cannot."""

    subject: Number


class Steer(Message, frozen=True, tag="steer"):
    """Command for a running fit."""

    do: Literal["pause", "resume", "stop", "save"]


_DECODER = msgspec.json.Decoder(View | Seen | Photo | Thumbs | Still | Film | CameraPath | Cancel | StandIn | Steer)


def read(data: str | bytes) -> Message:
    """Decodes and checks a message of the page. Raises InputError saying what is wrong with it."""
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InputError(f"message of the page: {' '.join(str(error).split())[:100]}") from None


def camera_of(eye: Eye, width: int, height: int, bounds: Bounds | None = None) -> Camera:
    """Converts an eye to a camera of that size in pixels; orthonormalises its rotation, clamps its field of view.

    With `bounds` it is kept within reach of the scene (scene.kept_near). Raises InputError for an invalid pose: not
    finite, too far away, mirrored, or far from a rotation.
    """
    rows = np.array(eye.pose, dtype=np.float64).reshape(3, 4)
    if not (np.isfinite(rows).all() and np.abs(rows).max() <= LARGEST_COORDINATE and math.isfinite(eye.fov)):
        raise InputError("message of the page: a camera that is not finite or too far away")
    u, stretch, vt = np.linalg.svd(rows[:, :3])
    turn = u @ vt
    if np.abs(stretch - 1).max() > 0.05 or np.linalg.det(turn) < 0:
        raise InputError("message of the page: a camera whose axes are no rotation")
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, rows[:, 3]
    angle = math.radians(min(max(eye.fov, NARROWEST), WIDEST))
    focal = 0.5 * height / math.tan(angle / 2)
    camera = Camera(pose, width, height, focal, focal, width / 2, height / 2, time=eye.time)
    return camera if bounds is None else kept_near(camera, bounds)


def eye_of(camera: Camera) -> dict[str, Any]:
    """Converts a camera to an eye, as plain data."""
    fov = math.degrees(2 * math.atan(0.5 * camera.height / camera.fy))
    eye = {"pose": [float(value) for value in camera.world_from_camera[:3].ravel()], "fov": fov}
    return eye if camera.time is None else eye | {"time": camera.time}


def clamped(width: int, height: int, most: float) -> tuple[int, int]:
    """Shrinks a size, in its aspect, to at most `most` pixels and no side above 16384."""
    scale = min(1.0, math.sqrt(most / (width * height)), 16384 / max(width, height))
    return max(1, int(width * scale)), max(1, int(height * scale))


def packet(header: dict[str, Any], *payload: bytes) -> bytes:
    """Encodes a binary message."""
    head = json.dumps(header, allow_nan=False).encode()
    return b"".join([struct.pack("<I", len(head)), head, *payload])


def unpack(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Decodes a packet into header and payload."""
    length = struct.unpack_from("<I", data)[0]
    return json.loads(data[4 : 4 + length]), data[4 + length :]
