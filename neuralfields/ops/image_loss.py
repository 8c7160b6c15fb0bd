"""Loss of a rendered picture: mean absolute error and structural similarity (Wang et al. 2004), with its gradient.

  loss = (1 - s) mean |x - y| + s (1 - mean S),   s = 0.2 in 3DGS (arXiv:2308.04079, Eq. 7)
S per colour under a Gaussian window of 11 x 11 pixels (1.5 pixels), zeros outside the picture, for values in [0, 1].
A mask [H, W] weighs pixels in both means, which are over all pixels of the picture whatever the mask.
"""

import importlib
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neuralfields.ops.native import array, kernel, threads

RADIUS, DEVIATION, C1, C2 = 5, 1.5, 0.01**2, 0.03**2


@dataclass(frozen=True)
class ImageLoss:
    """The loss of a picture: its gradient `d_rgb` [H, W, 3], and `error` [H, W]: mean |x - y| over colours.

    `sums`: mean |x - y| and mean S under the mask, whose mean is `inside`. On a GPU both stay there until a value is
    asked for, which waits for the device.
    """

    sums: tuple[float, float] | Float[Tensor, " 2"]
    inside: float | Float[Tensor, ""]
    ssim_weight: float
    d_rgb: Float[Tensor, "H W 3"]
    error: Float[Tensor, "H W"]

    @property
    def absolute(self) -> float:
        """Mean |x - y|."""
        return float(self.sums[0])

    @property
    def similarity(self) -> float:
        """Mean S."""
        return float(self.sums[1])

    @property
    def value(self) -> float:
        """The loss."""
        return (1 - self.ssim_weight) * self.absolute + self.ssim_weight * (float(self.inside) - self.similarity)


def image_loss(
    rgb: Float[Tensor, "H W 3"],
    target: Float[Tensor, "H W 3"],
    mask: Float[Tensor, "H W"] | None = None,
    ssim_weight: float = 0.2,
    out: tuple[Float[Tensor, "H W 3"], Float[Tensor, "H W"]] | None = None,
) -> ImageLoss:
    """rgb and target [H, W, 3], mask [H, W] or None. `out`: where to write d_rgb [H, W, 3] and error [H, W].

    No autograd: the gradient comes with the value, for a training pass that goes on by hand.
    """
    d_rgb, error = out if out is not None else (torch.empty_like(rgb), rgb.new_empty(rgb.shape[:2]))
    inside = 1.0 if mask is None else mask.mean()
    if rgb.device.type != "cpu":
        on_gpu = importlib.import_module("neuralfields.gpu.image_loss")
        sums = on_gpu.image_loss(rgb, target, mask, ssim_weight, d_rgb, error)
    else:
        sums = kernel("image_loss", rgb.dtype)(
            array(rgb), array(target), None if mask is None else array(mask), ssim_weight, d_rgb, error, threads()
        )
    return ImageLoss(sums, inside, ssim_weight, d_rgb, error)


def image_loss_reference(
    rgb: Float[Tensor, "H W 3"],
    target: Float[Tensor, "H W 3"],
    mask: Float[Tensor, "H W"] | None = None,
    ssim_weight: float = 0.2,
) -> tuple[Float[Tensor, ""], Float[Tensor, "H W"]]:
    """The loss and `error` in plain torch, differentiable in rgb."""
    inside = torch.ones_like(rgb[..., 0]) if mask is None else mask
    difference = (rgb - target).abs() * inside[..., None]
    similar = similarity_reference(rgb, target) * inside[..., None]
    loss = (1 - ssim_weight) * difference.mean() + ssim_weight * (inside.mean() - similar.mean())
    return loss, difference.mean(2).detach()


def similarity_reference(a: Float[Tensor, "H W 3"], b: Float[Tensor, "H W 3"]) -> Float[Tensor, "H W 3"]:
    """S of every pixel and colour of two pictures, [H, W, 3]."""
    k = torch.arange(-RADIUS, RADIUS + 1, dtype=a.dtype)
    line = torch.exp(-0.5 * (k / DEVIATION) ** 2)
    window = torch.outer(line, line)[None, None] / line.sum() ** 2

    def blurred(picture: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(picture.permute(2, 0, 1)[:, None], window, padding=RADIUS)[:, 0].permute(
            1, 2, 0
        )

    ma, mb = blurred(a), blurred(b)
    va, vb, both = blurred(a * a) - ma * ma, blurred(b * b) - mb * mb, blurred(a * b) - ma * mb
    return (2 * ma * mb + C1) * (2 * both + C2) / ((ma * ma + mb * mb + C1) * (va + vb + C2))
