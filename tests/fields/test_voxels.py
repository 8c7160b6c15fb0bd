"""Voxels: what they are between the nodes, how they grow, and what keeps them smooth."""

import math

import pytest
import torch

from neuralfields.domain import RADIANCE, Domain
from neuralfields.fields import lowrank, triplane
from neuralfields.fields.lowrank import LowRankField
from neuralfields.fields.triplane import TriplaneField
from neuralfields.fields.voxels import Config, VoxelField
from neuralfields.layers.grids import PENALTY_EVERY, growth_shares, resized, stage_points, variation
from neuralfields.trainers.optimiser import Optimiser
from tests.support.grid_truths import error, learnt, lopsided, points
from tests.support.settings import set_training
from tests.support.small_training import same_bits, small_training, steps

SMALL = Config(resolution=9, colour_resolution=5, doublings=2)
SHAPE = Domain("shape", 3, 1)
DOMAINS = [RADIANCE, SHAPE, Domain("image", 2, 3), Domain("sound", 1, 2)]


def nodes(*counts: int) -> torch.Tensor:
    """Coordinates of a grid's nodes, [*counts, D]."""
    return torch.stack(torch.meshgrid(*[torch.linspace(0, 1, n) for n in counts], indexing="ij"), -1)


def noisy(field: VoxelField, seed: int = 3) -> VoxelField:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return field


def directions(count: int) -> torch.Tensor:
    return torch.nn.functional.normalize(points(count, 3, seed=9) - 0.5, dim=1)


def test_a_function_linear_in_each_axis_is_exact_between_the_nodes():
    """A different slope along each axis: none is exchanged with another."""
    field = VoxelField(SMALL)
    slopes = torch.tensor([1.0, -2.0, 5.0])
    with torch.no_grad():
        field.grid.copy_((nodes(9, 9, 9) @ slopes)[..., None])
        field.colour[..., 3] = nodes(5, 5, 5) @ slopes.flip(0)
    x = points(500, 3)
    f = field.features(x)
    torch.testing.assert_close(field.log_density(f), x @ slopes)
    torch.testing.assert_close(f[:, 4], x @ slopes.flip(0))


def test_colours_are_sums_of_harmonics():
    field, x, d = noisy(VoxelField(SMALL)), points(200, 3), directions(200)
    f = field.features(x)
    there, back = field.decode(f, d)[1].logit(), field.decode(f, -d)[1].logit()
    constant = f[:, 1::4] / math.sqrt(4 * math.pi)  # the first harmonic; the three of degree 2 change sign with d
    torch.testing.assert_close((there + back) / 2, constant, rtol=1e-3, atol=1e-3)
    assert float((there - back).detach().abs().mean()) > 0.1
    grey = VoxelField(SMALL)
    torch.testing.assert_close(grey.decode(grey.features(x), d)[1], torch.full((200, 3), 0.5))
    assert not bool(grey.log_density(grey.features(x)).any())


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda domain: domain.kind)
def test_growth_keeps_the_function_and_ends_in_the_shapes_of_the_config(domain):
    field = VoxelField(Config(resolution=25, colour_resolution=5, doublings=2), domain)  # 24 is a multiple of 4
    final = {name: p.shape for name, p in field.named_parameters()}
    field.grow(0)
    assert all((a - 1) * 4 == b - 1 for a, b in zip(field.grid.shape[:-1], final["grid"][:-1], strict=True))
    noisy(field)
    x = points(500, domain.dimensions)
    for stage in (1, 2):
        before, old = field.features(x), list(field.parameters())
        field.grow(stage)
        assert not set(old) & set(field.parameters())
        torch.testing.assert_close(field.features(x), before, rtol=1e-3, atol=1e-3)
    assert {name: p.shape for name, p in field.named_parameters()} == final


def test_an_optimiser_goes_on_after_growth():
    field = VoxelField(SMALL, SHAPE)
    field.grow(0)
    optimiser = Optimiser(field)
    for stage in (0, 1, 2):
        field.grow(stage)
        optimiser.renew()
        field.values(field.features(points(100, 3))).square().add(field.grid.mean()).sum().backward()
        optimiser.step(1.0)
        assert float(field.grid.detach().abs().max()) > 0


def test_stages_rise_and_end_where_they_should():
    assert VoxelField(SMALL).stages() == pytest.approx((SMALL.grown / 2, SMALL.grown))
    assert growth_shares(0, 0.5) == ()
    assert [stage_points(129, 2, stage) for stage in (0, 1, 2)] == [33, 65, 129]
    assert [stage_points(100, 3, stage) for stage in (0, 3)] == [14, 100]


def test_resizing_samples_the_old_function():
    old = torch.randn(4, 1, 6, 2, generator=torch.Generator().manual_seed(0))
    new = resized(old, (7, 3, 11))
    assert new.shape == (7, 3, 11, 2)
    torch.testing.assert_close(new[::2, :1, ::2].detach(), old)
    torch.testing.assert_close(new[1, 2, 0].detach(), (old[0, 0, 0] + old[1, 0, 0]) / 2)
    back = resized(new, (4, 1, 6))
    torch.testing.assert_close(back.detach(), old)


def test_variation_is_of_the_axes_asked_for():
    ramp = (nodes(5, 9, 3) @ torch.tensor([4.0, 16.0, 6.0]))[..., None]  # neighbours differ by 1, 2 and 3
    for axis, difference in enumerate((1.0, 2.0, 3.0)):
        seen = variation(ramp, (axis,), 50, torch.Generator().manual_seed(0))
        torch.testing.assert_close(seen, torch.full((50, 1), difference**2))
    every = variation(ramp, (0, 1, 2), 50, torch.Generator().manual_seed(0))
    assert float(every.mean()) == pytest.approx((1 + 4 + 9) / 3, rel=1e-4)
    assert float(variation(torch.full((5, 1, 4, 2), 7.0), (0, 1, 2), 50, torch.Generator()).max()) == 0


def looks(field: VoxelField) -> list[torch.Tensor | None]:
    return [field.penalty() for _ in range(2 * PENALTY_EVERY)]


def test_the_penalty_looks_now_and_then_and_the_same_way_again():
    field = VoxelField(SMALL)
    assert [p is None for p in looks(field)] == [True, True, True, False] * 2
    assert float(looks(field)[-1].detach()) == 0  # constant grids
    noisy(field)
    state = {name: value.clone() for name, value in field.state_dict().items()}
    first = [p for p in looks(field) if p is not None]
    assert float(first[0].detach()) > 0 and float(first[0].detach()) != float(first[1].detach())
    field.load_state_dict(state)
    again = [p for p in looks(field) if p is not None]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    free = VoxelField(Config(resolution=9, density_variation=0, colour_variation=0))
    assert looks(free) == [None] * 2 * PENALTY_EVERY


@pytest.mark.parametrize(
    ("kind", "config"),
    [(VoxelField, SMALL), (LowRankField, lowrank.Config(resolution=9)), (TriplaneField, triplane.Config(resolution=9))],
)
def test_a_resumed_fit_grows_and_looks_as_the_unbroken_one(kind, config, monkeypatch):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    set_training(monkeypatch, samples=1 << 10)
    try:
        one, two = (small_training(kind=kind, config=config) for _ in range(2))
        steps(one, 4, of=8)
        tensors = {name: tensor.clone() for name, tensor in one.tensors().items()}
        two.restore(tensors, one.counters())
        assert one.stage > 0
        steps(one, 4, of=8)
        steps(two, 4, of=8)
        same_bits(one, two)
    finally:
        torch.set_num_threads(threads)


def test_the_penalty_smooths():
    field = noisy(VoxelField(Config(resolution=9, colour_resolution=9, density_variation=1.0, colour_variation=1.0)))
    optimiser, rough = Optimiser(field), []
    for _ in range(40 * PENALTY_EVERY):
        penalty = field.penalty()
        if penalty is not None:
            rough.append(float(penalty.detach()))
            penalty.backward()
            optimiser.step(0.5)
    assert rough[-1] < rough[0] / 5


def test_sizes():
    """Whatever the number of axes, there are about as many nodes."""
    config = Config(resolution=33, colour_resolution=17, degree=3)
    assert VoxelField(config).bytes() == 4 * (33**3 + 27 * 17**3)
    for domain in (Domain("image", 2, 3), Domain("sound", 1, 3), Domain("video", 3, 3)):
        assert VoxelField(config, domain).bytes() / (4 * 3 * 33**3) == pytest.approx(1, abs=0.01)
    clip = Domain("video", 3, 1, lengths=(66, 33, 100))
    assert VoxelField(config, clip).grid.numel() == pytest.approx(33**3, rel=0.03)
    assert VoxelField(config, Domain("image", 2, 3, lengths=(20, 7))).grid.shape == (20, 7, 3)
    in_time = VoxelField(config, Domain("radiance", 4))
    assert in_time.grid.ndim == 5 and in_time.features(points(5, 4)).shape == (5, 28)


def test_an_analytic_function_is_learnt_in_all_three_axes():
    field = VoxelField(Config(resolution=9, doublings=0), SHAPE)
    says = learnt(field, lopsided, 3, 120)
    assert error(says, lopsided, 3) < 0.1
    for order in ([1, 0, 2], [0, 2, 1], [2, 1, 0]):
        assert error(says, lambda x, o=order: lopsided(x[:, o]), 3) > 0.5


def test_nodes_are_initialised_from_a_teacher():
    """Log-densities linear in x, and logits of colours that are harmonics of degree 2, come back between the nodes."""
    field = VoxelField(Config(resolution=9, colour_resolution=5, doublings=0))
    steep, tint = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.3, -0.4, 0.6])

    def seen(x: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x @ steep, torch.sigmoid((x[..., :1] - 0.5) * tint + directions * tint)

    def teacher(x: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return seen(x, directions[:, None])

    assert field.initialise_from(teacher)
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(200, 3, generator=generator)
    directions = torch.nn.functional.normalize(torch.randn(200, 3, generator=generator), dim=1)
    for mine, theirs in zip(field.decode(field.features(x), directions), seen(x, directions), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    assert not VoxelField(Config(resolution=9), Domain("image", 2, 3, (8, 8))).initialise_from(teacher)


def test_nodes_that_no_picture_shows_are_not_asked_for():
    """A node counts in the cells around it, so those within a cell of what is shown are read, and no others."""
    field, asked = VoxelField(Config(resolution=9, colour_resolution=5, doublings=0)), []

    def teacher(x: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(len(x))
        return torch.full((len(x),), 3.0), torch.full((len(directions), len(x), 3), 0.75)

    assert field.initialise_from(teacher, lambda x, reach: x[:, 0] < 0.3 + reach)
    assert asked == [4 * 9 * 9, 3 * 5 * 5]
    density, colour = field.grid[..., 0], field.colour.abs().amax(-1)
    assert bool((density[:4] == 3).all()) and not density[4:].any()
    assert bool((colour[:3] > 0).all()) and not colour[3:].any()
