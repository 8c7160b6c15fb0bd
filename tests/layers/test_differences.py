"""Gradients by differences against closed forms."""

import torch

from neuralfields.layers.differences import gradient_of


def test_a_plane_is_exact_and_a_ball_nearly_so():
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    slope, mean = gradient_of(lambda x: x @ x.new_tensor([1.0, -2.0, 3.0]) + 4, points, 0.1)
    assert torch.allclose(slope, slope.new_tensor([1.0, -2.0, 3.0]).expand(50, 3), atol=1e-12)
    assert torch.allclose(mean, points @ points.new_tensor([1.0, -2.0, 3.0]) + 4)
    errors = []
    for half in (1e-2, 1e-3):  # of first order: a tenth of the step, a tenth of the error
        slope, _ = gradient_of(lambda x: x.norm(dim=1), points + 1, half)
        errors.append((slope - (points + 1) / (points + 1).norm(dim=1, keepdim=True)).norm(dim=1).max())
    assert 0 < float(errors[0]) < 1e-2 and 9 < float(errors[0] / errors[1]) < 11
