"""Meshes: what is wrong with one, what is mended, points on its surface."""

import numpy as np
import pytest
import torch

from neuralfields.errors import InputError
from neuralfields.mesh.mesh import Faults, Mesh, SurfaceSampler, checked, faults
from tests.support.shapes import CUBE, box


def test_areas_volume_and_normals_of_a_box():
    mesh = box()
    assert mesh.areas().sum() == pytest.approx(22) and mesh.volume() == pytest.approx(6)
    outwards = CUBE - CUBE.mean(0)
    assert ((mesh.normals() * outwards).sum(1) > 0).all()
    assert faults(mesh) == Faults(0, 0, 0) and faults(mesh).watertight


def test_faults_are_counted():
    mesh = box()
    assert faults(Mesh(mesh.vertices, mesh.faces[1:])) == Faults(3, 0, 0)
    turned = mesh.faces.copy()
    turned[0] = turned[0, ::-1]
    assert faults(Mesh(mesh.vertices, turned)) == Faults(0, 3, 0)
    assert faults(Mesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[:1]]))) == Faults(0, 0, 3)


def test_a_mesh_with_seams_is_whole_after_the_check():
    """Each triangle with vertices of its own, as files with texture have them."""
    mesh = box()
    split = Mesh(mesh.corners.reshape(-1, 3), np.arange(36).reshape(-1, 3))
    assert not faults(split).watertight
    merged, notes = checked(split, "box")
    assert len(merged.vertices) == 8 and faults(merged).watertight and notes == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: Mesh(m.vertices, m.faces[:0]), "8 vertices and no faces"),
        (lambda m: Mesh(m.vertices * np.nan, m.faces), "8 of 8 vertices are not finite"),
        (lambda m: Mesh(m.vertices, m.faces + 1), "faces name vertices beyond the 8"),
        (lambda m: Mesh(m.vertices * [1, 1, 0], m.faces), "flat"),
        (lambda m: Mesh(m.vertices, m.faces * 0), "all 12 triangles are empty"),
    ],
)
def test_meshes_that_cannot_be_used_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        checked(change(box()), "mesh.obj")


def test_what_can_be_mended_is_mended_and_said():
    mesh = box()
    extra = Mesh(np.concatenate([mesh.vertices, [[np.nan] * 3]]), np.concatenate([mesh.faces[1:], [[0, 0, 1]]]))
    kept, notes = checked(extra, "mesh.obj")
    assert len(kept.vertices) == 8 and len(kept.faces) == 11
    assert "1 of 12 triangles have no area" in notes[0] and "3 border edges" in notes[1]


def test_points_lie_on_the_surface_evenly():
    sampler = SurfaceSampler(box(colours=True))
    drawn = sampler.draw(20000, torch.Generator().manual_seed(0))
    sides = torch.tensor([1.0, 2.0, 3.0])
    off = torch.minimum(drawn.points.abs(), (drawn.points - sides).abs()).amin(1)
    assert float(off.max()) < 1e-6
    assert float((drawn.points[:, 2] < 1e-6).float().mean()) == pytest.approx(2 / 22, abs=0.01)
    assert float((drawn.normals.norm(dim=1) - 1).abs().max()) < 1e-5
    assert drawn.colours.shape == (20000, 3) and 0 <= float(drawn.colours.min()) <= float(drawn.colours.max()) <= 1
