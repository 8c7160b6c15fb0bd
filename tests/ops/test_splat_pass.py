from dataclasses import replace

import pytest
import torch

from neuralfields.ops.adam import adam_reference
from neuralfields.ops.blend import WITH_NORMAL, blend, tile_lists
from neuralfields.ops.image_loss import image_loss
from neuralfields.ops.project import project
from neuralfields.ops.splat_pass import Adam, Packed, SplatPass
from tests.support.gaussians import gaussians, view

BACKGROUND = (0.2, 0.5, 0.9)
RATES = Adam(1e-3, 5e-3, 1e-3, 5e-2, 5e-3, 2.5e-4, step=1, rest_step=1)


def composed(inputs, camera, degree, level=0):
    """The same picture by the ops."""
    rows = project(*inputs, camera, degree)
    return blend(rows, tile_lists(rows, camera.size), BACKGROUND, level)


def plain(inputs):
    return [a.detach() for a in inputs]


@pytest.mark.parametrize("bases", [1, 4, 9, 16])
def test_packing_loses_nothing(bases, generator):
    inputs = plain(gaussians(50, generator, bases=bases))
    packed = Packed.of(*inputs)
    assert packed.bases == bases and len(packed) == 50
    for a, b in zip(packed.unpacked(), inputs, strict=True):
        assert torch.equal(a, b) and a.data_ptr() != packed.core.data_ptr()


@pytest.mark.parametrize(("bases", "degree"), [(1, 0), (16, 3), (16, 1)])
def test_picture_equals_that_of_the_ops(bases, degree, generator, instruction_set):
    """Boxes of chunks cull nothing that is seen; memory is taken again by pictures of other sizes."""
    inputs = gaussians(5000, generator, torch.float32, bases)
    inputs = [a.detach()[torch.argsort(inputs[0].detach()[:, 0])].contiguous() for a in inputs]  # chunks in slabs
    run = SplatPass(Packed.of(*inputs))
    for width, height in ((50, 37), (90, 60), (33, 20), (90, 60)):
        camera = view(width, height)
        found, want = run.render(camera, BACKGROUND, degree, WITH_NORMAL), composed(inputs, camera, degree, WITH_NORMAL)
        for name in ("rgb", "opacity", "depth", "normal"):
            assert torch.equal(getattr(found, name), getattr(want, name)), name


def test_an_empty_picture_after_a_full_one(generator):
    """A viewer's bands: the top one may show nothing."""
    run = SplatPass(Packed.of(*plain(gaussians(300, generator, torch.float32, 1))))
    assert run.render(view(), BACKGROUND, 0).opacity.max() > 0
    away = replace(view(), principal=(-4000.0, -4000.0))
    empty = run.render(away, BACKGROUND, 0)
    assert empty.opacity.max() == 0 and torch.allclose(empty.rgb, torch.tensor(BACKGROUND))
    assert run.render(view(), BACKGROUND, 0).opacity.max() > 0


def test_chunks_that_cannot_be_seen_are_left_out(generator):
    inputs = plain(gaussians(3000, generator, torch.float32, 1))
    inputs[0][1024:2048, 2] -= 100  # behind the camera
    run = SplatPass(Packed.of(*inputs))
    run.render(view(), BACKGROUND, 0)
    counts = run.kept("counts")
    assert counts[1] == 0 and counts[0] > 0


@pytest.mark.parametrize("rest_step", [0, 1])
def test_step_equals_autograd_and_adam(rest_step, generator, instruction_set):
    """One step of the pass is the ops' gradient through Adam where something was seen, and nothing elsewhere."""
    inputs, camera = gaussians(1500, generator), view()
    target = torch.rand(37, 50, 3, generator=generator, dtype=torch.float64)
    rates = Adam(1e-3, 5e-3, 1e-3, 5e-2, 5e-3, 2.5e-4, step=3, rest_step=rest_step, opacity_pull=1e-4, scale_pull=2e-4)
    packed = Packed.of(*plain(inputs))
    moments = packed.zeros_like(), packed.zeros_like()
    run = SplatPass(packed)
    loss = image_loss(run.render(camera, BACKGROUND, 3).rgb, target)
    run.backward(loss.d_rgb, error=loss.error)
    statistics = torch.zeros(1500, 4, dtype=torch.float64)
    run.adam(moments, rates, statistics)

    found = composed(inputs, camera, 3)
    gradients = list(torch.autograd.grad(found.rgb, inputs, image_loss(found.rgb, target).d_rgb))
    seen = gradients[3] != 0
    assert 200 < int(seen.sum()) < 1300
    assert torch.equal(statistics[:, 3] > 0, seen)
    opacity = inputs[3].detach().sigmoid()
    gradients[3] = gradients[3] + seen * 1e-4 * opacity * (1 - opacity)
    gradients[1] = gradients[1] + seen[:, None] * 2e-4 * inputs[1].detach().exp()
    higher = gradients[4].clone()
    gradients[4][:, 1:] = 0
    for index, (value, gradient, rate) in enumerate(
        zip(plain(inputs), gradients, [1e-3, 5e-3, 1e-3, 5e-2, 5e-3], strict=True)
    ):
        m, v = torch.zeros_like(value), torch.zeros_like(value)
        want = value.clone()
        adam_reference(want, gradient.clone(), (m, v), 3, (rate, 0.9, 0.999, 1e-15), True)
        if index == 4 and rest_step:
            higher[:, 0] = 0
            adam_reference(want, higher, (m, v), 1, (2.5e-4, 0.9, 0.999, 1e-15), True)
        got = packed.unpacked()[index]
        assert torch.equal(got[~seen], value[~seen])
        # Adam's first step is a sign times a rate wherever rounding leaves a gradient at all; the betas are float32.
        sure = gradient.abs() + (higher.abs() if index == 4 else 0) > 1e-12
        torch.testing.assert_close(got[sure], want[sure], rtol=0, atol=2e-6)


def test_statistics(generator):
    """Weights are the picture's importance, errors the same weighted by pixel."""
    inputs, camera = plain(gaussians(800, generator, torch.float64, 1)), view()
    packed, statistics = Packed.of(*inputs), torch.zeros(800, 4, dtype=torch.float64)
    run, importance = SplatPass(packed), torch.zeros(800, dtype=torch.float64)
    rgb = run.render(camera, BACKGROUND, 0, importance=importance).rgb
    error = torch.full(rgb.shape[:2], 3.0, dtype=torch.float64)
    run.backward(torch.randn(rgb.shape, generator=generator, dtype=torch.float64), error=error)
    run.adam((packed.zeros_like(), packed.zeros_like()), RATES, statistics)
    torch.testing.assert_close(statistics[:, 0], importance, rtol=0, atol=1e-9)
    torch.testing.assert_close(statistics[:, 1], 3 * importance, rtol=0, atol=1e-9)
    assert int(statistics[:, 3].sum()) == int((importance > 0).sum()) > 100


def test_boxes_follow_the_means(generator):
    inputs = plain(gaussians(1500, generator, torch.float32))
    packed = Packed.of(*inputs)
    run = SplatPass(packed)
    run.render(view(), BACKGROUND, 3)
    run.backward(torch.randn(37, 50, 3, generator=generator))
    run.adam((packed.zeros_like(), packed.zeros_like()), RATES)
    kept = run.boxes().clone()
    assert torch.equal(kept, SplatPass(packed).boxes())
    torch.testing.assert_close(kept[1, :3], packed.core[1024:, :3].amin(0))
    torch.testing.assert_close(kept[1, 6], packed.core[1024:, 3:6].exp().max())


def test_same_bits_whatever_the_threads(generator):
    inputs, before, found = plain(gaussians(6000, generator, torch.float32)), torch.get_num_threads(), []
    target = torch.rand(90, 120, 3, generator=generator)
    for threads in (1, 2, 3, 2):
        torch.set_num_threads(threads)
        packed = Packed.of(*inputs)
        moments, run = (packed.zeros_like(), packed.zeros_like()), SplatPass(packed)
        for step in range(1, 4):
            loss = image_loss(run.render(view(120, 90), BACKGROUND, 3).rgb, target)
            run.backward(loss.d_rgb, error=loss.error)
            run.adam(moments, Adam(1e-3, 5e-3, 1e-3, 5e-2, 5e-3, 2.5e-4, step=step, rest_step=step // 2))
        found.append((packed.core, packed.rest, moments[1].core))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_it_learns(generator):
    """A hundred steps bring the picture to its target."""
    truth = plain(gaussians(300, generator, torch.float32, 1, 0.3))
    target = composed(truth, view(), 0).rgb.clone()
    packed = Packed.of(truth[0] + 0.05 * torch.randn(300, 3, generator=generator), *truth[1:4], 0 * truth[4])
    moments, run, values = (packed.zeros_like(), packed.zeros_like()), SplatPass(packed), []
    for step in range(1, 101):
        loss = image_loss(run.render(view(), BACKGROUND, 0).rgb, target)
        values.append(loss.value)
        run.backward(loss.d_rgb)
        run.adam(moments, Adam(2e-3, 5e-3, 2e-3, 2e-2, 5e-2, 0.0, step=step))
    assert values[-1] < 0.15 * values[0]


def test_pictures_of_two_shapes_in_turn_take_no_more_memory_than_the_larger(generator):
    """Memory that grew with each change of width was exhausted after dozens of photos, upright and lying in turn."""
    run = SplatPass(Packed.of(*plain(gaussians(50, generator, torch.float32, 1))))
    for size in ((40, 24), (24, 40)) * 20:
        run.render(view(*size), BACKGROUND, 0)
    assert run.kept("rgb").numel() <= 2 * 3 * 40 * 24
