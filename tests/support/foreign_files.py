"""Files of other programs, written here in their layout: checkpoints of vanilla NeRF, snapshots of Instant-NGP."""

import gzip
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import Camera, look_at
from neuralfields.fields.hash import Config, HashField
from neuralfields.models.model import Model
from neuralfields.ops.occupancy_bits import BRICKS, CELLS, bricks_of
from neuralfields.scene import Bounds

CONFIG = Config(levels=4, features=2, table=10, base=4, finest=4 * 1.7**3, hidden=16, axes="yzx")
CENTRE, SIDE = (0.3, -0.5, 0.2), 2.5


def linear(state: dict[str, Tensor], name: str, inputs: int, outputs: int, generator: torch.Generator) -> None:
    """Adds one layer's random weights."""
    state[f"{name}.weight"] = torch.randn(outputs, inputs, generator=generator) * (2 / inputs) ** 0.5
    state[f"{name}.bias"] = torch.randn(outputs, generator=generator) * 0.1


def original_weights(width: int = 16, layers: int = 8, seed: int = 0) -> dict[str, Tensor]:
    """The original layout: 63 and 27 encoded values, a skip after the fifth layer."""
    state: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(seed)
    for index in range(layers):
        inputs = 63 if index == 0 else width + 63 * (index == 5)
        linear(state, f"pts_linears.{index}", inputs, width, generator)
    linear(state, "views_linears.0", width + 27, width // 2, generator)
    linear(state, "feature_linear", width, width, generator)
    linear(state, "alpha_linear", width, 1, generator)
    linear(state, "rgb_linear", width // 2, 3, generator)
    return state


def flexible_weights(width: int = 16, layers: int = 3, seed: int = 0) -> dict[str, Tensor]:
    """The layout with layer1 and fc_alpha, without a skip."""
    state: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(seed)
    linear(state, "layer1", 63, width, generator)
    for index in range(layers):
        linear(state, f"layers_xyz.{index}", width, width, generator)
    linear(state, "layers_dir.0", width + 27, width // 2, generator)
    linear(state, "fc_alpha", width, 1, generator)
    linear(state, "fc_rgb", width // 2, 3, generator)
    linear(state, "fc_feat", width, width, generator)
    return state


SPREAD = [sum(((v >> bit) & 1) << 3 * bit for bit in range(7)) for v in range(128)]


def morton(x: int, y: int, z: int) -> int:
    """Bits of x, y, z interleaved, x lowest."""
    return SPREAD[x] | SPREAD[y] << 1 | SPREAD[z] << 2


def padded(width: int) -> int:
    return (width + 15) // 16 * 16


def parameter_row(field: HashField) -> np.ndarray:
    """Density matrices, colour matrices (the last padded to 16 rows), table."""
    parts = []
    for weights in (field.heads.density, field.heads.colour):
        for weight in weights:
            matrix = weight.detach().numpy()
            full = np.zeros((padded(matrix.shape[0]), padded(matrix.shape[1])), np.float32)
            full[: matrix.shape[0], : matrix.shape[1]] = matrix
            parts.append(full.reshape(-1))
    return np.concatenate([*parts, field.table.detach().numpy().reshape(-1)])


def density_grid(occupancy: Tensor, cycled: bool) -> np.ndarray:
    """Ones where bits are set, in Morton order of Instant-NGP's frame; cell by cell, the slow and plain way."""
    grid = np.zeros((occupancy.shape[0], CELLS**3), np.float16)
    for cascade, word in occupancy.nonzero().tolist():
        bits = occupancy[cascade, word].item()
        i, j, k = 4 * (word % BRICKS), 4 * (word // BRICKS % BRICKS), 4 * (word // BRICKS**2)
        for bit in range(64):
            if (bits >> bit) & 1:
                x, y, z = i + bit % 4, j + bit // 4 % 4, k + bit // 16
                grid[cascade, morton(y, z, x) if cycled else morton(x, y, z)] = 1
    return grid.reshape(-1)


def transform(camera: Camera, scale: float, offset: tuple[float, ...], cycled: bool) -> dict[str, Any]:
    """A pose as Instant-NGP keeps it."""
    rows = np.array(camera.world_from_camera[:3])
    rows[:, 3] = rows[:, 3] * scale + offset
    start = (rows[[1, 2, 0]] if cycled else rows).tolist()
    return {"start": start, "end": start}


def snapshot_of(model: Model, kind: str = "__half") -> dict[str, Any]:
    """A model of the hash field as the map of a snapshot."""
    field = model.field
    assert isinstance(field, HashField)
    config, cycled = field.config, field.config.axes == "yzx"
    scale = 1 / model.bounds.side
    offset = tuple(0.5 - v * scale for v in model.bounds.centre)
    row = parameter_row(field).astype(np.float16 if kind == "__half" else np.float32)
    extent = 2 ** (model.bounds.cascades - 1)
    network = {"activation": "ReLU", "output_activation": "None", "n_neurons": config.hidden, "otype": "FullyFusedMLP"}
    growth = (config.finest / config.base) ** (1 / max(config.levels - 1, 1))
    dataset = {
        "n_images": len(model.cameras), "paths": [f"data/set/{name}" for name in model.camera_names],
        "metadata": [
            {
                "focal_length": [c.fx, c.fy], "lens": {}, "principal_point": [c.cx / c.width, c.cy / c.height],
                "resolution": [c.width, c.height], "rolling_shutter": [0.0] * 4,
            }
            for c in model.cameras
        ],
        "xforms": [transform(camera, scale, offset, cycled) for camera in model.cameras],
        "scale": scale, "offset": list(offset), "aabb_scale": extent, "from_mitsuba": not cycled, "is_hdr": False,
        "up": [0.0, 0.0, 1.0], "envmap_resolution": [0, 0], "n_extra_learnable_dims": 0,
    }  # fmt: skip
    return {
        "encoding": {
            "otype": "HashGrid", "n_levels": config.levels, "n_features_per_level": config.features,
            "log2_hashmap_size": config.table, "base_resolution": config.base, "per_level_scale": growth,
        },
        "network": network | {"n_hidden_layers": config.density_layers},
        "rgb_network": network | {"n_hidden_layers": config.colour_layers},
        "dir_encoding": {
            "otype": "Composite",
            "nested": [{"n_dims_to_encode": 3, "otype": "SphericalHarmonics", "degree": 4}, {"otype": "Identity"}],
        },
        "loss": {"otype": "Huber"},
        "snapshot": {
            "version": 1, "mode": "nerf", "n_params": len(row), "params_type": kind, "params_binary": row.tobytes(),
            "density_grid_size": 128, "density_grid_binary": density_grid(model.occupancy, cycled).tobytes(),
            "nerf": {"aabb_scale": extent, "dataset": dataset, "rgb": {"rays_per_batch": 4096}},
            "training_step": 1000, "loss": 0.01, "background_color": [1.0, 1.0, 1.0, 1.0],
        },
    }  # fmt: skip


def write_snapshot(path: Path, content: dict[str, Any]) -> Path:
    """Compressed as .ingp, plain as anything else."""
    data = msgspec.msgpack.encode(content)
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".ingp" else data)
    return path


def model_of(config: Config = CONFIG, cascades: int = 1) -> Model:
    """A field of random weights, its occupancy a ball off the middle, and three cameras."""
    torch.manual_seed(3)
    field = HashField(config)
    with torch.no_grad():
        field.table.uniform_(-1, 1)
        field.heads.density[-1][0].abs_().mul_(4)
    axis = torch.arange(128)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    ball = (x - 70) ** 2 + (y - 55) ** 2 + (z - 90) ** 2 < 12**2
    occupancy = bricks_of(ball[None].repeat(cascades, 1, 1, 1))
    cameras = []
    for place in ((3.0, 0.5, 1.0), (-2.0, 2.5, 0.5), (0.5, -3.0, 2.0)):
        pose = look_at(np.add(place, CENTRE), np.add((0.1, -0.2, 0.5), CENTRE), np.array([0.0, 0.0, 1.0]))
        cameras.append(Camera(pose, 24, 20, 22.0, 21.0, 12.5, 9.5))
    bounds = Bounds(CENTRE, SIDE, cascades, near=0.05 * SIDE)
    return Model(field, bounds, occupancy, tuple(cameras), camera_names=("a.png", "b.png", "c.png"))
