"""A fitted model: a field or shape with everything that is needed to render it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuralfields import fields
from neuralfields.cameras import Camera
from neuralfields.domain import CASCADE_WORDS
from neuralfields.errors import UsageError
from neuralfields.fields.blend import BlendField
from neuralfields.fields.gaussians import GaussianField
from neuralfields.fields.surface import SurfaceField
from neuralfields.rendering.blend import Blended
from neuralfields.rendering.renderable import Colour, Renderable
from neuralfields.rendering.splat import Splats
from neuralfields.rendering.splat_sequence import SequenceField, SplatSequence
from neuralfields.rendering.surface import Surface
from neuralfields.rendering.traced import Traced
from neuralfields.rendering.volume import Volume
from neuralfields.scene import Bounds


@dataclass(frozen=True)
class Model:
    """A field with everything that is needed to render it.

    `occupancy` [cascades, 32768] int64 or None, of a scene that moves so many for each segment of time; `held_out`:
    indices into `cameras` that were never trained on; `camera_names`: one a camera; `background`: the colour behind the
    scene in [0, 1]; `made`, `metrics`, `lineage`: provenance, plain data. `signal`: plain data of a signal (see
    signals/signal.py), such as the size of an image.
    """

    field: "fields.field.Field"
    bounds: Bounds
    occupancy: Tensor | None = None
    cameras: tuple[Camera, ...] = ()
    held_out: tuple[int, ...] = ()
    camera_names: tuple[str, ...] = ()
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    made: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    lineage: list[Any] = field(default_factory=list)
    signal: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """One line: the field, its number of parameters, cameras and PSNR: `Model(hash, 3,295,904 parameters, ...)`."""
        count = sum(parameter.numel() for parameter in self.field.parameters())
        about = [fields.field_name(self.field), f"{count:,} parameters"]
        about += [f"{len(self.cameras)} cameras"] if self.cameras else []
        about += [f"psnr {self.metrics['psnr']:.2f} dB"] if self.metrics.get("psnr") else []
        return f"Model({', '.join(about)})"

    @property
    def is_scene(self) -> bool:
        """Whether it was fitted to posed photos of a scene; else to a signal whose values are known (see signals/)."""
        return self.field.domain.radiance

    @property
    def has_views(self) -> bool:
        """Whether cameras can see it, as they do a scene or a shape; `renderable` raises where they cannot."""
        return self.is_scene or self.field.domain.kind == "shape"

    def at(self, time: float) -> "Model":
        """A scene that moves as it is at one time, in the capture's own unit; itself if it stands still."""
        if self.field.domain.dimensions != 4:
            return self
        cameras = tuple(replace(camera, time=None) for camera in self.cameras)
        if isinstance(self.field, GaussianField):
            gaussians = self.field.gaussians().at(self.bounds.moment(time))
            still = GaussianField.of(gaussians.take(gaussians.opacities > UNSEEN), self.field.config.most)
            return replace(self, field=still, bounds=replace(self.bounds, times=None), cameras=cameras)
        if isinstance(self.field, SequenceField):
            still = GaussianField.of(self.field.gaussians(self.bounds.moment(time)))
            return replace(self, field=still, bounds=replace(self.bounds, times=None), cameras=cameras)
        still = volume_of(self).at(self.bounds.moment(time))
        return replace(self, field=still.field, bounds=still.bounds, occupancy=still.occupancy, cameras=cameras)

    def renderable(self) -> Renderable:
        """Makes the renderable of a scene or shape: this class alone asks which kind of field a model has.

        Raises UsageError for an image, a video or a sound, which cannot be rendered from cameras.
        """
        if not self.has_views:
            kind = self.field.domain.kind
            raise UsageError(f"a field of {kind} cannot be rendered from cameras; write it with nf export")
        if isinstance(self.field, GaussianField):
            return Splats(self.field.gaussians(), self.bounds)
        if isinstance(self.field, SequenceField):
            return SplatSequence(self.field, self.bounds)
        if self.is_scene:
            volume = volume_of(self)
            return RENDERERS.get(type(self.field), lambda plain: plain)(volume)
        return Surface(self.field.eval(), self.bounds, self.signal.get("values") == "distance")


RENDERERS: dict[type, Callable[[Volume], Renderable]] = {BlendField: Blended, SurfaceField: Traced}
UNSEEN = -5.5  # logit of an opacity under 1/245: what has faded so far is left out of a moment
BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}


def volume_of(model: Model) -> Volume:
    """The radiance field as a renderable volume; a model without occupancy is sampled everywhere."""
    occupancy = model.occupancy
    if occupancy is None:
        device = next(model.field.parameters()).device
        layers = model.bounds.cascades * model.field.domain.segments
        occupancy = torch.full((layers, CASCADE_WORDS), -1, dtype=torch.int64, device=device)
    return Volume(model.field.eval(), model.bounds, occupancy)


def background_of(model: Model, choice: Any = "auto") -> Colour:
    """The background colour of a choice: auto (the model's own), white, black, or three numbers in [0, 1].

    Raises UsageError for anything else.
    """
    if isinstance(choice, str):
        if choice != "auto" and choice not in BACKGROUNDS:
            raise UsageError(f"background {choice!r}: must be auto, white, black or three numbers in [0, 1]")
        return BACKGROUNDS.get(choice, model.background)
    values = np.asarray(choice, dtype=np.float64)
    if values.shape != (3,) or not ((values >= 0) & (values <= 1)).all():  # NaN compares false, so it is refused
        raise UsageError(f"background {choice!r}: must be auto, white, black or three numbers in [0, 1]")
    return tuple(values.tolist())
