"""A large picture is rendered part by part: the same numbers, without the rays of all of it at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralfields import cli, memory
from neuralfields.cameras import Camera
from neuralfields.models.model import Model
from neuralfields.pictures.panels import to_uint8
from neuralfields.rays import Rays, Render
from neuralfields.rendering import volume
from neuralfields.rendering.volume import by_parts, camera_rays
from tests.support.peak import at_most

CAMERA = Camera(np.eye(4), 37, 23, 30.0, 31.0, 18.0, 11.0, distortion=(0.1, 0, 0.01, 0, 0, 0, 0, 0))


def test_rays_of_a_part_are_those_of_the_whole() -> None:
    whole, part = camera_rays(CAMERA), camera_rays(CAMERA, begin=100, end=333)
    assert len(whole) == 37 * 23 and torch.equal(part.directions, whole.directions[100:333])
    assert torch.equal(part.origins, whole.origins[100:333])


@pytest.mark.parametrize("chunk", [1, 100, 37 * 23 - 1, 37 * 23, 5000])
@pytest.mark.parametrize("normals", [False, True])
def test_parts_become_the_picture(chunk: int, normals: bool) -> None:
    def render(rays: Rays) -> Render:
        d = rays.directions
        return Render(d, d[:, 0], d[:, 1], d if normals else None)

    seen = by_parts(CAMERA, chunk, "cpu", render)
    want = camera_rays(CAMERA).directions.reshape(23, 37, 3)
    assert torch.equal(seen.rgb, want) and torch.equal(seen.depth, want[..., 1])
    assert (seen.normal is not None and torch.equal(seen.normal, want)) if normals else seen.normal is None


def test_a_model_renders_the_same_in_parts(small_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    renderable, camera = small_model.renderable(), small_model.cameras[2]
    whole = renderable.render(camera, (0.0, 0.0, 0.0))
    monkeypatch.setattr(volume, "RENDER_CHUNK", 512)
    parts = renderable.render(camera, (0.0, 0.0, 0.0))
    assert torch.equal(parts.rgb, whole.rgb) and torch.equal(parts.depth, whole.depth)


@pytest.mark.serial
def test_a_picture_takes_little_more_than_itself() -> None:
    """20 bytes a pixel of a render and 3 of its picture; rays of all pixels would be 40 more."""
    camera = replace(CAMERA, width=2000, height=1500)
    blank = Render(torch.zeros(volume.RENDER_CHUNK, 3), *(torch.zeros(volume.RENDER_CHUNK) for _ in range(2)))

    def render(rays: Rays) -> Render:
        return Render(*(part[: len(rays)] for part in (blank.rgb, blank.opacity, blank.depth)))

    with at_most(2000 * 1500 * 23 + 70e6):
        to_uint8(by_parts(camera, volume.RENDER_CHUNK, "cpu", render).rgb)


def test_a_picture_that_does_not_fit_is_refused_at_once(
    small_file: object, tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "available", lambda: 3 * 2**30)
    words = ["render", str(small_file), str(tmp_path), "--width", "16384", "--height", "16384"]
    assert cli.main(words) == 6
    assert "pictures of 16384x16384: needs about 11.8 GB of memory and 3.2 GB are free" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.png"))
