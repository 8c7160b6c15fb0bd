"""Renders a fitted model from Python, by a camera or along rays."""

from typing import Any

import torch

from neuralfields.cameras import Camera
from neuralfields.errors import InputError
from neuralfields.models.model import Model, background_of
from neuralfields.rays import Rays, Render


def render(model: Model, view: Camera | Rays, background: Any = "auto") -> Render:
    """Renders a model by a camera or along rays: rgb, opacity and depth (world units), without gradients.

    A camera gives [H, W, 3], [H, W], [H, W]; rays (`Rays` of tensors or arrays [R, 3], directions of any length) give
    [R, 3], [R], [R]. `background`: auto (the model's own), white, black, or three numbers in [0, 1].
    Raises InputError for rays of another shape, with values that are not finite, or without direction.
    """
    renderable, colour = model.renderable(), background_of(model, background)
    if isinstance(view, Camera):
        return renderable.render(view, colour)
    return renderable.render_rays(_checked(view).to(renderable.device), colour)


def _checked(rays: Rays) -> Rays:
    """Converts rays to float32 tensors [R, 3] with unit directions."""
    origins, directions = (torch.as_tensor(a, dtype=torch.float32) for a in (rays.origins, rays.directions))
    if origins.ndim != 2 or origins.shape[1] != 3 or origins.shape != directions.shape:
        raise InputError(f"rays: origins {list(origins.shape)}, directions {list(directions.shape)}; both need [R, 3]")
    length = directions.norm(dim=1, keepdim=True)
    if not bool(torch.isfinite(origins).all() & torch.isfinite(length).all() & (length > 0).all()):
        raise InputError("rays: an origin or a direction is not finite, or a direction is zero; remove such rays")
    return Rays(origins, directions / length)
