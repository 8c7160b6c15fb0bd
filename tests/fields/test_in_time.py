"""Every field that takes time as a fourth coordinate, and how the hash field does."""

import pytest
import torch

from neuralfields.domain import MOVING, RADIANCE
from neuralfields.fields import field_class, field_names
from neuralfields.fields.cam import Cam
from neuralfields.fields.cam import Config as CamConfig
from neuralfields.fields.hash import Config, HashField
from neuralfields.layers.space_time import Warp

MOVERS = [name for name in field_names() if field_class(name).MOVES]
SMALL = {"levels": 4, "table": 10, "finest": 64, "hidden": 16}


def points(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    d = torch.randn(count, 3, generator=generator)
    return torch.rand(count, 4, generator=generator), torch.nn.functional.normalize(d, dim=1)


def awake(field: HashField) -> HashField:
    """Parameters large enough to matter."""
    with torch.no_grad():
        for group in field.groups():
            for parameter in group.parameters:
                parameter.uniform_(-0.5, 0.5)
    return field


def test_they_are_known():
    assert {"kplanes", "hash", "cam", "mlp"} <= set(MOVERS)


@pytest.mark.parametrize("name", MOVERS)
def test_shapes_and_gradients(name):
    torch.manual_seed(0)
    kind = field_class(name)
    field, (x, d) = kind(kind.Config(), MOVING), points(500)
    assert field.fused() is None
    log_density, rgb = field.decode(field.features(x), d)
    assert log_density.shape == (500,) and rgb.shape == (500, 3)
    torch.testing.assert_close(field.log_density(field.features(x)), log_density)
    grouped = [p for group in field.groups() for p in group.parameters]
    assert len(grouped) == len(set(grouped)) and set(grouped) == set(field.parameters())
    (log_density.sum() + rgb.square().sum()).backward()
    assert all(p.grad is not None for p in field.parameters())


@pytest.mark.parametrize("motion", ["grids", "warp"])
def test_the_hash_field_changes_with_time(motion):
    torch.manual_seed(0)
    field, (x, d) = awake(HashField(Config(motion=motion, **SMALL), MOVING)), points(200)
    later = x.clone()
    later[:, 3] = 1 - later[:, 3]
    now, then = (field.decode(field.features(at), d)[1] for at in (x, later))
    assert bool(((now - then).abs() > 1e-3).any())


def test_a_new_warp_moves_nothing():
    """At first a moving field is the still one, to the bit."""
    torch.manual_seed(0)
    x, _ = points(100)
    assert torch.equal(Warp()(x), x[:, :3])
    field = HashField(Config(motion="warp", **SMALL), MOVING)
    still = HashField(Config(**SMALL), RADIANCE)
    still.table = field.table
    assert torch.equal(field.features(x), still.features(x[:, :3].contiguous()))


def test_grids_over_space_time_are_those_of_their_axes():
    """A field whose only filled grid is that of x, y and t does not change along z."""
    torch.manual_seed(0)
    field, (x, _) = HashField(Config(**SMALL), MOVING), points(100)
    with torch.no_grad():
        field.table.zero_()
        for index, table in enumerate(field.grids.tables):
            table.uniform_(-1, 1) if index == 0 else table.zero_()
    for axis, changes in ((0, True), (1, True), (2, False), (3, True)):
        moved = x.clone()
        moved[:, axis] = 1 - moved[:, axis]
        assert (not torch.equal(field.features(moved), field.features(x))) == changes


@pytest.mark.parametrize("motion", ["warp", "direct"])
def test_cam_is_modulated_by_time_alone(motion):
    """With a new warp only the grid over time changes what a place looks like; a grid of zeros changes nothing."""
    torch.manual_seed(0)
    field, (x, _) = Cam(CamConfig(motion=motion, layers=2, width=16, count=8), MOVING), points(50)
    (grid,) = field.by_point.grids
    assert grid.shape == (5, 2 * 2)
    later = x.clone()
    later[:, 3] = 1 - later[:, 3]
    if motion == "warp":
        assert torch.equal(field.features(x), field.features(later))
    torch.nn.init.uniform_(grid, -0.5, 0.5)
    assert not torch.equal(field.features(x), field.features(later))
    bare = Cam(CamConfig(motion=motion, layers=2, width=16, count=8, modulation=False), MOVING)
    counts = [sum(p.numel() for p in f.parameters()) for f in (field, bare)]
    assert counts[0] - counts[1] == grid.numel()


def test_a_warp_before_a_native_network_is_that_of_its_layers():
    """In float64: the native op behind the warp, and torch layer by layer; values and gradients."""
    torch.manual_seed(0)
    field, (x, _) = Cam(CamConfig(layers=3, width=32, frequencies=2.0), MOVING).double(), points(300)
    x = x.double()
    with torch.no_grad():
        field.warp.shift.weight.uniform_(-0.05, 0.05)
        for grid in field.by_point.grids:
            grid.uniform_(-0.5, 0.5)
    assert field.whole() is not None and field.recalls
    weight, results = torch.rand(300, 32, dtype=torch.float64), []
    for features in (field.features(x), field.tile(x), field.recalled(x, field.features(x).detach())):
        field.zero_grad()
        (features * weight).sum().backward()
        results.append(
            (features.detach(), field.warp.hidden[0].weight.grad.clone(), field.by_point.grids[0].grad.clone())
        )
    for other in results[1:]:
        for value, expected in zip(other, results[0], strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
    assert float(results[0][1].abs().max()) > 0


def test_a_warp_by_the_native_op_is_that_of_its_layers():
    torch.manual_seed(0)
    warp, (x, _) = Warp().double(), points(200)
    x = x.double()
    with torch.no_grad():
        warp.shift.weight.uniform_(-0.2, 0.2)
    h = warp.encoding(x)
    for linear in warp.hidden:
        h = torch.relu(linear(h))
    expected = (x[:, :3] + warp.shift(h)).clamp(0, 1)
    torch.testing.assert_close(warp(x), expected, rtol=1e-12, atol=1e-12)
    assert float((expected - x[:, :3]).detach().abs().max()) > 0.01
