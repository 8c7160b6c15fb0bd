"""Stage of the viewer: subjects that can be rendered, and the cameras, photos and points of their capture.

Vocabulary
  subject  a field (or any object that renders a camera) with its name and its figures
  stage    subjects in one world frame, with cameras, photos and sparse points
  album    the photos of a capture, by the index of the stage's cameras (album.py)
  extent   (left, right, top, bottom) of a camera's view on its plane z = 1, without distortion
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch

from neuralfields.cameras import Camera, look_at
from neuralfields.captures import arrangement
from neuralfields.captures.readers import read_scene
from neuralfields.errors import InputError, NeuralfieldsError, UsageError
from neuralfields.evaluation.evaluate import recorded_scene
from neuralfields.models.model import Model
from neuralfields.ops.pixel_rays import camera_table, pixel_rays
from neuralfields.pictures.panels import DEPTH_STOPS, colour_table
from neuralfields.pictures.undistort import lookup, sample
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.seen import Seen, seen_by
from neuralfields.scene import Bounds, Scene
from neuralfields.serving.album import Album
from neuralfields.serving.framing import Extent, home_view, same_place
from neuralfields.serving.messages import eye_of
from neuralfields.serving.shading import Reference, jpeg, png
from neuralfields.serving.subjects import GREY, Subject, capture_of, original_of, subject_of
from neuralfields.version import VERSION

MOST_POINTS = 200_000
Z_UP, AWAY = np.array([0.0, 0.0, 1.0]), np.array([1.1, -1.1, 0.7])  # where nothing says what is up
Y_DOWN, AWAY_Y_DOWN = np.array([0.0, -1.0, 0.0]), np.array([0.7, -0.5, -1.1])  # the custom among files of splats


@dataclass
class Stage:
    """Subjects with cameras, their names, points [P, 3] and photos.

    `steer` sends commands to a running fit, `distil` begins a stand-in.
    """

    subjects: list[Subject]
    bounds: Bounds
    cameras: list[Camera] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    held_out: frozenset[int] = frozenset()
    points: np.ndarray | None = None
    album: Album | None = None
    notes: list[str] = field(default_factory=list)
    steer: Callable[[str], None] | None = None
    distil: Callable[[int], None] | None = None
    status: Callable[[], dict[str, Any]] | None = None
    _looking: Lock = field(default_factory=Lock, repr=False, compare=False)

    def nearest(self, camera: Camera) -> int | None:
        """Index of the nearest camera with a photo, by position and direction."""
        if self.album is None:
            return None
        best, least = None, np.inf
        for index, other in enumerate(self.cameras):
            if self.album.has(index):
                away = float(np.linalg.norm(other.centre - camera.centre)) / self.bounds.side
                away += 1 - float(other.forward @ camera.forward)
                away += self.bounds.apart(camera.time, other.time)
                best, least = (index, away) if away < least else (best, least)
        return best

    def behind(self, subject: Subject, choice: str) -> Colour:
        """Background colour of a subject."""
        return {"white": (1.0,) * 3, "black": (0.0,) * 3, "grey": GREY}.get(choice, subject.background)

    def describe(self) -> dict[str, Any]:
        """Initial message to the page, as plain data."""
        eye, up, pivot, seen = self._home
        rendered = [subject.render is not None for subject in self.subjects]
        modes = ["rgb", "depth", "opacity", "normals"] if any(rendered) else []
        return {
            "type": "stage",
            "version": VERSION,
            "subjects": [
                {"name": s.name, "kind": s.kind, "facts": s.facts, "rendered": s.render is not None}
                | {"splats": s.splats is not None, "field": s.volume is not None, "why": s.why}
                | {"stands_in": s.stands_in, "may_stand_in": s.may_stand_in, "background": list(s.background)}
                | {"sound": s.shown is not None and s.shown.sound is not None, "fades": s.fades}
                for s in self.subjects
            ],
            "depth_colours": colour_table(DEPTH_STOPS).ravel().tolist() if modes else [],
            "modes": modes + (["error"] if modes and self.album else []),
            "cameras": [self._camera(index) for index in range(len(self.cameras))],
            "times": None if self.bounds.times is None else list(self.bounds.times),
            "bounds": {"centre": list(self.bounds.centre), "side": self.bounds.side, "cascades": self.bounds.cascades}
            | {"origin": list(self.bounds.origin)},
            "points": 0 if self.points is None else len(self.points),
            "eye": eye,
            "extent": None if seen is None else list(seen),
            "up": [float(value) for value in up],
            "pivot": [float(value) for value in pivot],
            "live": self.steer is not None,
            "seen": None if self.seen is None else self.seen.describe(),
            "notes": self.notes,
        }

    def _camera(self, index: int) -> dict[str, Any]:
        camera = self.cameras[index]
        return {
            "name": self.names[index],
            **eye_of(camera),
            "extent": list(extent(camera)),
            "held_out": index in self.held_out,
            "photo": self.album is not None and self.album.has(index),
        }

    @cached_property
    def _home(self) -> tuple[dict[str, Any], np.ndarray, np.ndarray, Extent | None]:
        """Initial viewpoint, up direction of the world, pivot of the orbit, and the extent that is to be seen."""
        centre = np.asarray(self.bounds.centre, dtype=np.float64)
        if self.cameras:
            seen, eye = extent(self.cameras[0]), eye_of(self.cameras[0])
            eye["fov"] = float(np.degrees(2 * np.arctan(max(-seen[2], seen[3]))))
            up, pivot = arrangement.common_up(self.cameras), arrangement.focus_point(self.cameras, self.bounds)
            return eye, up, pivot, seen
        if self.subjects and (shown := self.subjects[0].shown):
            return eye_of(shown.home), np.array(shown.up), centre, extent(shown.home)
        splats = [(subject.splats or subject.first)() for subject in self.subjects if subject.splats or subject.first]
        if splats and len(splats) == len(self.subjects) and len(splats[0].gaussians):
            pose, seen, pivot = home_view(splats[0], AWAY_Y_DOWN, Y_DOWN)
            return {"pose": pose[:3].ravel().tolist(), "fov": 45.0}, Y_DOWN, pivot, seen
        place = centre + self.bounds.side * AWAY
        return {"pose": look_at(place, centre, Z_UP)[:3].ravel().tolist(), "fov": 45.0}, Z_UP, centre, None

    @property
    def seen(self) -> Seen | None:
        """Where training cameras looked, by which the page fades; None where nothing fades, as while a fit runs.

        Takes up to seconds at first: for many cameras.
        """
        if self.steer is not None:
            return None
        with self._looking:
            return self._seen

    @cached_property
    def _seen(self) -> Seen | None:
        trained = [camera for index, camera in enumerate(self.cameras) if index not in self.held_out]
        return seen_by(trained, self.bounds) if any(subject.fades for subject in self.subjects) else None

    def photo_packet(self, index: int) -> tuple[dict[str, Any], bytes]:
        """Encodes a camera's photo, undistorted over its extent, as a header and the bytes of an image file."""
        if self.album is None:
            raise InputError("the photos of the capture are missing")
        photo = self.album.photo(index)
        image = straightened(photo)
        kind = "image/png" if image.shape[2] == 4 else "image/jpeg"
        data = png(image) if image.shape[2] == 4 else jpeg(image, fine=True)
        return {"type": "photo", "camera": index, "mime": kind}, data


def extent(camera: Camera) -> Extent:
    """Extent (left, right, top, bottom): smallest and largest x / z and y / z of the camera's view, at most 2."""
    u, v = np.linspace(0, camera.width, 9), np.linspace(0, camera.height, 9)
    edges = [(u, 0 * u), (u, 0 * u + camera.height), (0 * v, v), (0 * v + camera.width, v)]
    pixel = torch.from_numpy(np.concatenate([np.stack(edge, 1) for edge in edges]))
    table = camera_table([Camera(np.eye(4), *_lens(camera))], torch.float64)
    _, d = pixel_rays(table, torch.zeros(len(pixel), dtype=torch.int64), pixel)
    plane = (d[:, :2] / d[:, 2:].clamp(min=1e-3)).numpy()
    low, high = np.clip(plane.min(0), -2, 2), np.clip(plane.max(0), -2, 2)
    return float(low[0]), float(high[0]), float(low[1]), float(high[1])


def _lens(camera: Camera) -> tuple[Any, ...]:
    """Intrinsics and distortion of a camera, in the order of `Camera`."""
    intrinsics = (camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy)
    return (*intrinsics, camera.model, camera.distortion)


def straightened(photo: Reference) -> np.ndarray:
    """Undistorts a photo over its extent, uint8; transparent outside of it."""
    camera, image = photo.camera, photo.image
    if camera.model == "perspective" and not any(camera.distortion):
        return image
    height, width = image.shape[:2]
    left, right, top, bottom = extent(camera)
    fx, fy = width / (right - left), height / (bottom - top)
    uv = lookup(camera, Camera(np.eye(4), width, height, fx, fy, -left * fx, -top * fy))
    inside = (uv >= 0).all(-1) & (uv[..., 0] <= width) & (uv[..., 1] <= height)
    alpha = image[..., 3:] if image.shape[2] == 4 else np.full((height, width, 1), 255, np.uint8)
    whole = np.concatenate([image[..., :3], alpha], 2).astype(np.float32)
    values = sample(whole, uv) * inside[..., None]
    return np.round(values).astype(np.uint8)


# ---------------------------------------------------------------- stages of models and captures


def _bring(subject: Subject, own: Bounds, page: Bounds, notes: list[str]) -> None:
    """Shows a subject where the first one is, by the server; a note says so where it had to be made as large."""
    found = same_place(subject.render, own, page) if subject.render else None
    if found is None:
        return
    subject.render, apart = found
    subject.splats = subject.volume = subject.model = None
    subject.fades = False
    subject.why = "it is moved to where the first scene is"
    if apart:
        notes.append(f"{subject.name} lies in another world: it is shown in the box of the first, as large")


def _tell_apart(subjects: list[Subject], things: Sequence[Any]) -> None:
    """Names files of one name by their folders too; what still has the name of another is numbered."""
    names = [subject.name for subject in subjects]
    for subject, thing in zip(subjects, things, strict=True):
        if names.count(subject.name) > 1 and isinstance(thing, str | Path):
            subject.name = f"{Path(thing).resolve().parent.name}/{subject.name}"
    for place, subject in enumerate(subjects):
        same = sum(other.name == subject.name for other in subjects[:place])
        subject.name += f" ({same + 1})" if same else ""


def stage_of(things: Sequence[Any], scene: Any = None, device: str = "auto") -> Stage:
    """Makes a stage of models, model files, captures (folders or `Scene`s), objects with `render(camera) -> Render`.

    `scene`: the capture whose photos and points are shown. Default: the one that a model was fitted to, if it still
    exists. `device`: of models that are read from files. Raises InputError and UsageError as the
    readers do.
    """
    if not things:
        raise UsageError("view: nothing was given; name a .nf file or a capture")
    subjects, models, scenes = [], [], []
    notes: list[str] = []
    for thing in things:
        origin = models[0].bounds.origin if models else (0.0, 0.0, 0.0)
        subject, model, found = subject_of(thing, scene, device, origin)
        if model and models and model.is_scene and models[0].is_scene:
            _bring(subject, model.bounds, models[0].bounds, notes)
        subjects.append(subject)
        models += [model] if model else []
        scenes += [found] if found else []
    _tell_apart(subjects, things)
    if len(subjects) == len(models) == 1 and (original := original_of(models[0])):
        subjects.append(original)
    shown = capture_of(scene) if scene is not None else scenes[0] if scenes else _recorded(models, notes)
    stage = build_stage(subjects, models, shown)
    stage.notes = notes
    return stage


def _recorded(models: list[Model], notes: list[str]) -> Scene | None:
    """Reads the capture of the first model whose capture still exists; reasons otherwise in `notes`.

    Models without cameras, such as files of splats, come from none, nor do those of no scene.
    """
    for model in filter(lambda model: model.is_scene and model.cameras, models):
        try:
            return read_scene(recorded_scene(model), model.made.get("format"))
        except NeuralfieldsError as error:
            notes.append(f"no photos: {error}")
    return None


def build_stage(subjects: list[Subject], models: list[Model], scene: Scene | None) -> Stage:
    """Makes a stage with the cameras of the first model that has any, else of the capture, and their photos."""
    model = next((model for model in models if model.is_scene and model.cameras), None)
    others = [subject.shown.renderable.bounds for subject in subjects if subject.shown]
    others = others[0] if others else Bounds((0.0, 0.0, 0.0), 2.0)
    bounds = models[0].bounds if models and models[0].is_scene else scene.bounds if scene else others
    cameras: list[Camera] = []
    names: list[str] = []
    held_out: frozenset[int] = frozenset()
    if model is not None:
        cameras, held_out = list(model.cameras), frozenset(model.held_out)
        names = list(model.camera_names) or [f"{index:04d}" for index in range(len(cameras))]
    elif scene is not None:
        cameras, held_out = [frame.camera for frame in scene.frames], frozenset(scene.test)
        names = [frame.name for frame in scene.frames]
    scene = scene if scene is None or not models else scene.about(bounds.origin)
    album = Album(scene, names) if scene is not None else None
    if album is not None and not any(album.frames):
        album = None
    points = scene.points if scene is not None else None
    if points is not None:
        points = points[:: max(1, -(-len(points) // MOST_POINTS))]
    return Stage(subjects, bounds, cameras, names, held_out, points, album)
