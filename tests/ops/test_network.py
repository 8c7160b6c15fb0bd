"""Networks and modulated layers against plain torch, finite differences, and analytic truths."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from neuralfields.ops.network import modulate, modulate_reference, network, network_reference
from tests.support.judges import assert_matches

STACKS = [[5, 3], [32, 64, 16], [32, 64, 64, 3], [7, 20, 9, 33, 1]]


def inputs(widths: list[int], samples: int, generator: torch.Generator, dtype: torch.dtype) -> list[torch.Tensor]:
    x = torch.randn(samples, widths[0], generator=generator, dtype=dtype)
    weights = [torch.randn(o, i, generator=generator, dtype=dtype) / i**0.5 for i, o in pairwise(widths)]
    return [x.requires_grad_(), *(w.requires_grad_() for w in weights)]


@pytest.mark.parametrize("widths", STACKS)
@pytest.mark.parametrize("samples", [1, 130, 2500])
def test_reference(widths, samples, generator, instruction_set):
    op = lambda x, *w: network(x, list(w))
    reference = lambda x, *w: network_reference(x, list(w))
    assert_matches(op, reference, inputs(widths, samples, generator, torch.float32), 2e-5)
    assert_matches(op, reference, inputs(widths, samples, generator, torch.float64), 1e-12)


@pytest.mark.parametrize("widths", STACKS[1:])
def test_gradcheck(widths, generator):
    args = inputs([min(w, 9) for w in widths], 4, generator, torch.float64)
    assert torch.autograd.gradcheck(lambda x, *w: network(x, list(w)), args)


def test_identity_layers_pass_positive_numbers(generator):
    """Analytic truth: identity weights leave positive inputs alone and cut negative ones."""
    x = torch.randn(200, 8, generator=generator)
    assert torch.equal(network(x, [torch.eye(8)] * 3), x.relu())


def test_empty_batch():
    assert network(torch.zeros(0, 4), [torch.zeros(3, 4)]).shape == (0, 3)


def test_same_threads_same_bits(generator):
    x, *weights = inputs([32, 64, 16], 5000, generator, torch.float32)
    grads = [torch.autograd.grad(network(x, weights).square().sum(), weights) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_widths_that_do_not_chain_are_refused():
    with pytest.raises(ValueError, match=r"weights has shape \[3, 5\], expected \[\*, 4\]"):
        network(torch.zeros(2, 6), [torch.zeros(4, 6), torch.zeros(3, 5)])


def test_opcheck(generator):
    x, *weights = inputs([8, 16, 4], 10, generator, torch.float32)
    torch.library.opcheck(torch.ops.neuralfields.network, (x, weights))


SHAPES = [(3, 1), (5, 1), (5, 5), (64, 1), (67, 67)]  # features, numbers of gamma
FLAGS = [(False, False), (False, True), (True, False), (True, True)]


def _given(inputs) -> list:
    return [inputs.normal(300, 20), inputs.normal(300, 1), inputs.normal(300, 1)]


ARGUMENTS = {
    "modulate": lambda inputs: [*_given(inputs), True, True],
    "modulate_backward": lambda inputs: [*_given(inputs), inputs.normal(300, 20), True, True],
}


def shaped() -> tuple[Tensor, Tensor, Tensor]:
    parts = (torch.linspace(0.1, 0.9, n).reshape(5, -1) for n in (20, 5, 5))
    return tuple(parts)


SHAPED = {"network.modulate": shaped, "network.modulate_reference": shaped}


def modulated(features: int, each: int, samples: int, generator: torch.Generator, dtype: torch.dtype) -> list[Tensor]:
    sizes = (features, each, each)
    return [torch.randn(samples, n, generator=generator, dtype=dtype).requires_grad_() for n in sizes]


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize(("features", "each"), SHAPES)
def test_modulate_by_reference(features, each, flags, generator, instruction_set):
    op, reference = (lambda *args: modulate(*args, *flags)), (lambda *args: modulate_reference(*args, *flags))
    for samples in (1, 300):
        assert_matches(op, reference, modulated(features, each, samples, generator, torch.float32), 2e-5)
        assert_matches(op, reference, modulated(features, each, samples, generator, torch.float64), 1e-12)


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("each", [1, 6])
def test_modulate_by_gradcheck(each, flags, generator):
    given = modulated(6, each, 5, generator, torch.float64)
    assert torch.autograd.gradcheck(lambda *args: modulate(*args, *flags), given)


def test_a_normalised_row_has_mean_0_and_variance_1_and_no_size_of_its_own(generator):
    """Analytic truth: with gamma 1 and beta 0, whatever is added to a row or it is multiplied by."""
    h, one = torch.randn(40, 33, generator=generator, dtype=torch.float64), torch.ones(40, 1, dtype=torch.float64)
    y = modulate(h, one, 0 * one, relu=False)
    assert float(y.mean(1).abs().max()) < 1e-14 and float((y.var(1, unbiased=False) - 1).abs().max()) < 1e-4
    torch.testing.assert_close(modulate(1000 * h + 7, one, 0 * one, relu=False), y, rtol=1e-4, atol=1e-4)
    h.requires_grad_()
    modulate(h, one, 0 * one, relu=False).square().sum().backward()  # the sum of squares is always the number
    assert float(h.grad.abs().max()) < 1e-3


def test_threads_change_no_bit(generator):
    given = modulated(64, 1, 5000, generator, torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            out = modulate(*given)
            results.append([out, *torch.autograd.grad(out.square().sum(), given)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_shapes_are_guarded():
    h = torch.ones(4, 6)
    with pytest.raises(ValueError, match="one number a sample or one a feature"):
        modulate(h, torch.ones(4, 2), torch.ones(4, 2))
    with pytest.raises(ValueError, match="beta has shape"):
        modulate(h, torch.ones(4, 1), torch.ones(4, 6))


def test_no_samples_are_no_values(generator):
    given = modulated(6, 1, 0, generator, torch.float32)
    out = modulate(*given)
    out.sum().backward()
    assert out.shape == (0, 6) and all(g.grad.shape == g.shape for g in given)


def test_opcheck_of_modulate(generator):
    given = modulated(6, 1, 5, generator, torch.float32)
    torch.library.opcheck(torch.ops.neuralfields.modulate.default, (*given, True, True))
