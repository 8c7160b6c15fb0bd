import pytest
import torch

from neuralfields.ops.adam import adam, adam_reference

SETTINGS = (0.01, 0.875, 0.96875, 1e-8)


def state(size: int, generator: torch.Generator, dtype: torch.dtype, empty: float) -> list[torch.Tensor]:
    """Parameter, gradient with a share of exact zeros, and moments as a few steps leave them."""
    p, g, m, v = (torch.randn(size, generator=generator, dtype=dtype) for _ in range(4))
    g[torch.rand(size, generator=generator) < empty] = 0
    return [p, g, m * 0.1, v * v * 0.1]


def stepped(function, tensors, step, sparse):
    p, g, m, v = (t.clone() for t in tensors)
    function(p, g, (m, v), step, SETTINGS, sparse)
    return p, g, m, v


@pytest.mark.parametrize("size", [0, 1, 7, 1023, 1025, 5000])
@pytest.mark.parametrize("sparse", [False, True])
def test_reference(size, sparse, generator, instruction_set):
    """The settings reach the core as float32, so even in float64 a change is exact to 2e-7 of itself only."""
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 2e-7)):
        tensors = state(size, generator, dtype, 0.5)
        for step in (1, 2, 300):
            got = stepped(adam, tensors, step, sparse)
            want = stepped(adam_reference, tensors, step, sparse)
            change, expected = got[0] - tensors[0], want[0] - tensors[0]
            torch.testing.assert_close(change, expected, rtol=tolerance, atol=tolerance * 1e-2)
            for a, b in zip(got[1:], want[1:], strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-14)


def test_equals_the_optimiser_of_torch(generator):
    mine, moments = torch.randn(1025, generator=generator), (torch.zeros(1025), torch.zeros(1025))
    theirs = mine.clone().requires_grad_()
    optimiser = torch.optim.Adam([theirs], lr=0.01, betas=(0.9, 0.99), eps=1e-8)
    for step in range(1, 30):
        gradient = torch.randn(1025, generator=generator)
        theirs.grad = gradient.clone()
        optimiser.step()
        adam(mine, gradient, moments, step, (0.01, 0.9, 0.99, 1e-8), sparse=False)
    torch.testing.assert_close(mine, theirs.detach(), rtol=0, atol=2e-6)


def test_first_step_is_the_learning_rate():
    """Analytic truth: after the bias corrections the first change is lr * sign(g), whatever the size of g."""
    p, g = torch.zeros(3, dtype=torch.float64), torch.tensor([1e-3, -5.0, 200.0], dtype=torch.float64)
    adam(p, g, (torch.zeros_like(p), torch.zeros_like(p)), 1, (0.5, 0.9, 0.99, 1e-15), sparse=False)
    torch.testing.assert_close(p, torch.tensor([-0.5, 0.5, -0.5], dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize("empty", [0.0, 0.9, 1.0])
def test_sparse_leaves_what_has_no_gradient_to_the_bit(empty, generator, instruction_set):
    tensors = state(3000, generator, torch.float32, empty)
    p, _, m, v = stepped(adam, tensors, 5, True)
    still = tensors[1] == 0
    for after, before in zip((p, m, v), (tensors[0], *tensors[2:]), strict=True):
        assert torch.equal(after[still], before[still])
        assert bool((after[~still] != before[~still]).all())


@pytest.mark.parametrize("sparse", [False, True])
def test_gradient_is_cleared(sparse, generator):
    assert not stepped(adam, state(1025, generator, torch.float32, 0.5), 2, sparse)[1].any()


def test_same_bits_for_any_threads(generator):
    tensors = state(50_000, generator, torch.float32, 0.5)
    before, results = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(stepped(adam, tensors, 3, True))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_autograd_sees_the_change():
    """A parameter changed between forward and backward is an error, as with torch's own optimisers."""
    p = torch.ones(4, requires_grad=True)
    loss = (p * p).sum()
    with torch.no_grad():
        adam(p, torch.ones(4), (torch.zeros(4), torch.zeros(4)), 1, SETTINGS, False)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_what_cannot_be_changed_in_place_is_refused():
    good = [torch.zeros(4, 4) for _ in range(4)]
    for i, name in enumerate(("parameter", "gradient", "m", "v")):
        p, g, m, v = (t.T[:2] if i == k else t[:2] for k, t in enumerate(good))
        with pytest.raises(ValueError, match=f"{name} has strides .*, it must be contiguous"):
            adam(p, g, (m, v), 1, SETTINGS, False)
    with pytest.raises(ValueError, match="must have one size"):
        adam(good[0], torch.zeros(3), (good[2], good[3]), 1, SETTINGS, False)
    with pytest.raises(TypeError, match="float32 or float64"):
        adam(*(torch.zeros(3).half() for _ in range(2)), (torch.zeros(3).half(),) * 2, 1, SETTINGS, False)


def test_opcheck(generator):
    tensors = state(20, generator, torch.float32, 0.5)
    torch.library.opcheck(torch.ops.neuralfields.adam, (*tensors, [0.01, 0.9, 0.99, 1e-8], True))
