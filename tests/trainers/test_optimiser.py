"""The optimiser against the plain-torch Adam, for every architecture."""

import copy

import pytest
import torch

from neuralfields.fields import field_class, field_names
from neuralfields.fields.field import Field
from neuralfields.ops.adam import adam_reference
from neuralfields.trainers.optimiser import BETAS, EPSILON, Optimiser

GRID = {"levels": 2, "table": 8, "finest": 32, "hidden": 16}
SMALL = {
    "hash": GRID, "surface": GRID, "voxels": {"resolution": 17, "colour_resolution": 9},
    "kplanes": {"resolutions": (8, 16)}, "triplane": {"resolution": 17}, "lowrank": {"resolution": 17},
}  # fmt: skip


def make(name: str = "hash", seed: int = 0) -> Field:
    torch.manual_seed(seed)
    kind = field_class(name)
    return kind(kind.Config(**SMALL.get(name, {})))


def give_gradients(field: Field, seed: int) -> None:
    """Random gradients, of which two thirds are exactly zero."""
    generator = torch.Generator().manual_seed(seed)
    for p in field.parameters():
        hit = torch.rand(p.shape, generator=generator) < 1 / 3
        p.grad = torch.randn(p.shape, generator=generator) * hit


def names_of(field: Field) -> dict[torch.Tensor, str]:
    return {p: name for name, p in field.named_parameters()}


@pytest.mark.parametrize("name", field_names())
def test_groups_cover_every_parameter_exactly_once(name: str) -> None:
    field = make(name)
    grouped = [id(p) for group in field.groups() for p in group.parameters]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in field.parameters()}
    assert all(group.learning_rate > 0 and group.role in ("grid", "network", "pose") for group in field.groups())
    assert set(Optimiser(field).moments) == set(field.parameters())


@pytest.mark.parametrize("name", field_names())
def test_three_steps_are_those_of_the_reference(name: str) -> None:
    field = make(name)
    twin, optimiser = copy.deepcopy(field), Optimiser(field)
    moments = {p: (torch.zeros_like(p), torch.zeros_like(p)) for p in twin.parameters()}
    for step, decay in enumerate((1.0, 0.5, 0.1), start=1):
        give_gradients(field, step)
        give_gradients(twin, step)
        optimiser.step(decay)
        for group in twin.groups():
            for p in group.parameters:
                rise = min(1.0, step / group.warmup) if group.warmup else 1.0
                settings = (group.learning_rate * decay * rise, *BETAS, EPSILON)
                adam_reference(p, p.grad, moments[p], step, settings, group.sparse)
    for (label, p), q in zip(field.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6, msg=lambda text, label=label: f"{label}: {text}")


def test_sparse_entries_without_gradient_rest_and_dense_ones_go_on() -> None:
    field = make()
    optimiser = Optimiser(field)
    give_gradients(field, 1)
    optimiser.step(1.0)
    assert {group.sparse for group in optimiser.groups} == {True, False}
    before = {p: (p.detach().clone(), *(m.clone() for m in optimiser.moments[p])) for p in field.parameters()}
    for p in field.parameters():
        p.grad = torch.zeros_like(p)
    optimiser.step(1.0)
    for group in optimiser.groups:
        for p in group.parameters:
            now = (p.detach(), *optimiser.moments[p])
            same = [torch.equal(a, b) for a, b in zip(before[p], now, strict=True)]
            assert same == [group.sparse] * 3


def test_gradients_are_cleared_and_their_absence_changes_nothing() -> None:
    field = make()
    optimiser = Optimiser(field)
    give_gradients(field, 1)
    optimiser.step(1.0)
    assert all(p.grad is None or not bool(p.grad.any()) for p in field.parameters())
    for p in field.parameters():
        p.grad = None
    before = [p.detach().clone() for p in field.parameters()]
    optimiser.step(1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, field.parameters(), strict=True))


def test_decay_scales_the_step() -> None:
    moved = []
    for decay in (1.0, 0.25):
        field = make()
        before = field.table.detach().clone()
        give_gradients(field, 1)
        Optimiser(field).step(decay)
        moved.append(field.table.detach() - before)
    torch.testing.assert_close(moved[1], moved[0] * 0.25, rtol=1e-3, atol=1e-7)


def test_state_goes_round_and_the_next_step_is_the_same() -> None:
    one, two = make(seed=0), make(seed=1)
    first, second = Optimiser(one), Optimiser(two)
    for step in (1, 2):
        give_gradients(one, step)
        first.step(1.0)
    state = {name: tensor.clone() for name, tensor in first.state(names_of(one)).items()}
    assert sorted(state) == sorted(f"{kind}.{name}" for name in names_of(one).values() for kind in "mv")
    two.load_state_dict(one.state_dict())
    second.load(names_of(two), state, first.steps)
    for field, optimiser in ((one, first), (two, second)):
        give_gradients(field, 3)
        optimiser.step(0.7)
    assert first.steps == second.steps == 3
    for (name, p), q in zip(one.named_parameters(), two.parameters(), strict=True):
        assert torch.equal(p, q), name
    after = second.state(names_of(two))
    assert all(torch.equal(tensor, after[name]) for name, tensor in first.state(names_of(one)).items())


def test_a_state_is_copied_in_not_shared() -> None:
    field = make()
    optimiser = Optimiser(field)
    state = {name: torch.ones_like(tensor) for name, tensor in optimiser.state(names_of(field)).items()}
    optimiser.load(names_of(field), state, 1)
    give_gradients(field, 1)
    optimiser.step(1.0)
    assert all(bool((tensor == 1).all()) for tensor in state.values())


def test_a_rate_may_rise_from_zero() -> None:
    """Adam's first step is the rate itself, whatever the gradient: a hundredth of it in the first of 100 steps."""
    field = make("mlp")
    (group,), parameter = field.groups(), next(field.parameters())
    optimiser, before = Optimiser(field), parameter.detach().clone()
    parameter.grad = torch.ones_like(parameter)
    optimiser.step(1.0)
    moved = before - parameter.detach()
    torch.testing.assert_close(moved, torch.full_like(before, group.learning_rate / 100), rtol=1e-3, atol=1e-7)
