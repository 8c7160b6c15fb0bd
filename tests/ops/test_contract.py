import pytest
import torch

from neuralfields.ops.contract import contract, contract_reference
from tests.support.judges import assert_matches

# What kernels of a GPU are judged on (see tests/support/inputs.py).
ARGUMENTS = {
    "contract": lambda inputs: [inputs.normal(300, 3) * 2, 1, 1.0],
    "contract_backward": lambda inputs: [inputs.normal(300, 3) * 2, inputs.normal(300, 3), 1, 1.0],
}


def points(count: int, generator: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
    """Inside the inner cube, near it and far from it."""
    x = torch.randn(count, 3, generator=generator, dtype=dtype)
    return 0.5 + x * torch.tensor([0.2, 1.0, 30.0], dtype=dtype)[torch.arange(count) % 3][:, None]


@pytest.mark.parametrize("kind, extent", [("box", 1.0), ("box", 8.0), ("cube", 1.0)])
def test_reference(kind, extent, generator, instruction_set):
    for dtype, tolerance in ((torch.float32, 2e-6), (torch.float64, 1e-14)):
        x = points(300, generator, dtype).requires_grad_()
        assert_matches(
            lambda v: contract(v, kind, extent), lambda v: contract_reference(v, kind, extent), [x], tolerance
        )


@pytest.mark.parametrize("kind, extent", [("box", 4.0), ("cube", 1.0)])
def test_gradcheck(kind, extent, generator):
    x = points(12, generator, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: contract(v, kind, extent), x)


def test_box_sends_the_outermost_corners_to_the_unit_cubes():
    corners = torch.tensor([[-3.5, 4.5, 0.5]], dtype=torch.float64)
    assert torch.equal(contract(corners, "box", 8.0), torch.tensor([[0.0, 1.0, 0.5]], dtype=torch.float64))


def test_cube_only_scales_its_inside(generator):
    """Analytic truth: inside, u / 4 + 0.5 with u = 2 (x - 0.5), half the size of the unit cube."""
    x = torch.rand(100, 3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(contract(x, "cube", 1.0), (x - 0.5) / 2 + 0.5, rtol=0, atol=1e-15)


def test_cube_along_an_axis_is_known():
    """Analytic truth: at distance m half cubes along an axis the norm is 2 - 1 / m, for m = 2 that is 1.5."""
    got = contract(torch.tensor([[1.5, 0.5, 0.5], [0.5, -1.5, 0.5]], dtype=torch.float64), "cube", 1.0)
    want = torch.tensor([[1.5 / 4 + 0.5, 0.5, 0.5], [0.5, 0.5 - 1.75 / 4, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-15)


def test_cube_is_continuous_at_its_border_with_a_continuous_slope(generator):
    face = torch.rand(50, 3, generator=generator, dtype=torch.float64)
    face[:, 0] = 1.0
    step = torch.tensor([1e-7, 0.0, 0.0], dtype=torch.float64)
    inside, outside = contract(face - step, "cube", 1.0), contract(face + step, "cube", 1.0)
    assert float((inside - outside).abs().max()) < 4e-7
    slopes = []
    for x in (face - step, face + step):
        x.requires_grad_()
        slopes.append(torch.autograd.grad(contract(x, "cube", 1.0)[:, 0].sum(), x)[0][:, 0])
    torch.testing.assert_close(*slopes, rtol=0, atol=1e-6)


def test_cube_is_monotone_along_rays_and_reaches_its_border_at_infinity(generator):
    direction = torch.nn.functional.normalize(torch.randn(1, 3, generator=generator, dtype=torch.float64), dim=1)
    t = torch.logspace(-2, 12, 400, dtype=torch.float64)[:, None]
    reach = (contract(0.5 + t * direction, "cube", 1.0) - 0.5).abs().amax(1)
    assert bool((reach.diff() > -1e-15).all()) and bool((reach[:200].diff() > 0).all())
    assert float(reach.max()) <= 0.5
    assert float(reach[-1]) == pytest.approx(0.5, abs=1e-9)


def test_empty_batch_and_refusals():
    assert contract(torch.zeros(0, 3), "cube", 1.0).shape == (0, 3)
    with pytest.raises(ValueError, match=r"x has shape \[3\], expected \[\*, 3\]"):
        contract(torch.zeros(3), "cube", 1.0)
    with pytest.raises(ValueError, match="contraction 'ball' is unknown; known: box, cube"):
        contract(torch.zeros(2, 3), "ball", 1.0)
    with pytest.raises(TypeError, match="float32 or float64"):
        contract(torch.zeros(2, 3).half(), "cube", 1.0)


def test_opcheck(generator):
    """Of one kind: what is checked is how the op is registered, which is the same for both."""
    args = (points(6, generator, torch.float64).requires_grad_(), 1, 2.0)
    torch.library.opcheck(torch.ops.neuralfields.contract, args)
