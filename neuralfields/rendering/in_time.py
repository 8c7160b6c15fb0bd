"""Scenes that move: ray marching at each ray's own moment, and a moving field held still at one.

Vocabulary
  moment    time in [0, 1], from the first to the last of the scene's times (scene.Bounds.times)
  segment   one of the equal parts of [0, 1] that has occupancy bits of its own: a cell is occupied in a segment if it
            is at any moment of it, and rays of that segment alone pay for it
  layer     a cascade of a segment; the bits [layers, 32768] hold all cascades of the first segment, then of the next
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from neuralfields.fields.field import Field
from neuralfields.ops.march import MarchSettings, march_rays
from neuralfields.rays import Rays, Samples
from neuralfields.scene import Bounds


def moments_of(rays: Rays, bounds: Bounds) -> Float[Tensor, " R"]:
    """Moments of rays, those of the scene's first time where they have none; computed in float64."""
    if rays.times is None:
        return torch.zeros_like(rays.origins[:, 0])
    first, last = bounds.times or (0.0, 1.0)
    return ((rays.times - first) / (last - first)).clamp(0, 1).to(rays.origins.dtype)


def segment_of(moments: Float[Tensor, " R"], segments: int) -> Int64[Tensor, " R"]:
    """The segment that each moment lies in; the last one is closed at its end."""
    return (moments * segments).long().clamp(0, segments - 1)


def march_in_time(
    rays: Rays,
    jitter: Float[Tensor, " R"],
    moments: Float[Tensor, " R"],
    occupancy: Int64[Tensor, "layers 32768"],
    cascades: int,
    settings: MarchSettings,
) -> Samples:
    """Marches rays (the inner cube's frame) through the bits of their segments; samples [S, 4] with their moments."""
    parts = occupancy.reshape(-1, cascades, occupancy.shape[1])
    if len(parts) == 1:
        samples = march_rays(rays.origins, rays.directions, jitter, parts[0], settings)
        return with_moments(samples, moments)
    segment = segment_of(moments, len(parts))
    present = segment.unique().tolist()
    if len(present) == 1:
        samples = march_rays(rays.origins, rays.directions, jitter, parts[present[0]], settings)
        return with_moments(samples, moments)
    marched, owners = [], []
    for number in present:
        mine = (segment == number).nonzero().flatten()
        some = march_rays(rays.origins[mine], rays.directions[mine], jitter[mine], parts[number], settings)
        marched.append(some)
        owners.append(mine[some.ray])
    owner, order = torch.cat(owners).sort(stable=True)
    count = torch.bincount(owner, minlength=len(moments))
    x, t, length = (torch.cat([getattr(m, name) for m in marched])[order] for name in ("x", "t", "length"))
    return with_moments(Samples(x, t, length, torch.cat([count.new_zeros(1), count.cumsum(0)])), moments)


def in_segments(
    bits: Int64[Tensor, "cascades 32768"], occupancy: Int64[Tensor, "layers 32768"]
) -> Int64[Tensor, "layers 32768"]:
    """Bits that are the same at all times, for each segment that an occupancy grid has."""
    return bits.repeat(len(occupancy) // len(bits), 1)


def with_moments(samples: Samples, moments: Float[Tensor, " R"]) -> Samples:
    """The samples with the moment of their ray as a fourth coordinate."""
    x = torch.cat([samples.x, moments[samples.ray, None]], dim=1)
    return Samples(x, samples.t, samples.length, samples.offsets)


def at_random(rays: Rays, bounds: Bounds, generator: torch.Generator) -> Rays:
    """The rays, each at a random time of a scene that moves; as they are where it stands still."""
    if bounds.times is None:
        return rays
    first, last = bounds.times
    share = torch.rand(len(rays), generator=generator, dtype=torch.float64, device=generator.device)
    return replace(rays, times=first + (last - first) * share)


class Still(Field):
    """A moving radiance field held at one moment: a field of space alone, to render, to mesh and to distil.

    Its parameters are those of `moving`; it is no architecture of its own and cannot be saved.
    """

    def __init__(self, moving: Field, moment: float) -> None:
        super().__init__()
        self.moving, self.moment, self.config = moving, moment, getattr(moving, "config", None)

    def features(self, x: Float[Tensor, "S 3"]) -> Float[Tensor, "S F"]:
        """Features of the moving field at the moment."""
        return self.moving.features(torch.cat([x, torch.full_like(x[:, :1], self.moment)], dim=1))

    def decode(
        self, f: Float[Tensor, "S F"], directions: Float[Tensor, "S 3"]
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, "S 3"]]:
        """Decodes as the moving field does."""
        return self.moving.decode(f, directions)

    def log_density(self, f: Float[Tensor, "S F"]) -> Float[Tensor, " S"]:
        """Decodes the log-density alone, as the moving field does."""
        return self.moving.log_density(f)
