"""A sequence of sets of Gaussians, one for each instant, as a scene that moves: what a folder of splat files shows."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from neuralfields.cameras import Camera
from neuralfields.domain import MOVING
from neuralfields.errors import UsageError
from neuralfields.fields.field import Field, ParameterGroup
from neuralfields.gaussians import Gaussians
from neuralfields.rays import Rays, Render
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.splat import Splats
from neuralfields.scene import Bounds

KEPT = 8  # instants that are held in memory


class SequenceField(Field):
    """Instants evenly through a scene's time, each a set of Gaussians that is read where it is looked at.

    It is no architecture of its own and cannot be saved. `read`: instants by their index.
    """

    def __init__(self, read: Callable[[int], Gaussians], instants: int) -> None:
        super().__init__()
        self.domain, self.config, self.instants = MOVING, None, instants
        self.place = nn.Parameter(torch.zeros(0), requires_grad=False)  # where it is: its device
        self._read = lru_cache(KEPT)(read)

    def gaussians(self, moment: float) -> Gaussians:
        """The set of the instant that is nearest to a moment in [0, 1]."""
        return self._read(round(moment * (self.instants - 1))).to(self.place.device)

    def features(self, x: Tensor) -> Tensor:
        """Refused: Gaussians are no function of a point. Raises UsageError."""
        raise UsageError("a sequence of splats is no function of a point; convert it first: nf convert --to gaussians")

    def groups(self) -> list[ParameterGroup]:
        """None: it is not fitted."""
        return []


@dataclass(frozen=True)
class SplatSequence:
    """A sequence to look at. Cameras and rays without a time see the first instant."""

    field: SequenceField
    bounds: Bounds

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.field.place.device

    def at(self, time: float | None) -> Splats:
        """The instant that is nearest to a time in the capture's own unit."""
        index = 0 if time is None else round(self.bounds.moment(time) * (self.field.instants - 1))
        return _splats(self.field, index, replace(self.bounds, times=None))

    def render(self, camera: Camera, background: Colour) -> Render:
        """Renders a camera's picture of its time; see `Splats.render`."""
        return self.at(camera.time).render(camera, background)

    def render_rays(self, rays: Rays, background: Colour) -> Render:
        """Renders rays, each at its time; see `Splats.render_rays`."""
        if rays.times is None or not len(rays):
            return self.at(None).render_rays(rays, background)
        each = [self.at(time).render_rays(rays[i : i + 1], background) for i, time in enumerate(rays.times.tolist())]
        return Render.concatenate(each)


@lru_cache(4)
def _splats(field: SequenceField, index: int, bounds: Bounds) -> Splats:
    """What renders an instant; the last few are kept with what they have prepared."""
    return Splats(field.gaussians(index / max(1, field.instants - 1)), bounds)
