import pytest
import torch

from neuralfields.ops.composite import composite, composite_reference
from tests.support.judges import assert_matches


def inputs(rays: int, generator: torch.Generator, dtype: torch.dtype, scale: float = 4.0) -> list[torch.Tensor]:
    counts = torch.randint(0, 9, (rays,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    count = int(offsets[-1])
    density = torch.rand(count, generator=generator, dtype=dtype) * scale
    length = torch.rand(count, generator=generator, dtype=dtype)
    t = torch.rand(count, generator=generator, dtype=dtype).cumsum(0)
    rgb = torch.rand(count, 3, generator=generator, dtype=dtype)
    return [density.requires_grad_(), length, t, rgb.requires_grad_(), offsets]


def sums(function):
    return lambda *args: function(*args)[0]


@pytest.mark.parametrize("scale", [0.5, 40.0])
def test_reference(generator, instruction_set, scale):
    """At scale 40 rays turn opaque before their end: what lies behind has neither weight nor gradient."""
    assert_matches(sums(composite), sums(composite_reference), inputs(700, generator, torch.float64, scale), 1e-12)
    assert_matches(sums(composite), sums(composite_reference), inputs(700, generator, torch.float32, scale), 2e-4)


def test_gradcheck(generator):
    density, length, t, rgb, offsets = inputs(12, generator, torch.float64, scale=1.0)
    assert torch.autograd.gradcheck(lambda d, c: composite(d, length, t, c, offsets)[0], (density, rgb))


def test_constant_density_is_one_minus_exp():
    """Analytic truth: opacity O = 1 - exp(-sigma L), whatever the number of samples; depth 1/sigma - L (1 - O) / O."""
    sigma, length = 2.5, 1.2
    for count in (1, 7, 4000):
        offsets = torch.tensor([0, count])
        step = torch.full((count,), length / count, dtype=torch.float64)
        t = (torch.arange(count, dtype=torch.float64) + 0.5) * length / count
        density = torch.full_like(step, sigma)
        sums, weight = composite(density, step, t, torch.ones(count, 3, dtype=torch.float64), offsets)
        rgb, opacity, depth = sums[:, :3], sums[:, 3], sums[:, 4]
        truth = 1 - torch.exp(torch.tensor(-sigma * length, dtype=torch.float64))
        torch.testing.assert_close(opacity[0], truth)
        torch.testing.assert_close(rgb[0], truth.expand(3))
        torch.testing.assert_close(weight.sum(), truth)
    expected = 1 / sigma * truth - length * (1 - truth)
    torch.testing.assert_close(depth[0], expected, rtol=1e-6, atol=0)


def test_bad_offsets_are_refused():
    one, rgb = torch.ones(3), torch.ones(3, 3)
    for offsets in ([0, 2], [1, 3], [0, 3, 2, 3]):
        with pytest.raises(ValueError, match="offsets"):
            composite(one, one, one, rgb, torch.tensor(offsets))


def test_opcheck(generator):
    torch.library.opcheck(torch.ops.neuralfields.composite, tuple(inputs(9, generator, torch.float64)))


def test_gradient_of_a_wall_is_no_rounding_noise():
    """What stops all light has next to no gradient in log-density; float32 must not make up one by cancellation."""
    exact, rough = [], []
    for dtype, found in ((torch.float64, exact), (torch.float32, rough)):
        density, length, t, rgb, offsets = inputs(300, torch.Generator().manual_seed(7), torch.float64)
        density.data.mul_(torch.where(torch.arange(len(density)) % 5 == 3, 1e6, 0.2))
        leaves = [a.detach().to(dtype) for a in (density, length, t, rgb)]
        leaves[0].requires_grad_()
        result = composite(*leaves, offsets)
        cotangent = torch.linspace(-1, 1, 300 * 3, dtype=torch.float64).reshape(300, 3).to(dtype)
        rgb_sum = result[0][:, :3]
        (rgb_sum * cotangent).sum().backward()
        found.append((leaves[0].grad * leaves[0]).detach().double())
    torch.testing.assert_close(rough[0], exact[0], rtol=0, atol=1e-4)
