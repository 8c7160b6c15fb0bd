"""Image gradients of photos at a chosen scale of their pyramid, for direct image alignment (alignment.py).

Vocabulary
  scale  pixels of a photo along the side of one coarse pixel, the mean over them
  slope  [R, 3, 2] image gradient: change of a colour (per channel) for one pixel to the right and one down
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from neuralfields.supervision.pixels import Pixels

COARSEST = 28  # coarse pixels along the longer side of the largest photo at the coarsest scale, at least


def scales(pixels: Pixels) -> tuple[int, ...]:
    """Scales of the image pyramid: powers of two from the coarsest that suits these photos down to 1."""
    longest = int(torch.maximum(pixels.widths, pixels.heights).max())
    coarsest = max(0, (longest // COARSEST).bit_length() - 1)
    return tuple(1 << power for power in range(coarsest, -1, -1))


class Slopes:
    """Image gradients of all photos of a `Pixels` at one scale, of premultiplied colours, for any background."""

    def __init__(self, pixels: Pixels, scale: int) -> None:
        self.scale = scale
        self.widths, self.heights = (-(-side // scale) for side in (pixels.widths, pixels.heights))
        self.first = torch.cat([self.widths.new_zeros(1), (self.widths * self.heights).cumsum(0)])
        self.values = pixels.values
        if scale > 1 or pixels.values.shape[1] == 4:
            self.values = torch.cat([_coarse(pixels.photo(index), scale) for index in range(len(pixels.widths))])

    def at(self, camera: Tensor, uv: Tensor, background: Tensor) -> Tensor:
        """Image gradients [R, 3, 2] of the photos `camera` [R] at pixels uv [R, 2], over a background [3] or [R, 3]."""
        width, height = self.widths[camera], self.heights[camera]
        x, y = (uv / self.scale).long().unbind(1)
        columns, rows = _around(x, width), _around(y, height)
        first = self.first[camera]
        across = self._difference(first + y * width + columns[0], first + y * width + columns[1], columns)
        down = self._difference(first + rows[0] * width + x, first + rows[1] * width + x, rows)
        slope = torch.stack([across, down], 2) / (255 * self.scale)
        if slope.shape[1] == 3:
            return slope
        return slope[:, :3] - background.expand(len(uv), 3)[..., None] * slope[:, 3:]

    def _difference(self, before: Tensor, after: Tensor, places: tuple[Tensor, Tensor]) -> Tensor:
        """Finite difference per coarse pixel, [R, channels]."""
        change = self.values[after].to(torch.float32) - self.values[before].to(torch.float32)
        return change / (places[1] - places[0]).clamp(min=1)[:, None]


def _around(place: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Neighbours on both sides, clamped to the photo."""
    return (place - 1).clamp(min=0), torch.minimum(place + 1, count - 1)


def _coarse(photo: Tensor, scale: int) -> Tensor:
    """Means of scale x scale blocks: uint8 [H, W, channels] -> [h * w, channels]; blocks at the border are smaller."""
    values = photo.to(torch.float32)
    if photo.shape[2] == 4:
        values = torch.cat([values[..., :3] * values[..., 3:] / 255, values[..., 3:]], 2)
    values = avg_pool2d(values.permute(2, 0, 1)[None], scale, ceil_mode=True, count_include_pad=False)[0]
    return values.permute(1, 2, 0).reshape(-1, photo.shape[2]).round().to(torch.uint8)
