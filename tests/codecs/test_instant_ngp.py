"""Snapshots of Instant-NGP, written here in their layout, come back as the field that they were written from."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields import cli
from neuralfields.codecs import describe_any, load_any
from neuralfields.errors import InputError
from neuralfields.evaluation.render import render
from neuralfields.fields.hash import Config
from neuralfields.models.model import volume_of
from neuralfields.models.nf_file import load, save
from neuralfields.ops.hash_grid import HashGeometry
from neuralfields.ops.occupancy_bits import occupied
from tests.support.foreign_files import CENTRE, SIDE, model_of, snapshot_of, write_snapshot


@pytest.mark.parametrize(
    ("suffix", "kind", "bound"), [(".ingp", "__half", 4e-3), (".msgpack", "__half", 4e-3), (".msgpack", "float", 2e-5)]
)
def test_a_written_snapshot_renders_alike(suffix, kind, bound, tmp_path):
    model = model_of()
    path = write_snapshot(tmp_path / f"a{suffix}", snapshot_of(model, kind))
    again = load_any(path)
    assert again.field.config.axes == "yzx" and again.camera_names == model.camera_names
    assert torch.equal(again.occupancy, model.occupancy)
    for before, after in zip(model.cameras, again.cameras, strict=True):
        np.testing.assert_allclose(after.world_from_camera, before.world_from_camera, atol=1e-12)
        seen, expected = render(again, after), render(model, before)
        assert float(expected.opacity.max()) > 0.5 and float(expected.rgb.std()) > 0.01
        assert float((seen.rgb - expected.rgb).abs().max()) < bound


def test_a_fitted_field_comes_back(small_model, tmp_path):
    again = load_any(write_snapshot(tmp_path / "a.ingp", snapshot_of(small_model)))
    assert again.field.config.axes == "xyz"  # as a scene from Mitsuba, whose axes are not cycled
    camera = small_model.cameras[0]
    near = replace(again, bounds=replace(again.bounds, near=small_model.bounds.near))
    seen, expected = render(near, again.cameras[0]), render(small_model, camera)
    assert float(expected.opacity.max()) > 0.9
    assert float((seen.rgb - expected.rgb).abs().max()) < 2e-2
    assert float((seen.rgb - expected.rgb).square().mean()) < 1e-6


def test_it_is_saved_like_any_other(tmp_path):
    again = load_any(write_snapshot(tmp_path / "a.ingp", snapshot_of(model_of())))
    save(again, tmp_path / "a.nf")
    loaded = load(tmp_path / "a.nf")
    assert loaded.field.config == again.field.config and loaded.made["source"] == "instant-ngp"
    assert torch.equal(render(loaded, loaded.cameras[0]).rgb, render(again, again.cameras[0]).rgb)


def test_a_known_point_lies_where_instant_ngp_puts_it(tmp_path):
    """A table that is hot at one lattice point of one dense level, worked out by hand from their formulas."""
    config = Config(levels=1, features=2, table=12, base=16, finest=16, hidden=16, density_layers=0, axes="yzx")
    content = snapshot_of(model_of(config))
    world = np.array([0.8, -1.1, 0.5])
    x, y, z = (world - CENTRE) / SIDE + 0.5  # scale x + offset
    cell = [round(v * 15 + 0.5) for v in (y, z, x)]  # cycled; lattice point i lies at (i - 0.5) / 15
    values = np.zeros(len(np.frombuffer(content["snapshot"]["params_binary"], np.float16)), np.float16)
    values[0] = 1  # log-density = first feature; rows are padded to 16 inputs
    values[len(values) - 2 * 4096 + 2 * (cell[0] + 16 * (cell[1] + 16 * cell[2]))] = 5
    content["snapshot"]["params_binary"] = values.tobytes()
    model = load_any(write_snapshot(tmp_path / "a.msgpack", content))
    hot = (np.array([cell[2], cell[0], cell[1]]) - 0.5) / 15  # back to x, y, z of our inner cube
    points = torch.tensor(np.stack([hot, hot[[1, 2, 0]], hot[[2, 0, 1]]]), dtype=torch.float32)
    assert np.abs((hot - 0.5) * SIDE + CENTRE - world).max() < 0.5 * SIDE / 15
    log_density = model.field.log_density(model.field.features(points)).detach()
    assert log_density.tolist() == pytest.approx([5, 0, 0], abs=1e-3)
    density = volume_of(model).density(points)  # the fused path
    assert density.tolist() == pytest.approx([np.exp(5), 1, 1], rel=1e-2)


def test_cells_of_coarser_cascades_hold_what_finer_ones_hold(tmp_path):
    model = model_of(cascades=3)
    empty = model.occupancy.clone()
    empty[1:] = 0
    again = load_any(write_snapshot(tmp_path / "a.msgpack", snapshot_of(replace(model, occupancy=empty))))
    assert again.bounds.cascades == 3 and again.bounds.side == pytest.approx(SIDE)
    middle = (torch.tensor([[70.0, 55.0, 90.0]]) + 0.5) / 128
    for cascade in range(3):
        assert bool(occupied(middle, torch.tensor([cascade]), again.occupancy))
        assert not bool(occupied(middle + 0.3 * 2**cascade, torch.tensor([cascade]), again.occupancy))


def test_a_crop_box_empties_what_lies_outside(tmp_path):
    content = snapshot_of(model_of())
    content["snapshot"]["render_aabb"] = {"min": [0.0, 0.0, 0.0], "max": [1.0, 1.0, 70 / 128]}  # their z is our x
    again = load_any(write_snapshot(tmp_path / "a.msgpack", content))
    middle = (torch.tensor([[66.0, 55.0, 90.0], [74.0, 55.0, 90.0]]) + 0.5) / 128
    assert occupied(middle, torch.zeros(2, dtype=torch.int64), again.occupancy).tolist() == [True, False]


def test_without_a_density_grid_the_field_is_looked_at(tmp_path):
    content = snapshot_of(model_of())
    content["snapshot"]["density_grid_binary"] = b""
    again = load_any(write_snapshot(tmp_path / "a.msgpack", content))
    x = torch.rand(2000, 3, generator=torch.Generator().manual_seed(1))
    dense = volume_of(again).density(x) > 50
    assert 100 < int(dense.sum())
    assert float(occupied(x, torch.zeros(2000, dtype=torch.int64), again.occupancy)[dense].float().mean()) > 0.95


def test_the_default_growth_follows_the_number_of_parameters(tmp_path):
    """Without per_level_scale it aims at 2048 points over the unit cube, whatever a rounding adds to a dense level."""
    for scale, cascades in ((1, 1), (4, 3)):
        config = Config(levels=3, features=2, table=8, base=8, finest=2048 * scale, hidden=16, axes="yzx")
        content = snapshot_of(model_of(config, cascades))
        del content["encoding"]["per_level_scale"]
        again = load_any(write_snapshot(tmp_path / "a.msgpack", content))
        assert again.field.config.finest == pytest.approx(2048 * scale, rel=1e-5)


def test_levels_are_those_of_tiny_cuda_nn():
    """Its float32 formulas, spelt out: scale, resolution, dense or hashed, rows padded to 8."""
    for levels, table, base, growth in ((16, 19, 16, 1.3819), (8, 19, 16, 2.0), (16, 14, 16, 1.5), (5, 12, 7, 1.71)):
        geometry = HashGeometry.of(levels, table, base, base * float(np.float32(growth)) ** (levels - 1))
        offset = 0
        for level in range(levels):
            power = np.exp2(np.float32(level) * np.log2(np.float32(growth)), dtype=np.float32)
            scale = float(power * np.float32(base) - np.float32(1))
            resolution = int(np.ceil(scale)) + 1
            size = min((resolution**3 + 7) // 8 * 8, 2**table)
            got = geometry.levels[level].tolist()
            assert got == [resolution, size, offset, int(resolution**3 <= 2**table)]
            assert float(geometry.scales[level]) == pytest.approx(scale, rel=3e-6)
            offset += size


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("encoding", "otype", "Frequency", "encoding.otype is Frequency"),
        ("encoding", "interpolation", "Smoothstep", "interpolation is Smoothstep"),
        ("encoding", "type", "Tiled", "encoding.type is Tiled"),
        ("encoding", "n_features_per_level", 1, "features 1"),
        ("network", "activation", "Sine", "network.activation is Sine"),
        ("rgb_network", "output_activation", "Sigmoid", "rgb_network.output_activation is Sigmoid"),
        ("rgb_network", "n_neurons", 32, "parameters, its configs need"),
        ("dir_encoding", "nested", [{"otype": "SphericalHarmonics", "degree": 3}], "harmonics of degree 4"),
        ("snapshot", "mode", "sdf", "snapshot.mode is sdf"),
        ("snapshot", "version", 0, "snapshot.version is 0"),
        ("snapshot", "params_type", "double", "params_type is double"),
    ],
)
def test_what_differs_is_refused_by_name(part, key, value, message, tmp_path):
    content = snapshot_of(model_of())
    content[part][key] = value
    with pytest.raises(InputError, match=message):
        load_any(write_snapshot(tmp_path / "a.msgpack", content))


def test_description_names_it(tmp_path):
    path: Path = write_snapshot(tmp_path / "a.ingp", snapshot_of(model_of()))
    told = describe_any(path)
    assert told["kind"] == "Instant-NGP snapshot" and told["cameras"] == 3 and told["bytes"] == path.stat().st_size


def test_verbs_take_a_snapshot_as_it_is(small_file, small_capture, tmp_path, capsys):
    ours = load(small_file)
    path = write_snapshot(tmp_path / "a.ingp", snapshot_of(ours, "float"))
    words = ["--path", "orbit", "--downscale", "4", "--frames", "1"]
    assert cli.main(["render", str(path), str(tmp_path / "a.png"), *words]) == 0
    assert (tmp_path / "a.png").stat().st_size > 100
    assert (
        cli.main(["eval", str(path), "--scene", str(small_capture), "--downscale", "4", "--split", "train", "--json"])
        == 0
    )
    measured = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert measured["psnr"] > 10
