"""torch.compile sees every op whole: one graph, the same numbers."""

import pytest
import torch

from neuralfields.ops.composite import composite
from neuralfields.ops.contract import contract
from neuralfields.ops.hash_grid import hash_encode
from neuralfields.ops.network import network
from neuralfields.ops.spherical_harmonics import spherical_harmonics


def inputs(geometry, generator: torch.Generator) -> list[torch.Tensor]:
    shapes = {"x": (40, 3), "table": (geometry.entries, 2), "first": (16, 8), "second": (3, 16 + 16)}
    leaves = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes.values()]
    return [leaf.requires_grad_() for leaf in leaves]


def picture(geometry, x, table, first, second):
    f = hash_encode(contract(x, "cube", 1.0), table, geometry.scales, geometry.levels)
    code = network(f, [first])
    harmonics = spherical_harmonics(torch.nn.functional.normalize(x, dim=1), 4)
    rgb = torch.sigmoid(network(torch.cat([code, harmonics], 1), [second]))
    length = torch.full_like(code[:, 0], 0.1)
    offsets = torch.tensor([0, 10, 10, 25, 40])
    sums, _ = composite(torch.exp(code[:, 0]), length, length.cumsum(0), rgb, offsets)
    return sums[:, :6].square().sum()


def assert_compiles(backend: str, geometry, generator: torch.Generator) -> None:
    leaves = inputs(geometry, generator)
    eager = picture(geometry, *leaves)
    want = torch.autograd.grad(eager, leaves)
    compiled = torch.compile(lambda *a: picture(geometry, *a), backend=backend, fullgraph=True)
    out = compiled(*leaves)
    torch.testing.assert_close(out, eager, rtol=1e-12, atol=0)
    for got, expected in zip(torch.autograd.grad(out, leaves), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def test_one_graph_forward_and_backward(geometry, generator):
    assert_compiles("aot_eager", geometry, generator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch about itself
def test_one_graph_through_the_inductor(geometry, generator):
    assert_compiles("inductor", geometry, generator)
