"""Low-rank fields: products of vectors and matrices are what they say, and no axis is exchanged with another."""

import dataclasses

import pytest
import torch

from neuralfields.domain import RADIANCE, Domain
from neuralfields.errors import UsageError
from neuralfields.fields.lowrank import RESOLUTION, Config, LowRankField
from neuralfields.layers.grids import PENALTY_EVERY
from tests.support.grid_truths import error, learnt, lopsided, points

SMALL = Config(resolution=9, density_rank=2, colour_rank=3, doublings=2)
CP = dataclasses.replace(SMALL, decomposition="cp")
SHAPE = Domain("shape", 3, 1)
LINE = torch.linspace(0, 1, 9)


def silent(config: Config, domain: Domain = RADIANCE) -> LowRankField:
    """A field all of whose components are 0."""
    torch.manual_seed(0)
    field = LowRankField(config, domain)
    with torch.no_grad():
        for factor in (*field.vectors, *field.matrices):
            factor.zero_()
    return field


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_vm_of_a_vector_times_a_matrix_is_exact(axis):
    """At every point, not only at nodes: a vector linear in its axis times a matrix bilinear in the other two."""
    field, component = silent(SMALL), 1
    first, second = (a for a in range(3) if a != axis)
    with torch.no_grad():
        field.vectors[axis][:, component] = 1 + 2 * LINE
        field.matrices[axis][..., component] = 3 * LINE[:, None] - LINE[:, None] * LINE + 0.5
    x = points(400, 3)
    a, b = x[:, first], x[:, second]
    truth = (1 + 2 * x[:, axis]) * (3 * a - a * b + 0.5)
    torch.testing.assert_close(field.log_density(field.features(x)), truth)


def test_vm_of_any_rank_one_function_is_exact_at_the_nodes():
    generator = torch.Generator().manual_seed(5)
    along, across = torch.randn(9, generator=generator), torch.randn(9, 9, generator=generator)
    field = silent(SMALL)
    with torch.no_grad():
        field.vectors[1][:, 0], field.matrices[1][..., 0] = along, across
    i, j, k = torch.meshgrid(*[torch.arange(9)] * 3, indexing="ij")
    x = torch.stack([i, j, k], -1).reshape(-1, 3) / 8
    truth = along[j] * across[i, k]
    torch.testing.assert_close(field.log_density(field.features(x)), truth.reshape(-1))


@pytest.mark.parametrize("dimensions", [3, 4])
def test_cp_is_the_product_of_vectors(dimensions):
    """With time too: four vectors."""
    field = silent(CP, Domain("radiance", dimensions))
    slopes = (2.0, -1.0, 3.0, 0.5)[:dimensions]
    with torch.no_grad():
        for vector, slope in zip(field.vectors, slopes, strict=True):
            vector[:, 0] = 1 + slope * LINE
    x = points(300, dimensions)
    truth = (1 + x * torch.tensor(slopes)).prod(1)
    torch.testing.assert_close(field.log_density(field.features(x)), truth)


def test_components_add_and_the_shift_is_what_is_left_without_them():
    field = silent(dataclasses.replace(SMALL, shift=-3.0))
    x = points(50, 3)
    torch.testing.assert_close(field.log_density(field.features(x)), torch.full((50,), -3.0))
    with torch.no_grad():
        for factor in (*field.vectors, *field.matrices):
            factor.fill_(2)  # three axes of two components, each 4
    torch.testing.assert_close(field.log_density(field.features(x)), torch.full((50,), 3 * 2 * 4 - 3.0))


def test_density_and_colour_have_components_of_their_own():
    torch.manual_seed(0)
    field, x = LowRankField(SMALL), points(100, 3)
    before = field.features(x)
    with torch.no_grad():
        for factor in (*field.vectors, *field.matrices):
            factor[..., SMALL.density_rank :] *= 2
    after = field.features(x)
    assert torch.equal(after[:, 0], before[:, 0])
    torch.testing.assert_close(after[:, 1:], 4 * before[:, 1:])  # a vector and a matrix, doubled both


@pytest.mark.parametrize("domain", [RADIANCE, Domain("image", 2, 3), SHAPE], ids=lambda domain: domain.kind)
@pytest.mark.parametrize("kind", ["vm", "cp"])
def test_parameters_are_counted_by_the_formula(kind, domain):
    c, d = dataclasses.replace(SMALL, decomposition=kind), domain.dimensions
    rank = c.colour_rank + (c.density_rank if domain.radiance else 0)
    grids = d * 9 * rank + (d * 9 ** (d - 1) * rank if kind == "vm" else 0)
    basis = c.colour_rank * (d if kind == "vm" else 1) * (c.code - domain.radiance)
    inputs, outputs = (c.code + c.degree**2, 3) if domain.radiance else (c.code, domain.channels)
    network = inputs * c.hidden + c.hidden**2 + c.hidden * outputs
    assert LowRankField(c, domain).bytes() == 4 * (grids + basis + network)


@pytest.mark.parametrize("config", [SMALL, CP], ids=lambda config: config.decomposition)
@pytest.mark.parametrize("domain", [RADIANCE, Domain("image", 2, 3)], ids=lambda domain: domain.kind)
def test_growth_keeps_the_function(config, domain):
    torch.manual_seed(0)
    field = LowRankField(config, domain)
    final = [p.shape for p in field.parameters()]
    field.grow(0)
    assert all(set(v.shape[:-1]) == {3} for v in (*field.vectors, *field.matrices))
    x = points(300, domain.dimensions)
    for stage in (1, 2):
        before = field.features(x)
        field.grow(stage)
        torch.testing.assert_close(field.features(x), before, rtol=1e-4, atol=1e-6)
    assert [p.shape for p in field.parameters()] == final


def looked(field: LowRankField) -> torch.Tensor:
    """The next look's penalty."""
    return [field.penalty() for _ in range(PENALTY_EVERY)][-1].detach()


def test_sparsity_is_of_the_densitys_factors_alone():
    field = silent(dataclasses.replace(SMALL, sparsity=0.5))
    with torch.no_grad():
        for factor in (*field.vectors, *field.matrices):
            factor[..., SMALL.density_rank :] = 9
    assert float(looked(field)) == 0
    with torch.no_grad():
        for factor in (*field.vectors, *field.matrices):
            factor[..., : SMALL.density_rank] = -2
    assert float(looked(field)) == pytest.approx(PENALTY_EVERY * 0.5 * 6 * 2)  # six factors


@pytest.mark.parametrize(("config", "factors"), [(SMALL, 3), (CP, 3)], ids=["vm", "cp"])
def test_variation_is_zero_for_what_is_constant(config, factors):
    field = silent(dataclasses.replace(config, sparsity=0, variation=2.0))
    matrices = field.matrices if config.decomposition == "vm" else field.vectors
    with torch.no_grad():
        for factor in matrices:
            factor.fill_(3)
    assert float(looked(field)) == 0
    with torch.no_grad():
        for factor in matrices:
            factor.copy_(8 * LINE.reshape(-1, *[1] * (factor.ndim - 1)).expand(factor.shape))  # 1 between neighbours
    # The mean over the axes of a factor, along one of which it rises, times their number.
    assert float(looked(field)) == pytest.approx(PENALTY_EVERY * 2.0 * factors, rel=1e-4)


def test_without_weights_there_is_no_penalty():
    field = silent(dataclasses.replace(SMALL, sparsity=0, variation=0))
    assert [field.penalty() for _ in range(2 * PENALTY_EVERY)] == [None] * 2 * PENALTY_EVERY


@pytest.mark.parametrize("kind", ["vm", "cp"])
def test_an_analytic_function_is_learnt_in_all_three_axes(kind):
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, decomposition=kind, colour_rank=8, doublings=0, initial=0.1)
    says = learnt(LowRankField(config, SHAPE), lopsided, 3, 100)
    assert error(says, lopsided, 3) < 0.15
    for order in ([1, 0, 2], [0, 2, 1], [2, 1, 0]):
        assert error(says, lambda x, o=order: lopsided(x[:, o]), 3) > 0.5


def test_a_signals_samples_bound_the_points():
    def lengths(config: Config, domain: Domain) -> list[int]:
        return [len(vector) for vector in LowRankField(config, domain).vectors]

    image, clip = Domain("image", 2, 3, lengths=(70, 300)), Domain("video", 3, 3, lengths=(250, 300, 5))
    assert lengths(Config(), image) == [70, 300]
    assert lengths(SMALL, image) == [9, 9]
    assert lengths(Config(), clip) == [RESOLUTION, RESOLUTION, 5]
    assert lengths(Config(), RADIANCE) == [RESOLUTION] * 3
    matrices = LowRankField(Config(), clip).matrices
    assert [tuple(matrix.shape[:2]) for matrix in matrices] == [(193, 5), (193, 5), (193, 193)]


def test_matrices_have_no_time():
    with pytest.raises(UsageError, match="vm takes at most 3 coordinates"):
        LowRankField(SMALL, Domain("radiance", 4))
