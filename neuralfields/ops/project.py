"""Gaussians onto a picture: EWA projection (Zwicker et al. 2001; 3DGS, arXiv:2308.04079), one row per visible Gaussian.

Vocabulary
  N  Gaussians   C  chunks of 1024 of them
  row     one visible Gaussian, at rows[1024 * chunk + i], i < chunk_count[chunk]
  view    a pinhole camera with what belongs to the projection: nearest depth, blur, whether the blur keeps energy
          = x, y (pixels), conic xx, xy, yy (1/pixels^2), log opacity, rgb, depth along z, normal; 3 for tile lists
A Gaussian is given by its mean, the logs of its three standard deviations, a quaternion wxyz of any length, the logit
of its opacity, and harmonics [K, 3] of its colour, K = 1, 4, 9 or 16: rgb = max(0, 0.5 + sum_k Y_k(direction) h_k).
It is seen where its alpha reaches 1/255: within 2 log(255 opacity) of the squared Mahalanobis distance.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.errors import UsageError
from neuralfields.ops.native import array, kernel, threads
from neuralfields.ops.register import native_op
from neuralfields.ops.spherical_harmonics import spherical_harmonics_reference

CHUNK, ROW = 1024, 16
COLOUR, DEPTH, NORMAL = slice(6, 9), 9, slice(10, 13)  # places in a row
DIFFERENTIABLE = 13  # the first so many of a row
LOG_LEAST_ALPHA = 5.541263545158426  # log 255
LEAST_DETERMINANT = 1e-12
HELD_BEYOND = 0.15  # pictures beyond the edge, where the projection's slope is held


@dataclass(frozen=True)
class View:
    """A pinhole camera as the projection takes it: `camera_from_world` [3, 3], `centre` [3] and so on as in cameras.py.

    `near`: least depth along z in world units. `blur`: variance in pixels^2 that every ellipse is widened by, so that
    none falls between pixels. `antialiased`: its opacity is lowered by as much (Mip-Splatting, arXiv:2311.16493).
    """

    camera_from_world: tuple[float, ...]
    centre: tuple[float, float, float]
    focal: tuple[float, float]
    principal: tuple[float, float]
    size: tuple[int, int]
    near: float = 0.01
    blur: float = 0.3
    antialiased: bool = False

    @staticmethod
    def of(camera: Camera, near: float = 0.01, blur: float = 0.3, antialiased: bool = False) -> "View":
        """The view of a camera without distortion; raises UsageError for a lens that bends lines."""
        if camera.model != "perspective" or any(camera.distortion):
            raise UsageError(
                f"gaussians are drawn by pinhole cameras, this one is {camera.model} with distortion "
                f"{tuple(round(float(k), 4) for k in camera.distortion)}; undistort photo and camera first"
            )
        pose = np.asarray(camera.world_from_camera, dtype=np.float64)
        return View(
            tuple(pose[:3, :3].T.flatten().tolist()),
            tuple(pose[:3, 3].tolist()),
            (float(camera.fx), float(camera.fy)),
            (float(camera.cx), float(camera.cy)),
            (camera.width, camera.height),
            near,
            blur,
            antialiased,
        )

    def moved_to(self, world_from_camera: np.ndarray) -> "View":
        """The same camera elsewhere."""
        turn, centre = world_from_camera[:3, :3].T.flatten().tolist(), world_from_camera[:3, 3].tolist()
        return replace(self, camera_from_world=tuple(turn), centre=tuple(centre))

    @property
    def numbers(self) -> list[float]:
        """As the core takes it, 21 numbers."""
        head = [*self.camera_from_world, *self.centre, *self.focal, *self.principal, *map(float, self.size)]
        return [*head, self.near, self.blur, float(self.antialiased)]


@dataclass(frozen=True)
class Rows:
    """The visible Gaussians: `values` [N, 16]; `ids` [N] int32, -1 where there is no row; `chunk_count` [C] int32.

    What tile lists need: `slot` and `key` [N] int32, the first of a row's slots and its depth's bits; `totals` [2 + C]
    int64 (rows, slots, the rest is scratch).
    """

    values: Float[Tensor, "N 16"]
    ids: Int32[Tensor, " N"]
    chunk_count: Int32[Tensor, " C"]
    slot: Int32[Tensor, " N"]
    key: Int32[Tensor, " N"]
    totals: Int64[Tensor, " C+2"]

    @property
    def count(self) -> int:
        """How many Gaussians are visible."""
        return int(self.totals[0])

    def by_gaussian(self, values: Float[Tensor, "N K"] | None = None) -> Float[Tensor, "N _"]:
        """Rows (or others [N, K] in their order) in the order of Gaussians, 0 where one is not visible."""
        values = self.values if values is None else values
        there = (self.ids >= 0).nonzero().flatten()
        return torch.zeros_like(values).index_copy(0, self.ids[there].long(), values[there])


def project(
    means: Float[Tensor, "N 3"],
    scales: Float[Tensor, "N 3"],
    rotations: Float[Tensor, "N 4"],
    opacities: Float[Tensor, " N"],
    harmonics: Float[Tensor, "N K 3"],
    view: View,
    degree: int = 3,
) -> Rows:
    """means [N, 3], log scales [N, 3], quaternions [N, 4], logits [N], harmonics [N, K, 3] -> the rows of a view.

    `degree` of the harmonics that are used, 0 to 3. Differentiable in all five through the first 13 numbers of a row.
    """
    return Rows(*_project(means, scales, rotations, opacities, harmonics, view.numbers, degree))


def _out(
    means: Tensor,
    scales: Tensor,
    rotations: Tensor,
    opacities: Tensor,
    harmonics: Tensor,
    view: list[float],
    degree: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    count = means.shape[0]
    chunks = (count + CHUNK - 1) // CHUNK
    whole = [means.new_zeros(n, dtype=torch.int32) for n in (count, chunks, count, count)]
    return means.new_zeros(count, ROW), *whole, means.new_zeros(2 + chunks, dtype=torch.int64)


def native_rows(rows: Rows, pairs: Int32[Tensor, " N"]) -> Any:
    """The arrays as the core takes them; `pairs` [N] int32 are written by the tile lists."""
    tensors = rows.values, rows.ids, rows.chunk_count, rows.slot, rows.key, pairs, rows.totals
    return kernel("SplatRows", rows.values.dtype)(*(array(a) for a in tensors))


@native_op("splat_project", _out)
def _project(
    means: Tensor,
    scales: Tensor,
    rotations: Tensor,
    opacities: Tensor,
    harmonics: Tensor,
    view: list[float],
    degree: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    inputs = [array(a) for a in (means, scales, rotations, opacities, harmonics)]  # alive until the core is done
    rows = Rows(*_out(*inputs, view, degree))
    gaussians, pairs = kernel("Splats", means.dtype)(*inputs), torch.empty_like(rows.ids)
    native = native_rows(rows, pairs)
    kernel("splat_project", means.dtype)(gaussians, view, degree, None, native, threads())
    return rows.values, rows.ids, rows.chunk_count, rows.slot, rows.key, rows.totals


def _gradients(
    inputs: list[Tensor], rows: list[Tensor], d_rows: Tensor, view: list[float], degree: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    means, scales, rotations, opacities, harmonics = (
        torch.zeros_like(a, memory_format=torch.contiguous_format) for a in inputs
    )
    return means, scales, rotations, opacities, harmonics


@native_op("splat_project_backward", _gradients)
def _project_backward(
    inputs: list[Tensor], rows: list[Tensor], d_rows: Tensor, view: list[float], degree: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    gradients = _gradients(inputs, rows, d_rows, view, degree)
    dtype = d_rows.dtype
    held, pairs = [array(a) for a in inputs], torch.empty_like(rows[1])  # alive until the core is done
    gaussians, native = kernel("Splats", dtype)(*held), native_rows(Rows(*rows), pairs)
    out = kernel("SplatsOut", dtype)(*gradients)
    kernel("splat_project_backward", dtype)(gaussians, view, degree, native, array(d_rows), out, threads())
    return gradients


def _setup(ctx: Any, inputs: tuple, output: tuple) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*inputs[:5], *output)
    ctx.view, ctx.degree = inputs[5:]


def _backward(ctx: Any, d_rows: Tensor, *others: Any) -> tuple:
    inputs, rows = ctx.saved_tensors[:5], ctx.saved_tensors[5:]
    return *_project_backward(list(inputs), list(rows), d_rows, ctx.view, ctx.degree), None, None


torch.library.register_autograd(_project, _backward, setup_context=_setup)


def rotations_reference(quaternions: Float[Tensor, "N 4"]) -> Float[Tensor, "N 3 3"]:
    """Quaternions [N, 4] of any length to rotations [N, 3, 3]."""
    w, x, y, z = (quaternions / quaternions.norm(dim=1, keepdim=True)).unbind(1)
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)]
    rows += [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)]
    rows += [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]
    return torch.stack(rows, 1).reshape(-1, 3, 3)


def project_reference(
    means: Float[Tensor, "N 3"],
    scales: Float[Tensor, "N 3"],
    rotations: Float[Tensor, "N 4"],
    opacities: Float[Tensor, " N"],
    harmonics: Float[Tensor, "N K 3"],
    view: View,
    degree: int = 3,
) -> Float[Tensor, "N 13"]:
    """The same in plain torch, [N, 13] in the order of Gaussians; what is not visible is 0."""
    world, centre = means.new_tensor(view.camera_from_world).reshape(3, 3), means.new_tensor(view.centre)
    (fx, fy), (cx, cy), (width, height) = view.focal, view.principal, view.size
    away = means - centre
    x, y, z = (away @ world.T).unbind(1)
    safe = z.clamp(min=view.near)
    u = (x / safe).clamp(-cx / fx - HELD_BEYOND * width / fx, (width - cx) / fx + HELD_BEYOND * width / fx)
    v = (y / safe).clamp(-cy / fy - HELD_BEYOND * height / fy, (height - cy) / fy + HELD_BEYOND * height / fy)
    zero = torch.zeros_like(safe)
    slope = torch.stack([fx / safe, zero, -fx * u / safe, zero, fy / safe, -fy * v / safe], 1).reshape(-1, 2, 3)
    turn = rotations_reference(rotations)
    m = slope @ world @ turn * scales.exp()[:, None, :]
    sharp = m @ m.mT
    cov = sharp + view.blur * torch.eye(2, dtype=means.dtype)
    det = torch.linalg.det(cov)
    log_opacity = torch.nn.functional.logsigmoid(opacities)
    if view.antialiased:
        log_opacity = log_opacity + 0.5 * (torch.linalg.det(sharp).clamp(min=LEAST_DETERMINANT) / det).log()
    conic = torch.stack([cov[:, 1, 1], -cov[:, 0, 1], cov[:, 0, 0]], 1) / det[:, None]
    shortest = scales.argmin(1)
    normal = turn.gather(2, shortest[:, None, None].expand(-1, 3, 1))[..., 0]
    normal = torch.where((normal * away).sum(1, keepdim=True) > 0, -normal, normal)
    basis = spherical_harmonics_reference(away / away.norm(dim=1, keepdim=True), degree + 1)
    rgb = (0.5 + (basis[..., None] * harmonics[:, : basis.shape[1]]).sum(1)).clamp(min=0)
    px, py = x / safe * fx + cx, y / safe * fy + cy
    cut = 2 * (log_opacity + LOG_LEAST_ALPHA)
    reach = (cut.clamp(min=0)[:, None] * torch.stack([cov[:, 0, 0], cov[:, 1, 1]], 1)).detach().sqrt()
    seen = (z > view.near) & (cut > 0)
    for at, far, size in ((px, reach[:, 0], width), (py, reach[:, 1], height)):  # a pixel's centre is within reach
        low, high = torch.ceil(at - far - 0.5).clamp(min=0), torch.floor(at + far - 0.5).clamp(max=size - 1)
        seen = seen & (low <= high)
    columns = [px, py, *conic.unbind(1), log_opacity, *rgb.unbind(1), z, *normal.unbind(1)]
    return torch.where(seen[:, None], torch.stack(columns, 1), zero[:, None])
