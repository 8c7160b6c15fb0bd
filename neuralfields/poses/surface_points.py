"""A signed distance that keypoints lie on, and what it says of a match: Level-S2fM's tracing of keypoint rays.

  points on the surface, free space before them, |grad d| = 1  ->  signed distance  ->  traced points of rays

Source: Level-S2fM (Xiao et al., CVPR 2023). The field is that of `--field surface` (fields/surface.py) with few coarse
levels: keypoints are sparse, and a surface that bends between them would follow the outliers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from neuralfields.fields.surface import Config, SurfaceField
from neuralfields.rendering.surface import trace

SETTINGS = Config(
    levels=4, features=4, table=12, base=4, finest=32, first=4, hidden=32, radius=0.3, beta=0.05, eikonal=0.1
)
MARGIN = 0.25  # of the points' reach: what the cube has round them
ON, FREE = 1.0, 0.5  # weights of |d| at points, and of free space before them
ROBUST = 0.01  # of |d|, in cubes, from which a point counts less
FREE_SAMPLES = 4096


@dataclass(frozen=True)
class PointSurface:
    """A signed distance in a cube of the world: middle [3] and side. `level` in cubes, below 0 inside."""

    field: SurfaceField
    centre: Tensor
    side: float

    @property
    def distance(self) -> bool:
        """Steps may be as long as the level (rendering/surface.py)."""
        return True

    def unit(self, x: Tensor) -> Tensor:
        """Points of the world in the cube's own frame, [0, 1]^3."""
        return ((x - self.centre) / self.side + 0.5).float()

    def level(self, u: Tensor) -> Tensor:
        """Signed distances [S] at points of the cube's frame, in cubes."""
        return self.field.distance(self.field.features(u))

    @torch.no_grad()
    def traced(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Where rays of the world first meet the surface, [M, 3], and whether they do, [M]."""
        t, hit = trace(self, self.unit(origins), directions.float())
        return origins + (t * self.side)[:, None].to(origins) * directions, hit


def surface_about(points: Tensor, seed: int = 0) -> PointSurface:
    """A new surface, a sphere, in a cube about points [P, 3]; far ones do not widen it."""
    low, high = (torch.quantile(points, q, dim=0) for q in (0.02, 0.98))
    side = float((high - low).max()) * (1 + 2 * MARGIN)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        field = SurfaceField(SETTINGS)
    return PointSurface(field, (low + high) / 2, max(side, 1e-9))


def surface_loss(
    surface: PointSurface, points: Tensor, origins: Tensor, ends: Tensor, generator: torch.Generator
) -> Tensor:
    """Robust |d| at points [P, 3], free space on the way from origins to ends [M, 3], and the eikonal penalty."""
    u = surface.unit(points)
    inside = ((u > 0) & (u < 1)).all(1)
    on = surface.level(u[inside]).abs()
    loss = ON * (on / (on + ROBUST)).mean() if len(on) else u.sum() * 0
    pick = torch.randint(len(origins), (min(FREE_SAMPLES, len(origins)),), generator=generator)
    share = torch.rand(len(pick), 1, generator=generator, dtype=origins.dtype)
    way, middle = ends[pick] - origins[pick], origins[pick]
    free = surface.unit(middle + way * share)
    before = (way.norm(dim=1) * (1 - share[:, 0]) / surface.side).float()
    there = ((free > 0) & (free < 1)).all(1) & (before > 0.02)
    if bool(there.any()):
        # On the way to what it sees a ray is outside; deeper than a little before its end, it must not be inside.
        loss = loss + FREE * torch.relu(0.01 - surface.level(free[there])).mean() / 0.02
    penalty = surface.field.penalty()
    return loss if penalty is None else loss + penalty


def fit_surface(surface: PointSurface, points: Tensor, origins: Tensor, ends: Tensor, steps: int) -> None:
    """Fits a surface to points [P, 3] that rays from origins to ends [M, 3] see."""
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(surface.field.parameters(), lr=1e-2, betas=(0.9, 0.99))
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 * 0.1 ** (step / steps)
        optimiser.zero_grad(set_to_none=True)
        surface_loss(surface, points, origins, ends, generator).backward()
        optimiser.step()
