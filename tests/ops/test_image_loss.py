import pytest
import torch

from neuralfields.ops.image_loss import image_loss, image_loss_reference, similarity_reference


def inputs(height: int, width: int, generator: torch.Generator, dtype: torch.dtype) -> list[torch.Tensor]:
    rgb = torch.rand(height, width, 3, generator=generator, dtype=dtype)
    target = (rgb + 0.3 * torch.randn(height, width, 3, generator=generator, dtype=dtype)).clamp(0, 1)
    return [rgb, target, (torch.rand(height, width, generator=generator) < 0.7).to(dtype)]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 17), (40, 33), (64, 48)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_reference(height, width, masked, dtype, tolerance, generator, instruction_set):
    """Value, gradient and error against autograd through a two-dimensional convolution, in float64."""
    rgb, target, mask = inputs(height, width, generator, dtype)
    found = image_loss(rgb, target, mask if masked else None)
    leaf = rgb.double().requires_grad_()
    loss, error = image_loss_reference(leaf, target.double(), mask.double() if masked else None)
    loss.backward()
    assert found.value == pytest.approx(loss.item(), abs=tolerance)
    scale = float(leaf.grad.abs().max())
    torch.testing.assert_close(found.d_rgb.double(), leaf.grad, rtol=0, atol=tolerance * max(scale, 1e-9))
    torch.testing.assert_close(found.error.double(), error, rtol=0, atol=tolerance)


def test_finite_differences(generator):
    rgb, target, mask = inputs(14, 13, generator, torch.float64)
    gradient = image_loss(rgb, target, mask).d_rgb.flatten()
    for place in range(0, rgb.numel(), 37):
        values = []
        for step in (1e-6, -1e-6):
            moved = rgb.clone()
            moved.view(-1)[place] += step
            values.append(image_loss(moved, target, mask).value)
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(float(gradient[place]), abs=1e-7)


def test_of_a_picture_with_itself():
    """Analytic truth: no error, no gradient; two flat pictures have S = (2 a b + C1) / (a^2 + b^2 + C1)."""
    picture = torch.full((32, 32, 3), 0.4, dtype=torch.float64)
    same = image_loss(picture, picture)
    assert same.value == pytest.approx(0, abs=1e-12) and float(same.d_rgb.abs().max()) < 1e-12
    middle = similarity_reference(picture, picture + 0.2)[16, 16]
    want = (2 * 0.4 * 0.6 + 1e-4) / (0.4**2 + 0.6**2 + 1e-4)
    torch.testing.assert_close(middle, torch.full((3,), want, dtype=torch.float64))
    assert image_loss(picture, picture + 0.2, ssim_weight=0.0).value == pytest.approx(0.2)


def test_same_bits_whatever_the_threads(generator):
    rgb, target, mask = inputs(90, 70, generator, torch.float32)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        loss = image_loss(rgb, target, mask)
        found.append((loss.value, loss.d_rgb, loss.error))
    torch.set_num_threads(before)
    for other in found[1:]:
        assert other[0] == found[0][0] and torch.equal(other[1], found[0][1]) and torch.equal(other[2], found[0][2])


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"target has shape \[4, 5, 3\], expected \[4, 6, 3\]"):
        image_loss(torch.zeros(4, 6, 3), torch.zeros(4, 5, 3))
    with pytest.raises(ValueError, match=r"mask has shape \[6, 4\], expected \[4, 6\]"):
        image_loss(torch.zeros(4, 6, 3), torch.zeros(4, 6, 3), torch.zeros(6, 4))
