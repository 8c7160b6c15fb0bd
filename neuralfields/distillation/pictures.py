"""Distils by pictures, where teacher or student is a set of Gaussians: they are no function of a point.

  teacher -> renders of its cameras and of viewpoints like them -> the trainer that photos have -> student

A field's depth says where the Gaussians begin; Gaussians teach a field by colour and opacity alone.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.captures.images import LoadedFrames
from neuralfields.evaluation.training_views import depth_along_axis, evenly, limited, training_cameras
from neuralfields.fields.field import Field
from neuralfields.fields.gaussians import Config, GaussianField
from neuralfields.gaussians import Gaussians
from neuralfields.models.model import Model
from neuralfields.rendering.renderable import Colour, Renderable
from neuralfields.splatting.densify import rotation_columns
from neuralfields.splatting.depth_maps import CONFIRMED, DepthMap
from neuralfields.splatting.in_time import from_photos_in_time
from neuralfields.splatting.initial import from_depth_maps
from neuralfields.splatting.photos import training_photos
from neuralfields.supervision.pixels import Pixels
from neuralfields.trainers.moving_splats import trainer_of
from neuralfields.trainers.radiance import Background, RadianceTrainer
from neuralfields.trainers.sampled_cameras import Viewpoints
from neuralfields.trainers.splats import SplatTrainer, budget

PICTURES, LEAST_PICTURES = 72, 48  # renders at most, and how many viewpoints are added up to
RENDERS_SHARE, FEWEST_PICTURES = 0.4, 12  # of the time for a conversion; renders at least, however long they take
SIDE = 400  # a render has at most so many pixels, squared
REACH, FAINT = 3.0, 0.02  # deviations of a Gaussian beyond which it is empty, opacity below which it is not there
MOMENTS = 16  # of a scene that moves, at which it is asked where its Gaussians are
OPAQUE = 0.5  # opacity above which a render's depth is where something is


def student_by_pictures(
    student: Field,
    teacher: Renderable,
    model: Model,
    viewpoints: Viewpoints,
    real: Sequence[Camera],
    seed: int,
    seconds: float | None,
) -> SplatTrainer | RadianceTrainer:
    """The trainer of a student on renders of a teacher; `model`: the teacher's, for cameras and background; `real`:
    cameras of a capture; `seconds`: the time that there is, or None.
    """
    cameras = picture_cameras(model, viewpoints, real, seed)
    clear = model.bounds.cascades == 1  # an object before nothing: its opacity is taught too
    if seconds is not None:  # a slow teacher shows less; what it shows comes from everywhere
        cameras = [cameras[i] for i in np.random.default_rng(seed).permutation(len(cameras))]
    colour = None if clear else model.background
    loaded, depths = render_photos(teacher, cameras, colour, None if seconds is None else RENDERS_SHARE * seconds)
    background = Background(model.background, random=clear)
    if not isinstance(student, GaussianField):
        pixels = Pixels(loaded.images, loaded.cameras).to(teacher.device)
        trainer = RadianceTrainer(student, model.bounds, pixels, background, seed)
        trainer.occupancy.hide_unseen(loaded.cameras, model.bounds.centre, model.bounds.side)
        trainer.occupancy.hide_empty(*(corner.cpu() for corner in reach(model)))
        trainer.occupancy.to(teacher.device)
        return trainer
    config: Config = student.config
    photos, given = training_photos(loaded, model.bounds, config.antialiased)
    area = sum(image.shape[0] * image.shape[1] for image in given.images)
    most = config.most or budget(area, seconds)
    generator = torch.Generator().manual_seed(seed)
    maps = [DepthMap(depth, torch.where(depth > 0, CONFIRMED, 0).int(), torch.ones_like(depth), 1) for depth in depths]
    if model.bounds.times is None:
        gaussians = from_depth_maps(maps, given, config.degree, max(1000, most // 2), generator)
    else:
        gaussians = from_photos_in_time(given, config.degree, max(1000, most // 2), generator)
    gaussians = replace(gaussians, antialiased=config.antialiased)
    trainer = trainer_of(gaussians, photos, model.bounds, background, most, seed)
    trainer.timed = seconds is not None
    return trainer


def reach(model: Model) -> tuple[Tensor, Tensor]:
    """Corners [N, 3] in the inner cube's frame of boxes round a model's Gaussians, each of REACH deviations."""
    gaussians: Gaussians = model.field.gaussians()
    if gaussians.motion is not None:  # wherever they are when they are there
        gaussians = Gaussians.cat([gaussians.at(share / (MOMENTS - 1)) for share in range(MOMENTS)])
    visible = gaussians.opacities > math.log(FAINT / (1 - FAINT))
    gaussians = gaussians.take(visible.nonzero().flatten())
    half = torch.zeros_like(gaussians.means)
    for axis, scale in enumerate(gaussians.scales.exp().unbind(1)):
        column = rotation_columns(gaussians.rotations, torch.full((len(gaussians),), axis, device=scale.device))
        half += (column * scale[:, None]).square()
    half = REACH * half.sqrt()
    middle = (gaussians.means - gaussians.means.new_tensor(model.bounds.centre)) / model.bounds.side + 0.5
    half = half / model.bounds.side
    return middle - half, middle + half


def picture_cameras(model: Model, viewpoints: Viewpoints, real: Sequence[Camera], seed: int) -> list[Camera]:
    """Pinholes to render a teacher from: its training cameras, at most PICTURES evenly, and viewpoints like them."""
    own = evenly(training_cameras(model) or list(real) or viewpoints.cameras, PICTURES)
    drawn = viewpoints.draw(max(LEAST_PICTURES - len(own), len(own) // 4), np.random.default_rng(seed))
    return [limited(camera, SIDE) for camera in (*own, *drawn)]


@torch.no_grad()
def render_photos(
    teacher: Renderable, cameras: list[Camera], background: Colour | None, seconds: float | None = None
) -> tuple[LoadedFrames, list[Tensor]]:
    """Renders as photos in 8 bits, with alpha where no background is, and depths [H, W] along the axis, 0: nothing.

    Of the first cameras alone, at least FEWEST_PICTURES, where more would take longer than `seconds`.
    """
    images, depths, begin = [], [], time.perf_counter()
    for camera in cameras:
        if seconds is not None and len(images) >= FEWEST_PICTURES and time.perf_counter() - begin > seconds:
            break
        seen = teacher.render(camera, background or (0.0, 0.0, 0.0))
        rgb, opacity = seen.rgb.cpu(), seen.opacity.cpu().clamp(0, 1)
        if background is None:
            straight = rgb / opacity[..., None].clamp(min=1e-3)
            rgb = torch.cat([straight, opacity[..., None]], 2)
        images.append((rgb.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
        depths.append(torch.where(opacity > OPAQUE, depth_along_axis(seen, camera), 0.0).float())
    count = len(images)
    return LoadedFrames(images, cameras[:count], [None] * count, list(range(count)), []), depths
