"""Hash fields of every shape, with random parameters that the page's 8-bit table holds exactly."""

import math
from typing import Any

import torch

from neuralfields.fields.hash import Config, HashField
from neuralfields.models.model import Model
from neuralfields.ops.occupancy_bits import bricks_of
from neuralfields.scene import Bounds, ContractionKind

BACKGROUND = (0.1, 0.3, 0.6)


def hash_model(cascades: int = 1, contraction: ContractionKind = "box", seed: int = 0, **config: Any) -> Model:
    """A model of clouds, some thin: a hollow ball in the inner cube, and a few bricks in what is around."""
    chance = torch.Generator().manual_seed(seed)
    small = {"levels": 4, "table": 9, "base": 4, "finest": 40, "hidden": 16, "code": 8}
    field = HashField(Config(**(small | config)))
    with torch.no_grad():
        codes = torch.randint(-127, 128, field.table.shape, generator=chance)
        for level in field.layout.levels.tolist():
            codes[level[2]] = 127
        field.table.copy_(codes * (0.5 / 127))
        for weights in (*field.heads.density, *field.heads.colour):
            bound = math.sqrt(6 / weights.shape[1])
            weights.copy_((torch.rand(weights.shape, generator=chance) * 2 - 1) * bound)
        field.heads.density[-1][0] *= 15
    at = (torch.arange(128) + 0.5) / 128 - 0.5
    radius = (at[:, None, None] ** 2 + at[None, :, None] ** 2 + at[None, None] ** 2).sqrt()
    shell = (radius < 0.48) & (radius > 0.24)
    bricks = torch.rand(cascades, 32, 32, 32, generator=chance) < 0.003
    cells = bricks.repeat_interleave(4, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)
    cells[0] = shell
    occupancy = bricks_of(cells)
    bounds = Bounds((0.2, -0.1, 0.3), 1.6, cascades, contraction, 0.01)
    return Model(field, bounds, occupancy, background=BACKGROUND)
