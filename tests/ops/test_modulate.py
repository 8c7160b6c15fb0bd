"""Modulated layers against plain torch, finite differences, and what normalising means."""

import pytest
import torch
from torch import Tensor

from neuralfields.ops.modulate import modulate, modulate_reference
from tests.support.judges import assert_matches

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


SHAPED = {"modulate.modulate": shaped, "modulate.modulate_reference": shaped}


def inputs(features: int, each: int, samples: int, generator: torch.Generator, dtype: torch.dtype) -> list[Tensor]:
    sizes = (features, each, each)
    return [torch.randn(samples, n, generator=generator, dtype=dtype).requires_grad_() for n in sizes]


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize(("features", "each"), SHAPES)
def test_reference(features, each, flags, generator, instruction_set):
    op, reference = (lambda *args: modulate(*args, *flags)), (lambda *args: modulate_reference(*args, *flags))
    for samples in (1, 300):
        assert_matches(op, reference, inputs(features, each, samples, generator, torch.float32), 2e-5)
        assert_matches(op, reference, inputs(features, each, samples, generator, torch.float64), 1e-12)


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("each", [1, 6])
def test_gradcheck(each, flags, generator):
    given = inputs(6, each, 5, generator, torch.float64)
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
    given = inputs(64, 1, 5000, generator, torch.float32)
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
    given = inputs(6, 1, 0, generator, torch.float32)
    out = modulate(*given)
    out.sum().backward()
    assert out.shape == (0, 6) and all(g.grad.shape == g.shape for g in given)


def test_opcheck(generator):
    given = inputs(6, 1, 5, generator, torch.float32)
    torch.library.opcheck(torch.ops.neuralfields.modulate.default, (*given, True, True))
