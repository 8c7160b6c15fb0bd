"""Gaussians before a camera, for the tests of the rasteriser."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from neuralfields.ops.project import View


def view(width: int = 50, height: int = 37, **changes: object) -> View:
    """A camera off the origin and turned about two axes, that looks at about (0.5, -0.3, 4)."""
    a, b = 0.3, -0.2
    about_x = torch.tensor(
        [[1.0, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]], dtype=torch.float64
    )
    about_y = torch.tensor(
        [[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]], dtype=torch.float64
    )
    rotation = about_x @ about_y
    target = torch.tensor([0.5, -0.3, 4.0], dtype=torch.float64)
    centre = target - rotation.T @ torch.tensor([0.1, -0.05, 4.0], dtype=torch.float64)
    made = View(
        tuple(rotation.flatten().tolist()),
        tuple(centre.tolist()),
        (0.9 * width, 0.95 * width),
        (0.48 * width, 0.53 * height),
        (width, height),
    )
    return replace(made, **changes)


def gaussians(
    count: int, generator: torch.Generator, dtype: torch.dtype = torch.float64, bases: int = 16, size: float = 0.15
) -> list[Tensor]:
    """means, log scales, quaternions, logits and harmonics around what `view` looks at; leaves with gradients.

    Some lie beside the picture or behind the camera, some are too faint to be seen.
    """

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    means = torch.tensor([0.5, -0.3, 4.0], dtype=torch.float64) + normal(count, 3) * torch.tensor([1.5, 1.2, 2.0])
    scales = math.log(size) + 0.5 * normal(count, 3)
    parts = means, scales, normal(count, 4), 2 * normal(count), 0.4 * normal(count, bases, 3)
    return [part.to(dtype).requires_grad_() for part in parts]


def one(
    mean: tuple[float, float, float], deviation: float, opacity: float, rgb: tuple[float, float, float]
) -> list[Tensor]:
    """One round Gaussian of one colour, float64."""
    colour = (torch.tensor([[rgb]], dtype=torch.float64) - 0.5) / 0.28209479177387814
    return [
        torch.tensor([mean], dtype=torch.float64),
        torch.full((1, 3), math.log(deviation), dtype=torch.float64),
        torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64),
        torch.logit(torch.tensor([opacity], dtype=torch.float64)),
        colour,
    ]


def together(parts: list[list[Tensor]]) -> list[Tensor]:
    """Several sets as one."""
    return [torch.cat(column) for column in zip(*parts, strict=True)]
