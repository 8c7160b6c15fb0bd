"""The training cameras of a model as pinholes to render again, and a render's depth along their axis."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import NO_DISTORTION, Camera
from neuralfields.models.model import Model
from neuralfields.rays import Render


def training_cameras(model: Model) -> list[Camera]:
    """Cameras that are not held out."""
    held_out = set(model.held_out)
    return [camera for index, camera in enumerate(model.cameras) if index not in held_out]


def evenly(cameras: list[Camera], most: int) -> list[Camera]:
    """At most so many of them, evenly."""
    return [cameras[i] for i in np.linspace(0, len(cameras) - 1, min(most, len(cameras))).round().astype(int)]


def limited(camera: Camera, side: int) -> Camera:
    """The camera without distortion, at a size of at most side x side pixels."""
    share = min(1.0, side / math.sqrt(camera.width * camera.height))
    smaller = camera.resized(max(1, round(camera.width * share)), max(1, round(camera.height * share)))
    return replace(smaller, model="perspective", distortion=NO_DISTORTION)


def plane_points(camera: Camera) -> Tensor:
    """A pinhole's pixels on the plane z = 1 before it, [H, W, 3] float64."""
    a = (torch.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    b = (torch.arange(camera.height) + 0.5 - camera.cy) / camera.fy
    return torch.stack(torch.broadcast_tensors(a, b[:, None], torch.ones(1, 1)), 2).double()


def depth_along_axis(render: Render, camera: Camera) -> Tensor:
    """A pinhole's render's depth along its axis, [H, W] float64, from that along the rays."""
    return render.depth.cpu().double() / plane_points(camera).norm(dim=2)
