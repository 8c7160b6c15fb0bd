"""Modulation by coordinates: nothing at the start, its equation afterwards, and every grid learns."""

from dataclasses import replace
from math import exp, pi

import pytest
import torch
from torch.nn.functional import layer_norm, normalize

from neuralfields.domain import RADIANCE, Domain
from neuralfields.fields.cam import Cam, Config, Modulation, angles, hook
from neuralfields.fields.mlp import Config as MlpConfig
from neuralfields.fields.mlp import Mlp
from neuralfields.ops.grid import grid_interpolate

IMAGE, SHAPE, VIDEO = Domain("image", 2, 3), Domain("shape", 3, 1), Domain("video", 3, 3)
SOUND, MOVING = Domain("sound", 1, 1), Domain("radiance", 4, 4)
SMALL = Config(layers=2, width=16, count=8, nodes=5)
CASES = [
    (IMAGE, "planes"), (SHAPE, "planes"), (VIDEO, "planes"), (SOUND, "planes"), (MOVING, "planes"), (MOVING, "both"),
    (RADIANCE, "planes"), (RADIANCE, "direction"), (RADIANCE, "both"),
]  # fmt: skip


def make(config: Config, domain: Domain) -> Cam:
    torch.manual_seed(3)
    return Cam(config, domain)


def outputs(field: Mlp, count: int = 200) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    x = torch.rand(count, field.domain.dimensions, generator=generator)
    f = field.features(x)
    if not field.domain.radiance:
        return [field.values(f)]
    return list(field.decode(f, normalize(torch.randn(count, 3, generator=generator), dim=1)))


@pytest.mark.parametrize(("domain", "coordinates"), CASES)
@pytest.mark.parametrize("normalise", [True, False])
def test_at_the_start_it_is_the_layer_without_grids_bit_for_bit(domain: Domain, coordinates: str, normalise: bool):
    config = replace(SMALL, coordinates=coordinates, normalise=normalise)
    without = replace(config, modulation=False)
    assert all(map(torch.equal, *(outputs(make(c, domain)) for c in (config, without))))


@pytest.mark.parametrize("domain", [IMAGE, RADIANCE])
def test_without_grids_and_normalisation_it_is_the_plain_network(domain: Domain):
    field = make(replace(SMALL, modulation=False, normalise=False), domain)
    torch.manual_seed(3)
    plain = Mlp(MlpConfig(layers=2, width=16, count=8), domain)
    assert all(map(torch.equal, outputs(field), outputs(plain)))


SCALES = {"exponential": torch.exp, "linear": lambda a: 1 + a}


@torch.no_grad()
@pytest.mark.parametrize("scale", SCALES)
def test_the_equation_on_an_image(scale: str):
    field = make(replace(SMALL, scale=scale), IMAGE).double()
    grid = field.by_point.grids[0].uniform_(-1, 1)
    x = torch.rand(50, 2, dtype=torch.float64)
    values = grid_interpolate(x, grid)
    h = field.encoding(x)
    for layer, linear in enumerate(field.trunk.body.linears):
        h = layer_norm(linear(h), (16,))
        assert float(h.mean(1).abs().max()) < 1e-12 and float((h.var(1, unbiased=False) - 1).abs().max()) < 0.01
        h = torch.relu(SCALES[scale](values[:, layer, None]) * h + values[:, 2 + layer, None])
    torch.testing.assert_close(field.values(field.features(x)), field.readout(h))


@torch.no_grad()
@pytest.mark.parametrize(("scale", "product"), [("exponential", exp(3.25)), ("linear", 1.5 * 0.75 * 4)])
def test_planes_multiply(scale: str, product: float):
    """Constant grids: gamma and beta are the products that the module's equations say."""
    field = make(replace(SMALL, scale=scale), SHAPE)
    for grid, number in zip(field.by_point.grids, (0.5, -0.25, 3.0), strict=True):
        assert grid.shape == (5, 5, 4)
        grid.fill_(number)
    for gamma, beta in field.by_point(torch.rand(10, 3)):
        assert gamma.shape == (10, 1)
        torch.testing.assert_close(gamma, torch.full((10, 1), product))
        torch.testing.assert_close(beta, torch.full((10, 1), 0.5 * 0.75 * 4))


def test_a_scale_that_has_grown_without_bound_stays_a_number():
    """Behind it the next layer is normalised, so that nothing holds it: three grids of 30 overflow float32."""
    field = make(SMALL, SHAPE)
    with torch.no_grad():
        for grid in field.by_point.grids:
            grid[..., :2] = 30.0
    value = outputs(field)[0]
    value.sum().backward()
    assert bool(torch.isfinite(value).all())
    assert all(bool(torch.isfinite(p.grad).all()) for p in field.parameters() if p.grad is not None)


@torch.no_grad()
@pytest.mark.parametrize(("domain", "axis", "numbers"), [(VIDEO, 2, 16), (MOVING, 3, 1), (SOUND, 0, 1)])
def test_time_reads_one_grid_of_a_number_a_feature_or_one_for_all(domain: Domain, axis: int, numbers: int):
    field = make(SMALL, domain)
    (grid,) = field.by_point.grids
    assert grid.shape == (5, 2 * 2 * numbers)
    grid.normal_()
    x = torch.rand(30, domain.dimensions)
    other = torch.rand(30, domain.dimensions)
    other[:, axis] = x[:, axis]
    for (gamma, beta), (gamma_2, beta_2) in zip(field.by_point(x), field.by_point(other), strict=True):
        assert gamma.shape == (30, numbers) and torch.equal(gamma, gamma_2) and torch.equal(beta, beta_2)


@pytest.mark.parametrize(("domain", "coordinates"), CASES)
def test_every_grid_leaves_the_start(domain: Domain, coordinates: str):
    """The product of three shifts that are all 0 would have no gradient for ever."""
    field = make(replace(SMALL, coordinates=coordinates), domain)
    groups = {group.role: group for group in reversed(field.groups())}  # the warp of a moving scene is the last
    assert groups["grid"].learning_rate == pytest.approx(10 * groups["network"].learning_rate)
    expected = [m for m in (field.by_point, field.by_direction) if m is not None]
    assert set(groups["grid"].parameters) == {p for m in expected for p in m.parameters()}
    for _ in range(2):
        sum(value.square().sum() for value in outputs(field)).backward()
        with torch.no_grad():
            for p in groups["grid"].parameters:
                half = p.shape[-1] // 2
                assert float(p.grad[..., :half].abs().max()) > 0
                p -= 0.01 * p.grad.sign()
    for p in groups["grid"].parameters:
        assert float(p.grad[..., half:].abs().max()) > 0


def test_angles():
    axes = [[1.0, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1], [-1, 0, 0], [0.5**0.5, 0, 0.5**0.5]]
    expected = [[0.5, 0.5], [0.75, 0.5], [0.25, 0.5], [0.5, 1], [0.5, 0], [1, 0.5], [0.5, 0.75]]
    torch.testing.assert_close(angles(torch.tensor(axes)), torch.tensor(expected))


@torch.no_grad()
def test_directions_change_colour_alone_and_without_a_seam():
    field = make(replace(SMALL, coordinates="direction"), RADIANCE)
    assert field.by_point is None
    field.by_direction.grids[0].normal_()
    f = field.features(torch.rand(100, 3))
    turns = torch.tensor([0.3, pi - 1e-5, -pi + 1e-5])
    views = [torch.stack([turn.cos(), turn.sin(), torch.tensor(0.2)]).expand(100, 3) / 1.04**0.5 for turn in turns]
    (density, here), (same, near), (_, beyond) = (field.decode(f, view) for view in views)
    assert torch.equal(density, same) and torch.equal(density, field.log_density(f))
    assert float((here - near).abs().max()) > 0.01 and float((near - beyond).abs().max()) < 1e-3


@torch.no_grad()
def test_directions_read_the_grid():
    """The colour network by hand, at a direction on a node."""
    from neuralfields.ops.spherical_harmonics import spherical_harmonics

    field = make(replace(SMALL, coordinates="direction", azimuths=4, normalise=False), RADIANCE)
    grid = field.by_direction.grids[0].normal_()
    f, view = field.features(torch.rand(20, 3)), torch.tensor([[0.0, 1.0, 0.0]]).expand(20, 3)
    a, b = grid[3, 1].chunk(2)  # a quarter beyond the middle of four nodes around, the middle of three elevations
    h = torch.relu(f @ field.heads.density[0].T) @ field.heads.density[1].T
    h = torch.cat([h, spherical_harmonics(view, 4)], 1)
    for layer in range(2):
        h = torch.relu(a[layer].exp() * (h @ field.heads.colour[layer].T) + b[layer])
    torch.testing.assert_close(field.decode(f, view)[1], torch.sigmoid(h @ field.heads.colour[2].T))


def test_nothing_to_do_is_no_hook():
    assert hook(None, False) is None
    h = torch.randn(7, 16)
    torch.testing.assert_close(hook(None, True)(0, h, False), layer_norm(h, (16,)))
    pairs = Modulation(((0, 1),), (4, 4), (1, 1), "exponential")(torch.rand(7, 2))
    assert torch.equal(hook(pairs, False)(1, h, False), h)
    assert torch.equal(hook(pairs, False)(1, h, True), torch.relu(h))


@pytest.mark.parametrize(
    "bad", [{"coordinates": "x"}, {"scale": "x"}, {"nodes": 1}, {"nodes": 10**6}, {"layers": 0}, {"width": 10**6},
            {"azimuths": 1}, {"elevations": 0}, {"learning_rate": 1.0}, {"frequencies": -1.0}, {"encoding": "wire"},
            {"normalise": True, "encoding": "siren"}]
)  # fmt: skip
def test_a_config_is_guarded(bad: dict):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Config(**bad)


def test_grids_help_a_small_network_with_edges():
    """Letters' edges: at the same steps and width the grids more than halve the error."""
    x = torch.rand(1500, 2, generator=torch.Generator().manual_seed(0))
    y = ((x * 6).floor().sum(1, keepdim=True) % 2).expand(-1, 3)
    errors = []
    for modulation in (False, True):
        field = make(Config(layers=2, width=32, count=16, nodes=16, frequencies=4.0, modulation=modulation), IMAGE)
        groups = [{"params": list(g.parameters), "lr": g.learning_rate} for g in field.groups()]
        optimiser = torch.optim.Adam(groups)
        for _ in range(50):
            optimiser.zero_grad()
            loss = (field.values(field.features(x)) - y).square().mean()
            loss.backward()
            optimiser.step()
        errors.append(float(loss.detach()))
    assert errors[1] < 0.5 * errors[0], errors
