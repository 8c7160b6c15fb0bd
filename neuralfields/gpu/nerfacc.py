"""nerfacc marches rays through our occupancy grid (`--marcher nerfacc`, on a CUDA GPU).

Its grids are nested cubes as our cascades are, the finest first. Even steps find the same samples, but for some at
cells' borders (19 of 20 rays all of theirs, by its source compiled for the CPU). With growing steps it queries the
finest cube at a position, ours a coarser one where steps are longer than cells, and it does not let a step grow across
empty space: there samples are about as many, at other positions.
"""

import torch
from torch import Tensor

from neuralfields.ops.march import MarchSettings
from neuralfields.ops.occupancy_bits import BRICKS, CELLS, cells_of
from neuralfields.rays import Samples

SIDE = CELLS // BRICKS  # cells along a brick


def march_rays(
    origins: Tensor, directions: Tensor, jitter: Tensor, occupancy: Tensor, settings: MarchSettings
) -> Samples:
    """As `march_rays` of ops/march.py: rays [R, 3] with unit directions, jitter [R]. float32."""
    from nerfacc import traverse_grids

    boxes = _boxes(occupancy)
    intervals, samples, _ = traverse_grids(
        origins.float(),
        directions.float(),
        _cells(occupancy),
        boxes,
        near_planes=_starts(origins, directions, jitter, boxes[-1], settings).float(),
        step_size=settings.min_step,
        cone_angle=settings.cone,
    )
    begin, end = (intervals.vals[side].to(origins.dtype) for side in (intervals.is_left, intervals.is_right))
    t, ray = (begin + end) / 2, samples.ray_indices
    offsets = torch.zeros(len(origins) + 1, dtype=torch.int64, device=origins.device)
    offsets[1:] = samples.packed_info[:, 1].cumsum(0)
    return Samples(origins[ray] + directions[ray] * t[:, None], t, end - begin, offsets)


def _boxes(occupancy: Tensor) -> Tensor:
    """Low and high corners of the cascades, [C, 6]."""
    half = 0.5 * 2.0 ** torch.arange(len(occupancy), device=occupancy.device)[:, None]
    return torch.cat([(0.5 - half).expand(-1, 3), (0.5 + half).expand(-1, 3)], 1)


def _cells(occupancy: Tensor) -> Tensor:
    """Unpacks the occupied cells, [C, x, y, z] bool, from words of bricks, whose cells are bits (see ops/march.py)."""
    return cells_of(occupancy).permute(0, 3, 2, 1).contiguous()


def _starts(origins: Tensor, directions: Tensor, jitter: Tensor, box: Tensor, settings: MarchSettings) -> Tensor:
    """Start of each ray's lattice of steps, [R]: its entry into the largest cube plus the jitter's part of a step."""
    safe = torch.where(directions.abs() > 1e-12, directions, torch.full_like(directions, 1e-12))
    sides = torch.minimum((box[:3] - origins) / safe, (box[3:] - origins) / safe)
    enter = sides.amax(1).clamp(min=settings.near)
    return enter + (enter * settings.cone).clamp(settings.min_step, settings.max_step) * jitter
