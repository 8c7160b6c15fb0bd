"""Stage of the viewer: subjects that can be rendered, and the cameras, photos and points of their capture.

Vocabulary
  subject  a field (or any object that renders a camera) with its name and its figures
  stage    subjects in one world frame, with cameras, photos and sparse points
  album    the photos of a capture, by the index of the stage's cameras (album.py)
  extent   (left, right, top, bottom) of a camera's view on its plane z = 1, without distortion
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuralfields.cameras import Camera, look_at
from neuralfields.captures import arrangement
from neuralfields.captures.readers import read_scene
from neuralfields.codecs import is_foreign, load_any
from neuralfields.errors import InputError, NeuralfieldsError, UsageError
from neuralfields.evaluation.evaluate import recorded_scene
from neuralfields.fields import field_name
from neuralfields.files import size_text
from neuralfields.gpu.device import choose_device
from neuralfields.models.model import Model
from neuralfields.ops.pixel_rays import camera_table, pixel_rays
from neuralfields.pictures.panels import DEPTH_STOPS, colour_table
from neuralfields.pictures.undistort import lookup, sample
from neuralfields.rays import Render
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.splat import Splats
from neuralfields.rendering.volume import Volume
from neuralfields.scene import Bounds, Scene
from neuralfields.serving.album import Album
from neuralfields.serving.crop import Box, render_box
from neuralfields.serving.field import refusal
from neuralfields.serving.framing import Extent, home_view
from neuralfields.serving.messages import eye_of
from neuralfields.serving.shading import Reference, jpeg, png
from neuralfields.version import VERSION

MOST_POINTS = 200_000
SLOW_START = 60_000.0  # initial guess of a subject's rays a second
GREY = (0.5, 0.5, 0.5)
Z_UP, AWAY = np.array([0.0, 0.0, 1.0]), np.array([1.1, -1.1, 0.7])  # where nothing says what is up
Y_DOWN, AWAY_Y_DOWN = np.array([0.0, -1.0, 0.0]), np.array([0.7, -0.5, -1.1])  # the custom among files of splats


@dataclass
class Subject:
    """A renderable subject. `render`: camera, background colour, crop box or None -> Render.

    `facts`: name and value, for the page to list. Rays a second, moving averages: `speed` of whole views, by which the
    next one's size is chosen, and `band_speed` of bands, of which an empty one is many times as fast. `splats` or
    `volume`: what the page draws itself, and `version`, which changes when that does; `why`: reason why it cannot.
    `model`: what a stand-in can be distilled from (stand_in.py); `stands_in`: `volume` is one.
    """

    name: str
    kind: str
    render: Callable[[Camera, Colour, Box | None], Render] | None
    background: Colour = (1.0, 1.0, 1.0)
    facts: dict[str, str] = field(default_factory=dict)
    speed: float = SLOW_START
    band_speed: float = SLOW_START
    splats: Callable[[], Splats] | None = None
    volume: Callable[[], Volume] | None = None
    version: Callable[[], int] = lambda: 0
    why: str = ""
    model: Model | None = None
    stands_in: bool = False

    @property
    def may_stand_in(self) -> bool:
        """Whether a stand-in can be distilled that the page would draw: like its capture's cameras see it."""
        return self.model is not None and bool(self.model.cameras) and self.splats is None and self.volume is None

    def learn(self, pixels: int, seconds: float) -> None:
        """Updates `speed` after a whole view."""
        self.speed += 0.4 * (pixels / max(seconds, 1e-6) - self.speed)

    def timed(self, camera: Camera, background: Colour, box: Box | None) -> Render:
        """Renders a band and updates `band_speed`. Raises UsageError for a capture, which cannot be rendered."""
        if self.render is None:
            raise UsageError(f"{self.name}: a capture without a field cannot be rendered; fit one with: nf fit")
        begin = time.perf_counter()
        seen = self.render(camera, background, box)
        measured = camera.width * camera.height / max(time.perf_counter() - begin, 1e-6)
        self.band_speed += 0.4 * (measured - self.band_speed)
        return seen


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

    def nearest(self, camera: Camera) -> int | None:
        """Index of the nearest camera with a photo, by position and direction."""
        if self.album is None:
            return None
        best, least = None, np.inf
        for index, other in enumerate(self.cameras):
            if self.album.has(index):
                away = float(np.linalg.norm(other.centre - camera.centre)) / self.bounds.side
                away += 1 - float(other.forward @ camera.forward)
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
                for s in self.subjects
            ],
            "depth_colours": colour_table(DEPTH_STOPS).ravel().tolist() if modes else [],
            "modes": modes + (["error"] if modes and self.album else []),
            "cameras": [self._camera(index) for index in range(len(self.cameras))],
            "bounds": {"centre": list(self.bounds.centre), "side": self.bounds.side, "cascades": self.bounds.cascades},
            "points": 0 if self.points is None else len(self.points),
            "eye": eye,
            "extent": None if seen is None else list(seen),
            "up": [float(value) for value in up],
            "pivot": [float(value) for value in pivot],
            "live": self.steer is not None,
            "notes": self.notes,
        }

    def _camera(self, index: int) -> dict[str, Any]:
        camera = self.cameras[index]
        return {
            "name": self.names[index],
            "pose": eye_of(camera)["pose"],
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
        splats = [subject.splats() for subject in self.subjects if subject.splats]
        if splats and len(splats) == len(self.subjects) and len(splats[0].gaussians):
            pose, seen, pivot = home_view(splats[0], AWAY_Y_DOWN, Y_DOWN)
            return {"pose": pose[:3].ravel().tolist(), "fov": 45.0}, Y_DOWN, pivot, seen
        place = centre + self.bounds.side * AWAY
        return {"pose": look_at(place, centre, Z_UP)[:3].ravel().tolist(), "fov": 45.0}, Z_UP, centre, None

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


def volume_subject(name: str, volume: Callable[[], Volume | Splats], **known: Any) -> Subject:
    """Makes a subject of a function that gives the current volume at every render (a running fit)."""
    return Subject(name, "field", lambda camera, colour, box: render_box(volume(), camera, colour, box), **known)


def drawn_by_the_page(subject: Subject, volume: Volume | Splats) -> Subject:
    """Lets the page draw a subject itself where it can; `volume`: what is shown now."""
    if isinstance(volume, Splats):
        subject.splats = lambda: volume
    elif isinstance(volume, Volume):
        subject.why = refusal(volume)
        subject.volume = None if subject.why else lambda: volume
    return subject


def facts_of(model: Model, size: int) -> dict[str, str]:
    """Figures of a model, for the page to list."""
    facts = {"field": field_name(model.field), "size": size_text(size)}
    psnr, made = model.metrics.get("psnr"), model.made
    if isinstance(psnr, int | float):
        facts["held-out PSNR"] = f"{psnr:.2f} dB"
    if isinstance(made.get("steps"), int):
        facts["steps"] = f"{made['steps']:,}"
    if isinstance(made.get("seconds"), int | float):
        facts["fitted in"] = f"{made['seconds']:.0f} s"
    return facts


def stage_of(things: Sequence[Any], scene: Any = None, device: str = "auto") -> Stage:
    """Makes a stage of models, model files, captures (folders or `Scene`s), objects with `render(camera) -> Render`.

    `scene`: the capture whose photos and points are shown. Default: the one that a model was fitted to, if it still
    exists. `device`: of models that are read from files. Raises InputError and UsageError as the
    readers do.
    """
    if not things:
        raise UsageError("view: nothing was given; name a .nf file or a capture")
    subjects, models, scenes = [], [], []
    for thing in things:
        subject, model, found = _subject(thing, scene, device)
        subjects.append(subject)
        models += [model] if model else []
        scenes += [found] if found else []
    notes: list[str] = []
    shown = _capture(scene) if scene is not None else scenes[0] if scenes else _recorded(models, notes)
    stage = build_stage(subjects, models, shown)
    stage.notes = notes
    return stage


def _subject(thing: Any, scene: Any, device: str) -> tuple[Subject, Model | None, Scene | None]:
    if isinstance(thing, Subject):
        return thing, None, None
    if isinstance(thing, Model):
        return model_subject(field_name(thing.field), thing, thing.field.bytes()), thing, None
    if isinstance(thing, str | Path) and _is_model_file(Path(thing)):
        model = _read_model(Path(thing), scene, device)
        return model_subject(Path(thing).name, model, Path(thing).stat().st_size), model, None
    if isinstance(thing, Scene | str | Path):
        found = _capture(thing)
        facts = {"kind": found.kind, "photos": str(len(found.frames)), "held out": str(len(found.test))}
        return Subject(found.name, "capture", None, facts=facts), None, found
    if callable(getattr(thing, "render", None)):
        return _foreign(thing), None, None
    raise UsageError(f"view: cannot show a {type(thing).__name__}; give a .nf file, a capture, a Model or a Scene")


def _is_model_file(path: Path) -> bool:
    """Whether a path is read as a model: a .nf, or any file but a capture's transforms.json."""
    return path.suffix.lower() == ".nf" or (path.is_file() and path.suffix.lower() != ".json")


def _read_model(path: Path, scene: Any, device: str) -> Model:
    """Reads a model file, ours or of another program; the latter gets the cameras of `scene` where that is a path."""
    capture = scene if isinstance(scene, str | Path) and is_foreign(path) else None
    return load_any(path, capture, device=choose_device(device))


def model_subject(name: str, model: Model, size: int) -> Subject:
    """Makes a subject of a model of `size` bytes. Raises UsageError for one that is no scene."""
    if not model.is_scene:
        raise UsageError(f"{name}: holds no scene but a field of kind {model.field.domain.kind!r}; use nf export")
    volume = model.renderable()
    facts = facts_of(model, size)
    if isinstance(volume, Splats):
        facts["Gaussians"] = f"{len(volume.gaussians):,}"
    subject = volume_subject(name, lambda: volume, background=model.background, facts=facts, model=model)
    return drawn_by_the_page(subject, volume)


def _foreign(thing: Any) -> Subject:
    """Makes a subject of an object that renders a camera; its background is recomposited, it cannot be cropped."""

    def render(camera: Camera, colour: Colour, box: Box | None) -> Render:
        seen = thing.render(camera)
        behind = (1 - seen.opacity)[..., None] * (torch.tensor(colour) - torch.tensor(background))
        return Render(seen.rgb + behind, seen.opacity, seen.depth)

    background = tuple(getattr(thing, "background", (1.0, 1.0, 1.0)))
    return Subject(type(thing).__name__.lower(), "picture", render, background)


def _capture(scene: Any) -> Scene:
    return scene if isinstance(scene, Scene) else read_scene(Path(scene))


def _recorded(models: list[Model], notes: list[str]) -> Scene | None:
    """Reads the capture of the first model whose capture still exists; reasons otherwise in `notes`.

    Models without cameras, such as files of splats, come from none.
    """
    for model in filter(lambda model: model.cameras, models):
        try:
            return read_scene(recorded_scene(model), model.made.get("format"))
        except NeuralfieldsError as error:
            notes.append(f"no photos: {error}")
    return None


def build_stage(subjects: list[Subject], models: list[Model], scene: Scene | None) -> Stage:
    """Makes a stage with the cameras of the first model that has any, else of the capture, and their photos."""
    model = next((model for model in models if model.cameras), None)
    bounds = models[0].bounds if models else scene.bounds if scene else Bounds((0.0, 0.0, 0.0), 2.0)
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
