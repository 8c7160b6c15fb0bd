"""Transient rejection (robust loss): leaves passers-by and shadows, outliers among the photos, out of the loss.

Vocabulary
  cell     a square of a photo's pixels; its error is a moving average of the residuals of it and its eight neighbours
  typical  the 75th percentile of the cells' errors

A cell whose error is over 1.6 times the typical one is an outlier and gets no weight. The idea, trimmed least squares
on a residual that is pooled over neighbours since whatever moves is larger than a pixel, is RobustNeRF's
(arXiv:2302.00833); there the pool is a patch of one batch, here a map of each photo, so that pixels stay drawn one by
one and a step costs as before. Outliers are still rendered, so that they may become inliers again. Fields draw pixels
of all photos (`weight`, `follow`), Gaussians whole photos in turn (`photo_weight`, `follow_photo`).
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from neuralfields import ranks
from neuralfields.options import training as training_options
from neuralfields.options.training import TrainingSettings
from neuralfields.supervision.pixels import Batch

CELLS = 48  # along the longer side of the largest photo
EVERY = 25  # steps between updates of the outlier mask
TYPICAL, TIMES = 0.75, 1.6
PHOTO_MEMORY = 0.5  # of a whole photo's errors, from one look at it to the next
MOST = 0.3  # largest fraction of outlier cells: beyond it the field is wrong, not the photos


class Robust:
    """Residuals of the cells of all photos, `errors` [N, 2, rows, columns]: sums and counts; outlier mask `out`.

    `widths`, `heights`: of the photos in pixels, int [N].
    """

    def __init__(self, widths: Tensor, heights: Tensor, settings: TrainingSettings | None = None) -> None:
        self.settings = settings or training_options.DEFAULT
        self.side = max(1, -(-int(torch.maximum(widths, heights).max()) // CELLS))
        rows, columns = (-(-int(sides.max()) // self.side) for sides in (heights, widths))
        self.errors = torch.zeros(len(widths), 2, rows, columns, device=widths.device)
        self.out = torch.zeros(len(widths), rows, columns, dtype=torch.bool, device=widths.device)

    def weight(self, batch: Batch) -> Tensor:
        """Weight in the loss: 0 where a pixel's cell is an outlier, else 1, [R]."""
        column, row = (batch.uv / self.side).long().unbind(1)
        return (~self.out[batch.camera, row, column]).to(batch.rgb.dtype)

    @torch.no_grad()
    def follow(self, step: int, batch: Batch, difference: Tensor, valid: Tensor) -> None:
        """Updates residuals and outlier mask after a step: `difference` [R, 3] of colours, where `valid` [R]."""
        column, row = (batch.uv / self.side).long().unbind(1)
        photos, _, rows, columns = self.errors.shape
        cell = (batch.camera * rows + row) * columns + column
        seen = torch.stack([difference.abs().mean(1), torch.ones_like(difference[:, 0])], 1) * valid[:, None]
        new = seen.new_zeros(photos * rows * columns, 2).index_add_(0, cell, seen)
        new = ranks.mean(new).reshape(photos, rows, columns, 2).permute(0, 3, 1, 2)
        self.errors = self.settings.robust_memory * self.errors + new
        if step >= self.settings.robust_warmup and step % EVERY == 0:
            self._judge()

    def photo_weight(self, index: int, size: tuple[int, int], smaller: int = 1) -> Tensor:
        """Weights [H, W] in the loss of a photo that is `smaller` times smaller, of size (width, height)."""
        rows, columns = self._cells(size, smaller)
        return (~self.out[index][rows[:, None], columns]).float()

    @torch.no_grad()
    def follow_photo(self, step: int, index: int, difference: Tensor, mask: Tensor | None, smaller: int = 1) -> None:
        """Updates residuals and outlier mask after a step by a whole photo: `difference` [H, W, 3], `mask` [H, W]."""
        height, width, _ = difference.shape
        rows, columns = self._cells((width, height), smaller)
        seen = torch.stack([difference.abs().mean(2), torch.ones_like(difference[..., 0])], 2)
        seen = seen if mask is None else seen * mask[..., None]
        _, _, down, across = self.errors.shape
        cell = rows[:, None] * across + columns
        new = seen.new_zeros(down * across, 2).index_add_(0, cell.flatten(), seen.reshape(-1, 2))
        self.errors[index] = PHOTO_MEMORY * self.errors[index] + new.reshape(down, across, 2).permute(2, 0, 1)
        if step >= self.settings.robust_warmup and step % EVERY == 0:
            self._judge()

    def _cells(self, size: tuple[int, int], smaller: int) -> tuple[Tensor, Tensor]:
        """Cell of each row [H] and column [W] of a photo that is `smaller` times smaller."""
        _, down, across = self.out.shape
        (width, height), device = size, self.out.device
        found = [(torch.arange(n, device=device) + 0.5) * smaller / self.side for n in (height, width)]
        return found[0].long().clamp(max=down - 1), found[1].long().clamp(max=across - 1)

    def _judge(self) -> None:
        around = avg_pool2d(self.errors, 3, stride=1, padding=1)
        error = around[:, 0] / around[:, 1].clamp(min=1e-6)
        known = error[around[:, 1] > 0].sort().values
        if len(known):
            typical, least = (float(known[int(share * (len(known) - 1))]) for share in (TYPICAL, 1 - MOST))
            self.out = error > max(TIMES * typical, least)

    @property
    def share(self) -> float:
        """Fraction of outlier cells."""
        return float(self.out.float().mean())

    def tensors(self) -> dict[str, Tensor]:
        """State that the next step depends on, for a checkpoint."""
        return {"robust.errors": self.errors, "robust.out": self.out}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The reverse of `tensors`."""
        device = self.out.device
        self.errors, self.out = tensors["robust.errors"].to(device), tensors["robust.out"].to(device)
