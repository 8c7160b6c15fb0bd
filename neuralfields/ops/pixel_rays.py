"""Ray generation: from pixels to rays through lens and pose (the inverse of cameras.project)."""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.ops.native import array, kernel
from neuralfields.ops.register import OneKernel, native_op


def camera_table(cameras: list[Camera], dtype: torch.dtype = torch.float32) -> Float[Tensor, "N 25"]:
    """Cameras as rows of 25 numbers: world_from_camera [3, 4], fx, fy, cx, cy, model (1: fisheye), 8 distortion."""
    rows = [
        [
            *camera.world_from_camera[:3].reshape(-1).tolist(),
            camera.fx,
            camera.fy,
            camera.cx,
            camera.cy,
            float(camera.model == "fisheye"),
            *camera.distortion,
        ]
        for camera in cameras
    ]
    return torch.tensor(rows, dtype=dtype).reshape(-1, 25)


def camera_times(cameras: list[Camera]) -> Float64[Tensor, " N"] | None:
    """Times of cameras, in float64, which holds seconds of a calendar; None unless every camera has one."""
    times = [camera.time for camera in cameras]
    return None if None in times or not times else torch.tensor(times, dtype=torch.float64)


def pixel_rays(
    cameras: Float[Tensor, "N 25"], camera: Int64[Tensor, " R"], pixel: Float[Tensor, "R 2"]
) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"]]:
    """Generates rays: cameras [N, 25], camera [R] int64, pixel [R, 2] (centres at +0.5) -> origins, unit directions.

    Not differentiable.
    """
    return _pixel_rays(cameras.detach(), camera, pixel.detach())


def _out(cameras: Tensor, camera: Tensor, pixel: Tensor) -> tuple[Tensor, Tensor]:
    return pixel.new_empty(pixel.shape[0], 3), pixel.new_empty(pixel.shape[0], 3)


SHAPES = {"cameras": ("cameras", 25), "camera": ("rays",), "pixel": ("rays", 2)}


@native_op("pixel_rays", _out, gpu=OneKernel("rays", "pixel_rays", SHAPES))
def _pixel_rays(cameras: Tensor, camera: Tensor, pixel: Tensor) -> tuple[Tensor, Tensor]:
    out = _out(cameras, camera, pixel)
    kernel("pixel_rays", pixel.dtype)(array(cameras), array(camera), array(pixel), *out)
    return out


def pixel_rays_reference(
    cameras: Float[Tensor, "N 25"], camera: Int64[Tensor, " R"], pixel: Float[Tensor, "R 2"]
) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"]]:
    """The same in plain torch, inverting the lens by fixed-point iteration: slower, but another way to the answer."""
    row = cameras[camera]
    pose, (fx, fy, cx, cy) = row[:, :12].reshape(-1, 3, 4), row[:, 12:16].unbind(1)
    k = row[:, 17:].unbind(1)
    a0, b0 = (pixel[:, 0] - cx) / fx, (pixel[:, 1] - cy) / fy
    a, b = a0, b0
    for _ in range(200):
        r2 = a * a + b * b
        radial = (1 + r2 * (k[0] + r2 * (k[1] + r2 * k[4]))) / (1 + r2 * (k[5] + r2 * (k[6] + r2 * k[7])))
        a, b = (
            (a0 - 2 * k[2] * a * b - k[3] * (r2 + 2 * a * a)) / radial,
            (b0 - k[2] * (r2 + 2 * b * b) - 2 * k[3] * a * b) / radial,
        )
    perspective = torch.stack([a, b, torch.ones_like(a)], 1)
    r = torch.sqrt(a0 * a0 + b0 * b0)
    theta = r
    for _ in range(200):
        t2 = theta * theta
        theta = r / (1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * k[3]))))
    scale = torch.where(r > 1e-9, torch.sin(theta) / r.clamp(min=1e-9), torch.zeros_like(r))
    fisheye = torch.stack([a0 * scale, b0 * scale, torch.cos(theta)], 1)
    local = torch.where(row[:, 16:17] > 0.5, fisheye, perspective)
    directions = torch.einsum("rij,rj->ri", pose[:, :, :3], torch.nn.functional.normalize(local, dim=1))
    return pose[:, :, 3], directions
