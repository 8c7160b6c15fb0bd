"""A small hash field in a sparse grid, and the two ways of rendering it: what the tests of the fused path compare."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from neuralfields.fields.hash import Config, HashField
from neuralfields.fields.surface import Config as SurfaceConfig
from neuralfields.fields.surface import SurfaceField
from neuralfields.rays import Rays, RaySums
from neuralfields.rendering.volume import Volume
from neuralfields.scene import Bounds

SMALL = {"levels": 4, "features": 2, "table": 9, "base": 4, "finest": 32, "hidden": 16, "code": 8}
SPACES = {
    "box": Bounds((0.0, 0.0, 0.0), 2.0, 1, "box"),
    "box3": Bounds((0.2, -0.1, 0.3), 1.5, 3, "box", near=0.05),
    "cube4": Bounds((0.0, 0.0, 0.0), 2.0, 4, "cube", near=0.1),
}
ROOM = 1 << 17


def results(sums: RaySums) -> Tensor:
    """rgb, opacity, depth, distortion, [R, 6]; the last column of the sums is the kernels' own."""
    return sums.values[:, :6]


@dataclass(frozen=True)
class Case:
    """A volume, rays in the world and the cotangents that gradients are taken with."""

    volume: Volume
    rays: Rays
    jitter: Tensor
    cotangents: Tensor

    def parameters(self) -> list[Tensor]:
        """Table, density weights, colour weights."""
        return list(self.volume.field.parameters())

    def loss(self, sums: RaySums, rays: Tensor | None = None) -> Tensor:
        """rgb, opacity, depth and distortion under the cotangents, of all rays or of those chosen."""
        chosen = slice(None) if rays is None else rays
        return (results(sums) * self.cotangents)[chosen].sum()

    def render(self, fused: bool, capacity: int = ROOM, coarseness: float = 2.0) -> RaySums:
        """One way or the other."""
        return self.volume.sums(self.rays, self.jitter, capacity, coarseness, fused)

    def gradients(self, fused: bool, capacity: int = ROOM, rays: Tensor | None = None) -> tuple[RaySums, list[Tensor]]:
        """The sums and the gradients of all parameters."""
        for p in self.parameters():
            p.grad = None
        sums = self.render(fused, capacity)
        self.loss(sums, rays).backward()
        return sums, [p.grad.clone() for p in self.parameters()]


def case(
    space: str = "box",
    dtype: torch.dtype = torch.float64,
    rays: int = 60,
    contrast: float = 1.0,
    brightness: float = 0.5,
    **config: int,
) -> Case:
    """`contrast` spreads the log-density: at 20 many rays turn opaque and others stay empty."""
    generator = torch.Generator().manual_seed(11)
    field = HashField(Config(**{**SMALL, **config})).to(dtype)
    with torch.no_grad():
        for p in field.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64) / p.shape[1] ** 0.5)
        field.table.mul_(brightness * field.config.features**0.5)
        field.heads.density[-1][0].mul_(contrast)
    bounds = SPACES[space]
    words = torch.randint(-(2**63), 2**63 - 1, (bounds.cascades, 32768), generator=generator)
    occupancy = words * (torch.rand(words.shape, generator=generator) < 0.6)
    near = bounds.side * (torch.rand(rays, 3, generator=generator, dtype=torch.float64) - 0.5)
    origins = near * torch.where(torch.arange(rays) % 2 == 0, 0.8, 2.5)[:, None] + torch.tensor(bounds.centre)
    target = bounds.side * (torch.rand(rays, 3, generator=generator, dtype=torch.float64) - 0.5)
    directions = torch.nn.functional.normalize(target + torch.tensor(bounds.centre) - origins, dim=1)
    return Case(
        Volume(field, bounds, occupancy),
        Rays(origins.to(dtype), directions.to(dtype)),
        torch.rand(rays, generator=generator, dtype=torch.float64).to(dtype),
        torch.randn(rays, 6, generator=generator, dtype=torch.float64).to(dtype),
    )


def surface_case(space: str, dtype: torch.dtype = torch.float64, active: int = 4, rays: int = 60) -> Case:
    """The same rays through a rough surface field of which `active` levels of four are there."""
    scene = case(space, dtype, rays)
    config = SurfaceConfig(**SMALL, first=2, radius=0.3, beta=0.05)
    field = SurfaceField(SurfaceField.placed(config, scene.volume.bounds)).to(dtype)
    generator = torch.Generator().manual_seed(12)
    with torch.no_grad():
        for p in (field.table, *field.heads.parameters()):
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64) / p.shape[1] ** 0.5)
    field.active = active
    return replace(scene, volume=replace(scene.volume, field=field))
