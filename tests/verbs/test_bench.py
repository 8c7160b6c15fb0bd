"""The measuring itself: both paths are the same model, ratios are what the clock says, and the report is whole."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from neuralfields.cameras import fitted
from neuralfields.fields.hash import Config, HashField
from neuralfields.files import plain
from neuralfields.models.model import Model, volume_of
from neuralfields.ops.composite import composite_reference
from neuralfields.options.machine import BenchOptions
from neuralfields.rays import Rays
from neuralfields.rendering.volume import camera_rays
from neuralfields.verbs import bench
from neuralfields.verbs.bench import Batch, Native, Plain, composite_colour, networks, parts, race


@pytest.fixture
def batch(small_model: Model) -> Batch:
    """256 rays that see the object, with jitter."""
    rays = camera_rays(fitted(small_model.cameras[2], (16, 16)))
    generator = torch.Generator().manual_seed(3)
    return Batch(rays, torch.rand(256, generator=generator), torch.rand(256, 3, generator=generator))


@pytest.fixture
def own(small_model: Model) -> Model:
    """The small model with a field of the test's own, whose gradients may be filled."""
    field = type(small_model.field)(small_model.field.config)
    field.load_state_dict(small_model.field.state_dict())
    return replace(small_model, field=field)


def test_plain_torch_is_the_same_model(own: Model, batch: Batch) -> None:
    volume = volume_of(own)
    slow, samples = Plain(own.field).render(volume, batch.rays)
    fast, evaluated = Native(volume).render(batch.rays)
    assert (slow - fast).abs().max() < 1e-2  # native drops weights below 1e-4
    assert 0 < evaluated <= samples and slow.std() > 0.1


def test_plain_torch_has_the_same_gradients(own: Model, batch: Batch) -> None:
    """In float64: in float32 the two walk a ray by other roundings, which a table of 2048 points an axis sees.

    The core keeps its step lengths in float32, hence 1e-5.
    """
    field = copy.deepcopy(own.field).double()
    rays = Rays(batch.rays.origins.double(), batch.rays.directions.double())
    jitter, target = batch.jitter.double(), batch.target.double()
    volume, slow = replace(volume_of(own), field=field), Plain(field)
    (slow.rgb(volume, rays, jitter)[0] - target).square().mean().backward()
    sums = volume.sums(rays, jitter, 1 << 16)
    assert bool(sums.valid.bool().all())
    (sums.rgb - target).square().mean().backward()
    for mine, theirs in ((slow.table, field.table), (slow.colour[0], field.heads.colour[0])):
        assert (mine.grad - theirs.grad).norm() < 1e-5 * theirs.grad.norm() and theirs.grad.norm() > 0


def test_training_steps_leave_the_field_as_it_is(own: Model, batch: Batch) -> None:
    volume, before = volume_of(own), own.field.table.detach().clone()
    native, slow = Native(volume), Plain(own.field)
    for _ in range(2):
        rays, samples = native.train(batch)
        assert slow.train(volume, batch)[0] == rays == 256 and samples > 256
    assert torch.equal(own.field.table, before) and torch.equal(slow.table, before)


def test_composite_is_the_references() -> None:
    generator = torch.Generator().manual_seed(0)
    offsets = torch.tensor([0, 3, 3, 40, 41])
    density, length, t = (torch.rand(41, generator=generator) for _ in range(3))
    rgb = torch.rand(41, 3, generator=generator)
    expected = composite_reference(5 * density, length, t, rgb, offsets)[0][:, :3]
    assert torch.allclose(composite_colour(5 * density * length, rgb, offsets), expected, atol=1e-6)


def work(clock: list[float], seconds: float, samples: int) -> Callable[[], bench.Work]:
    """A call that takes that long on a clock of ours."""

    def call() -> bench.Work:
        clock[0] += seconds * clock[1]
        return 10, samples

    return call


def test_ratios_are_medians_over_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0, 1.0]
    monkeypatch.setattr(bench.time, "perf_counter", lambda: clock[0])
    result = race(work(clock, 0.125, 50), work(clock, 2.0, 100), 10.0)
    assert result["rounds"] == 5
    assert result["samples"] == {"native": 400.0, "plain": 50.0, "ratio": 8.0}
    assert result["rays"] == {"native": 80.0, "plain": 5.0, "ratio": 16.0}
    assert race(work(clock, 0.5, 1), work(clock, 100.0, 1), 1.0)["rounds"] == bench.FEWEST_ROUNDS


@pytest.mark.serial
def test_the_networks_are_counted_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SAMPLES", 1 << 10)
    result = networks(HashField(Config(levels=6, table=12, finest=128, hidden=32)), 0.01)
    macs = 24 * 32 + 32 * 16 + (32 * 32 + 32 * 32 + 32 * 3)  # 6 levels x 4; code 16 + 16 harmonics
    again = 24 * 32 + (32 * 32 + 32 * 32)
    ms, speed, share = (result[f"network_{key}"] for key in ("ms", "gflops", "share"))
    for way, passes in (("forward", 1), ("backward", 2)):
        assert ms[way] * speed[way] == pytest.approx(2 * 1024 * macs * passes / 1e6)
        assert 0 < share[way] < 1.2 and share[way] == pytest.approx(speed[way] / result["peak_gflops"])
    assert min(share["forward"], share["backward"]) <= share["both"] <= max(share["forward"], share["backward"])
    counted = result["network_share_recompute"]["backward"]
    assert counted == pytest.approx(share["backward"] * (2 * macs + again) / (2 * macs))


def test_every_part_takes_time(own: Model, batch: Batch) -> None:
    times = parts(volume_of(own), batch, 0.01)
    names = {"march", "encode_forward", "encode_backward", "composite_forward", "composite_backward", "adam"}
    assert times.keys() == names | {"samples"} and times["samples"] > 256
    assert all(times[name] > 0 for name in names - {"adam"}) and times["adam"] >= 0


def test_the_verb(
    small_model: Model,
    small_capture: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench, "fit_scene", lambda scene, options: small_model)
    monkeypatch.setattr(bench, "SAMPLES", 1 << 10)
    monkeypatch.setattr(bench, "PICTURE_SIDE", 8)
    result = bench.run(BenchOptions(scene=small_capture, seconds=0.1, threads=1))
    assert json.loads(json.dumps(plain(result), allow_nan=False)) == plain(result)
    assert result["train_ratio"] == result["train"]["samples"]["ratio"] > 1 and result["render_ratio"] > 1
    assert result["machine"]["threads"] == 1 and result["largest_difference"] < 1e-2
    assert abs(result["parts_ms"]["samples"] / (1 << 10) - 1) < 0.5
    shown = bench.text(result)
    assert "of the fp32 peak" in shown and "train samples" in shown and max(map(len, shown.splitlines())) < 200
