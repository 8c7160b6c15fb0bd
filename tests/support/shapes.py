"""Shapes whose truth is known: a ball, a box; and where Open3D is."""

import numpy as np
import pytest
import torch

from neuralfields.mesh.mesh import Mesh

CUBE = np.array([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 2.0) for z in (0.0, 3.0)])
QUADS = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]


def ball(x: torch.Tensor) -> torch.Tensor:
    """Signed distance to a ball of radius 0.3 in the middle of the unit cube."""
    return (x - 0.5).norm(dim=1) - 0.3


def box(colours: bool = False) -> Mesh:
    """A box of 1 x 2 x 3, its faces outwards."""
    faces = np.array([[q[0], q[i], q[i + 1]] for q in QUADS for i in (1, 2)])
    shades = np.arange(24, dtype=np.uint8).reshape(8, 3) * 10 if colours else None
    return Mesh(CUBE.copy(), faces, shades)


def open3d() -> None:
    """Skips without Open3D, or where a library of the system that it needs is missing."""
    try:
        import open3d  # noqa: F401
    except (ImportError, OSError) as error:
        pytest.skip(f"open3d cannot be loaded: {error}")
