"""Coordinate networks and their heads against plain torch, finite differences, and analytic truths."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from neuralfields.ops import coordinate, native
from neuralfields.ops.coordinate import (
    Layers,
    coordinate_network,
    coordinate_network_reference,
    log_density_head,
    radiance_heads,
    radiance_heads_reference,
)
from tests.support.judges import assert_matches

# axes, frequencies, width, hidden layers, outputs, skip, whether direct
NETWORKS = [
    (3, 8, 16, 1, 4, 0, False),
    (2, 7, 33, 2, 3, 0, True),
    (3, 20, 48, 3, 32, 2, False),
    (4, 3, 20, 2, 1, 1, True),
]
PRODUCTS = ["amx", "avx512_bf16"]
FIXED = torch.float64


@pytest.fixture(params=PRODUCTS)
def products(request) -> Iterator[str]:
    core = native.library()
    if request.param not in core.bfloat16_products():
        pytest.skip(f"this CPU has no {request.param}")
    before = core.bfloat16_product()
    core.choose_bfloat16(request.param)
    yield request.param
    core.choose_bfloat16(before)


def inputs(network: tuple, samples: int, generator: torch.Generator, dtype: torch.dtype) -> list[Tensor]:
    """x, gamma, beta, then weights and biases."""
    axes, waves, width, layers, outputs, skip, direct = network
    encoded = 2 * waves + (axes if direct else 0)
    widths = [encoded, *[width] * layers, outputs]
    random = lambda *shape: torch.randn(*shape, generator=generator, dtype=dtype)
    weights = [
        random(o, i + (encoded if k and k == skip else 0)) / (i**0.5) for k, (i, o) in enumerate(pairwise(widths))
    ]
    biases = [random(o) / 8 for o in widths[1:]]
    x = torch.rand(samples, axes, generator=generator, dtype=dtype)
    gamma, beta = 1 + random(samples, layers) / 4, random(samples, layers) / 4
    return [t.requires_grad_() for t in (x, gamma, beta, *weights, *biases)]


def frequencies(network: tuple, dtype: torch.dtype) -> Tensor:
    return 2 * torch.randn(*network[:2], generator=torch.Generator().manual_seed(5), dtype=FIXED).to(dtype)


def layers_of(network: tuple, parameters: tuple[Tensor, ...], normalise: bool) -> Layers:
    half, *_, skip, direct = len(parameters) // 2, *network
    waves = frequencies(network, parameters[0].dtype)
    return Layers(waves, direct, list(parameters[:half]), list(parameters[half:]), skip, normalise)


def functions(network: tuple, normalise: bool, modulated: bool, bfloat16: bool = False) -> list:
    def run(function, *options):
        def call(x, gamma, beta, *parameters):
            by = (gamma, beta) if modulated else None
            out = function(x, layers_of(network, parameters, normalise), by, *options)
            return out if modulated else out + 0 * (gamma.sum() + beta.sum())

        return call

    return [run(coordinate_network, bfloat16), run(coordinate_network_reference)]


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
def test_reference(network, normalise, modulated, generator, instruction_set):
    for samples in (1, 1200):
        op, reference = functions(network, normalise, modulated)
        assert_matches(op, reference, inputs(network, samples, generator, torch.float64), 1e-12)
    out, want = (f(*inputs(network, 99, torch.Generator().manual_seed(1), torch.float32)) for f in (op, reference))
    torch.testing.assert_close(out, want, rtol=0, atol=2e-5 * float(want.detach().abs().max()))


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("network", [(3, 4, 6, 2, 2, 1, True), (2, 3, 5, 1, 3, 0, False)])
def test_gradcheck(network, normalise, generator):
    op, _ = functions(network, normalise, True)
    assert torch.autograd.gradcheck(op, inputs(network, 3, generator, torch.float64))


@pytest.mark.parametrize("network", NETWORKS)
def test_products_of_bfloat16_are_those_of_rounded_factors(network, generator, products):
    """To 8 bits in values; gradients differ where a rounded unit falls to the other side of its ReLU."""
    given = inputs(network, 300, generator, torch.float32)
    results = []
    for function in functions(network, True, True, bfloat16=True):
        out = function(*given)
        d_out = torch.randn(out.shape, generator=torch.Generator().manual_seed(2))
        results.append([out, *torch.autograd.grad((out * d_out).sum(), given)])
    error = [float(((a - b).norm() / b.norm()).detach()) for a, b in zip(*results, strict=True)]
    assert 1e-4 < error[0] < 1e-2 and max(error) < 0.15


def test_whole_numbers_are_exact_in_bfloat16(generator, products):
    """Analytic truth: factors of few bits are not rounded, their products and sums neither."""
    whole = lambda *shape: torch.randint(-4, 5, shape, generator=generator).float()
    f, density, colour = whole(70, 32), [whole(32, 32), whole(16, 32)], [whole(32, 17), whole(3, 32)]
    along = torch.tensor([[0.0, 0.0, 1.0]]).expand(70, 3)
    exact = radiance_heads(f, along, density, colour, 1)
    rounded = radiance_heads(f, along, density, colour, 1, bfloat16=True)
    assert torch.equal(exact[0], rounded[0]) and float(exact[0].abs().max()) > 100
    d = [torch.autograd.grad(
        radiance_heads(f, along, [w.requires_grad_() for w in density], colour, 1, b)[0].sum(), density
    ) for b in (False, True)]  # fmt: skip
    assert torch.equal(d[0][1], d[1][1]) or float((d[0][1] - d[1][1]).abs().max() / d[0][1].abs().max()) < 1e-2


def test_one_wave_alone():
    """Analytic truth: identity weights behind one frequency give its sine and cosine, cut at 0."""
    x = torch.linspace(0, 1, 100, dtype=torch.float64)[:, None]
    for kind in (torch.float64, torch.float32):
        one = Layers(
            torch.tensor([[300.0]], dtype=kind), False, [torch.eye(2, dtype=kind)] * 2, [torch.zeros(2, dtype=kind)] * 2
        )
        got = coordinate_network(x.to(kind), one).double()
        p = 2 * torch.pi * 300 * x.to(kind).double()
        torch.testing.assert_close(
            got, torch.cat([p.sin(), p.cos()], 1).clamp(min=0), rtol=0, atol=3e-4 if kind == torch.float32 else 1e-9
        )


@pytest.mark.parametrize("kind", ["float32", *PRODUCTS])
def test_threads_change_no_bit(kind, generator):
    core, before = native.library(), torch.get_num_threads()
    if kind in core.bfloat16_products():
        core.choose_bfloat16(kind)
    network, results = NETWORKS[2], []
    given = inputs(network, 5000, generator, torch.float32)
    op, _ = functions(network, True, True, bfloat16=kind != "float32")
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = op(*given)
            results.append([out, *torch.autograd.grad(out.square().sum(), given)])
    finally:
        torch.set_num_threads(before)
        core.choose_bfloat16(next(iter(core.bfloat16_products()), ""))
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


def test_what_is_known_is_not_computed_but_led_back(generator):
    network = NETWORKS[0]
    x, gamma, beta, *parameters = inputs(network, 50, generator, torch.float32)
    layers, known = layers_of(network, parameters, True), torch.ones(50, 4)
    out = coordinate_network(x, layers, (gamma, beta), known=known)
    assert torch.equal(out, known)
    got = torch.autograd.grad(out.sum(), parameters)
    want = torch.autograd.grad(coordinate_network(x, layers, (gamma, beta)).sum(), parameters)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_no_samples_are_no_values(generator):
    network = NETWORKS[1]
    given = inputs(network, 0, generator, torch.float32)
    op, _ = functions(network, True, True)
    out = op(*given)
    out.sum().backward()
    assert out.shape == (0, 3) and not any(t.grad.abs().sum() for t in given)


def test_what_does_not_fit_is_refused(generator):
    x, gamma, beta, *parameters = inputs(NETWORKS[0], 5, generator, torch.float32)
    layers = layers_of(NETWORKS[0], parameters, False)
    with pytest.raises(ValueError, match="gamma: a number of each hidden layer"):
        coordinate_network(x, layers, (gamma.repeat(1, 2), beta.repeat(1, 2)))
    with pytest.raises(ValueError, match=r"weights has shape \[4, 16\], expected \[\*, 8\]"):
        coordinate_network(x, Layers(layers.frequencies[:, :4], False, [layers.weights[1]] * 2, layers.biases))
    with pytest.raises(ValueError, match="products of bfloat16 by abacus"):
        native.library().choose_bfloat16("abacus")


HEADS = [([32, 32, 16], 4), ([5, 9, 7, 3], 2), ([20, 1], 1)]


def head_inputs(case: tuple, samples: int, generator: torch.Generator, dtype: torch.dtype) -> list[Tensor]:
    widths, degree = case
    stacks = widths, [widths[-1] + degree**2, 12, 12, 3]
    weights = [torch.randn(o, i, generator=generator, dtype=dtype) / i**0.5 for w in stacks for i, o in pairwise(w)]
    return [torch.randn(samples, widths[0], generator=generator, dtype=dtype), *weights]


def head_functions(case: tuple, samples: int, dtype: torch.dtype) -> list:
    widths, degree = case
    directions = torch.randn(samples, 3, generator=torch.Generator().manual_seed(3), dtype=dtype)
    directions = torch.nn.functional.normalize(directions, dim=1)

    def run(function):
        split = len(widths) - 1
        return lambda f, *w: function(f, directions, list(w[:split]), list(w[split:]), degree)

    return [run(radiance_heads), run(radiance_heads_reference)]


@pytest.mark.parametrize("case", HEADS)
def test_heads_by_reference(case, generator, instruction_set):
    for samples in (1, 1200):
        given = [t.requires_grad_() for t in head_inputs(case, samples, generator, torch.float64)]
        assert_matches(*head_functions(case, samples, torch.float64), given, 1e-12)


@pytest.mark.parametrize("case", HEADS[1:])
def test_heads_by_gradcheck(case, generator):
    given = [t.requires_grad_() for t in head_inputs(case, 4, generator, torch.float64)]
    assert torch.autograd.gradcheck(head_functions(case, 4, torch.float64)[0], given)


def test_the_density_alone_is_that_of_both(generator):
    f, *weights = head_inputs(HEADS[0], 300, generator, torch.float32)
    both = radiance_heads(f, torch.zeros(300, 3), weights[:2], weights[2:], 4)[0]
    assert torch.equal(log_density_head(f, weights[:2]), both)


def _heads(inputs) -> list:
    return [inputs.normal(300, 6), inputs.normal(300, 3), [inputs.normal(4, 6)], [inputs.normal(3, 8)], 2, False]


def shaped_layers() -> Layers:
    part = lambda *shape: torch.linspace(0.1, 0.9, torch.Size(shape).numel()).reshape(shape)
    return Layers(part(3, 2), False, [part(6, 4), part(4, 6)], [part(6), part(4)])


def _shaped() -> tuple:
    return torch.rand(5, 3, generator=torch.Generator().manual_seed(1)), shaped_layers()


def _shaped_heads() -> tuple:
    part = lambda *shape: torch.linspace(0.1, 0.9, torch.Size(shape).numel()).reshape(shape)
    return part(5, 6), part(5, 3), [part(4, 6)], [part(3, 8)], 2


SHAPED = {
    "coordinate.coordinate_network": _shaped,
    "coordinate.coordinate_network_reference": _shaped,
    "coordinate.radiance_heads": _shaped_heads,
    "coordinate.radiance_heads_reference": _shaped_heads,
    "coordinate.log_density_head": lambda: (_shaped_heads()[0], _shaped_heads()[2]),
}


def test_opcheck(generator):
    x, gamma, beta, *parameters = inputs(NETWORKS[0], 10, generator, torch.float32)
    waves, half = frequencies(NETWORKS[0], torch.float32), len(parameters) // 2
    op, settings = torch.ops.neuralfields.coordinate.default, [0, 0, 1, 0]
    torch.library.opcheck(
        op, (x, waves, parameters[:half], parameters[half:], gamma, beta, settings, x.new_empty(0, 0))
    )
    f, *weights = head_inputs(HEADS[0], 10, generator, torch.float32)
    along = torch.nn.functional.normalize(torch.randn(10, 3, generator=generator), dim=1)
    torch.library.opcheck(torch.ops.neuralfields.radiance_heads.default, (f, along, weights[:2], weights[2:], 4, False))


def test_the_machine_names_its_products():
    assert coordinate.bfloat16_products() in ("", *PRODUCTS)
