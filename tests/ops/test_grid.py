import pytest
import torch

from neuralfields.ops.grid import grid_interpolate, grid_interpolate_reference
from tests.support.judges import assert_matches

SHAPES = [[11], [1], [6, 9], [1, 5], [4, 3, 7], [2, 2, 2], [3, 4, 2, 5]]
CHANNELS = [1, 3, 16, 31]


def inputs(shape: list[int], channels: int, samples: int, generator: torch.Generator, dtype: torch.dtype) -> list:
    """Points of which some lie outside, some on nodes, and a grid."""
    x = torch.rand(samples, len(shape), generator=generator, dtype=dtype) * 1.2 - 0.1
    x[: samples // 10] = x[: samples // 10].round()
    grid = torch.randn(*shape, channels, generator=generator, dtype=dtype)
    return [x.requires_grad_(), grid.requires_grad_()]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_reference(shape, channels, generator, instruction_set):
    for dtype, tolerance in ((torch.float32, 2e-5), (torch.float64, 1e-12)):
        for samples in (1, 300):
            args = inputs(shape, channels, samples, generator, dtype)
            assert_matches(grid_interpolate, grid_interpolate_reference, args, tolerance)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradcheck(shape, generator):
    x = torch.rand(5, len(shape), generator=generator, dtype=torch.float64) * 0.9 + 0.05
    grid = torch.randn(*shape, 3, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(grid_interpolate, (x.requires_grad_(), grid.requires_grad_()))


@pytest.mark.parametrize("shape", [[9], [4, 6], [3, 5, 4], [3, 2, 4, 3]])
def test_linear_functions_are_reproduced_exactly(shape, generator):
    """Analytic truth: nodes that hold a linear function of their place give that function everywhere, and its slope."""
    axes = [torch.linspace(0, 1, count, dtype=torch.float64) for count in shape]
    slope = torch.randn(len(shape), 5, generator=generator, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1) @ slope + 0.25
    x = torch.rand(400, len(shape), generator=generator, dtype=torch.float64).requires_grad_()
    out = grid_interpolate(x, grid)
    torch.testing.assert_close(out, x @ slope + 0.25, rtol=0, atol=1e-12)
    out[:, 2].sum().backward()
    torch.testing.assert_close(x.grad, slope[:, 2].expand_as(x), rtol=0, atol=1e-11)


@pytest.mark.parametrize("shape", [[9], [4, 6], [3, 5, 4], [3, 2, 4, 3]])
def test_weights_are_a_partition_of_unity(shape, generator):
    """Analytic truth: a constant grid is a constant, and what each sample gives to the nodes sums to what it got."""
    x = torch.rand(500, len(shape), generator=generator, dtype=torch.float64) * 1.4 - 0.2
    grid = torch.full((*shape, 6), 1.5, dtype=torch.float64, requires_grad=True)
    out = grid_interpolate(x, grid)
    torch.testing.assert_close(out, torch.full_like(out, 1.5), rtol=0, atol=1e-14)
    d_out = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    out.backward(d_out)
    torch.testing.assert_close(grid.grad.reshape(-1, 6).sum(0), d_out.sum(0), rtol=0, atol=1e-11)


def test_corners_of_the_cube_are_the_corner_nodes(generator):
    grid = torch.randn(3, 4, 5, 2, generator=generator)
    x = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    want = torch.stack([grid[0, 0, 0], grid[2, 0, 0], grid[0, 3, 0], grid[2, 3, 4]])
    assert torch.equal(grid_interpolate(x, grid), want)


def test_points_outside_are_clamped_and_have_no_gradient(generator):
    grid = torch.randn(6, 5, 4, 2, generator=generator)
    x = torch.tensor([[-0.5, 0.3, 1.7]], requires_grad=True)
    out = grid_interpolate(x, grid)
    assert torch.equal(out, grid_interpolate(torch.tensor([[0.0, 0.3, 1.0]]), grid))
    out.sum().backward()
    assert x.grad[0, 0] == 0 and x.grad[0, 2] == 0 and x.grad[0, 1] != 0


def test_what_is_not_a_number_reads_inside_the_grid():
    x = torch.tensor([[float("nan"), 0.5], [float("inf"), -float("inf")]])
    grid = torch.arange(12.0).reshape(3, 4, 1)
    assert bool(torch.isfinite(grid_interpolate(x, grid)).all())


@pytest.mark.parametrize("spread", [1.0, 0.01, 0.0])
def test_gradient_has_the_same_bits_for_any_threads(spread, generator):
    """Threads own nodes, whether the samples are spread or crowd in one cell."""
    x = 0.5 + spread * (torch.rand(5000, 3, generator=generator) - 0.5)
    grid = torch.randn(20, 33, 12, 5, generator=generator, requires_grad=True)
    before, gradients = torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        gradients.append(torch.autograd.grad(grid_interpolate(x, grid).square().sum(), grid)[0])
    torch.set_num_threads(before)
    assert torch.equal(gradients[0], gradients[1]) and torch.equal(gradients[0], gradients[2])


def test_accumulated_gradient_is_the_same_in_place(generator):
    x, grid = inputs([6, 7, 5], 4, 300, generator, torch.float32)
    want = torch.autograd.grad(grid_interpolate(x, grid).square().sum(), [x, grid])
    grid_interpolate(x, grid, accumulate=True).square().sum().backward()
    assert torch.equal(x.grad, want[0]) and torch.equal(grid.grad, want[1])
    place = grid.grad.data_ptr()
    for _ in range(2):
        grid_interpolate(x, grid, accumulate=True).square().sum().backward()
    torch.testing.assert_close(grid.grad, 3 * want[1])
    assert grid.grad.data_ptr() == place
    with pytest.raises(ValueError, match="must be a parameter"):
        grid_interpolate(x, grid * 2, accumulate=True)
    with torch.no_grad():
        assert not grid_interpolate(x, grid * 2, accumulate=True).requires_grad


def test_empty_batch():
    x, grid = torch.zeros(0, 2, requires_grad=True), torch.zeros(3, 4, 2, requires_grad=True)
    out = grid_interpolate(x, grid)
    assert out.shape == (0, 2)
    out.sum().backward()
    assert x.grad.shape == x.shape and not grid.grad.any()


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"x has shape \[5, 3\], expected \[\*, 2\]"):
        grid_interpolate(torch.zeros(5, 3), torch.zeros(4, 4, 2))
    with pytest.raises(ValueError, match=r"grid has shape \[4\], expected 1 to 4 axes and one of channels"):
        grid_interpolate(torch.zeros(5, 1), torch.zeros(4))
    with pytest.raises(ValueError, match=r"1 to 2\^24 nodes along an axis"):
        grid_interpolate(torch.zeros(5, 2), torch.zeros(4, 0, 2))
    with pytest.raises(TypeError, match="float32 or float64"):
        grid_interpolate(torch.zeros(5, 1).half(), torch.zeros(4, 2).half())


def test_opcheck(generator):
    args = tuple(inputs([4, 5], 3, 10, generator, torch.float32))
    torch.library.opcheck(torch.ops.neuralfields.grid_interpolate, args)
