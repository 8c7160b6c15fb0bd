"""The loss of a picture on a CUDA GPU (ops/image_loss.py): two kernels, no wait for the device."""

import torch
from torch import Tensor

from neuralfields.gpu import launch as cuda_launch
from neuralfields.gpu.launch import THREADS, expect, inputs
from neuralfields.gpu.splat import splat_module
from neuralfields.ops.blend import tiles


def image_loss(
    rgb: Tensor, target: Tensor, mask: Tensor | None, ssim_weight: float, d_rgb: Tensor, error: Tensor
) -> Tensor:
    """Writes d_rgb [H, W, 3] and error [H, W]; gives mean |x - y| and mean S, [2] float64, on the device."""
    height, width = rgb.shape[:2]
    expect(rgb=(rgb, (-1, -1, 3)), target=(target, (height, width, 3)))
    expect(d_rgb=(d_rgb, (height, width, 3)), error=(error, (height, width)))
    pictures = [*inputs(rgb, target), None]
    if mask is not None:
        expect(mask=(mask, (height, width)))
        pictures = inputs(rgb, target, mask)
    module, squares = splat_module("image_loss", rgb.dtype), tiles(width, height)
    maps = rgb.new_empty(3, height, width, 3)
    parts = torch.empty(2, 3 * squares, dtype=torch.float64, device=rgb.device)
    given = *pictures, width, height, float(ssim_weight), maps
    cuda_launch.launch(module, "image_loss_moments", (squares, 3), THREADS, *given, parts)
    cuda_launch.launch(module, "image_loss_gradient", (squares, 3), THREADS, *given, d_rgb, error)
    return parts.sum(1)
