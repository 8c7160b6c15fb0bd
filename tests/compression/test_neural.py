"""Networks in whole numbers: what is decoded is exact in any order of sums, and what is fitted is what is decoded."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from neuralfields import cli
from neuralfields.codecs.nfz import is_networks
from neuralfields.codecs.splats import read_gaussians, write_gaussians
from neuralfields.compression import container, neural_file, nfz
from neuralfields.compression.compress import Goal
from neuralfields.compression.files import describe, read
from neuralfields.compression.grid import fit_grid, morton
from neuralfields.compression.neural import ONE, Networks, NeuralScene, Tier, attributes, decoded, encoded, shapes
from neuralfields.compression.neural_fit import Bank, frequency_gradient, frequency_loss, rows_of
from neuralfields.compression.neuralgs import Fitting, Recipe, clusters_of, compress, global_importance
from neuralfields.compression.original import CaptureCameras, drawn
from neuralfields.compression.quantise import Quantiser
from neuralfields.compression.refine import Refiner, Target
from neuralfields.compression.tune import usual
from neuralfields.errors import InputError
from neuralfields.gaussians import PARAMETERS, Gaussians
from neuralfields.models.loops import Loops
from neuralfields.rendering.splat import render_gaussians
from tests.compression.test_compress import BOUNDS, ball

OCTAVES, WIDTH, CLUSTERS = 4, 8, 3
RECIPE = Recipe(clusters=CLUSTERS, width=WIDTH, prune=0.3, regression=60)


def a_scene(count: int = 300, degree: int = 1, tiers: int = 2) -> NeuralScene:
    """Random networks and places."""
    chance = np.random.default_rng(0)
    grid, places = fit_grid(chance.normal(size=(count, 3)), 0.01)
    order = np.argsort(morton(places), kind="stable")
    labels = chance.integers(0, CLUSTERS, count).astype(np.uint8)
    parts = [np.sort(part) for part in np.array_split(chance.permutation(count), tiers)]
    weights = tuple(
        chance.integers(-60, 60, shape).astype(np.int32) for shape in shapes(CLUSTERS, WIDTH, OCTAVES, degree)
    )
    wide = weights[-1].shape[2]
    spread = chance.uniform(0.1, 1, wide).astype(np.float32)
    networks = Networks(OCTAVES, weights, (2.0**-7,) * 5, chance.normal(size=wide).astype(np.float32), spread)
    tiers_of = tuple(Tier(np.ascontiguousarray(places[order][part]), labels[part]) for part in parts)
    return NeuralScene(grid, tiers_of, networks, degree, False)


SCENE = a_scene()
DATA = neural_file.encode(SCENE)


def test_a_network_is_what_plain_whole_numbers_say():
    tier, networks, bits = SCENE.tiers[0], SCENE.networks, SCENE.grid.bits
    found = attributes(networks, tier.places, tier.labels, bits)
    for row in (0, 7, 100):
        values = [int(v) for v in encoded(tier.places[row : row + 1], bits, OCTAVES)[0]]
        for i, layer in enumerate(networks.weights):
            own = layer[tier.labels[row]].tolist()
            sums = [sum(v * w[c] for v, w in zip([*values, ONE], own, strict=True)) for c in range(len(own[0]))]
            if i < 4:
                near = [ONE * math.tanh(round(s * networks.steps[i] * 4096 / ONE) / 4096) for s in sums]
                values = [round(v) for v in near]
        wanted = np.array(sums) * (networks.steps[-1] / ONE) * networks.spread.astype(float) + networks.mean
        assert np.array_equal(found[row], wanted)


def test_inputs_are_sines_of_places():
    places, bits = np.array([[0, 5, 2**13 - 1], [77, 4096, 8000]]), 13
    x = (2 * places + 1) / 2**bits - 1
    found = encoded(places, bits, 10) / ONE
    for octave in range(10):
        for turn, part in enumerate((np.sin, np.cos)):
            at = 3 + 6 * octave + 3 * turn
            assert np.abs(found[:, at : at + 3] - part(2.0**octave * math.pi * x)).max() < 5e-4
    assert np.abs(found[:, :3] - x).max() < 1e-4


def test_order_and_number_of_rows_change_no_bit():
    places = np.concatenate([tier.places for tier in SCENE.tiers])
    labels = np.concatenate([tier.labels for tier in SCENE.tiers])
    whole = attributes(SCENE.networks, places, labels, SCENE.grid.bits)
    order = np.random.default_rng(1).permutation(len(places))
    assert np.array_equal(attributes(SCENE.networks, places[order], labels[order], SCENE.grid.bits), whole[order])
    alone = [attributes(SCENE.networks, places[i : i + 1], labels[i : i + 1], SCENE.grid.bits)[0] for i in (0, 9)]
    assert np.array_equal(np.stack(alone), whole[[0, 9]])


def test_a_file_holds_the_scene_and_shows_its_first_tiers_early():
    found, shown = neural_file.decode(DATA, "a"), decoded(SCENE)
    for name in ("means", "scales", "rotations", "opacities", "harmonics"):
        assert torch.equal(getattr(decoded(found), name), getattr(shown, name))
        assert torch.equal(getattr(read(DATA, "a"), name), getattr(shown, name))
    assert neural_file.encode(found) == DATA and neural_file.begins(DATA)
    sizes = describe(DATA, "a")
    assert sizes["method"] == "neuralgs" and sum(sizes["sections"].values()) == len(DATA)
    first = int(sizes["loads"][0].split()[-2])
    assert sizes["loads"][0].startswith("150 of 300") and sizes["loads"][1].endswith(f"{len(DATA)} bytes")
    assert neural_file.decode_arrived(DATA[: first - 1], "a") is None
    early = neural_file.decode_arrived(DATA[:first], "a")
    assert len(early) == 150 and torch.equal(decoded(early).means, shown.means[:150])
    assert torch.equal(decoded(SCENE, 1).harmonics, shown.harmonics[:150])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop("layer2"), "layer2"),
        (lambda p: p.pop("labels1"), "labels1"),
        (lambda p: p.update(spread=container.Section("raw", b"\xff" * len(p["spread"].data))), "not finite"),
        (lambda p: p.update(spread=container.Section("raw", b"")), "0 bytes"),
        (lambda p: header(p, b'"clusters":3', b'"clusters":0'), "impossible clusters"),
        (lambda p: header(p, b'"width":8', b'"width":99999'), "impossible width"),
        (lambda p: header(p, b'"clusters":3,"width":8', b'"clusters":255,"width":256'), "too many for its"),
        (lambda p: header(p, b"[150,150]", b"[150,900000000]"), "too many for its"),
        (lambda p: header(p, b"[150,150]", b"[]"), "impossible tiers"),
        (lambda p: header(p, b'"degree":1', b'"degree":"x"'), "damaged"),
        (lambda p: p.update(layer0=container.Section("columns", p["layer0"].data[:-9])), "damaged"),
    ],
)
def test_files_that_lie_get_one_line(change, message):
    parts = container.unpack(DATA, "a")
    change(parts)
    with pytest.raises(InputError, match=message) as error:
        read(container.pack(parts), "a")
    assert "\n" not in str(error.value)


def header(parts: dict, before: bytes, after: bytes) -> None:
    assert before in parts["neural"].data
    parts["neural"] = container.Section("json", parts["neural"].data.replace(before, after))


def a_bank(count: int = 700):
    chance = torch.Generator().manual_seed(0)
    places = torch.randint(0, 256, (count, 3), generator=chance).numpy().astype(np.int32)
    x = torch.from_numpy(places / 128 - 1).float()
    labels = torch.randint(0, CLUSTERS, (count,), generator=chance)
    values = torch.cat([torch.sin(x * (k + 1)) + labels[:, None] for k in range(4)], 1)[:, :10]
    return Bank(rows_of(places, 8, OCTAVES, values, labels, np.ones(count)), WIDTH, OCTAVES, 0, 0), places, values


def test_blocks_are_networks_one_after_the_other():
    bank, _, values = a_bank()
    found, rows = bank.attributes(), bank.rows
    for label in range(CLUSTERS):
        own = rows.labels == label
        x = rows.inputs[own]
        for i, layer in enumerate(bank.layers):
            x = x @ layer[label, :-1] + layer[label, -1]
            x = x.tanh() if i < 4 else x
        assert torch.allclose(found[own], x * rows.spread + rows.mean, atol=1e-4)
    assert found.shape == values.shape


def test_the_way_back_from_some_rows_is_that_of_autograd():
    bank, *_ = a_bank()
    rows = bank.rows = replace(bank.rows, inputs=bank.rows.inputs.double(), spread=bank.rows.spread.double())
    bank.layers = [layer.detach().double().requires_grad_() for layer in bank.layers]
    chance = torch.Generator().manual_seed(1)
    some = torch.randperm(700, generator=chance)[:610]  # blocks that are whole and some that are filled up
    gradient = torch.randn(610, 10, generator=chance, dtype=torch.float64)
    x = rows.inputs[some][:, None]
    for i, layer in enumerate(bank.layers):
        own = layer[rows.labels[some]]
        x = x @ own[:, :-1] + own[:, -1:]
        x = x.tanh() if i < 4 else x
    wanted = x[:, 0] * rows.spread + rows.mean
    assert torch.allclose(bank.attributes(some), wanted)
    bank.lead_back(some, gradient)
    for layer, expected in zip(bank.layers, torch.autograd.grad(wanted, bank.layers, gradient), strict=True):
        assert torch.allclose(layer.grad, expected)


def test_fine_tuning_leaves_out_only_what_a_picture_does_not_show():
    gaussians = ball()
    gaussians = replace(gaussians, opacities=gaussians.opacities + 6, scales=gaussians.scales + 0.4)  # hides its core
    fitting = Fitting.of(gaussians, np.ones(3000), BOUNDS, RECIPE, 0)
    fitting.bank.regress(300, 4)
    refiner = Refiner(gaussians, BOUNDS, drawn(BOUNDS, 4, 64), (0, 0, 0))
    seen, values, shown = fitting.seen(refiner), fitting.bank.attributes(), fitting.shown()
    for target in refiner.targets:
        rows = seen(target)
        pictures = [render_gaussians(shown(r, values[r]), target.view, (0, 0, 0)) for r in (torch.arange(3000), rows)]
        assert len(rows) < 2000 and (pictures[0].rgb - pictures[1].rgb).abs().mean() < 1e-3


def test_a_rate_that_destroys_is_not_taken(monkeypatch: pytest.MonkeyPatch):
    gaussians = ball()
    fitting = Fitting.of(gaussians, np.ones(3000), BOUNDS, RECIPE, 0)
    fitting.bank.regress(300, 4)
    refiner = Refiner(gaussians, BOUNDS, drawn(BOUNDS, 4, 64), (0, 0, 0))
    monkeypatch.setattr("neuralfields.compression.neural_fit.TUNING_RATES", (5.0, 1e-3, 1e-9))
    before = [layer.detach().clone() for layer in fitting.bank.layers]
    assert fitting.bank._tuning_rate(refiner, fitting.shown(), fitting.seen(refiner), 16) == 1e-3
    assert all(torch.equal(a, b) for a, b in zip(before, fitting.bank.layers, strict=True))


def test_regression_learns_and_whole_numbers_keep_it():
    bank, places, values = a_bank()
    before = float(((bank.attributes().detach() - values) ** 2).mean())
    bank.regress(100, 1)
    after = float(((bank.attributes().detach() - values) ** 2).mean())
    assert after < 0.5 * before
    for share, most in ((1 / 64, 1.3), (1 / 4, 1e9)):
        found = attributes(bank.quantised(share), places, bank.rows.labels.numpy(), 8)
        assert float(((torch.from_numpy(found) - values) ** 2).mean()) < most * after + 2e-3 * most


def test_importance_decides_where_networks_err():
    chance = torch.Generator().manual_seed(0)
    places = torch.randint(0, 256, (60, 3), generator=chance).numpy().astype(np.int32)
    values, labels = torch.randn(60, 10, generator=chance), torch.zeros(60, dtype=torch.int64)
    important = np.where(np.arange(60) < 30, 1.0, 1e-3)
    bank = Bank(rows_of(places, 8, OCTAVES, values, labels, important), 16, OCTAVES, 0, 0)
    bank.regress(60, 1)
    error = ((bank.attributes().detach() - values) ** 2).mean(1)
    assert error[:30].mean() < 0.3 * error[30:].mean()


def test_the_frequency_loss_sees_edges_and_no_slopes():
    chance = torch.Generator().manual_seed(0)
    picture = torch.rand(24, 20, 3, generator=chance, dtype=torch.float64)
    slope = torch.linspace(0, 1, 20, dtype=torch.float64).mul(2 * math.pi).cos()[None, :, None].expand(24, 20, 3) * 0.1
    edges = 0.1 * (torch.arange(20) % 2 * 2.0 - 1).double()[None, :, None].expand(24, 20, 3)
    assert frequency_loss(picture + slope, picture) < 0.2 * frequency_loss(picture + edges, picture)
    wanted = torch.rand(24, 20, 3, generator=chance, dtype=torch.float64)
    gradient = frequency_gradient(picture, wanted, None)
    way = torch.randn(24, 20, 3, generator=chance, dtype=torch.float64)
    e = 1e-5
    numeric = (frequency_loss(picture + e * way, wanted) - frequency_loss(picture - e * way, wanted)) / (2 * e)
    assert float((gradient * way).sum()) == pytest.approx(float(numeric), rel=1e-4)


def test_clusters_of_blobs_are_the_blobs_in_order():
    chance = torch.Generator().manual_seed(0)
    truth = torch.arange(4).repeat_interleave(50)
    values = torch.randn(200, 3, generator=chance) * 0.1 + truth[:, None].float()
    labels = clusters_of(values, 4, 1)
    assert torch.equal(labels, truth) or torch.equal(labels, 3 - truth)
    assert int(clusters_of(torch.ones(50, 3), 8).max()) == 0


def test_importance_counts_what_is_seen_and_large():
    gaussians = ball(50)
    seen = np.ones(100)
    found = global_importance(gaussians, seen)
    assert found[:50].min() > found[50:].max() and found.max() <= 1  # the core is e^-6 of the volume


def test_sizes_follow_the_number_of_gaussians():
    few, many = Recipe().sizes(36_000, 3), Recipe().sizes(1_800_000, 3)
    assert few[0] == 4 and 16 <= few[1] <= 96 and many[0] == 90 and 96 <= many[1] <= 128
    assert Recipe(7, 40).sizes(36_000, 3) == (7, 40)


def test_the_command_fits_networks_that_every_verb_reads(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("neuralfields.compression.neuralgs.REGRESSION", 2)
    write_gaussians(ball(300), tmp_path / "a.ply")
    arguments = ["compress", "a.ply", "a.nfz", "--method", "neuralgs", "--steps", "4", "--clusters", "3", "--quiet"]
    assert cli.main([*arguments, "--width", "8", "--json"]) == 0
    assert '"method": "neuralgs"' in capsys.readouterr().out
    assert cli.main(["info", "a.nfz"]) == 0
    shown = capsys.readouterr().out
    assert "neuralgs" in shown and "of 360 Gaussians after" in shown
    assert cli.main(["convert", "a.nfz", "b.ply"]) == 0 and len(read_gaussians(tmp_path / "b.ply")) == 360
    assert cli.main([*arguments, "--overwrite", "--max-bytes", "1kB"]) == 3
    assert "fewer --clusters" in capsys.readouterr().err
    assert cli.main([*arguments, "--overwrite", "--fast"]) == 2


def test_the_same_seed_gives_the_same_file_and_the_report_is_of_it():
    cameras = CaptureCameras(drawn(BOUNDS, 6, 64, 1), drawn(BOUNDS, 3, 64, 2))
    first, again = (compress(ball(150), BOUNDS, Goal(steps=3), cameras=cameras, recipe=RECIPE) for _ in range(2))
    assert first.data == again.data and first.report["kept"] == 210
    found = read(first.data, "a")
    assert all(torch.equal(getattr(found, n), getattr(first.gaussians, n)) for n in ("means", "scales", "harmonics"))


def test_a_page_gets_what_it_can_decode(tmp_path: Path):
    (tmp_path / "a.nfz").write_bytes(DATA)
    (tmp_path / "b.nfz").write_bytes(nfz.encode(Quantiser(ball(20), None).quantise(usual(BOUNDS))))
    assert is_networks(tmp_path / "a.nfz") and not is_networks(tmp_path / "b.nfz")


class OneTarget:
    """A refiner of one picture."""

    def __init__(self, device: str) -> None:
        self.loops, grid = Loops(), torch.zeros(24, 20, device=device)
        self.targets = [Target(None, grid[..., None].repeat(1, 1, 3), grid, grid)]

    def turns(self, steps: int):
        return ((step, self.targets[0], (0.5, 0.5, 0.5)) for step in range(1, steps + 1))


def test_a_fit_is_on_one_device(monkeypatch: pytest.MonkeyPatch):
    """On torch's device without memory, where an op of tensors of two devices raises as on a GPU."""
    gaussians = ball(60)
    with pytest.raises(RuntimeError, match="device"):
        torch.zeros(3) @ torch.zeros(3, device="meta")
    fitting = Fitting.of(gaussians, np.ones(120), BOUNDS, RECIPE, 0)
    rows = fitting.bank.rows
    bank = Bank(rows, WIDTH, 10, gaussians.degree, 0, "meta")
    bank.regress(2, 1)
    fitting = replace(fitting, bank=bank)
    shown = fitting.shown()(torch.arange(120), bank.attributes())
    assert {getattr(shown, name).device.type for name in PARAMETERS} == {"meta"}

    def picture(gaussians: Gaussians, *_: object) -> SimpleNamespace:
        seen = gaussians.means.sum() + gaussians.harmonics.sum() + gaussians.scales.sum() + gaussians.rotations.sum()
        return SimpleNamespace(rgb=seen + gaussians.opacities.sum() + torch.zeros(24, 20, 3, device="meta"))

    monkeypatch.setattr("neuralfields.compression.neural_fit.render_gaussians", picture)
    loss = SimpleNamespace(d_rgb=torch.zeros(24, 20, 3, device="meta"))
    monkeypatch.setattr("neuralfields.compression.neural_fit.image_loss", lambda *_: loss)
    monkeypatch.setattr(Bank, "_tuning_rate", lambda *_: 1e-3)  # there are no errors to compare
    fitting.bank.tune(OneTarget("meta"), fitting.shown(), lambda _: torch.arange(0, 120, 2), 1, 0.1)
    assert {layer.device.type for layer in bank.layers} == {"meta"}
