"""Marching cubes: analytic surfaces, every case, blocks, borders."""

import numpy as np
import pytest
import torch

from neuralfields.errors import InputError
from neuralfields.mesh import marching_cubes as marching
from neuralfields.mesh.marching_cubes import cases, marching_cubes
from neuralfields.mesh.mesh import faults
from tests.support.shapes import ball


def test_every_case_separates_inside_from_outside():
    """A cell's triangles cross each edge whose ends differ, an even number of loops apart, and no other edge."""
    table, counts = cases()
    assert counts[0] == counts[255] == 0 and counts.max() == 5
    for case in range(256):
        used = set(table[case, : counts[case]].reshape(-1).tolist())
        crossed = {i for i, (a, b) in enumerate(marching.EDGES) if (case >> a & 1) != (case >> b & 1)}
        assert used == crossed, case


@pytest.mark.parametrize("reach", [None, 1.5])
def test_a_marched_ball_is_a_ball(reach):
    mesh = marching_cubes(ball, 80, reach)
    assert faults(mesh).watertight
    assert mesh.volume() == pytest.approx(4 / 3 * np.pi * 0.3**3, rel=2e-3)
    radius = np.linalg.norm(mesh.vertices - 0.5, axis=1)
    assert np.abs(radius - 0.3).max() < 2e-4
    outwards = (mesh.vertices - 0.5) / radius[:, None]
    assert (mesh.normals() * outwards).sum(1).min() > 0.99


def test_far_blocks_are_not_looked_at():
    seen = []
    marching_cubes(lambda x: seen.append(len(x)) or (x - 0.15).norm(dim=1) - 0.1, 128)
    everything = sum(seen)
    seen.clear()
    marching_cubes(lambda x: seen.append(len(x)) or (x - 0.15).norm(dim=1) - 0.1, 128, 1.5)
    assert sum(seen) < everything / 4


def test_blocks_of_any_size_give_the_same_closed_surface(monkeypatch):
    """Random signs at the nodes meet every case, ambiguous faces among them, and block borders of all kinds."""
    values = torch.randn(14, 14, 14, generator=torch.Generator().manual_seed(0))

    def noise(x: torch.Tensor) -> torch.Tensor:
        i = (x * 13).round().long()
        return values[i[:, 0], i[:, 1], i[:, 2]]

    whole = marching_cubes(noise, 13)
    assert faults(whole).watertight
    monkeypatch.setattr(marching, "BLOCK", 4)
    parts = marching_cubes(noise, 13)
    assert faults(parts).watertight and parts.volume() == pytest.approx(whole.volume())
    np.testing.assert_array_equal(parts.vertices, whole.vertices)


def test_a_surface_that_leaves_the_cube_is_closed_at_its_border():
    mesh = marching_cubes(lambda x: x[:, 2] - 0.4, 20)
    assert faults(mesh).watertight and mesh.volume() == pytest.approx(0.4 * 0.95**2, rel=0.1)


def test_no_surface_is_said():
    with pytest.raises(InputError, match="one sign everywhere"):
        marching_cubes(lambda x: torch.ones(len(x)), 16)
