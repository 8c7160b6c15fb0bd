"""A model comes back from its file bit for bit, and the file is what its description says."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from neuralfields import fields
from neuralfields.errors import InputError, UsageError
from neuralfields.models import model, nf_file
from neuralfields.models import nf_header as header
from neuralfields.options.models import InfoOptions
from neuralfields.verbs import info
from tests.support.fake_field import FakeField, camera, install, sample
from tests.support.small_configs import small_config


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal in dtype, shape and every bit, so that -0.0 and 0.0 differ."""
    raw = [x.detach().reshape(-1).contiguous().view(torch.uint8) for x in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*raw)


def test_comes_back_bit_for_bit(tmp_path: Path) -> None:
    before = sample()
    nf_file.save(before, tmp_path / "a.nf", full_record=True)
    torch.manual_seed(7)
    expected_next = torch.rand(3)
    torch.manual_seed(7)
    after = nf_file.load(tmp_path / "a.nf")
    assert torch.equal(torch.rand(3), expected_next)  # the caller's random numbers are not touched
    for name in ("bounds", "held_out", "camera_names", "background", "made", "metrics", "lineage"):
        assert getattr(after, name) == getattr(before, name), name
    assert isinstance(after.field, FakeField) and after.field.config == before.field.config
    old, new = before.field.state_dict(), after.field.state_dict()
    assert list(old) == list(new) and all(same_bits(old[key], new[key]) for key in old)
    assert before.occupancy is not None and after.occupancy is not None and same_bits(before.occupancy, after.occupancy)
    for a, b in zip(before.cameras, after.cameras, strict=True):
        assert np.array_equal(a.world_from_camera, b.world_from_camera)
        assert dataclasses.replace(a, world_from_camera=b.world_from_camera) == b
        assert type(b.width) is int
    nf_file.save(after, tmp_path / "b.nf", full_record=True)
    assert (tmp_path / "a.nf").read_bytes() == (tmp_path / "b.nf").read_bytes()


def test_nothing_optional_is_needed(tmp_path: Path) -> None:
    full = sample()
    bare = model.Model(full.field, full.bounds)
    nf_file.save(bare, tmp_path / "a.nf")
    after = nf_file.load(tmp_path / "a.nf")
    assert after.occupancy is None and after.cameras == () and after.camera_names == () and after.made == {}


def test_half_halves_the_grid_alone(tmp_path: Path) -> None:
    before = sample(log2_size=10)
    nf_file.save(before, tmp_path / "full.nf")
    nf_file.save(before, tmp_path / "half.nf", half=True)
    grid = before.field.table.numel()
    full, half = (header.describe(tmp_path / name)["parts"] for name in ("full.nf", "half.nf"))
    assert full["table"] == 4 * grid and half["table"] == 2 * grid and full["network"] == half["network"]
    after = nf_file.load(tmp_path / "half.nf")
    assert after.field.table.dtype == torch.float32
    assert torch.equal(after.field.table, before.field.table.half().float())
    assert same_bits(after.field.network.weight, before.field.network.weight)


def test_eight_bits_for_weights_and_grids(tmp_path: Path) -> None:
    before = sample(log2_size=10)
    nf_file.save(before, tmp_path / "small.nf", bits=8)
    after = nf_file.load(tmp_path / "small.nf")
    for name, parameter in before.field.named_parameters():
        found = after.field.get_parameter(name)
        span = float(parameter.detach().max() - parameter.detach().min())
        assert found.dtype == torch.float32 and float((found - parameter).detach().abs().max()) <= span / 509, name
    assert same_bits(after.field.network.bias, before.field.network.bias)
    assert header.describe(tmp_path / "small.nf")["parts"]["table"] < before.field.table.numel()
    nf_file.save(after, tmp_path / "again.nf", bits=8)
    twice = nf_file.load(tmp_path / "again.nf")
    torch.testing.assert_close(twice.field.table, after.field.table, rtol=1e-6, atol=1e-6)


def test_is_a_safetensors_file_that_others_can_read(tmp_path: Path) -> None:
    before = sample()
    nf_file.save(before, tmp_path / "a.nf")
    with safe_open(tmp_path / "a.nf", framework="pt") as file:
        assert same_bits(file.get_tensor("field.table"), before.field.table)
        text = json.loads(file.metadata()["neuralfields"])
    assert text["format_version"] == 2 and text["field"] == "fake" and text["config"]["sizes"] == [8, 4]
    raw = (tmp_path / "a.nf").read_bytes()
    assert (8 + int.from_bytes(raw[:8], "little")) % 8 == 0


@pytest.mark.parametrize(("name", "value"), [("table", float("nan")), ("network.bias", float("inf"))])
def test_what_is_not_finite_is_never_saved(tmp_path: Path, name: str, value: float) -> None:
    bad = sample()
    with torch.no_grad():
        bad.field.get_parameter(name).view(-1)[1] = value
    with pytest.raises(InputError, match=rf"tensor field\.{name} holds 1 of \d+ values that are not finite"):
        nf_file.save(bad, tmp_path / "a.nf")
    assert os.listdir(tmp_path) == []


def test_too_large_for_half_is_refused_and_not_made_infinite(tmp_path: Path) -> None:
    bad = sample()
    with torch.no_grad():
        bad.field.table.view(-1)[5] = 1e6
    with pytest.raises(InputError, match=r"field\.table holds 1 of"):
        nf_file.save(bad, tmp_path / "a.nf", half=True)
    nf_file.save(bad, tmp_path / "a.nf")


def test_numbers_beside_the_tensors(tmp_path: Path) -> None:
    """A metric that is not finite becomes unknown; a place that is not finite is an error."""
    good = dataclasses.replace(sample(), metrics={"psnr": float("inf"), "ssim": 1.0})
    nf_file.save(good, tmp_path / "a.nf")
    assert nf_file.load(tmp_path / "a.nf").metrics == {"psnr": None, "ssim": 1.0}
    for change in (
        {"bounds": dataclasses.replace(good.bounds, near=float("nan"))},
        {"background": (0.0, float("inf"), 0.0)},
        {"cameras": (dataclasses.replace(camera(), fx=float("nan")),), "camera_names": ("a",), "held_out": ()},
        {"cameras": (dataclasses.replace(camera(), fx=-1.0),), "camera_names": ("a",), "held_out": ()},
    ):
        with pytest.raises(InputError):
            nf_file.save(dataclasses.replace(good, **change), tmp_path / "b.nf")
    assert os.listdir(tmp_path) == ["a.nf"]


def test_save_goes_through_links_and_refuses_folders(tmp_path: Path) -> None:
    (tmp_path / "link.nf").symlink_to(tmp_path / "real.nf")
    nf_file.save(sample(), tmp_path / "link.nf")
    assert (tmp_path / "link.nf").is_symlink() and nf_file.load(tmp_path / "real.nf").made["scene"] == "fox"
    with pytest.raises(UsageError, match="is a folder"):
        nf_file.save(sample(), tmp_path)


def test_describe_needs_neither_torch_nor_the_data(tmp_path: Path) -> None:
    path = tmp_path / "a.nf"
    nf_file.save(sample(), path)
    code = (
        "import sys; from pathlib import Path; from neuralfields.models.nf_header import describe\n"
        "d = describe(Path(sys.argv[1])); assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "print(d['field'], d['parameters'], d['cameras'], d['bytes'])"
    )
    out = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    parameters = sum(value.numel() for value in sample().field.state_dict().values())
    assert out.stdout.split() == ["fake", str(parameters), "5", str(path.stat().st_size)], out.stderr


def test_info_names_the_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.nf"
    nf_file.save(sample(), path)
    result = info.run(InfoOptions(path))
    assert sum(result["parts"].values()) == path.stat().st_size
    assert result["parts"]["occupancy"] == 2 * 32768 * 8 and result["config"]["levels"] == 2
    shown = info.text(result)
    for words in ("fake", "levels 2", "occupancy 524.3 kB", "2 cascades", "cube of side 2.5", "steps 100", "psnr 27.5"):
        assert words in shown, shown


@pytest.mark.parametrize("name", fields.field_names())
def test_every_field_comes_back(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real fields
    kind = fields.field_class(name)
    torch.manual_seed(1)
    before = model.Model(kind(small_config(name)), sample().bounds)
    for half in (False, True):
        nf_file.save(before, tmp_path / "a.nf", half=half)
        after = nf_file.load(tmp_path / "a.nf")
        assert type(after.field) is kind and after.field.config == before.field.config
        assert header.describe(tmp_path / "a.nf")["field"] == name
        for key, value in before.field.state_dict().items():
            found = after.field.state_dict()[key]
            assert same_bits(value, found) if not half else torch.allclose(value, found, atol=1e-3), key


def test_dtypes_are_spelt_once() -> None:
    assert {name: torch.empty(0, dtype=dtype).element_size() for name, dtype in nf_file.DTYPES.items()} == (
        header.DTYPE_BYTES
    )
