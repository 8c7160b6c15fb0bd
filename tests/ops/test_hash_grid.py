import pytest
import torch

from neuralfields.ops.hash_grid import HashGeometry, hash_encode, hash_encode_reference
from tests.support.judges import assert_matches


def inputs(geometry: HashGeometry, generator: torch.Generator, samples: int, features: int, dtype: torch.dtype) -> list:
    x = torch.rand(samples, 3, generator=generator, dtype=dtype)
    table = torch.randn(geometry.entries, features, generator=generator, dtype=dtype)
    return [x.requires_grad_(), table.requires_grad_(), geometry.scales, geometry.levels]


@pytest.mark.parametrize("features", [2, 4, 8])
@pytest.mark.parametrize("samples", [0, 1, 300])
def test_reference(geometry, generator, samples, features, instruction_set):
    if samples == 0:
        x, table, *rest = inputs(geometry, generator, 0, features, torch.float32)
        assert hash_encode(x, table, *rest).shape == (0, 4 * features)
        return
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        args = inputs(geometry, generator, samples, features, dtype)
        assert_matches(hash_encode, hash_encode_reference, args, tolerance)


def test_gradcheck(geometry, generator):
    x, table, scales, levels = inputs(geometry, generator, 6, 2, torch.float64)
    assert torch.autograd.gradcheck(lambda x, t: hash_encode(x, t, scales, levels), (x, table))


@pytest.mark.parametrize("axes", [1, 2])
def test_fewer_coordinates(axes, generator, instruction_set):
    few = HashGeometry.of(4, 8, 4, 64, axes)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        x = torch.rand(300, axes, generator=generator, dtype=dtype).requires_grad_()
        table = torch.randn(few.entries, 4, generator=generator, dtype=dtype).requires_grad_()
        assert_matches(hash_encode, hash_encode_reference, [x, table, few.scales, few.levels], tolerance)
    x = x.detach()[:6].requires_grad_()
    table = torch.randn(few.entries, 2, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, t: hash_encode(x, t, few.scales, few.levels), (x, table))


def test_linear_table_is_reproduced_exactly(geometry, generator):
    """Analytic truth: a dense level that stores a linear function of its lattice gives that function everywhere."""
    scale, (resolution, _, offset, dense) = geometry.scales[0].double(), geometry.levels[0].tolist()
    assert dense
    i = torch.arange(resolution**3)
    lattice = torch.stack([i % resolution, i // resolution % resolution, i // resolution**2], 1).double()
    slope = torch.tensor([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.25]], dtype=torch.float64)
    table = torch.zeros(geometry.entries, 2, dtype=torch.float64)
    table[offset : offset + resolution**3] = lattice @ slope
    x = torch.rand(500, 3, generator=generator, dtype=torch.float64) * float((resolution - 1.5) / scale)
    got = hash_encode(x, table, geometry.scales, geometry.levels)[:, :2]
    torch.testing.assert_close(got, (x * scale + 0.5) @ slope, rtol=0, atol=1e-9)


def test_points_outside_are_clamped_and_have_no_gradient(geometry, generator):
    table = torch.randn(geometry.entries, 2, generator=generator)
    x = torch.tensor([[-0.5, 0.3, 1.7]], requires_grad=True)
    inside = torch.tensor([[0.0, 0.3, 1.0]])
    out = hash_encode(x, table, geometry.scales, geometry.levels)
    assert torch.equal(out, hash_encode(inside, table, geometry.scales, geometry.levels))
    out.sum().backward()
    assert x.grad[0, 0] == 0 and x.grad[0, 2] == 0 and x.grad[0, 1] != 0


def test_table_gradient_has_the_same_bits_for_any_threads(geometry, generator):
    x, table, scales, levels = inputs(geometry, generator, 5000, 4, torch.float32)
    before, grads = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        grads.append(torch.autograd.grad(hash_encode(x, table, scales, levels).square().sum(), table)[0])
    torch.set_num_threads(before)
    assert torch.equal(*grads)


def test_wrong_shapes_are_refused(geometry):
    table = torch.zeros(geometry.entries, 4)
    with pytest.raises(ValueError, match=r"x has shape \[5, 4\], expected \[\*, 3\]"):
        hash_encode(torch.zeros(5, 4), table, geometry.scales, geometry.levels)
    with pytest.raises(ValueError, match=r"x has shape \[5, 2\], expected \[\*, 3\]"):
        hash_encode(torch.zeros(5, 2), table, geometry.scales, geometry.levels)
    with pytest.raises(ValueError, match="2, 4 or 8 features"):
        hash_encode(torch.zeros(5, 3), torch.zeros(geometry.entries, 3), geometry.scales, geometry.levels)
    with pytest.raises(ValueError, match="level 3 does not fit its table"):
        hash_encode(torch.zeros(5, 3), table[:-1], geometry.scales, geometry.levels)
    with pytest.raises(TypeError, match="float32 or float64"):
        hash_encode(torch.zeros(5, 3).half(), table.half(), geometry.scales, geometry.levels)


def test_opcheck(geometry, generator):
    args = tuple(inputs(geometry, generator, 10, 4, torch.float32))
    torch.library.opcheck(torch.ops.neuralfields.hash_encode, args)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_fewer_coordinates_match_the_reference(dimensions):
    """Sounds and images: dense and hashed levels, values and gradients, and clamping."""
    geometry = HashGeometry.of(5, 6, 3, 40 if dimensions == 2 else 200, dimensions)
    assert 0 < int(geometry.levels[:, 3].sum()) < 5
    generator = torch.Generator().manual_seed(4)
    table = torch.randn(geometry.entries, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    x = torch.rand(40, dimensions, generator=generator, dtype=torch.float64) * 1.2 - 0.1
    x.requires_grad_()
    d_out = torch.randn(40, 10, generator=generator, dtype=torch.float64)
    results = []
    for encode in (hash_encode, hash_encode_reference):
        out = encode(x, table, geometry.scales, geometry.levels)
        results.append((out, *torch.autograd.grad(out, (x, table), d_out)))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_gradients_of_fewer_coordinates(dimensions):
    geometry = HashGeometry.of(3, 5, 3, 9, dimensions)
    generator = torch.Generator().manual_seed(5)
    table = torch.randn(geometry.entries, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    x = (0.1 + 0.8 * torch.rand(7, dimensions, generator=generator, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, t: hash_encode(x, t, geometry.scales, geometry.levels), (x, table))


def test_a_lattice_of_a_linear_picture_is_linear():
    """A dense level that holds a + b u + c v at its nodes gives that between them."""
    geometry = HashGeometry.of(1, 10, 9, 9, 2)
    scale, resolution = float(geometry.scales[0]), int(geometry.levels[0, 0])
    v, u = torch.meshgrid(torch.arange(resolution), torch.arange(resolution), indexing="ij")
    plane = 1 + 2 * (u - 0.5) / scale + 3 * (v - 0.5) / scale
    table = torch.zeros(geometry.entries, 2)
    table[: resolution**2, 0] = plane.flatten()
    x = torch.rand(200, 2, generator=torch.Generator().manual_seed(6)) * 0.9
    out = hash_encode(x, table, geometry.scales, geometry.levels)
    torch.testing.assert_close(out[:, 0], 1 + 2 * x[:, 0] + 3 * x[:, 1])
