"""What is no scene, as subjects of the viewer: images, films, sounds and shapes, fitted or as they are, and meshes.

An image stands in space as a rectangle (rendering/billboard.py): panning and zooming it is moving before it, and at any
distance a field is asked for its own colours. The pixels of an image file stay squares. A film plays. A sound is shown
as its waveform, and can be heard.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import Camera, look_at
from neuralfields.captures.images import read_image
from neuralfields.fields.field import Field, values_at
from neuralfields.mesh.files import read_mesh
from neuralfields.models.model import Model
from neuralfields.rays import Render
from neuralfields.rendering.billboard import Billboard
from neuralfields.rendering.mesh_view import MeshView
from neuralfields.rendering.renderable import Renderable
from neuralfields.serving.crop import render_cut
from neuralfields.signals.image import ImageFacts, slim
from neuralfields.signals.shape import ring
from neuralfields.signals.signal import facts_of
from neuralfields.signals.sound import SoundFacts, amplitudes, read_sound_signal, wav
from neuralfields.signals.video import VideoFacts, read_video_signal

ANGLE = 45.0  # vertical field of view before a rectangle, degrees
MARGIN = 1.06
FARTHER = 1.3  # than the cameras of a fit stand from a shape: corners of its cube are seen too
WAVEFORM = (360, 1600)  # rows of a channel, columns
PAPER, INK, MIDDLE = (24, 27, 32), (110, 168, 254), (70, 76, 86)
EXTREMES: tuple[Any, Any] = (np.minimum, np.maximum)


Point = tuple[float, float, float]


@dataclass(frozen=True)
class Shown:
    """What a file shows: how it is rendered, the camera that sees all of it, what is up, facts, a WAV file."""

    renderable: Renderable
    home: Camera
    up: Point
    facts: dict[str, str]
    sound: bytes | None = None


def signal_of(model: Model) -> Shown:
    """An image, a film, a sound or a shape that was fitted."""
    kind, field = model.field.domain.kind, model.field.eval()
    if kind == "shape":
        return _standing(model.renderable(), {})
    if kind == "sound":
        known = facts_of(model.signal, SoundFacts)
        return _sound(amplitudes(field, known), known.rate)
    if kind == "video":
        film = facts_of(model.signal, VideoFacts)
        return _film(_colours_of(field), film)
    size = facts_of(model.signal, ImageFacts)
    return _facing(Billboard(_colours_of(field), size.width / size.height), {"image": f"{size.width} × {size.height}"})


def picture_of(path: Path) -> Shown:
    """An image file. Raises InputError as the reader does."""
    pixels = slim(read_image(path, upright=True))
    height, width = pixels.shape[:2]
    return _facing(Billboard(_pixels(pixels), width / height), {"image": f"{width} × {height}"})


def film_of(path: Path) -> Shown:
    """A video file. Raises InputError and UsageError as the reader does."""
    film = read_video_signal(path)
    return _film(_pixels(film.values.numpy()), film.facts)


def sound_of(path: Path) -> Shown:
    """A sound file. Raises InputError and UsageError as the reader does."""
    sound = read_sound_signal(path)
    return _sound(sound.values.numpy() * sound.facts.gain, sound.facts.rate)


def mesh_of(path: Path, origin: Point = (0.0, 0.0, 0.0)) -> Shown:
    """A mesh file, about a point of its world, as what is shown beside it is. Raises InputError as the reader does."""
    mesh = read_mesh(path)
    mesh = replace(mesh, vertices=mesh.vertices - np.array(origin))
    return _standing(MeshView(mesh), {"vertices": f"{len(mesh.vertices):,}", "faces": f"{len(mesh.faces):,}"})


def _film(colours: Callable[[Tensor], Tensor], film: VideoFacts) -> Shown:
    """A film that plays on a rectangle."""
    seconds = film.frames / film.fps
    facts = {"film": f"{film.width} × {film.height}, {film.frames} frames, {seconds:.2f} s"}
    return _facing(Billboard(colours, film.width / film.height, seconds), facts)


def _facing(board: Billboard, facts: dict[str, str], sound: bytes | None = None) -> Shown:
    """A rectangle with the camera that sees it as a whole."""
    side = 512
    focal = side / 2 / np.tan(np.radians(ANGLE) / 2)
    away = MARGIN * focal / side
    pose = look_at(np.array([0.0, 0.0, -away]), np.zeros(3), np.array([0.0, -1.0, 0.0]))
    width = max(1, round(side * board.aspect))
    home = Camera(pose, width, side, focal, focal, width / 2, side / 2)
    return Shown(board, home, (0.0, -1.0, 0.0), facts, sound)


def _standing(renderable: Renderable, facts: dict[str, str]) -> Shown:
    """A shape with a camera before it, a little above; y is up, as in most meshes."""
    home, centre = ring(renderable.bounds)[0], np.array(renderable.bounds.centre)
    pose = home.world_from_camera.copy()
    pose[:3, 3] = centre + FARTHER * (home.centre - centre)
    return Shown(renderable, replace(home, world_from_camera=pose), (0.0, 1.0, 0.0), facts)


def _colours_of(field: Field) -> Callable[[Tensor], Tensor]:
    """Colours of an image's or a film's field, grey in three channels."""

    def colours(u: Tensor) -> Tensor:
        values = values_at(field, u)
        return values.expand(-1, 3) if values.shape[1] == 1 else values

    return colours


def _pixels(pixels: np.ndarray) -> Callable[[Tensor], Tensor]:
    """Colours of the pixels uint8 [H, W, 1, 3 or 4] that places lie in; of frames [T, H, W, 3] at a time too."""
    values = torch.from_numpy(pixels)
    size = torch.tensor(pixels.shape[-2:-4:-1] + pixels.shape[:-3])  # of x, y and time

    def colours(u: Tensor) -> Tensor:
        place = torch.minimum((u * size).long(), size - 1)
        found = values[tuple(place.T.flip(0))].float() / 255  # [time], y, x
        return found.expand(-1, 3) if found.shape[1] == 1 else found

    return colours


def _sound(values: np.ndarray, rate: int) -> Shown:
    """Amplitudes [T, C] as their waveform, with the sound."""
    picture = waveform(values)
    facts = {"sound": f"{len(values) / rate:.2f} s, {rate} Hz, {values.shape[1]} channels"}
    board = Billboard(_pixels(picture), picture.shape[1] / picture.shape[0])
    return _facing(board, facts, wav(np.clip(values, -1, 1), rate))


def waveform(values: np.ndarray) -> np.ndarray:
    """A picture uint8 [H C, W, 3] of amplitudes [T, C] in [-1, 1]: a strip a channel, least to most in a column."""
    rows, columns = WAVEFORM
    edges = np.linspace(0, len(values), min(columns, len(values)) + 1).astype(int)[:-1]
    strips = []
    for channel in values.T:
        low, high = (pick.reduceat(channel, edges).repeat(-(-columns // len(edges)))[:columns] for pick in EXTREMES)
        level = 1 - 2 * (np.arange(rows)[:, None] + 0.5) / rows  # of each row's middle
        strip = np.full((rows, columns, 3), PAPER, np.uint8)
        strip[rows // 2 - 1 : rows // 2 + 1] = MIDDLE
        strip[(level <= high + 1 / rows) & (level >= low - 1 / rows)] = INK
        strips.append(strip)
    return np.concatenate(strips)


def renderer_of(shown: Shown) -> Callable[..., Render]:
    """How a subject of the viewer renders it, cut to a box where there is one."""
    return lambda camera, colour, box: render_cut(shown.renderable, camera, colour, box)
