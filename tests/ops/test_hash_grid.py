import pytest
import torch

from neuralfields.ops.hash_grid import HashGeometry, hash_encode, hash_encode_reference
from tests.ops.judges import assert_matches


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
