"""`nf export`: meshes of scenes in the world's frame, and what is refused. Signals: test_signals.py."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralfields import cli
from neuralfields.domain import Domain
from neuralfields.errors import UsageError
from neuralfields.evaluation import export
from neuralfields.evaluation.export import surface_mesh
from neuralfields.fields.field import Field
from neuralfields.fields.hash import Config, HashField
from neuralfields.mesh.files import read_mesh
from neuralfields.mesh.mesh import Mesh, faults
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load, save
from neuralfields.ops.contract import Contraction, uncontract
from neuralfields.scene import Bounds
from neuralfields.verbs import export as verb
from tests.support.foreign_files import snapshot_of, write_snapshot


class Fog(Field):
    """A ball whose density falls outwards from 1000 by e each 0.02; its colour says from where it is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def features(self, x):
        return x

    def decode(self, f, directions):
        return np.log(1000) - (f - 0.5).norm(dim=1) / 0.02, 0.5 - 0.5 * directions


def test_the_surface_of_a_density_is_where_it_crosses_the_threshold():
    bounds = Bounds((10.0, 20.0, 30.0), 2.0)
    mesh = surface_mesh(Model(Fog(), bounds), 64, threshold=100.0)
    offset = mesh.vertices - (10, 20, 30)
    radius = np.linalg.norm(offset, axis=1)
    assert faults(mesh).watertight and mesh.volume() > 0
    np.testing.assert_allclose(radius, 2 * 0.02 * np.log(10), atol=2e-3)
    seen = 0.5 + 0.5 * offset / radius[:, None]  # from straight above
    assert np.abs(mesh.colours / 255 - seen).max() < 0.1
    lower = surface_mesh(Model(Fog(), bounds), 64)
    assert lower.volume() > mesh.volume()


def test_what_the_occupancy_says_is_empty_has_no_surface():
    bits = torch.full((1, 32768), -1, dtype=torch.int64)
    bits.view(32, 32, 32)[16:] = 0  # z from the middle on
    mesh = surface_mesh(Model(Fog(), Bounds((0.5, 0.5, 0.5), 1.0), occupancy=bits), 64, 100.0)
    assert mesh.vertices[:, 2].max() < 0.52 and mesh.vertices[:, 2].min() < 0.46 and faults(mesh).watertight


@pytest.mark.parametrize(("contraction", "cascades"), [("box", 3), ("cube", 3)])
def test_a_box_reaches_beyond_the_inner_cube(contraction, cascades):
    """Fog about a ball that is wider than the inner cube: all of it in a box that holds it."""

    class Wide(Fog):
        def decode(self, f, directions):
            x = uncontract(f, Contraction(contraction, 2.0 ** (cascades - 1)))
            return np.log(50) + 40 * (0.9 - (x - 0.5).norm(dim=1)), 0.5 - 0.5 * directions

    model = Model(Wide(), Bounds((10.0, 20.0, 30.0), 2.0, cascades, contraction))
    mesh = surface_mesh(model, 48, 50.0, (8.0, 18.0, 28.0, 12.0, 22.0, 32.0))
    radius = np.linalg.norm(mesh.vertices - (10, 20, 30), axis=1)
    assert faults(mesh).watertight and np.abs(radius - 1.8).max() < 0.02
    flat = surface_mesh(model, 48, 50.0, (8.0, 18.0, 30.0, 12.0, 22.0, 32.0))
    assert flat.vertices[:, 2].min() > 29.9 and flat.vertices[:, 2].max() == pytest.approx(31.8, abs=0.02)
    cube = surface_mesh(model, 48, 50.0)
    assert np.abs(cube.vertices - (10, 20, 30)).max() <= 1.001


def test_what_is_left_out_is_said(small_file, tmp_path, capsys):
    assert cli.main(["export", str(small_file), str(tmp_path / "a.ply"), "--resolution", "16"]) == 0
    assert "only the inner cube" not in capsys.readouterr().out  # a box in which all was
    model = load(small_file)
    wide = replace(model, bounds=replace(model.bounds, cascades=2), occupancy=model.occupancy.repeat(2, 1))
    save(wide, tmp_path / "b.nf")
    words = ["export", str(tmp_path / "b.nf"), str(tmp_path / "b.ply"), "--resolution", "16", "--threshold", "1e-3"]
    assert cli.main(words) == 0
    assert "only the inner cube of side 3, the scene reaches further: --box for more" in capsys.readouterr().out
    assert cli.main([*words, "--overwrite", "--box", "-3,-3,-3,3,3,3"]) == 0
    assert "only the" not in capsys.readouterr().out
    assert cli.main([*words, "--overwrite", "--box", "1,2,3"]) == 2
    assert "--box '1,2,3': must be x0,y0,z0,x1,y1,z1" in capsys.readouterr().err


def test_a_fitted_scene_becomes_a_mesh(small_file, tmp_path, capsys):
    out = tmp_path / "a.ply"
    assert cli.main(["export", str(small_file), str(out), "--resolution", "48", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    mesh, model = read_mesh(out), load(small_file)
    assert report["faces"] == len(mesh.faces) > 500 and report["coloured"] and mesh.colours.std() > 5
    inside = np.abs(mesh.vertices - np.array(model.bounds.centre)) <= model.bounds.side / 2 + 1e-6
    assert inside.all()


def test_the_model_is_loaded_on_the_device_that_is_chosen(small_file, tmp_path, monkeypatch, capsys):
    """Without a GPU the meta device stands for one; what is computed there, tests/cuda/test_gpu.py judges."""
    asked, seen = [], []

    def use_machine(device: str, threads: int | None) -> torch.device:
        asked.append((device, threads))
        return torch.device("meta")

    def surface(model: Model, *_: object) -> Mesh:
        seen.append({tensor.device.type for tensor in (*model.field.state_dict().values(), model.occupancy)})
        return Mesh(np.eye(3), np.array([[0, 1, 2]]))

    monkeypatch.setattr(verb, "use_machine", use_machine)
    monkeypatch.setattr(export, "surface_mesh", surface)
    words = ["export", str(small_file), str(tmp_path / "a.ply"), "--device", "cuda", "--threads", "3"]
    assert cli.main(words) == 0
    assert asked == [("cuda", 3)] and seen == [{"meta"}]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_said(small_file, tmp_path, capsys):
    assert cli.main(["export", str(small_file), str(tmp_path / "a.ply"), "--device", "cuda"]) == 2
    assert "--device cuda: " in capsys.readouterr().err and not (tmp_path / "a.ply").exists()


def test_a_snapshot_of_instant_ngp_becomes_the_same_mesh(small_file, tmp_path, capsys):
    path = write_snapshot(tmp_path / "a.ingp", snapshot_of(load(small_file), "float"))
    for source, name in ((small_file, "ours.ply"), (path, "theirs.ply")):
        assert cli.main(["export", str(source), str(tmp_path / name), "--resolution", "32"]) == 0
    ours, theirs = (read_mesh(tmp_path / name) for name in ("ours.ply", "theirs.ply"))
    assert len(theirs.faces) == pytest.approx(len(ours.faces), rel=0.1)
    assert np.abs(theirs.vertices.mean(0) - ours.vertices.mean(0)).max() < 0.05


def test_what_cannot_be_exported_is_refused(small_file, tmp_path, capsys):
    def refused(code: int, *words: str) -> str:
        assert cli.main(["export", str(small_file), *words]) == code
        return capsys.readouterr().err

    assert "exported as a mesh (.obj or .ply or .glb); pictures: nf render" in refused(2, str(tmp_path / "a.png"))
    words = (str(tmp_path / "a.ply"), "--resolution", "16", "--threshold", "1e8")
    assert "no density above 1e+08 in the inner cube; choose a lower --threshold" in refused(3, *words)
    (tmp_path / "b.ply").write_bytes(b"kept")
    assert "exists; add --overwrite" in refused(2, str(tmp_path / "b.ply"))
    assert (tmp_path / "b.ply").read_bytes() == b"kept"
    assert "--resolution 1: must be between 2 and 2048" in refused(2, str(tmp_path / "c.ply"), "--resolution", "1")


def test_normals_are_of_shapes_alone(small_file, tmp_path, capsys):
    assert cli.main(["render", str(small_file), str(tmp_path / "a.png"), "--what", "normal"]) == 2
    assert "normal: a model of this kind has no normals" in capsys.readouterr().err


def test_a_model_without_a_surface_is_said():
    field = HashField(Config(levels=2, table=6, base=4, hidden=16), Domain("image", 2, 3, (8, 8)))
    with pytest.raises(UsageError, match="a field of image has no surface"):
        surface_mesh(Model(field, Bounds((0.5, 0.5, 0.5), 1.0)))
