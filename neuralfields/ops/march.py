"""Ray marching through the occupancy grid: samples along rays, empty space skipped.

Vocabulary
  frame      the inner cube is [0, 1]^3; cascade c is a cube of side 2^c around 0.5 with 128^3 cells
  occupancy  [cascades, 32768] int64: a word holds the 4^3 cells of a brick, one bit each (x fastest, then y, z)
  step(t) = clamp(t * cone, min_step, max_step); a sample covers [t, t + step] and is taken at its middle

A ray takes samples only where a step is at least two units of t's last place: in float32 a camera more than about
14,000 inner cubes away sees nothing, where otherwise some march for ever.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from neuralfields.ops import backend
from neuralfields.ops.contract import Contraction
from neuralfields.ops.native import array, kernel, library, threads
from neuralfields.ops.occupancy_bits import CELLS, occupied
from neuralfields.ops.register import native_op
from neuralfields.rays import Rays, Samples


@dataclass(frozen=True)
class MarchSettings:
    """Step lengths in inner cubes: `cone` is the step per distance; nothing is sampled before `near`."""

    min_step: float
    max_step: float
    cone: float
    near: float

    def native(self, occupancy: Int64[Tensor, "cascades 32768"]) -> object:
        """The settings in the form that the core takes."""
        return library().MarchSettings(occupancy, self.min_step, self.max_step, self.cone, self.near)


def march_rays(
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    jitter: Float[Tensor, " R"],
    occupancy: Int64[Tensor, "cascades 32768"],
    settings: MarchSettings,
) -> Samples:
    """Marches rays [R, 3] with unit directions, jitter [R] in [0, 1) of the first step. Not differentiable."""
    if backend.uses("nerfacc", origins):
        return backend.other("nerfacc").march_rays(origins.detach(), directions.detach(), jitter, occupancy, settings)
    steps = [settings.min_step, settings.max_step, settings.cone, settings.near]
    return Samples(*_march(origins.detach(), directions.detach(), jitter.detach(), occupancy, steps))


def _unknown_many(
    origins: Tensor, directions: Tensor, jitter: Tensor, occupancy: Tensor, steps: list[float]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    like = origins.new_empty
    return like(count, 3), like(count), like(count), occupancy.new_empty(origins.shape[0] + 1)


@native_op("march", _unknown_many)
def _march(
    origins: Tensor, directions: Tensor, jitter: Tensor, occupancy: Tensor, steps: list[float]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Marches twice: one pass counts the samples of each ray, one writes them."""
    origins, directions, jitter, occupancy = (array(a) for a in (origins, directions, jitter, occupancy))
    march = kernel("march", origins.dtype)
    native = MarchSettings(*steps).native(occupancy)
    offsets = torch.zeros(origins.shape[0] + 1, dtype=torch.int64)
    march(origins, directions, jitter, occupancy, native, offsets, None, None, None, threads())
    offsets = offsets.cumsum(0)
    count = int(offsets[-1])
    x, t, length = origins.new_empty(count, 3), origins.new_empty(count), origins.new_empty(count)
    march(origins, directions, jitter, occupancy, native, offsets, x, t, length, threads())
    return x, t, length, offsets


def march_rays_reference(
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    jitter: Float[Tensor, " R"],
    occupancy: Int64[Tensor, "cascades 32768"],
    settings: MarchSettings,
) -> Samples:
    """The same in plain torch: every step of the lattice is visited, and those in empty cells are dropped."""
    cascades = occupancy.shape[0]
    half = 0.5 * 2 ** (cascades - 1)
    safe = torch.where(directions.abs() > 1e-12, directions, torch.full_like(directions, 1e-12))
    a, b = (0.5 - half - origins) / safe, (0.5 + half - origins) / safe
    enter = torch.minimum(a, b).amax(1).clamp(min=settings.near)
    leave = torch.maximum(a, b).amin(1)

    def step(t: Tensor) -> Tensor:
        return (t * settings.cone).clamp(settings.min_step, settings.max_step)

    resolved = step(leave) > leave * 2 * torch.finfo(leave.dtype).eps
    t = enter + step(enter) * jitter
    leave = torch.where(resolved, leave, t)
    rows: list[tuple[Tensor, ...]] = []
    ray = torch.arange(origins.shape[0])
    while bool((alive := t < leave).any()):
        ray, t, leave, origins, directions = (v[alive] for v in (ray, t, leave, origins, directions))
        length = step(t)
        x = origins + directions * (t + 0.5 * length)[:, None]
        distance = (x - 0.5).abs().amax(1)
        by_place = torch.ceil(torch.log2((distance / 0.5).clamp(min=1)))
        by_step = torch.ceil(torch.log2((length * CELLS).clamp(min=1)))
        cascade = torch.maximum(by_place, by_step).clamp(0, cascades - 1).long()
        hit = occupied(x, cascade, occupancy)
        rows.append((ray[hit], x[hit], t[hit] + 0.5 * length[hit], length[hit]))
        t = t + length
    ray, x, t, length = (torch.cat(column) for column in zip(*rows, strict=True))
    order = torch.argsort(ray, stable=True)
    offsets = torch.zeros(jitter.shape[0] + 1, dtype=torch.int64)
    offsets[1:] = torch.bincount(ray, minlength=jitter.shape[0]).cumsum(0)
    return Samples(x[order], t[order], length[order], offsets)


@dataclass(frozen=True)
class Marching:
    """Input of a fused pass, in the frame of the inner cube: rays, occupancy, contraction and step settings.

    `jitter` [R] in [0, 1) of the first step, None for 0; `occupancy` [cascades, 32768] int64.
    """

    rays: Rays
    jitter: Float[Tensor, " R"] | None
    occupancy: Int64[Tensor, "cascades 32768"]
    settings: MarchSettings
    contraction: Contraction
