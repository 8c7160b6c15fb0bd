"""Shapes: a fitted ball is a ball; meshes in their own frame; what has no inside."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import neuralfields
from neuralfields import cli
from neuralfields.domain import Domain
from neuralfields.errors import InputError
from neuralfields.mesh.files import read_mesh, write_mesh
from neuralfields.mesh.marching_cubes import marching_cubes
from neuralfields.mesh.mesh import Mesh, SurfaceSampler
from neuralfields.scene import Bounds
from neuralfields.signals import shape as signal_shape
from neuralfields.signals.readers import read_signal
from neuralfields.signals.shape import ShapeFacts, ShapeSignal, shape_mesh
from neuralfields.training.fit import fit_scene
from tests.support.mesh_judge import PlainDistance
from tests.support.shapes import ball, open3d
from tests.support.small_signals import SMALL, chosen, small_steps

__all__ = ["small_steps"]  # used by every test here


def ball_signal(monkeypatch: pytest.MonkeyPatch, values: str = "distance", colours: bool = False) -> ShapeSignal:
    """A ball of radius 0.3, with brute force in the place of Open3D."""
    monkeypatch.setattr(signal_shape, "MeshDistance", PlainDistance)
    monkeypatch.setattr(signal_shape, "VALIDATION_POINTS", 1 << 9)
    monkeypatch.setattr(signal_shape, "IOU_POINTS", 1 << 10)
    monkeypatch.setattr(signal_shape, "CHAMFER_RESOLUTION", 16)
    monkeypatch.setattr(signal_shape, "CHAMFER_POINTS", 1 << 8)
    mesh = marching_cubes(ball, 16)
    if colours:
        mesh = Mesh(mesh.vertices, mesh.faces, np.tile(np.uint8([[250, 120, 10]]), (len(mesh.vertices), 1)))
    generator = torch.Generator().manual_seed(0)
    near = SurfaceSampler(mesh).draw(20000, generator).points + 0.02 * torch.randn(20000, 3, generator=generator)
    x = torch.cat([near, torch.rand(5000, 3, generator=generator)])
    y = ball(x)[:, None]
    y = torch.cat([y, torch.tensor([250, 120, 10]).expand(len(x), 3) / 255], 1) if colours else y
    facts = ShapeFacts(values, (0.2, 0.2, 0.2), (0.8, 0.8, 0.8))
    domain, bounds = Domain("shape", 3, 4 if colours else 1), Bounds((1.0, 2.0, 3.0), 10.0)
    parts = (mesh, PlainDistance(mesh), SurfaceSampler(mesh))
    return ShapeSignal("ball", Path("ball.obj"), domain, facts, bounds, *parts, (x, y))


@pytest.mark.parametrize("values", ["distance", "occupancy"])
def test_a_fitted_ball_is_a_ball(monkeypatch, values):
    """By distances with its colours, which a mesh takes from the field; by occupancy without."""
    signal = ball_signal(monkeypatch, values, colours=values == "distance")
    model = fit_scene(signal, replace(chosen(signal.root, 180), set=(*SMALL, "finest=32")))
    assert model.metrics["iou"] > 0.93 and model.metrics["chamfer"] < 0.02
    mesh = shape_mesh(model.field, signal.facts, 24)
    assert np.abs(np.linalg.norm(mesh.vertices - 0.5, axis=1) - 0.3).mean() < 0.01
    assert signal.held_out(model.field) is None if values == "occupancy" else signal.held_out(model.field) > 13
    seen = neuralfields.render(model, model.cameras[0].resized(48, 48))
    assert 0.1 < float((seen.opacity > 0).float().mean()) < 0.6 and len(model.cameras) == 12 and model.held_out == (0,)
    middle = np.linalg.norm(model.cameras[0].centre - (1.0, 2.0, 3.0))
    assert float(seen.depth[24, 24]) == pytest.approx(middle - 3.0, abs=0.3)
    if values == "distance":
        assert np.abs(mesh.colours.astype(int) - (250, 120, 10)).mean() < 12


def test_a_mesh_file_is_fitted_in_its_own_frame(tmp_path, capsys):
    open3d()
    mesh = marching_cubes(ball, 20)
    moved = Mesh(mesh.vertices * [30.0, 10.0, 20.0] + [100.0, -50.0, 7.0], mesh.faces)
    write_mesh(tmp_path / "egg.ply", moved)
    words = ["--steps", "200", "--set", *SMALL, "finest=32", "--threads", "1", "--quiet", "--json"]
    assert cli.main(["fit", str(tmp_path / "egg.ply"), "--out", str(tmp_path / "a.nf"), *words]) == 0
    assert json.loads(capsys.readouterr().out)["iou"] > 0.9
    assert cli.main(["eval", str(tmp_path / "a.nf"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["iou"] > 0.9
    out = str(tmp_path / "b.obj")
    assert cli.main(["export", str(tmp_path / "a.nf"), out, "--resolution", "48"]) == 0
    low, high = read_mesh(tmp_path / "b.obj").box
    np.testing.assert_allclose(low, moved.box[0], atol=0.8)
    np.testing.assert_allclose(high, moved.box[1], atol=0.8)
    what = ["--what", "rgb", "normal", "depth", "--width", "40"]
    assert cli.main(["render", str(tmp_path / "a.nf"), str(tmp_path / "b.png"), *what]) == 0
    with Image.open(tmp_path / "b.png") as image:
        assert image.size == (120, 40)


def test_a_sheet_has_no_inside(tmp_path):
    open3d()
    grid = np.stack(np.meshgrid(np.arange(3.0), np.arange(3.0), indexing="ij"), -1).reshape(-1, 2)
    vertices = np.concatenate([grid, (grid**2).sum(1, keepdims=True) / 9], 1)
    faces = [[0, 3, 1], [1, 3, 4], [1, 4, 2], [2, 4, 5], [3, 6, 4], [4, 6, 7], [4, 7, 5], [5, 7, 8]]
    write_mesh(tmp_path / "sheet.obj", Mesh(vertices, np.array(faces)))
    with pytest.raises(InputError, match="encloses no volume that rays agree on"):
        read_signal(tmp_path / "sheet.obj")
