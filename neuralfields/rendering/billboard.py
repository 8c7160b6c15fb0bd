"""Renders a flat picture or film in space, so that a viewer pans and zooms it as it moves through a scene.

The picture stands upright in the plane z = 0: x to the right from -aspect / 2 to aspect / 2, y downwards from -1/2 to
1/2. What is behind it is background; so is what lies beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.rays import Rays, Render
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.volume import RENDER_CHUNK, by_parts
from neuralfields.scene import Bounds


@dataclass(frozen=True)
class Billboard:
    """A picture `aspect` times as wide as high; `colours`: places [S, 2] in [0, 1] -> rgb or rgba [S, 3 or 4].

    Places are x and y; of a film, which lasts `seconds`, also the share of its time, [S, 3].
    Colours are sRGB in [0, 1], alpha is straight.
    """

    colours: Callable[[Tensor], Tensor]
    aspect: float
    seconds: float | None = None

    @property
    def bounds(self) -> Bounds:
        """A cube around the picture."""
        times = None if self.seconds is None else (0.0, self.seconds)
        return Bounds((0.0, 0.0, 0.0), max(self.aspect, 1.0), times=times)

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def render(self, camera: Camera, background: Colour) -> Render:
        """Renders a camera's view over a background: rgb [H, W, 3], opacity and depth [H, W], normals [H, W, 3]."""
        return by_parts(camera, RENDER_CHUNK, "cpu", lambda rays: self.render_rays(rays, background))

    @torch.no_grad()
    def render_rays(self, rays: Rays, background: Colour) -> Render:
        """Renders rays [R]: rgb and normals [R, 3], opacity and depth [R]."""
        slope = torch.where(rays.directions[:, 2].abs() < 1e-9, 1e-9, rays.directions[:, 2])
        t = -rays.origins[:, 2] / slope
        place = rays.origins[:, :2] + t[:, None] * rays.directions[:, :2]
        u = place / place.new_tensor([self.aspect, 1.0]) + 0.5
        hit = (t > 0) & ((u >= 0) & (u <= 1)).all(1)
        rgb, opacity = torch.tensor(background).expand(len(rays), 3).clone(), torch.zeros(len(rays))
        normal = torch.zeros(len(rays), 3)
        if bool(hit.any()):
            seen = self.colours(self._in_time(u, rays)[hit]).nan_to_num().clamp(0, 1)
            alpha = seen[:, 3:] if seen.shape[1] == 4 else torch.ones(len(seen), 1)
            rgb[hit] = alpha * seen[:, :3] + (1 - alpha) * rgb[hit]
            opacity[hit] = alpha[:, 0]
            normal[hit, 2] = -torch.sign(slope[hit])
        return Render(rgb, opacity, torch.where(hit, t, 0), normal)

    def _in_time(self, u: Tensor, rays: Rays) -> Tensor:
        """Places with the share of the time at which rays are cast, of a film; its beginning where they do not say."""
        if self.seconds is None:
            return u
        times = torch.zeros(len(u)) if rays.times is None else rays.times / self.seconds
        return torch.cat([u, times.to(u.dtype).clamp(0, 1)[:, None]], 1)
