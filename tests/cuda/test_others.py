"""On a GPU where they are installed: tiny-cuda-nn and nerfacc beside ours, on our parameters. Run by pytest -m cuda."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from neuralfields.captures.readers import read_scene
from neuralfields.errors import UsageError
from neuralfields.ops import backend
from neuralfields.ops.hash_grid import HashGeometry, hash_encode
from neuralfields.ops.march import MarchSettings, march_rays
from neuralfields.ops.network import network
from neuralfields.options.fit import FitOptions
from neuralfields.training.fit import fit_scene
from tests.support.marching_cases import nested, rays, sparse

pytestmark = pytest.mark.cuda


@pytest.fixture
def tcnn() -> Iterator[None]:
    """tiny-cuda-nn in place of ours."""
    yield from _in_use(backend="tcnn")


@pytest.fixture
def nerfacc() -> Iterator[None]:
    """nerfacc in place of ours."""
    yield from _in_use(marcher="nerfacc")


def _in_use(**chosen: str) -> Iterator[None]:
    try:
        with backend.using(**chosen):
            pass
    except UsageError as error:
        pytest.skip(str(error))
    yield


def test_its_hash_grid(tcnn, generator):
    geometry = HashGeometry.of(8, 15, 16, 2048)
    x = torch.rand(3000, 3, generator=generator).cuda()
    table = torch.randn(geometry.entries, 4, generator=generator).cuda().requires_grad_()
    d_out = torch.randn(3000, 32, generator=generator).cuda()
    found = []
    for name in ("native", "tcnn"):
        with backend.using(name):
            out = hash_encode(x, table, geometry.scales, geometry.levels)
        found.append((out, torch.autograd.grad(out, table, d_out)[0]))
    for want, got in zip(*found, strict=True):
        assert float((got - want).norm()) < 5e-3 * float(want.norm())


def test_its_networks(tcnn, generator):
    weights = [torch.randn(o, i, generator=generator).div_(i**0.5).cuda().requires_grad_()
               for i, o in ((31, 64), (64, 64), (64, 3))]  # fmt: skip
    x = torch.randn(1000, 31, generator=generator).cuda().requires_grad_()
    d_out = torch.randn(1000, 3, generator=generator).cuda()
    found = []
    for name in ("native", "tcnn"):
        with backend.using(name):
            out = network(x, weights)
        found.append((out, *torch.autograd.grad(out, [x, *weights], d_out)))
    for want, got in zip(*found, strict=True):
        assert float((got - want).norm()) < 2e-2 * float(want.norm())


@pytest.mark.parametrize("cascades", [1, 3])
def test_its_march(nerfacc, cascades, generator):
    occupancy = (sparse(1, generator) if cascades == 1 else nested(cascades, generator)).cuda()
    given = [part.float().cuda() for part in rays(500, cascades, generator)]
    settings = MarchSettings(1 / 256, 1.0, 0.0, 0.01)
    want = march_rays(*given, occupancy, settings)
    with backend.using(marcher="nerfacc"):
        got = march_rays(*given, occupancy, settings)
    assert len(got.t) == pytest.approx(len(want.t), rel=0.02)
    same = want.offsets.diff() == got.offsets.diff()  # a sample at a cell's border may fall to either side
    assert same.float().mean() > 0.5
    for ray in same.nonzero().flatten()[:100].tolist():
        mine, theirs = (s.t[s.offsets[ray] : s.offsets[ray + 1]] for s in (got, want))
        assert bool(((mine - theirs).abs() < settings.min_step).all())


@pytest.mark.parametrize("chosen", [{"backend": "tcnn"}, {"marcher": "nerfacc"}], ids=["tcnn", "nerfacc"])
def test_a_short_fit(chosen: dict[str, str], small_capture: Path):
    """As good as with ours; what was fitted is a model like any other."""
    for _ in _in_use(**chosen):
        scene, common = read_scene(small_capture), {"steps": 100, "device": "cuda", "eval_every": 0, "quiet": True}
        ours = fit_scene(scene, FitOptions(small_capture, **common, field="hash")).metrics["psnr"]
        theirs = fit_scene(scene, FitOptions(small_capture, **common, **chosen, field="hash")).metrics["psnr"]
        assert theirs > ours - 1.5
