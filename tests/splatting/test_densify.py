"""Growth: halves of a Gaussian draw about what it drew, budgets hold, the dead give their places away."""

import math

import pytest
import torch

from neuralfields.ops.splat_pass import MEANS, OPACITY, SCALES, Packed
from neuralfields.splatting.densify import DEAD, SHIFT, SHORTER, State, grown, rotation_columns, split


def state_of(count: int, generator: torch.Generator) -> State:
    means = torch.rand(count, 3, generator=generator)
    scales = torch.log(0.05 + 0.05 * torch.rand(count, 3, generator=generator))
    rotations = torch.randn(count, 4, generator=generator)
    values = Packed.of(
        means, scales, rotations, torch.full((count,), 1.0), torch.rand(count, 4, 3, generator=generator)
    )
    return State(values, values.zeros_like(), values.zeros_like())


def test_growth_keeps_to_the_number_that_is_asked_for():
    generator = torch.Generator().manual_seed(0)
    state = state_of(500, generator)
    error = torch.rand(500, 4, generator=generator)
    for wanted in (500, 650, 5000):
        after = grown(state, error, wanted, 10.0, generator)
        assert len(after.values) == min(wanted, 1000) == len(after.first) == len(after.second)


def test_the_dead_and_needles_give_their_places_away():
    generator = torch.Generator().manual_seed(0)
    state = state_of(400, generator)
    state.values.core[:100, OPACITY] = math.log(0.5 * DEAD / (1 - 0.5 * DEAD))
    state.values.core[100:120, SCALES.start] += 8.0
    after = grown(state, torch.ones(400, 4), 400, 1e9, generator)
    assert len(after.values) == 400
    assert float(torch.sigmoid(after.values.core[:, OPACITY]).min()) >= DEAD
    longest, middle = after.values.core[:, SCALES].sort(1, descending=True).values.unbind(1)[:2]
    assert float((longest - middle).max()) < math.log(60)


def test_halves_lie_along_the_longest_axis():
    generator = torch.Generator().manual_seed(1)
    state = state_of(1, generator)
    state.values.core[0, SCALES.start + 1] = math.log(0.4)
    parent = state.values.core[0].clone()
    halves = split(state, torch.tensor([0]), generator).values.core
    axis = rotation_columns(parent[None, 6:10], torch.tensor([1]))[0]
    assert torch.allclose(halves[0, MEANS] - parent[MEANS], SHIFT * 0.4 * axis, atol=1e-6)
    assert torch.allclose(halves[1, MEANS] - parent[MEANS], -SHIFT * 0.4 * axis, atol=1e-6)
    assert halves[:, SCALES.start + 1].exp().tolist() == pytest.approx([SHORTER * 0.4] * 2, rel=1e-5)


def test_axes_are_those_of_the_rotation():
    from neuralfields.cameras import rotation_from_quaternion

    q = torch.randn(5, 4, generator=torch.Generator().manual_seed(3))
    for axis in range(3):
        got = rotation_columns(q, torch.full((5,), axis))
        want = torch.stack([torch.from_numpy(rotation_from_quaternion(row.numpy()))[:, axis] for row in q])
        assert torch.allclose(got.double(), want, atol=1e-6)
