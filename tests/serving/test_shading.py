"""Modes and bytes of the viewer's pictures, against a ball that is known exactly."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from neuralfields.pictures.panels import to_uint8
from neuralfields.rays import Render
from neuralfields.serving.shading import (
    NO_DEPTH,
    UNSEEN,
    Reference,
    depth_bytes,
    jpeg,
    normals,
    paint,
    png,
    points_of,
)
from tests.support.view_ball import RADIUS, Ball, eye

WHITE = (1.0, 1.0, 1.0)


@pytest.fixture
def seen() -> tuple:
    camera = eye(0.3, size=(160, 120))
    return Ball().render(camera), camera


def inner(render: Render, camera: object) -> np.ndarray:
    """Pixels of the ball that are not near its rim."""
    points = points_of(render, camera)
    towards = (camera.centre - points) / np.linalg.norm(camera.centre - points, axis=-1, keepdims=True)
    return (render.opacity.numpy() > 0) & ((points / RADIUS * towards).sum(-1) > 0.4)


def test_normals_of_the_ball_are_its_radii(seen: tuple) -> None:
    render, camera = seen
    solid = inner(render, camera)
    found, true = normals(render, camera)[solid], points_of(render, camera)[solid] / RADIUS
    angle = np.degrees(np.arccos(np.clip((found * true).sum(-1), -1, 1)))
    assert solid.sum() > 1000 and np.median(angle) < 1.5 and np.percentile(angle, 99) < 6


def test_normals_are_sharp_at_an_edge_in_depth() -> None:
    """Two walls, one behind the other: no slanted normals between them but within the window of the mean."""
    camera = replace(eye(size=(64, 48)), world_from_camera=np.eye(4))
    rays = torch.nn.functional.normalize
    u, v = np.meshgrid(np.arange(64) + 0.5 - 32, np.arange(48) + 0.5 - 24)
    ray = rays(torch.tensor(np.stack([u / 48, v / 48, np.ones_like(u)], -1)), dim=-1)
    z = np.where(u < 0, 1.0, 3.0)
    render = Render(torch.ones(48, 64, 3), torch.ones(48, 64), torch.tensor(z) / ray[..., 2])
    found = normals(render, camera)
    assert np.allclose(found, [0, 0, -1], atol=1e-5)


def test_pictures_of_every_mode(seen: tuple) -> None:
    render, camera = seen
    assert np.array_equal(paint(render, camera, "rgb", WHITE), to_uint8(render.rgb))
    opacity = paint(render, camera, "opacity", WHITE)
    assert np.array_equal(opacity[..., 0] == 255, render.opacity.numpy() == 1) and opacity[0, 0].tolist() == [0, 0, 0]
    for what in ("depth", "normals"):
        picture = paint(render, camera, what, (0.2, 0.4, 0.6))
        assert picture.dtype == np.uint8 and np.abs(picture[0, 0].astype(int) - [51, 102, 153]).max() <= 1
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
    assert (paint(render, camera, "error", WHITE) == UNSEEN).all()


def test_the_error_against_the_own_photo_is_none(seen: tuple) -> None:
    render, camera = seen
    photo = Reference(to_uint8(render.rgb), camera)
    assert np.percentile(paint(render, camera, "error", WHITE, photo).max(-1), 99.9) < 40
    half = replace(camera, width=80, cx=camera.cx)
    partly = paint(render, camera, "error", WHITE, Reference(photo.image[:, :80], half))
    assert (partly[:, 82:] == UNSEEN).all() and not (partly[:, :78] == UNSEEN).all(-1).any()


def test_the_error_follows_the_surface_into_another_camera(seen: tuple) -> None:
    """Seen from elsewhere a point has one colour here, so pixels that both cameras see differ by little."""
    render, camera = seen
    other = eye(0.7, size=(320, 240))
    photo = Reference(to_uint8(Ball().render(other).rgb), other)
    shown = paint(render, camera, "error", WHITE, photo)
    solid = inner(render, camera)
    assert np.median(shown[solid].max(-1)) < 45
    wrong = paint(render, camera, "error", WHITE, Reference(255 - photo.image, other))
    assert np.median(wrong[solid].max(-1)) > 150


def test_depth_comes_back_within_its_step(seen: tuple) -> None:
    render, _ = seen
    header, data = depth_bytes(render)
    code = np.frombuffer(data, "<u2").reshape(header["height"], header["width"])
    depth, solid = render.depth.numpy(), render.opacity.numpy() > 0.5
    assert (code == NO_DEPTH).sum() == (~solid).sum()
    found = header["near"] * (header["far"] / header["near"]) ** (code / (NO_DEPTH - 1.0))
    assert np.allclose(found[solid], depth[solid], rtol=1e-4)


def test_depth_is_small_whatever_the_picture() -> None:
    ones = torch.ones(300, 2000)
    header, data = depth_bytes(Render(torch.ones(300, 2000, 3), ones, ones * 2))
    assert (header["width"], header["height"]) == (256, 38) and len(data) == 2 * 256 * 38
    nothing, data = depth_bytes(Render(torch.ones(4, 4, 3), ones[:4, :4] * 0, ones[:4, :4]))
    assert set(np.frombuffer(data, "<u2")) == {NO_DEPTH} and nothing["far"] > nothing["near"] > 0


def test_files_hold_the_picture(seen: tuple) -> None:
    image = to_uint8(seen[0].rgb)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(image)))), image)
    fine, small = jpeg(image, True), jpeg(image, False)
    assert len(small) < len(fine) and np.abs(np.asarray(Image.open(io.BytesIO(fine))).astype(int) - image).mean() < 2
