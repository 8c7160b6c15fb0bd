"""The contract of everything that can be rendered: radiance fields, shapes, Gaussian splats.

Nothing above this folder asks for the kind: evaluation, the viewer, the verbs and the comparison of a conversion take a
`Renderable`; `Model.renderable()` makes one of a fitted model.
"""

from typing import Protocol

import torch

from neuralfields.cameras import Camera
from neuralfields.rays import Rays, Render
from neuralfields.scene import Bounds

Colour = tuple[float, float, float]


class Renderable(Protocol):
    """A camera or rays in, a `Render` out, without gradients; `bounds` is the scene's extent in the world."""

    @property
    def bounds(self) -> Bounds:
        """The scene's bounds, in world units."""
        ...

    @property
    def device(self) -> torch.device:
        """The device it computes on, and that of its renders."""
        ...

    def render(self, camera: Camera, background: Colour) -> Render:
        """Renders a camera's view over a background in [0, 1]: rgb [H, W, 3], opacity and depth [H, W]."""
        ...

    def render_rays(self, rays: Rays, background: Colour) -> Render:
        """Renders rays [R] of the world's frame with unit directions: rgb [R, 3], opacity and depth [R]."""
        ...
