"""Shading of renders for the page: as an image, with depth to occlude overlays, and both as bytes.

rgb, depth, opacity  as `nf render` shows them
normals              of the surface of mean depth, by differences between neighbouring pixels; x, y, z of the world
                     as red, green, blue
error                against the nearest photo, at most at its resolution: every pixel is reprojected by its depth into
                     the photo's camera and compared there. Pixels outside that camera's view are grey; occluded ones
                     count as errors, so the error is exact at the photo's own camera alone.
"""

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from neuralfields.cameras import Camera, project
from neuralfields.evaluation.evaluate import photo_over
from neuralfields.pictures.background import over
from neuralfields.pictures.panels import error_picture, render_picture, to_uint8
from neuralfields.pictures.undistort import sample
from neuralfields.rays import Render
from neuralfields.rendering.volume import camera_rays

ERROR_FACTOR = 5.0
UNSEEN = (58, 60, 64)
DEPTH_SIDE, COARSE_SIDE = 256, 96  # pixels of the longer side of the depth that goes to the page; while it moves
NO_DEPTH = 65535
FAR = 1e4  # depth of an empty pixel, in multiples of the render's largest depth


@dataclass(frozen=True)
class Reference:
    """The photo that a render is compared with: uint8 [H, W, 3 or 4] and its camera at that size."""

    image: np.ndarray
    camera: Camera


def paint(
    seen: Render, camera: Camera, what: str, background: tuple[float, float, float], reference: Reference | None = None
) -> np.ndarray:
    """Shades a camera's render, uint8 [H, W, 3]. `error` without a reference is grey."""
    if what == "normals":
        return _over(normals(seen, camera) / 2 + 0.5, seen, background)
    if what == "depth":
        # render_picture composites colours over white; here they are composited over the chosen background.
        opacity = seen.opacity.cpu().numpy()[..., None]
        on_white = render_picture(seen, ("depth",)).astype(np.float32) / 255
        return to_uint8(on_white - (1 - opacity) * (1 - np.asarray(background, dtype=np.float32)))
    if what == "error":
        return _error(seen, camera, background, reference)
    return render_picture(seen, (what,))


def _over(values: np.ndarray, seen: Render, background: tuple[float, float, float]) -> np.ndarray:
    opacity = np.clip(seen.opacity.cpu().numpy(), 0, 1)
    return to_uint8(over(values, opacity, np.asarray(background, dtype=np.float32)))


def points_of(seen: Render, camera: Camera, where_empty: float = 0.0) -> np.ndarray:
    """Back-projects each pixel by its depth, world [H, W, 3] float64; empty pixels at a fixed distance."""
    rays = camera_rays(camera)
    shape = (camera.height, camera.width, 3)
    origins, directions = (part.numpy().astype(np.float64).reshape(shape) for part in (rays.origins, rays.directions))
    depth = np.where(seen.opacity.cpu().numpy() > 0.5, seen.depth.cpu().numpy(), where_empty)
    return origins + directions * depth[..., None]


def normals(seen: Render, camera: Camera) -> np.ndarray:
    """Unit normals [H, W, 3] towards the camera, from depth differences over 1/256 of the image's height.

    Of the two neighbours along an axis the one that is nearer in depth counts: edges stay sharp. A mean over a window
    of one step each way removes the banding of ray marching's step in depth.
    """
    points, depth = points_of(seen, camera), seen.depth.cpu().numpy()
    step = max(1, round(camera.height / 256))
    across, down = (_difference(points, depth, step, axis) for axis in (1, 0))
    normal = np.cross(down, across)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    towards = ((camera.centre - points) * normal).sum(-1, keepdims=True)
    normal = np.where(towards < 0, -normal, normal) * (seen.opacity.cpu().numpy() > 0.5)[..., None]
    for axis in (0, 1):
        normal = _window_sum(normal, step, axis)
    return (normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)).astype(np.float32)


def _window_sum(values: np.ndarray, reach: int, axis: int) -> np.ndarray:
    """Box filter (sums) of `reach` each way along an axis, clipped at the border."""
    count = values.shape[axis]
    running = np.concatenate([np.zeros_like(np.take(values, [0], axis)), values.cumsum(axis)], axis)
    index = np.arange(count)
    after, before = np.minimum(index + reach + 1, count), np.maximum(index - reach, 0)
    return np.take(running, after, axis) - np.take(running, before, axis)


def _difference(points: np.ndarray, depth: np.ndarray, step: int, axis: int) -> np.ndarray:
    """Finite difference along an axis, forwards or backwards: whichever changes depth less."""
    count = points.shape[axis]
    index = np.arange(count)
    after, before = np.minimum(index + step, count - 1), np.maximum(index - step, 0)
    ahead, behind = np.take(points, after, axis) - points, points - np.take(points, before, axis)
    change_ahead, change_behind = (np.abs(np.take(depth, i, axis) - depth) for i in (after, before))
    border = np.moveaxis(np.broadcast_to(index, (*np.delete(depth.shape, axis), count)), -1, axis)
    change_ahead = np.where(border + step < count, change_ahead, np.inf)
    change_behind = np.where(border >= step, change_behind, np.inf)
    return np.where((change_ahead <= change_behind)[..., None], ahead, behind)


def _error(
    seen: Render, camera: Camera, background: tuple[float, float, float], reference: Reference | None
) -> np.ndarray:
    blank = np.empty((camera.height, camera.width, 3), dtype=np.uint8)
    blank[:] = UNSEEN
    if reference is None:
        return blank
    largest = float(seen.depth.max()) or 1.0
    uv, depth = project(reference.camera, points_of(seen, camera, FAR * largest))
    height, width = reference.image.shape[:2]
    margin = 0.01  # of a pixel, for rounding
    within = (uv > -margin) & (uv < np.array([width, height]) + margin)
    inside = (depth > 0) & within.all(-1)
    photo = sample(photo_over(reference.image, background), uv)
    return np.where(inside[..., None], error_picture(seen.rgb, photo, ERROR_FACTOR), blank)


# ---------------------------------------------------------------- bytes


def depth_bytes(seen: Render, fine: bool = True) -> tuple[dict[str, Any], bytes]:
    """Encodes depth as 16-bit steps of its logarithm from `near` to `far`, little endian.

    At most 256 pixels a side; 96 where it is one of many, whose picture is coarse: the page takes sharp colours by the
    depth of the last fine one. `scale`: about what the colours of a depth picture span (panels.depth_scale).
    """
    depth, opacity = seen.depth.cpu().numpy(), seen.opacity.cpu().numpy()
    height, width = depth.shape
    scale = min(1.0, (DEPTH_SIDE if fine else COARSE_SIDE) / max(height, width))
    rows, columns = (max(1, round(side * scale)) for side in (height, width))
    middles = ((np.arange(n) + 0.5) * side / n for n, side in ((rows, height), (columns, width)))
    pick = np.ix_(*(middle.astype(int) for middle in middles))
    depth, solid = depth[pick], (opacity[pick] > 0.5) & (depth[pick] > 0) & np.isfinite(depth[pick])
    near, far = (float(depth[solid].min()), float(depth[solid].max())) if solid.any() else (1.0, 1.0)
    far = max(far, near * 1.0001)
    steps = np.log(np.where(solid, depth, near) / near) / math.log(far / near) * (NO_DEPTH - 1)
    values = np.where(solid, np.clip(np.round(steps), 0, NO_DEPTH - 1), NO_DEPTH).astype("<u2")
    scale = np.percentile(depth[solid], (2, 98)).tolist() if solid.any() else [near, far]
    return {"width": columns, "height": rows, "near": near, "far": far, "scale": scale}, values.tobytes()


def jpeg(image: np.ndarray, fine: bool) -> bytes:
    """A picture as JPEG: small while it is one of many, fine where it stays."""
    target = io.BytesIO()
    Image.fromarray(image).save(target, "JPEG", quality=93 if fine else 90, subsampling=0)
    return target.getvalue()


def png(image: np.ndarray) -> bytes:
    """A picture as PNG, with whatever alpha it has."""
    target = io.BytesIO()
    Image.fromarray(image).save(target, "PNG", compress_level=4)
    return target.getvalue()
