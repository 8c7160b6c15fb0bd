import math

import pytest
import torch

from neuralfields.ops.blend import TILE, WITH_DEPTH, WITH_NORMAL, blend, blend_reference, splat, tile_lists
from neuralfields.ops.project import DIFFERENTIABLE, ROW, Rows, project, project_reference
from tests.ops.test_project import straight
from tests.support.gaussians import gaussians, one, together, view
from tests.support.judges import assert_matches

BACKGROUND = (0.2, 0.5, 0.9)


def pictures(*inputs, camera, level=WITH_NORMAL, importance=False):
    rows = project(*inputs, camera, 3 if inputs[4].shape[1] == 16 else 0)
    found = blend(rows, tile_lists(rows, camera.size), BACKGROUND, level, importance)
    return tuple(p for p in (found.rgb, found.opacity, found.depth, found.normal, found.importance) if p is not None)


def wanted(*inputs, camera, level=WITH_NORMAL):
    rows = project_reference(*inputs, camera, 3 if inputs[4].shape[1] == 16 else 0)
    return blend_reference(rows, camera.size, BACKGROUND)[: level + 2]


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize(("count", "size"), [(60, 0.15), (400, 0.3), (3, 2.0)])
def test_reference(count, size, level, generator, instruction_set):
    """A picture whose edges cut tiles and blocks; at 400 many pixels turn opaque before their last Gaussian."""
    camera = view(50, 37)
    op, reference = (
        (lambda *a: pictures(*a, camera=camera, level=level)),
        (lambda *a: wanted(*a, camera=camera, level=level)),
    )
    assert_matches(op, reference, gaussians(count, generator, torch.float64, 16, size), 1e-9)


def test_reference_in_float32(generator, instruction_set):
    """Where alpha is at 1/255 rounding decides which side it is on: rows are the same, and few pixels may differ."""
    camera = view(50, 37)
    inputs = gaussians(300, generator, torch.float32, 16, 0.2)
    rows = project(*inputs, camera, 3)
    leaf = rows.values.detach().clone().requires_grad_()
    found = splat(
        Rows(leaf, rows.ids, rows.chunk_count, rows.slot, rows.key, rows.totals), camera.size, BACKGROUND, WITH_NORMAL
    )
    dense = leaf.detach().double().requires_grad_()
    want = blend_reference(dense, camera.size, BACKGROUND)
    for got, expected in zip((found.rgb, found.opacity, found.depth, found.normal), want, strict=False):
        error = (got.detach().double() - expected.detach()).abs() / expected.detach().abs().max()
        assert float(error.mean()) < 2e-5 and float(error.max()) < 1e-2
    d = torch.randn(found.rgb.shape, generator=generator)
    (found.rgb * d).sum().backward()
    (want[0] * d).sum().backward()
    scale = dense.grad.abs().amax(0).clamp(min=1e-6)
    assert float(((leaf.grad - dense.grad) / scale).abs().mean()) < 1e-4


def test_gradcheck(generator):
    """Finite differences of all inputs through projection, lists and blending.

    Of eight random sums over all pictures: pixel by pixel it would be three thousand backward passes.
    """
    camera = view(20, 18)
    inputs = gaussians(6, generator, size=0.5)
    weights = torch.randn(8, 20 * 18 * 8, generator=generator, dtype=torch.float64)

    def sums(*a: torch.Tensor) -> torch.Tensor:
        return weights @ torch.cat([picture.flatten() for picture in pictures(*a, camera=camera)])

    assert torch.autograd.gradcheck(sums, inputs, eps=1e-7, atol=2e-4, rtol=1e-3, nondet_tol=0)


def test_one_gaussian_on_the_axis():
    """Analytic truth: opacity exp(-d^2 / 2 var) at every pixel down to 1/255; its colour over the background; depth."""
    camera = straight(40)
    rgb, opacity, depth, _ = pictures(*one((0.0, 0.0, 5.0), 0.2, 0.8, (0.1, 0.6, 0.9)), camera=camera)
    at = torch.arange(40, dtype=torch.float64) + 0.5 - 20
    alpha = 0.8 * torch.exp(-(at[:, None] ** 2 + at**2) / 2 / ((80 * 0.2 / 5) ** 2 + 0.3))
    alpha = torch.where(alpha >= 1 / 255, alpha, torch.zeros_like(alpha))
    assert int((alpha > 0).sum()) > 100 and int((alpha == 0).sum()) > 100
    torch.testing.assert_close(opacity, alpha, rtol=0, atol=1e-12)
    torch.testing.assert_close(depth, alpha * 5, rtol=0, atol=1e-12)
    own, behind = torch.tensor((0.1, 0.6, 0.9), dtype=torch.float64), torch.tensor(BACKGROUND, dtype=torch.float64)
    torch.testing.assert_close(rgb, alpha[..., None] * own + (1 - alpha[..., None]) * behind, rtol=0, atol=1e-12)


def test_opacities_compose():
    """Analytic truth: two wide Gaussians of alpha a and b give 1 - (1 - a)(1 - b), the nearer one's colour first."""
    near = one((0.0, 0.0, 2.0), 50.0, 0.6, (1.0, 0, 0))
    far = one((0.0, 0.0, 4.0), 100.0, 0.5, (0, 1.0, 0))
    for parts in ([near, far], [far, near]):
        rgb, opacity, depth, _ = pictures(*together(parts), camera=straight(16))
        middle = rgb[8, 8]
        torch.testing.assert_close(opacity[8, 8].item(), 1 - 0.4 * 0.5, rtol=0, atol=1e-4)
        want = torch.tensor([0.6 + 0.2 * 0.2, 0.2 + 0.2 * 0.5, 0.2 * 0.9], dtype=torch.float64)
        torch.testing.assert_close(middle, want, rtol=0, atol=1e-4)
        torch.testing.assert_close(depth[8, 8].item(), 0.6 * 2 + 0.2 * 4, rtol=0, atol=1e-3)


def test_nothing_changes_behind_what_is_opaque(generator):
    """Analytic truth: five layers of 0.99 leave 1e-10 of the light; what lies behind has no weight and no gradient."""
    wall = together([one((0.0, 0.0, 1.0 + 0.1 * i), 30.0, 0.999, (0.3, 0.4, 0.5)) for i in range(5)])
    hidden = gaussians(500, generator, bases=1)
    hidden = [hidden[0].detach() + torch.tensor([0.0, 0, 20.0]), *(a.detach() for a in hidden[1:])]
    for part in hidden:
        part.requires_grad_()
    alone = pictures(*wall, camera=straight(48))
    both = pictures(*together([wall, hidden]), camera=straight(48), importance=True)
    for a, b in zip(alone, both, strict=False):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert not both[4][5:].any() and float(both[4][0]) > 0.98 * 48 * 48
    both[0].sum().backward()
    assert not any(part.grad.any() for part in hidden)


def test_importance_is_the_sum_of_weights(generator, instruction_set):
    camera = view(50, 37)
    inputs = [a.detach() for a in gaussians(300, generator)]
    rows = project(*inputs, camera, 3)
    importance = blend(rows, tile_lists(rows, camera.size), BACKGROUND, importance=True).importance
    want = blend_reference(project_reference(*inputs, camera, 3), camera.size, BACKGROUND)[4]
    torch.testing.assert_close(importance, want, rtol=0, atol=1e-9 * float(want.max()))


def test_lists_hold_what_reaches_a_block_and_no_more(generator, instruction_set):
    """Every block with a pixel of alpha >= 1/255 is in the lists; what is in them comes close to reaching it."""
    camera = view(90, 70)
    rows = project(*[a.detach() for a in gaussians(200, generator, bases=1)], camera, 0)
    lists = tile_lists(rows, camera.size)
    across = -(-90 // TILE)
    listed = torch.zeros(rows.values.shape[0], 5 * TILE, across * TILE, dtype=torch.bool)
    for tile, (begin, end) in enumerate(
        zip(lists.tile_offset[:-1].tolist(), lists.tile_offset[1:].tolist(), strict=True)
    ):
        depths = rows.values[lists.entries[begin:end, 0].long(), 9]
        assert bool((depths.diff() >= 0).all())
        for row, _, blocks in lists.entries[begin:end].tolist():
            for bit in range(16):
                if blocks >> bit & 1:
                    y, x = tile // across * TILE + 4 * (bit // 4), tile % across * TILE + 4 * (bit % 4)
                    listed[row, y : y + 4, x : x + 4] = True
    px = torch.arange(across * TILE, dtype=torch.float64) + 0.5
    dx, dy = px[None, None] - rows.values[:, 0, None, None], px[None, : 5 * TILE, None] - rows.values[:, 1, None, None]
    a, b, c, log_opacity = (rows.values[:, i, None, None] for i in range(2, 6))
    reached = log_opacity - 0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy >= -math.log(255)
    reached &= (rows.ids >= 0)[:, None, None]
    reached[:, 70:], reached[:, :, 90:] = False, False
    assert not (reached & ~listed).any()
    grown = torch.nn.functional.max_pool2d(reached[:, None].double(), 11, 1, 5)[:, 0] > 0
    assert float((listed & ~grown).sum() / listed.sum()) < 0.02
    assert int(lists.block_offset[-1]) == sum(
        blocks.bit_count() for blocks in lists.entries[: lists.tile_offset[-1], 2].tolist()
    )


def test_same_bits_whatever_the_threads(generator):
    inputs, camera = gaussians(9000, generator, torch.float32, 16, 0.05), view(120, 90)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3, 2):
        torch.set_num_threads(threads)
        images = pictures(*inputs, camera=camera)
        loss = sum((p * p).sum() for p in images)
        found.append([*images, *torch.autograd.grad(loss, inputs)])
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_empty_picture():
    rows = project(*one((0.0, 0.0, -5.0), 0.2, 0.8, (0.5,) * 3), straight(20), 0)
    found = splat(rows, (20, 20), BACKGROUND, WITH_DEPTH)
    assert not found.opacity.any() and not found.depth.any()
    torch.testing.assert_close(found.rgb, torch.tensor(BACKGROUND, dtype=torch.float64).expand(20, 20, 3))


def test_opcheck(generator):
    rows = project(*gaussians(40, generator), view(), 3)
    leaf = rows.values.detach().requires_grad_()
    assert leaf.shape[1] == ROW > DIFFERENTIABLE
    whole = [rows.ids, rows.chunk_count, rows.slot, rows.key, rows.totals]
    lists = tile_lists(rows, view().size)
    listed = [lists.entries, lists.tile_offset, lists.block_offset, lists.pairs]
    arguments = leaf, whole, listed, list(view().size), list(BACKGROUND), WITH_NORMAL, False
    utilities = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.neuralfields.splat_blend, arguments, test_utils=utilities)
