"""Undistortion: the lookup of a pinhole's pixels in a distorted photo, and resampling.

Vocabulary
  before  the photo's camera, with lens distortion
  after   a pinhole; its pixels are looked up in the photo of `before`
  places  [..., 2] pixel coordinates (u, v) in the photo, pixel centres at +0.5
"""

from typing import Literal

import numpy as np
import torch
from torch.nn.functional import grid_sample

from neuralfields.cameras import Camera, distort


def lookup(before: Camera, after: Camera) -> np.ndarray:
    """Maps each pixel of the pinhole `after` to coordinates in the photo of `before`: [H, W, 2] float64.

    Both have the same pose; `after` has its own size, focal lengths and principal point.
    """
    u, v = np.meshgrid(np.arange(after.width) + 0.5, np.arange(after.height) + 0.5)
    a, b = distort(before, (u - after.cx) / after.fx, (v - after.cy) / after.fy)
    return np.stack([a * before.fx + before.cx, b * before.fy + before.cy], axis=-1)


def sample(image: np.ndarray, places: np.ndarray, how: Literal["bilinear", "bicubic"] = "bilinear") -> np.ndarray:
    """Samples an image [H, W, C] at places [..., 2], float32 [..., C]; its border is repeated, NaN counts as 0.

    Bicubic values overshoot at edges. Not differentiable.
    """
    size = np.array([image.shape[1], image.shape[0]], np.float32)
    flat = np.nan_to_num(places.astype(np.float32)).reshape(1, -1, 1, 2)
    values = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).to(torch.float32)
    grid = torch.from_numpy(flat / size * 2 - 1)
    seen = grid_sample(values[None], grid, mode=how, padding_mode="border", align_corners=False)
    return seen[0, :, :, 0].T.reshape(*places.shape[:-1], image.shape[2]).numpy()
