"""Networks end as their averages over the last steps; a fit in 8 bits, whose weights are rounded in turn, does not."""

import pytest
import torch
from torch import nn

from neuralfields.fields.field import ParameterGroup
from neuralfields.trainers import radiance as training
from neuralfields.trainers.weight_average import AVERAGED, DECAY, MovingAverage, network_weights
from tests.support.settings import set_training
from tests.support.small_training import same_bits, small_training, steps

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few thousand samples a step."""
    set_training(monkeypatch, samples=1 << 12)


def weights(fit: training.RadianceTrainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in fit.field.named_parameters()}


def test_the_average_of_what_was_seen():
    weight, table = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
    groups = [ParameterGroup("network", (weight,), 1.0), ParameterGroup("grid", (table,), 1.0)]
    averages, want = MovingAverage(), 0.0
    for step in range(5):
        with torch.no_grad():
            weight.fill_(step + 1.0), table.fill_(step + 1.0)
        averages.follow(network_weights(groups))
        want = 1.0 if step == 0 else DECAY * want + (1 - DECAY) * (step + 1)
    assert torch.equal(weight, torch.full((3,), 5.0))  # nothing changes on the way
    averages.settle()
    torch.testing.assert_close(weight.detach(), torch.full((3,), want))
    assert torch.equal(table, torch.full((3,), 5.0)) and not averages.of
    averages.settle()
    torch.testing.assert_close(weight.detach(), torch.full((3,), want))


def test_without_a_decay_it_is_the_mean():
    weight, averages = torch.zeros(3), MovingAverage(decay=None)
    assert not averages.settle()
    for step in range(5):
        weight.fill_(step + 1.0)
        averages.follow([weight])
        if step == 2:  # a checkpoint's way
            kept, averages = averages, MovingAverage(decay=None)
            averages.restore({weight: "w"}, kept.tensors({weight: "w"}), kept.count)
    assert averages.settle()
    torch.testing.assert_close(weight, torch.full((3,), 3.0))


def test_a_fit_ends_in_the_average_of_its_last_tenth():
    fit, seen, want = small_training(), {}, {}
    for step in range(40):
        fit.step(step / 40)
        if step / 40 >= AVERAGED:
            seen = weights(fit)
            want = {n: w if n not in want else DECAY * want[n] + (1 - DECAY) * w for n, w in seen.items()}
    fit.advance(1.0)
    ended = weights(fit)
    for name in ended:
        if name == "table":
            assert torch.equal(ended[name], seen[name])
        else:
            torch.testing.assert_close(ended[name], want[name])
            assert not torch.equal(ended[name], seen[name])


def test_a_fit_that_ends_early_keeps_its_weights():
    fit = small_training()
    steps(fit, 5)
    before = weights(fit)
    fit.advance(1.0)
    assert all(torch.equal(before[name], after) for name, after in weights(fit).items())


def test_rounded_weights_are_not_averaged():
    fit = small_training()
    fit.bits = 8
    steps(fit, 20, of=20)
    rounded = weights(fit)
    fit.advance(1.0)
    assert all(torch.equal(rounded[name], after) for name, after in weights(fit).items())


def test_a_restored_state_goes_on_alike():
    one, two = small_training(), small_training(seed=3)
    steps(one, 38, of=40)
    two.restore({name: tensor.clone() for name, tensor in one.tensors().items()}, one.counters())
    two.seed = one.seed
    assert any(name.startswith("average.") for name in two.tensors())
    same_bits(one, two)
    for fit in (one, two):
        steps(fit, 2, of=40)
        fit.advance(1.0)
    same_bits(one, two)
