"""Fields as .nfz: the file is the model that was measured, bit for bit, at the bytes or the quality asked for."""

import json
import zlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields import cli, fields
from neuralfields.codecs import load_any
from neuralfields.compression import container, field_file
from neuralfields.compression.compress import Goal
from neuralfields.compression.field_file import Part, QuantisedModel, near_in, parts_of, rows_of, values_of, weights
from neuralfields.compression.fields import FieldQuantiser, compress_field
from neuralfields.compression.original import CaptureCameras, drawn
from neuralfields.errors import InputError
from neuralfields.models import nf_file
from neuralfields.models.model import Model
from neuralfields.ops.occupancy_bits import bricks_of
from neuralfields.scene import Bounds

BOUNDS = Bounds((0.0, 0.0, 0.0), 3.2)
SMALL = {
    "hash": {"levels": 3, "table": 9, "finest": 64}, "triplane": {"resolution": 33, "features": 8},
    "lowrank": {"resolution": 33}, "cam": {"count": 16, "layers": 2, "width": 16, "hidden": 16, "nodes": 8},
    "mlp": {"count": 16, "layers": 2, "width": 16, "hidden": 16},
}  # fmt: skip
CAMERAS = CaptureCameras(drawn(BOUNDS, 4, 24, 1), drawn(BOUNDS, 2, 24, 2))


@pytest.fixture(autouse=True)
def few_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pictures of 16 pixels a side: what is fog takes long to render."""
    for name, value in (("SIDE", 16), ("PROBES", 1), ("VIEWS", 2), ("REPORT", 2)):
        monkeypatch.setattr(f"neuralfields.compression.fields.{name}", value)


def a_model(name: str = "hash", **changes) -> Model:
    """A field whose density is high in places, of which the middle, half as wide, is seen."""
    torch.manual_seed(0)
    kind = fields.field_class(name)
    field = kind(kind.Config(**SMALL[name]))
    with torch.no_grad():
        for group in field.groups():
            for parameter in group.parameters if group.role == "grid" else ():
                parameter.normal_(0, 0.5)
        if name == "hash":
            field.table[len(field.table) // 2 :] *= 0.01  # most of a table is hardly used
    if field.domain.dimensions == 3:
        cells = torch.zeros(1, 128, 128, 128, dtype=torch.bool)
        cells[:, 32:96, 32:96, 32:96] = True
        changes = {"occupancy": bricks_of(cells)} | changes
    cameras = tuple(drawn(BOUNDS, 3, 24, 5))
    return Model(field, BOUNDS, cameras=cameras, held_out=(1,), camera_names=("a", "b", "c"), **changes)


@pytest.mark.parametrize("name", SMALL)
def test_a_file_is_the_model_at_its_steps(name: str, tmp_path: Path):
    model = a_model(name, occupancy=torch.arange(32768).view(1, -1), metrics={"psnr": 30.5})
    quantiser = FieldQuantiser(model)
    steps = {i: size / 8 for i, size in enumerate(quantiser.sizes)}
    quantised, shown = quantiser.quantised(steps), quantiser.shown(steps).field.state_dict()
    data = field_file.encode(quantised)
    found = field_file.decode(data, tmp_path / "a.nfz")
    assert data == field_file.encode(quantiser.quantised(steps)) and field_file.is_field(data)
    for key, value in found.field.state_dict().items():
        assert torch.equal(value, shown[key]), key
    assert torch.equal(found.occupancy, model.occupancy) and found.metrics == {"psnr": 30.5}
    assert found.held_out == (1,) and found.camera_names == ("a", "b", "c")
    assert np.abs(found.cameras[2].world_from_camera - model.cameras[2].world_from_camera).max() < 1e-6
    (tmp_path / "a.nfz").write_bytes(data)
    nf_file.save(load_any(tmp_path / "a.nfz"), tmp_path / "b.nf")
    again = load_any(tmp_path / "b.nf").field.state_dict()
    assert all(torch.equal(again[key], shown[key]) for key in again)
    nf_file.save(model, tmp_path / "c.nf", bits=8)
    assert len(data) < (tmp_path / "c.nf").stat().st_size  # 6 bits and less of the weights


def test_weights_are_one_product_rounded_once():
    codes, step = np.array([[3, -7], [2**20, 0]], np.int32), 0.1234567
    wanted = [np.float32(float(c) * step) for c in codes.flatten()]
    assert weights(codes, step).flatten().tolist() == [float(w) for w in wanted]


def test_levels_of_a_table_are_parts_and_planes_have_neighbours():
    field = a_model().field
    parts = [part for part in parts_of(field) if part.name == "table"]
    assert len(parts) == 3 and parts[0].begin == 0 and parts[-1].end == len(field.table)
    assert all(a.end == b.begin for a, b in pairwise(parts))
    near = near_in((4, 5, 2), Part("x", 0, 20))
    assert near[7].tolist() == [6, 2, 1, 3, 5, -1] and near[0].max() == -1
    assert (near < np.arange(20)[:, None]).all() and rows_of((4, 5, 2)) == (20, 2) and rows_of((3, 128)) == (384, 1)


def test_smooth_planes_are_told_from_their_neighbours():
    model = a_model("triplane")
    x = torch.linspace(0, 3, 33)
    with torch.no_grad():
        model.field.get_parameter("planes.0").copy_(torch.sin(x[:, None, None] + x[None, :, None] + torch.arange(8)))
    quantiser = FieldQuantiser(model)
    quantised = quantiser.quantised({i: size / 8 for i, size in enumerate(quantiser.sizes)})
    predicts = {part.name: part.predict for part in quantised.parts}
    assert predicts["planes.0"] and not predicts["planes.1"]  # the other one is noise


def test_goals_are_met():
    made = compress_field(a_model(), Goal(1.0), CAMERAS)
    assert made.report["lost"] < 1.6 and sum(made.report["sections"].values()) == len(made.data)
    most = len(made.data) * 3 // 2
    large = compress_field(a_model(), Goal(most_bytes=most), CAMERAS)
    assert 0.8 * most < len(large.data) <= most and large.report["psnr"] > made.report["psnr"] + 1
    with pytest.raises(InputError, match="nf convert"):
        compress_field(a_model(), Goal(most_bytes=500), CAMERAS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop("part1"), "part1"),
        (lambda p: p.pop("plain"), "plain"),
        (lambda p: p.pop("cameras"), "cameras"),
        (lambda p: p.update(part0=container.Section("columns", p["part0"].data[:-5])), "damaged"),
        (lambda p: p.update(cameras=container.Section("raw", b"abc")), "damaged"),
        (lambda p: header(p, b'"field":"hash"', b'"field":"hush"'), "unknown"),
        (
            lambda p: header(p, b'"table":9,"base":16,"finest":64', b'"table":24,"base":16,"finest":2048'),
            "too many for its",
        ),
        (lambda p: header(p, b'"name":"table","begin":0', b'"name":"tuble","begin":0'), "has not"),
        (lambda p: header(p, b'"begin":0,"end":', b'"begin":9,"end":'), "damaged|impossible|not whole"),
        (lambda p: header(p, b'"parts":[', b'"parts":[1,'), "damaged"),
    ],
)
def test_files_that_lie_get_one_line(change, message, tmp_path: Path):
    parts = container.unpack(hash_file(), "a")
    change(parts)
    with pytest.raises(InputError, match=message) as error:
        field_file.decode(container.pack(parts), tmp_path / "a.nfz")
    assert "\n" not in str(error.value)


def hash_file() -> bytes:
    model = a_model()
    parts = parts_of(model.field)
    codes = tuple(np.rint(values_of(model.field, part) / 0.1).astype(np.int32) for part in parts)
    found = tuple(Part(part.name, part.begin, part.end, 0.1) for part in parts)
    return field_file.encode(QuantisedModel(model, found, codes))


def header(parts: dict, before: bytes, after: bytes) -> None:
    text = zlib.decompress(parts["field"].data)
    assert before in text
    parts["field"] = container.Section("raw", zlib.compress(text.replace(before, after, 1)))


def test_the_commands_read_it(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("neuralfields.distillation.convert.PICTURE_SIDE", 24)  # of the worst view's
    few = ["--steps", "3"]
    nf_file.save(a_model(), Path("a.nf"))
    assert cli.main(["compress", "a.nf", "a.nfz", "--quality", "1", "--quiet", "--json", "--fast"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["bytes"] == Path("a.nfz").stat().st_size and report["ratio"] > 2
    assert cli.main(["compress", "a.nf", "a.nfz", "--max-bytes", "4kB", "--quiet", "--overwrite", *few]) == 0
    assert "bits a parameter" in capsys.readouterr().out
    assert cli.main(["info", "a.nfz"]) == 0 and "compressed field" in capsys.readouterr().out
    assert cli.main(["compress", "a.nf", "--method", "neuralgs"]) == 2
    nf_file.save(replace(a_model(), cameras=(), held_out=(), camera_names=()), Path("b.nf"))  # drawn cameras look at it
    assert cli.main(["compress", "b.nf", "b.nfz", "--max-bytes", "4kB", "--quiet", *few]) == 0
    assert Path("b.png").exists()
