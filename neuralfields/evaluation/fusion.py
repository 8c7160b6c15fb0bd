"""Fuses depth renders into a mesh: a truncated signed distance (TSDF, Curless and Levoy 1996), by Open3D.

For Gaussians, which have no density to run marching cubes on, and for any other scene: fog and walls behind a surface,
which a density's level set shows too, are left out. The depth of a render is the mean over what is opaque.
"""

import numpy as np
import torch

from neuralfields.cameras import Camera
from neuralfields.errors import InputError
from neuralfields.evaluation.training_views import depth_along_axis, evenly, limited, plane_points, training_cameras
from neuralfields.mesh.clean import without_floaters
from neuralfields.mesh.distance import open3d_or_remedy
from neuralfields.mesh.mesh import Mesh
from neuralfields.models.model import Model
from neuralfields.pictures.camera_paths import rings
from neuralfields.rendering.renderable import Renderable
from neuralfields.rendering.splat import Splats
from neuralfields.scene import Bounds

# Renders at most, and their size, SIDE x SIDE pixels; a field's take seconds each where Gaussians' take milliseconds.
VIEWS, SIDE = 96, 512
FIELD_VIEWS, FIELD_SIDE = 48, 320
OPAQUE = 0.5  # opacity from which a render's depth is a surface's
TRUNCATION, BLOCK, LEAST_WEIGHT = 4.0, 16, 2.0  # of the distance, in voxels; voxels of a block; views of a voxel
LEAST_PART = 0.01  # of the largest part's faces: smaller parts are floaters


def fused_mesh(model: Model, resolution: int = 256) -> Mesh:
    """The surface that a model's renders show, in its world; `resolution` voxels along the inner cube's side.

    From its training cameras, or three rings round it. What lies outside the inner cube is left out. Raises InputError
    where nothing is opaque, UsageError without open3d.
    """
    core, renderable, bounds = open3d_or_remedy(), model.renderable(), model.bounds
    tensor, image = core.core.Tensor, core.t.geometry.Image
    float32 = core.core.float32
    volume = core.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight", "color"),
        (float32, float32, float32),
        ((1), (1), (3)),
        bounds.side / resolution,
        BLOCK,
        max(1000, 2 * (resolution // BLOCK) ** 2),
    )
    empty = InputError("nothing opaque in the inner cube; there is no surface to write")
    integrated = False
    views, side = (VIEWS, SIDE) if isinstance(renderable, Splats) else (FIELD_VIEWS, FIELD_SIDE)
    for camera in (limited(each, side) for each in evenly(training_cameras(model) or rings(bounds), views)):
        rgb, depth = _rgb_and_depth(renderable, camera, bounds)
        if not depth.any():
            continue
        integrated = True
        # Open3D counts pixels from their centres.
        rows = [[camera.fx, 0, camera.cx - 0.5], [0, camera.fy, camera.cy - 0.5], [0, 0, 1]]
        lens, pose = tensor(np.array(rows)), tensor(np.linalg.inv(camera.world_from_camera))
        far, picture = (1.0, float(depth.max()) + 1, TRUNCATION), image(tensor(depth[..., None]))
        blocks = volume.compute_unique_block_coordinates(picture, lens, pose, *far)
        volume.integrate(blocks, picture, image(tensor(rgb.astype(np.float32) / 255)), lens, lens, pose, *far)
    if not integrated:
        raise empty
    mesh = volume.extract_triangle_mesh(weight_threshold=LEAST_WEIGHT).to_legacy()
    if not len(mesh.triangles):
        raise empty
    colours = (np.asarray(mesh.vertex_colors) * 255).round().clip(0, 255).astype(np.uint8)
    found = Mesh(np.asarray(mesh.vertices).astype(np.float64), np.asarray(mesh.triangles).astype(np.int64), colours)
    return without_floaters(found, LEAST_PART)[0]


def _rgb_and_depth(renderable: Renderable, camera: Camera, bounds: Bounds) -> tuple[np.ndarray, np.ndarray]:
    """A render's colours, uint8 [H, W, 3], and depth along the axis, float32 [H, W], 0 outside the inner cube."""
    render = renderable.render(camera, (0.0, 0.0, 0.0))
    rgb, opacity = render.rgb.cpu(), render.opacity.cpu()
    depth = depth_along_axis(render, camera)
    pose = torch.from_numpy(camera.world_from_camera)
    world = plane_points(camera) * depth[..., None] @ pose[:3, :3].T + pose[:3, 3]
    inside = ((world - world.new_tensor(bounds.centre)).abs() < bounds.side / 2).all(2)
    depth = torch.where(inside & (opacity > OPAQUE), depth, 0.0)
    straight = rgb / opacity.clamp(min=OPAQUE)[..., None]
    return (straight.clamp(0, 1) * 255).round().to(torch.uint8).numpy(), depth.float().numpy()
