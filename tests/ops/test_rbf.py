import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from neuralfields.ops.rbf import KERNELS, rbf, rbf_products, rbf_reference
from tests.support.judges import assert_matches

SHAPES = [(1, 1), (3, 5), (32, 64), (18, 33)]  # features, units


def inputs(features: int, units: int, samples: int, generator: torch.Generator, dtype: torch.dtype) -> list:
    """Features, centres and log-precisions, so that a unit sees distances of about 1."""
    f = torch.randn(samples, features, generator=generator, dtype=dtype)
    centres = torch.randn(units, features, generator=generator, dtype=dtype)
    log_precisions = torch.randn(units, features, generator=generator, dtype=dtype) * 0.5 - math.log(2 * features)
    return [f.requires_grad_(), centres.requires_grad_(), log_precisions.requires_grad_()]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("features", "units"), SHAPES)
def test_reference(features, units, kernel, generator, instruction_set):
    op, reference = (lambda *args: rbf(*args, kernel)), (lambda *args: rbf_reference(*args, kernel))
    for samples in (1, 300):
        assert_matches(op, reference, inputs(features, units, samples, generator, torch.float32), 2e-5)
        assert_matches(op, reference, inputs(features, units, samples, generator, torch.float64), 1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradcheck(kernel, generator):
    args = inputs(4, 5, 6, generator, torch.float64)
    assert torch.autograd.gradcheck(lambda *args: rbf(*args, kernel), args)


@pytest.mark.parametrize(
    ("kernel", "at_0", "at_half"),
    [
        ("gaussian", 1.0, math.exp(-0.125)),
        ("multiquadric", 1.0, math.sqrt(1.25)),
        ("inverse-multiquadric", 1.0, 1 / math.sqrt(1.25)),
        ("cubic", 0.0, 0.125),
        ("thin-plate", 0.0, 0.25 * math.log(0.5)),
        ("wendland", 1.0, 0.5**4 * 3),
    ],
)
def test_values_at_known_distances(kernel, at_0, at_half):
    """Analytic truth: r is the scaled distance, whatever axis it lies along; the gradient at a centre is zero."""
    centres = torch.tensor([[1.0, -2.0, 3.0]], dtype=torch.float64)
    precisions = torch.tensor([[4.0, 1.0, 0.25]], dtype=torch.float64)
    steps = torch.cat([torch.zeros(1, 3, dtype=torch.float64), torch.diag(0.5 / precisions[0].sqrt())])
    f = (centres + steps).requires_grad_()
    out = rbf(f, centres, precisions.log(), kernel)
    want = torch.tensor([[at_0]] + [[at_half]] * 3, dtype=torch.float64)
    torch.testing.assert_close(out, want, rtol=0, atol=1e-12)
    out[0].sum().backward()
    torch.testing.assert_close(f.grad[0], torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-9)


def test_wendland_ends_at_1():
    f, zero = torch.tensor([[0.999], [1.0], [7.0]]), torch.zeros(1, 1)
    out = rbf(f, zero, zero, "wendland")[:, 0]
    assert out[0] > 0 and out[1] == 0 and out[2] == 0


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("offset", [0.0, 10.0])
def test_products_equal_differences(kernel, offset, generator):
    """The form of three matrix products, wherever the features lie."""
    f, centres, log_precisions = inputs(18, 64, 500, generator, torch.float32)
    args = [(f + offset).detach(), (centres + offset).detach(), log_precisions.detach()]
    want = rbf_reference(*(x.double() for x in args), kernel).float()
    scale = float(want.abs().max())
    assert float((rbf_products(*args, kernel) - want).abs().max()) < 1e-5 * scale
    assert float((rbf(*args, kernel) - want).abs().max()) < 1e-5 * scale


def test_products_need_their_centring(generator):
    """Without it the same features, far from the origin, lose the digits that the test above holds."""
    f, centres, log_precisions = (x.detach() for x in inputs(18, 64, 500, generator, torch.float32))
    f, centres, precisions = f + 10, centres + 10, log_precisions.exp()
    r2 = f.square() @ precisions.T - 2 * f @ (precisions * centres).T + (precisions * centres.square()).sum(1)
    assert float((torch.exp(-r2 / 2) - rbf_reference(f, centres, log_precisions)).abs().max()) > 1e-5


ROOT = Path(__file__).parents[2]  # from where `tests` is found
MEMORY = """
import torch
from neuralfields.ops.rbf import rbf, rbf_products
from tests.support.peak import of_this_process
f, centres, b = (torch.randn(n, 32).requires_grad_() for n in (50000, 64, 64))
rbf(f[:10], centres, b).sum().backward()
for op in (rbf, rbf_products):
    before = of_this_process("VmHWM")
    op(f, centres, b).sum().backward()
    print((of_this_process("VmHWM") - before) / (50000 * 64 * 4))
"""


@pytest.mark.slow
def test_memory_grows_with_samples_and_units_alone():
    """Peak memory of forward and backward in results [S, N]: differences written out would take 32 of them at least."""
    command = [sys.executable, "-c", MEMORY]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    native, products = map(float, run.stdout.split())
    assert native < 4 and 1 < products < 16  # the products keep results: what sees nothing judges nothing


def test_same_threads_same_bits(generator):
    args = inputs(32, 64, 5000, generator, torch.float32)
    gradients = [torch.autograd.grad(rbf(*args).square().sum(), args) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_threads_agree(generator):
    args = inputs(32, 64, 5000, generator, torch.float64)
    before, gradients = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        gradients.append(torch.autograd.grad(rbf(*args).square().sum(), args))
    torch.set_num_threads(before)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11 * float(a.abs().max()))


def test_empty_batch():
    centres = torch.zeros(5, 3, requires_grad=True)
    out = rbf(torch.zeros(0, 3), centres, torch.zeros(5, 3))
    assert out.shape == (0, 5)
    out.sum().backward()
    assert not centres.grad.any()


def test_wrong_inputs_are_refused():
    with pytest.raises(ValueError, match=r"f has shape \[2, 4\], expected \[\*, 3\]"):
        rbf(torch.zeros(2, 4), torch.zeros(5, 3), torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"log_precisions has shape \[4, 3\], expected \[5, 3\]"):
        rbf(torch.zeros(2, 3), torch.zeros(5, 3), torch.zeros(4, 3))
    with pytest.raises(ValueError, match="kernel 'gauss': must be one of gaussian, multiquadric"):
        rbf(torch.zeros(2, 3), torch.zeros(5, 3), torch.zeros(5, 3), "gauss")


def test_opcheck(generator):
    args = (*inputs(4, 5, 6, generator, torch.float32), 0)
    torch.library.opcheck(torch.ops.neuralfields.rbf, args)
