"""Distances and sides by Open3D against brute force."""

import sys

import numpy as np
import pytest
import torch

from neuralfields.errors import UsageError
from neuralfields.mesh.distance import MeshDistance
from neuralfields.mesh.marching_cubes import marching_cubes
from neuralfields.mesh.mesh import Mesh
from tests.support.mesh_judge import PlainDistance
from tests.support.shapes import ball, box, open3d


def points(count: int = 600) -> torch.Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 4.0, 5.0]) - 1


def test_the_judge_knows_a_box():
    x = points()
    judge, sides = PlainDistance(box()), torch.tensor([1.0, 2.0, 3.0])
    outside = torch.maximum(-x, x - sides).clamp(min=0).norm(dim=1)
    depth = torch.minimum(x, sides - x).amin(1)
    truth = torch.where(depth > 0, -depth, outside)
    torch.testing.assert_close(judge.signed(x), truth, atol=1e-5, rtol=0)


def test_distances_and_sides_are_those_of_brute_force():
    open3d()
    x, mesh = points(), box(colours=True)
    found, judge = MeshDistance(mesh, True), PlainDistance(mesh)
    torch.testing.assert_close(found.signed(x), judge.signed(x), atol=1e-5, rtol=0)
    vertices = torch.from_numpy(mesh.vertices).float() + 1e-4
    torch.testing.assert_close(found.colours(vertices), judge.colours(vertices), atol=1e-3, rtol=0)


def test_a_hole_and_turned_faces_change_few_sides():
    open3d()
    mesh = marching_cubes(ball, 10)
    faces = mesh.faces[3:].copy()
    faces[::2] = faces[::2, ::-1]
    x = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0))
    wrong = MeshDistance(Mesh(mesh.vertices, faces), False).inside(x) != PlainDistance(mesh).inside(x)
    assert float(wrong.float().mean()) < 0.005


def test_without_open3d_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(UsageError, match=r"need the package open3d; run: pip install 'neuralfields\[mesh\]'"):
        MeshDistance(Mesh(np.eye(3), np.array([[0, 1, 2]])), False)
