from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralfields.cameras import Camera, project
from neuralfields.ops.pixel_rays import camera_table, pixel_rays, pixel_rays_reference
from tests.support.lenses import LENSES


def pixels(camera: Camera, count: int = 200) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    uv = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    uv[:5] = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.5]])
    return uv * torch.tensor([camera.width, camera.height], dtype=torch.float64)


def rays(camera: Camera, pixel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return pixel_rays(camera_table([camera], pixel.dtype), torch.zeros(len(pixel), dtype=torch.int64), pixel)


@pytest.mark.parametrize("name", LENSES)
def test_round_trip_with_project(name):
    """Analytic truth: a point anywhere on the ray of a pixel is seen at that pixel."""
    camera = LENSES[name]
    pixel = pixels(camera)
    if camera.model == "fisheye":  # `project` works on the plane z = 1: less than 90 degrees
        radius = ((pixel - torch.tensor([camera.cx, camera.cy])) / camera.fx).norm(dim=1)
        pixel = pixel[radius < 1.45]
        assert len(pixel) > 150
    origins, directions = rays(camera, pixel)
    assert torch.equal(origins, torch.from_numpy(camera.centre).expand(len(pixel), 3))
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(len(pixel), dtype=torch.float64), rtol=0, atol=1e-14)
    for distance in (0.1, 7.0):
        seen, depth = project(camera, (origins + distance * directions).numpy())
        assert (depth > 0).all()
        assert np.abs(seen - pixel.numpy()).max() / camera.fx < 1e-9


@pytest.mark.parametrize("name", LENSES)
def test_reference(name, instruction_set):
    """The fixed-point iteration converges where the lens is mild: the middle of the picture for the strong ones."""
    camera = LENSES[name]
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 2e-6)):
        pixel = pixels(camera)
        if name in ("k3", "rational", "fisheye"):
            middle = torch.tensor([camera.cx, camera.cy], dtype=torch.float64)
            pixel = middle + (pixel - middle) * 0.5
        table, index = camera_table([camera], dtype), torch.zeros(len(pixel), dtype=torch.int64)
        for got, want in zip(
            pixel_rays(table, index, pixel.to(dtype)), pixel_rays_reference(table, index, pixel.to(dtype)), strict=True
        ):
            torch.testing.assert_close(got, want, rtol=0, atol=tolerance)


def test_pinhole_by_hand():
    """Analytic truth: 90 degrees wide, the middle of the right edge is at 45 degrees."""
    camera = Camera(np.eye(4), 100, 60, 50.0, 50.0, 50.0, 30.0)
    _, directions = rays(camera, torch.tensor([[50.0, 30.0], [100.0, 30.0], [50.0, 80.0]], dtype=torch.float64))
    half = 0.5**0.5
    want = torch.tensor([[0, 0, 1], [half, 0, half], [0, half, half]], dtype=torch.float64)
    torch.testing.assert_close(directions, want, rtol=0, atol=1e-15)


def test_equidistant_fisheye_sees_behind_itself():
    """Analytic truth: without coefficients the distance from the middle is the angle, also past 90 degrees."""
    camera = Camera(np.eye(4), 400, 400, 100.0, 100.0, 200.0, 200.0, "fisheye")
    angle = torch.tensor([0.0, 0.3, 1.5, 1.8, 1.99], dtype=torch.float64)
    _, directions = rays(camera, torch.stack([200 + 100 * angle, torch.full_like(angle, 200.0)], 1))
    want = torch.stack([angle.sin(), torch.zeros_like(angle), angle.cos()], 1)
    torch.testing.assert_close(directions, want, rtol=0, atol=1e-12)


def test_many_cameras_in_one_call():
    cameras = list(LENSES.values())
    pixel = torch.full((5, 2), 300.5, dtype=torch.float64)
    origins, directions = pixel_rays(camera_table(cameras, torch.float64), torch.arange(5), pixel)
    for i, camera in enumerate(cameras):
        alone = rays(camera, pixel[:1])
        assert torch.equal(origins[i], alone[0][0]) and torch.equal(directions[i], alone[1][0])


def test_a_smaller_picture_has_the_same_rays():
    camera = LENSES["phone"]
    pixel = pixels(camera)
    small = camera.resized(camera.width // 4, camera.height // 4)
    torch.testing.assert_close(rays(camera, pixel)[1], rays(small, pixel / 4)[1], rtol=0, atol=1e-12)


def test_empty_batch_and_refusals():
    table, pixel = camera_table([LENSES["phone"]]), torch.zeros(2, 2)
    assert pixel_rays(table, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2))[1].shape == (0, 3)
    for index in ([0, 1], [-1, 0]):
        with pytest.raises(ValueError, match="camera index out of range"):
            pixel_rays(table, torch.tensor(index), pixel)
    with pytest.raises(ValueError, match=r"pixel has shape \[2, 3\], expected \[2, 2\]"):
        pixel_rays(table, torch.zeros(2, dtype=torch.int64), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"cameras has shape \[1, 24\], expected \[\*, 25\]"):
        pixel_rays(table[:, :24], torch.zeros(2, dtype=torch.int64), pixel)
    with pytest.raises(TypeError, match="float32 or float64"):
        pixel_rays(table.half(), torch.zeros(2, dtype=torch.int64), pixel.half())


def test_a_lens_past_its_fold_gives_finite_rays():
    """Where the polynomial turns back no ray exists; what comes must still be a direction and never NaN."""
    camera = replace(LENSES["pinhole"], distortion=(-0.9, 0, 0, 0, 0, 0, 0, 0), fx=300.0, fy=300.0)
    for dtype in (torch.float32, torch.float64):
        _, directions = rays(camera, pixels(camera).to(dtype))
        assert bool(directions.isfinite().all())
        torch.testing.assert_close(directions.norm(dim=1), torch.ones(200, dtype=dtype), rtol=0, atol=1e-5)


def test_opcheck():
    args = (camera_table([LENSES["phone"]]), torch.zeros(3, dtype=torch.int64), torch.rand(3, 2) * 900)
    torch.library.opcheck(torch.ops.neuralfields.pixel_rays, args)
