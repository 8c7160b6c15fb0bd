from itertools import pairwise

import pytest
import torch

from neuralfields.ops.network import network, network_reference
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
