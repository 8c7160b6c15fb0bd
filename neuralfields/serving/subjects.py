"""Subjects of the viewer: what is rendered, by what, and what the page may draw itself.

A subject is made of a model, of a file (a model, Gaussians, an image, a sound, a mesh), of a capture, or of any object
that renders a camera.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from neuralfields.cameras import Camera
from neuralfields.captures.readers import read_scene
from neuralfields.codecs import is_foreign, is_splat_file, load_any
from neuralfields.codecs.splat_sequence import sequence_files
from neuralfields.errors import NeuralfieldsError, UsageError
from neuralfields.fields import field_name
from neuralfields.files import size_text
from neuralfields.gpu.device import choose_device
from neuralfields.media import kind_of
from neuralfields.models.model import Model
from neuralfields.rays import Render
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.seen import Fader, Seen, can_fade
from neuralfields.rendering.splat import Splats
from neuralfields.rendering.splat_sequence import SplatSequence
from neuralfields.rendering.volume import OfVolume, Volume
from neuralfields.scene import Scene
from neuralfields.serving.crop import Box, render_box
from neuralfields.serving.field import refusal
from neuralfields.serving.signals import Point, Shown, film_of, mesh_of, picture_of, renderer_of, signal_of, sound_of

SLOW_START = 60_000.0  # initial guess of a subject's rays a second
GREY = (0.5, 0.5, 0.5)
PLAIN = {"image": picture_of, "video": film_of, "sound": sound_of}  # files that are shown as they are, and meshes


@dataclass
class Subject:
    """A renderable subject. `render`: camera, background colour, crop box or None -> Render.

    `facts`: name and value, for the page to list. Rays a second, moving averages: `speed` of whole views, by which the
    next one's size is chosen, and `band_speed` of bands, of which an empty one is many times as fast. `splats` or
    `volume`: what the page draws itself, and `version`, which changes when that does; `why`: reason why it cannot;
    `first`: Gaussians of a sequence's first instant, by which it is framed.
    `fades`: whether `render` takes what cameras saw (rendering/seen.py) as a fourth argument.
    `model`: what a stand-in can be distilled from (stand_in.py); `stands_in`: `volume` is one. `shown`: of what is no
    scene, with where it is seen from and its sound.
    """

    name: str
    kind: str
    render: Callable[..., Render] | None
    background: Colour = (1.0, 1.0, 1.0)
    facts: dict[str, str] = field(default_factory=dict)
    speed: float = SLOW_START
    band_speed: float = SLOW_START
    splats: Callable[[], Splats] | None = None
    first: Callable[[], Splats] | None = None
    volume: Callable[[], Volume] | None = None
    version: Callable[[], int] = lambda: 0
    why: str = ""
    model: Model | None = None
    stands_in: bool = False
    shown: Shown | None = None
    fades: bool = False

    @property
    def may_stand_in(self) -> bool:
        """Whether a stand-in can be distilled that the page would draw, as its capture's cameras see it; none moves."""
        known = self.model is not None and bool(self.model.cameras) and self.model.bounds.times is None
        return known and self.splats is None and self.volume is None

    def learn(self, pixels: int, seconds: float) -> None:
        """Updates `speed` after a whole view."""
        self.speed += 0.4 * (pixels / max(seconds, 1e-6) - self.speed)

    def draw(self, camera: Camera, background: Colour, box: Box | None = None, seen: Seen | None = None) -> Render:
        """Renders a camera's view, faded by what cameras saw where it can be.

        Raises UsageError for a capture, which cannot be rendered.
        """
        if self.render is None:
            raise UsageError(f"{self.name}: a capture without a field cannot be rendered; fit one with: nf fit")
        return self.render(camera, background, box, *([seen] if seen is not None and self.fades else []))

    def timed(self, camera: Camera, background: Colour, box: Box | None, seen: Seen | None = None) -> Render:
        """Renders a band as `draw` does and updates `band_speed`."""
        begin = time.perf_counter()
        made = self.draw(camera, background, box, seen)
        measured = camera.width * camera.height / max(time.perf_counter() - begin, 1e-6)
        self.band_speed += 0.4 * (measured - self.band_speed)
        return made


def volume_subject(name: str, volume: Callable[[], Volume | Splats], **known: Any) -> Subject:
    """Makes a subject of a function that gives the current volume at every render (a running fit)."""
    fader = Fader()

    def render(camera: Camera, colour: Colour, box: Box | None, seen: Seen | None = None) -> Render:
        return render_box(fader.faded(volume(), seen), camera, colour, box)

    return Subject(name, "field", render, **known)


def drawn_by_the_page(subject: Subject, volume: Volume | Splats | SplatSequence) -> Subject:
    """Lets the page draw a subject itself where it can; `volume`: what is shown now."""
    subject.fades = can_fade(volume)
    if isinstance(volume, Splats):
        subject.splats = lambda: volume
    elif isinstance(volume, SplatSequence):
        subject.first = lambda: volume.at(None)
    elif isinstance(volume, Volume | OfVolume):
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


def subject_of(
    thing: Any, scene: Any, device: str, origin: Point = (0.0, 0.0, 0.0)
) -> tuple[Subject, Model | None, Scene | None]:
    """The subject of a thing, with the model or the capture that it is of. Raises as the readers do.

    `origin`: the point of the files' world that is (0, 0, 0) here, by which meshes are moved.
    """
    if isinstance(thing, Subject):
        return thing, None, None
    if isinstance(thing, Model):
        return model_subject(field_name(thing.field), thing, thing.field.bytes()), thing, None
    if isinstance(thing, str | Path) and (shown := _plain_file(Path(thing), origin)):
        return signal_subject(Path(thing).name, shown), None, None
    if isinstance(thing, str | Path) and _is_model_file(Path(thing)):
        model = read_model(Path(thing), scene, device)
        return model_subject(Path(thing).name, model, Path(thing).stat().st_size), model, None
    if isinstance(thing, Scene | str | Path):
        found = capture_of(thing)
        facts = {"kind": found.kind, "photos": str(len(found.frames)), "held out": str(len(found.test))}
        return Subject(found.name, "capture", None, facts=facts), None, found
    if callable(getattr(thing, "render", None)):
        return _foreign(thing), None, None
    raise UsageError(f"view: cannot show a {type(thing).__name__}; give a .nf file, a capture, a Model or a Scene")


def _plain_file(path: Path, origin: Point) -> Shown | None:
    """What a file shows that is no model: an image, a film, a sound, a mesh; None for any other."""
    kind = kind_of(path) if path.is_file() and not is_splat_file(path) else None
    if kind == "shape":
        return mesh_of(path, origin)
    return PLAIN[kind](path) if kind in PLAIN else None


def original_of(model: Model) -> Subject | None:
    """The file that an image, a sound or a shape was fitted to, where it still is; None where it is gone or unread."""
    path = model.made.get("scene")
    if model.is_scene or not isinstance(path, str):
        return None
    try:
        shown = _plain_file(Path(path), model.bounds.origin)
    except NeuralfieldsError:
        return None
    return None if shown is None else signal_subject(Path(path).name, shown)


def signal_subject(name: str, shown: Shown, facts: dict[str, str] | None = None) -> Subject:
    """Makes a subject of something that is no scene."""
    return Subject(name, "signal", renderer_of(shown), GREY, (facts or {}) | shown.facts, shown=shown)


def _is_model_file(path: Path) -> bool:
    """Whether a path is read as a model: a .nf, any file but a capture's transforms.json, a folder of splat files."""
    if path.is_dir():
        return bool(sequence_files(path))
    return path.suffix.lower() == ".nf" or (path.is_file() and path.suffix.lower() != ".json")


def read_model(path: Path, scene: Any, device: str) -> Model:
    """Reads a model file, ours or of another program; the latter gets the cameras of `scene` where that is a path."""
    capture = scene if isinstance(scene, str | Path) and is_foreign(path) else None
    return load_any(path, capture, device=choose_device(device))


def model_subject(name: str, model: Model, size: int) -> Subject:
    """Makes a subject of a model of `size` bytes."""
    if not model.is_scene:
        return signal_subject(name, signal_of(model), facts_of(model, size))
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


def capture_of(scene: Any) -> Scene:
    """The capture in a folder, or as it is."""
    return scene if isinstance(scene, Scene) else read_scene(Path(scene))
