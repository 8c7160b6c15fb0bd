"""Floaters by component, decimation, textures, and the files that other programs open."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from neuralfields.errors import UsageError
from neuralfields.mesh import models, texture
from neuralfields.mesh.clean import decimated, parts, without_floaters
from neuralfields.mesh.files import read_mesh
from neuralfields.mesh.marching_cubes import marching_cubes
from neuralfields.mesh.mesh import Mesh, faults
from neuralfields.mesh.models import upright, write_model
from neuralfields.mesh.texture import baked
from tests.support.shapes import open3d


def spheres() -> Mesh:
    """A sphere of radius 0.3 at the middle, coloured by place, and one of radius 0.04 in a corner."""

    def function(x: torch.Tensor) -> torch.Tensor:
        large = (x - 0.5).norm(dim=1) - 0.3
        return torch.minimum(large, (x - 0.92).norm(dim=1) - 0.04)

    mesh = marching_cubes(function, 40)
    return Mesh(mesh.vertices, mesh.faces, (mesh.vertices.clip(0, 1) * 255).astype(np.uint8))


def test_a_small_component_is_dropped():
    whole = spheres()
    assert parts(whole).max() == 1
    large, dropped = without_floaters(whole, 0.1)
    assert dropped == 1 and faults(large).watertight and len(large.colours) == len(large.vertices)
    assert np.abs(np.linalg.norm(large.vertices - 0.5, axis=1) - 0.3).max() < 0.01
    same, none = without_floaters(whole, 0.0)
    assert none == 0 and same is whole


def test_decimation_keeps_shape_and_colours():
    open3d()
    whole = without_floaters(spheres(), 0.1)[0]
    away = np.array([1000.0, 0.0, 0.0])
    moved = Mesh(whole.vertices + away, whole.faces, whole.colours)
    smaller = decimated(moved, 600)
    assert 0.8 * 600 < len(smaller.faces) <= 600
    places = smaller.vertices - away
    assert np.abs(np.linalg.norm(places - 0.5, axis=1) - 0.3).max() < 0.01
    assert smaller.volume() == pytest.approx(whole.volume(), rel=0.04)
    assert np.abs(smaller.colours / 255 - places).max() < 0.03
    assert decimated(whole, 10**6) is whole


def test_a_texture_has_the_colours_asked_for():
    open3d()
    pytest.importorskip("xatlas")
    whole = decimated(without_floaters(spheres(), 0.1)[0], 400)
    made = baked(whole, 128, lambda x, n: n * 0.5 + 0.5)
    assert made.texture.shape == (128, 128, 3) and made.uv.min() >= 0 and made.uv.max() <= 1
    assert len(made.mesh.faces) == len(whole.faces)
    corners = made.mesh.corners.mean(1)  # the middle of each face, read from the texture there
    at = made.uv[made.mesh.faces].mean(1)
    column, row = (at[:, 0] * 128).astype(int), ((1 - at[:, 1]) * 128).astype(int)
    wanted = (corners - 0.5) / np.linalg.norm(corners - 0.5, axis=1, keepdims=True) * 0.5 + 0.5
    assert np.median(np.abs(made.texture[row, column] / 255 - wanted)) < 0.05


def test_files_hold_the_mesh_its_material_and_its_frame(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    open3d()
    pytest.importorskip("xatlas")
    whole = decimated(without_floaters(spheres(), 0.1)[0], 400)
    made = baked(whole, 64, lambda x, n: x)
    files = write_model(tmp_path / "a.obj", made)
    assert [path.name for path in files] == ["a.obj", "a.mtl", "a.png"]
    assert "map_Kd a.png" in (tmp_path / "a.mtl").read_text()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (64, 64)
    again = read_mesh(tmp_path / "a.obj")
    assert len(again.faces) == len(whole.faces)
    np.testing.assert_allclose(again.box, whole.box, atol=1e-6)
    up = np.array([0.0, 0.0, 1.0])
    for mesh in (made, whole):
        write_model(tmp_path / "a.glb", mesh, up)
        read = trimesh.load(tmp_path / "a.glb", force="mesh", process=False)
        assert len(read.faces) == len(whole.faces)
        extent = whole.box[1] - whole.box[0]
        np.testing.assert_allclose(read.extents, extent[[0, 2, 1]], rtol=1e-5)  # the capture's scale, z now along y
        assert read.bounds[0, 1] == pytest.approx(whole.box[0][2], abs=1e-6)
    data = (tmp_path / "a.glb").read_bytes()
    facts = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
    assert "COLOR_0" in facts["meshes"][0]["primitives"][0]["attributes"]
    with pytest.raises(UsageError, match=r"textures are written to \.obj or \.glb"):
        write_model(tmp_path / "a.ply", made)


@pytest.mark.parametrize("up", [(0.0, 1, 0), (0, -1, 0), (0, 0, -1), (0.6, 0.0, 0.8)])
def test_up_becomes_y(up):
    turn = upright(np.array(up, dtype=np.float64))
    np.testing.assert_allclose(turn @ up, [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)


@pytest.mark.parametrize("package, ask", [("xatlas", texture.xatlas_or_remedy), ("trimesh", models.trimesh_or_remedy)])
def test_a_missing_package_is_one_line(package, ask, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(UsageError, match=rf"{package}; run: pip install 'neuralfields\[mesh\]'"):
        ask()
