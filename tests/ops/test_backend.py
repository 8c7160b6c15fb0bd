"""Others' kernels in place of ours: what we ask them is judged by stand-ins that hold their conventions (others.py).

`half`: weights and results of 11 bits, so 2e-3 of the largest.
"""

import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from neuralfields.captures.images import load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.errors import UsageError
from neuralfields.fields.hash import Config, HashField
from neuralfields.gpu import tcnn as backend_tcnn
from neuralfields.gpu.network import using_precision
from neuralfields.ops import backend
from neuralfields.ops.hash_grid import HashGeometry, hash_encode
from neuralfields.ops.march import MarchSettings, march_rays, march_rays_reference
from neuralfields.ops.network import network, network_reference
from neuralfields.options.fit import FitOptions
from neuralfields.training.fit import fit_scene
from neuralfields.training.photos import new_training
from neuralfields.verbs.fit import run
from tests.support import other_kernels as others
from tests.support.marching_cases import nested, rays, sparse
from tests.support.settings import plan_of

CLOSE = {"half": 2e-3, "float": 1e-5}


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch):
    """Stand-ins for both packages, on the CPU; what is remembered of one test is none of the next."""
    monkeypatch.setattr(backend, "DEVICE", "cpu")
    monkeypatch.setitem(sys.modules, "tinycudann", others.TINYCUDANN)
    monkeypatch.setitem(sys.modules, "nerfacc", others.NERFACC)
    monkeypatch.setitem(sys.modules, "nerfacc.cuda._backend", SimpleNamespace(_C=object()))
    backend_tcnn._encoding.cache_clear()
    backend_tcnn._network.cache_clear()
    yield
    backend_tcnn._encoding.cache_clear()
    backend_tcnn._network.cache_clear()


def assert_near(got: torch.Tensor, want: torch.Tensor, part: float) -> None:
    assert got.shape == want.shape and got.dtype == want.dtype
    assert float((got - want).detach().abs().max()) <= part * float(want.detach().abs().max())


@pytest.mark.parametrize("precision", ["half", "float"])
@pytest.mark.parametrize(("levels", "table", "base", "finest"), [(8, 12, 16, 2048), (5, 19, 4, 40), (1, 10, 16, 16)])
def test_hash_encoding(levels, table, base, finest, precision, generator):
    geometry = HashGeometry.of(levels, table, base, finest)
    x = torch.rand(300, 3, generator=generator) * 1.2 - 0.1  # some outside: they are clamped
    entries = torch.randn(geometry.entries, 4, generator=generator).requires_grad_()
    d_out = torch.randn(300, levels * 4, generator=generator)
    results = {}
    for name in ("native", "tcnn"):
        with backend.using(name), using_precision(precision):
            out = hash_encode(x, entries, geometry.scales, geometry.levels)
        results[name] = out, torch.autograd.grad(out, entries, d_out)[0]
    for got, want in zip(results["tcnn"], results["native"], strict=True):
        assert_near(got, want, CLOSE[precision])


@pytest.mark.parametrize("widths", [(32, 32, 16), (19, 64, 64, 3), (16, 16, 16), (5, 128, 1)])
def test_networks(widths, generator):
    weights = [torch.randn(o, i, generator=generator).div_(i**0.5).requires_grad_()
               for i, o in pairwise(widths)]  # fmt: skip
    x = torch.randn(200, widths[0], generator=generator).requires_grad_()
    assert backend_tcnn.takes_network(weights)
    with backend.using("tcnn"):
        got = network(x, weights)
    want = network_reference(x, weights)
    assert not torch.equal(got, want)  # the other was asked: it rounds
    d_out = torch.randn(want.shape, generator=generator)
    every = zip(torch.autograd.grad(got, [x, *weights], d_out), torch.autograd.grad(want, [x, *weights], d_out),
                strict=True)  # fmt: skip
    assert_near(got, want, 4e-3)
    for d_got, d_want in every:  # a unit near 0 may be on in one and off in the other: a norm, not the largest
        assert float((d_got - d_want).norm()) <= 2e-2 * float(d_want.norm())


def test_what_it_cannot_take_stays_ours(generator):
    wide = [torch.randn(o, i, generator=generator) for i, o in ((8, 48), (48, 3))]
    uneven = [torch.randn(o, i, generator=generator) for i, o in ((8, 32), (32, 64), (64, 3))]
    single = [torch.randn(3, 8, generator=generator)]
    double = [torch.randn(o, i, generator=generator, dtype=torch.float64) for i, o in ((8, 32), (32, 3))]
    for weights in (wide, uneven, single, double):
        assert not backend_tcnn.takes_network(weights)
        x = torch.randn(9, 8, generator=generator, dtype=weights[0].dtype)
        with backend.using("tcnn"):
            torch.testing.assert_close(network(x, weights), network(x, weights))
    with using_precision("float"):
        assert not backend_tcnn.takes_network([torch.zeros(32, 8), torch.zeros(3, 32)])
    flat = HashGeometry.of(4, 10, 8, 64, 2)
    table = torch.randn(flat.entries, 2, generator=generator)
    x = torch.rand(50, 2, generator=generator)
    want = hash_encode(x, table, flat.scales, flat.levels)
    with backend.using("tcnn"):
        assert torch.equal(hash_encode(x, table, flat.scales, flat.levels), want)


def test_a_grid_of_other_sizes_is_refused(monkeypatch):
    class Smaller(others.Encoding):
        def __init__(self, *args, **words):
            super().__init__(*args, **words)
            self.params = torch.nn.Parameter(self.params[:-8])

    monkeypatch.setitem(sys.modules, "tinycudann", SimpleNamespace(Encoding=Smaller))
    geometry = HashGeometry.of(2, 10, 8, 32)
    with backend.using("tcnn"), pytest.raises(UsageError, match=r"--backend tcnn: its module has .* where ours has"):
        hash_encode(torch.rand(3, 3), torch.rand(geometry.entries, 2), geometry.scales, geometry.levels)


@pytest.mark.parametrize("cascades", [1, 3])
def test_marching(cascades, generator):
    """Even steps of less than a cell: both ask the finest cube of a place, and find the same."""
    occupancy = sparse(1, generator) if cascades == 1 else nested(cascades, generator)
    settings = MarchSettings(1 / 64 if cascades > 1 else 1 / 128, 1.0, 0.0, 0.01)
    origins, directions, jitter = (part.float() for part in rays(24, cascades, generator))
    with backend.using(marcher="nerfacc"):
        got = march_rays(origins, directions, jitter, occupancy, settings)
    want = march_rays_reference(origins, directions, jitter, occupancy, settings)
    assert len(want.x) > 100 and got.offsets[-1] == len(got.x) == len(got.ray)
    assert abs(len(got.x) - len(want.x)) <= 0.02 * len(want.x)  # samples at a cell's border, by rounding
    for ray in range(len(origins)):
        mine, theirs = (s.t[s.offsets[ray] : s.offsets[ray + 1]] for s in (got, want))
        if len(mine) == len(theirs):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-4)
    torch.testing.assert_close(got.x, origins[got.ray] + directions[got.ray] * got.t[:, None])
    torch.testing.assert_close(got.length, torch.full_like(got.length, settings.min_step), rtol=0, atol=1e-4)


def test_growing_steps(generator):
    origins, directions, jitter = (part.float() for part in rays(8, 3, generator))
    settings = MarchSettings(1 / 64, 4.0, 1 / 16, 0.01)
    occupancy = nested(3, generator)
    with backend.using(marcher="nerfacc"):
        got = march_rays(origins, directions, jitter, occupancy, settings)
    assert len(got.t) > 20
    begin = got.t - got.length / 2
    torch.testing.assert_close(got.length, (begin / 16).clamp(1 / 64, 4.0), rtol=1e-3, atol=1e-5)


def test_rays_that_miss_everything():
    empty = torch.zeros(1, 32768, dtype=torch.int64)
    origins, directions = torch.full((3, 3), 0.5), torch.eye(3)
    with backend.using(marcher="nerfacc"):
        got = march_rays(origins, directions, torch.zeros(3), empty, MarchSettings(1 / 64, 1 / 64, 0.0, 0.0))
    assert got.x.shape == (0, 3) and got.offsets.tolist() == [0, 0, 0, 0]


def test_the_fused_path_is_ours_alone():
    field = HashField(Config(levels=2, table=8))
    assert field.fused() is not None
    for chosen in ({"backend": "tcnn"}, {"marcher": "nerfacc"}):
        with backend.using(**chosen):
            assert field.fused() is None
    assert field.fused() is not None and backend.ours_alone()


def test_a_step_of_training_by_both(small_capture: Path, monkeypatch: pytest.MonkeyPatch):
    """The whole way of a step, on the CPU with stand-ins, beside ours op by op."""
    monkeypatch.setattr(HashField, "fused", lambda field: None)
    scene = read_scene(small_capture)
    loaded = load_frames(scene, scene.train, 4)
    options, config = FitOptions(small_capture, field="hash"), Config(levels=2, table=8)
    losses, samples, tables = [], [], []
    for chosen in (("native", "native"), ("tcnn", "nerfacc")):
        training = new_training(scene, plan_of(scene, options, config), loaded)
        training.rays, before = 8, training.field.table.detach().clone()
        with backend.using(*chosen):
            report = training.step(0.0)
        assert report.samples > 0 and training.bad_steps == 0
        losses.append(report.loss)
        samples.append(report.samples)
        tables.append((training.field.table.detach() - before).sign())
    assert losses[1] == pytest.approx(losses[0], rel=0.01) and samples[1] == pytest.approx(samples[0], rel=0.05)
    moved = tables[0] != 0
    assert moved.sum() > 100 and (tables[1] == tables[0])[moved].float().mean() > 0.9  # Adam's first step: signs


def test_refusals(small_capture: Path, monkeypatch: pytest.MonkeyPatch):
    for options in ({"backend": "tcnn"}, {"marcher": "nerfacc"}):
        wanted = rf"--{next(iter(options))} {next(iter(options.values()))}: computes on a CUDA GPU alone"
        with pytest.raises(UsageError, match=wanted):
            run(FitOptions(small_capture, device="cpu", **options))
        with pytest.raises(UsageError, match=wanted):
            fit_scene(read_scene(small_capture), FitOptions(small_capture, device="cpu", **options))
    with pytest.raises(UsageError, match=r"--backend nerfacc: must be native or tcnn"), backend.using("nerfacc"):
        pass
    nerfacc = {"marcher": "nerfacc"}, "nerfacc.cuda._backend"
    for chosen, module, there in (({"backend": "tcnn"}, "tinycudann", None), (*nerfacc, None),
                                  (*nerfacc, SimpleNamespace(_C=None))):  # fmt: skip
        monkeypatch.setitem(sys.modules, module, there)
        package = module.partition(".")[0]
        with pytest.raises(UsageError, match=rf"{package} cannot be used here \(.+\); .*leave --"):
            with backend.using(**chosen):
                pass
    assert backend.ours_alone()


def test_what_is_done_on_the_cpu_meanwhile_stays_ours(generator, monkeypatch: pytest.MonkeyPatch):
    """FreSh looks at a network before it is moved, for one."""
    monkeypatch.setattr(backend, "DEVICE", "cuda")
    weights = [torch.randn(o, i, generator=generator) for i, o in ((8, 32), (32, 3))]
    x = torch.randn(9, 8, generator=generator)
    want = network(x, weights)
    with backend.using("tcnn", "nerfacc"):
        assert torch.equal(network(x, weights), want)
        assert not backend.uses("nerfacc", x)
