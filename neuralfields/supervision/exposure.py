"""Exposure and white balance compensation: a gain for each photo and channel, found by least squares.

Vocabulary
  gain  [N, 3] natural logarithm of a photo's colours over the scene's; its mean over the photos is 0, so that the scene
        keeps the photos' mean brightness
  own   the field's rendered colours, [R, 3]; a photo is modelled as min(1, exp(gain) own)

A camera's response is nearly a power, and a power of a product is a product of powers: exposure is a gain of stored
colours too. gain = log(sum own photo / sum own^2), moving averages over the last steps. A held-out photo has no gain:
each half of it is evaluated with the gain fitted on the other half, so that no pixel is compared by a gain fitted to it
(as in NeRF in the Wild, arXiv:2008.02268, for one half).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from neuralfields import ranks
from neuralfields.options import training as training_options
from neuralfields.options.training import TrainingSettings
from neuralfields.rays import RaySums
from neuralfields.supervision.pixels import Batch

MEMORY_RAYS = 3000  # of a photo: time constant of the moving averages
PHOTO_MEMORY = 0.7  # of a whole photo's sums, from one step on it to the next
SATURATED = 250 / 255  # brighter pixels of a photo have lost their exposure
LARGEST = 1.6  # of a gain's size: a factor of 5
PRIOR = 1e-5  # of a gain of 0, beside the mean of own^2
TYPICAL = 0.2  # mean of own^2


class Exposure:
    """The gains of the training photos: `gain` [N, 3], and the sums behind them."""

    def __init__(
        self, photos: int, device: torch.device | str = "cpu", settings: TrainingSettings | None = None
    ) -> None:
        self.settings = settings or training_options.DEFAULT
        self.gain = torch.zeros(photos, 3, device=device)
        self.sums = torch.zeros(2, photos, 3, device=device)  # of own photo, of own^2
        self.begun = False

    def begin(self, gain: Tensor, share: float = 1.0) -> None:
        """Begins with gains [N, 3] found beforehand, if any; `share`: of a step's pixels that are one photo's."""
        if not bool(gain.any()):
            return
        self.gain = gain.clamp(-LARGEST, LARGEST).to(self.gain)
        own = torch.full_like(self.gain, TYPICAL * share)
        self.sums = torch.stack([own * torch.exp(self.gain), own])
        self.begun = True

    def applied(self, sums: RaySums, camera: Tensor) -> RaySums:
        """Applies the gains of the photos `camera` [R] to the rendered colours, clamped at 1."""
        rgb = (sums.rgb * torch.exp(self.gain)[camera]).clamp(max=1)
        return RaySums(torch.cat([rgb, sums.values[:, 3:]], 1), sums.valid, sums.samples)

    @torch.no_grad()
    def follow(self, step: int, batch: Batch, sums: RaySums, background: Tensor, weight: Tensor) -> None:
        """Updates the moving averages and the gains after a training step; `sums` without gains, `weight` [R]."""
        photo = batch.over(background) - (1 - sums.opacity)[:, None] * background
        kept = weight[:, None] * (batch.rgb < SATURATED)
        pair = torch.stack([sums.rgb * photo, sums.rgb.square()]) * kept
        if step < self.settings.exposure_start:  # there is no scene yet to compare with
            return
        new = torch.zeros_like(self.sums).index_add_(1, batch.camera, pair) / len(weight)
        memory = math.exp(-ranks.total(len(weight)) / len(self.gain) / MEMORY_RAYS)
        self.sums = memory * self.sums + (1 - memory) * ranks.mean(new)
        if self.begun or step >= self.settings.exposure_warmup:
            both, own = self.sums.clamp(min=0) + PRIOR / len(self.gain)
            gain = torch.log(both / own).clamp(-LARGEST, LARGEST)
            self.gain = gain - gain.mean(0)

    def exposed_photo(self, photo: int, rgb: Tensor, opacity: Tensor, background: Tensor) -> Tensor:
        """A whole render [H, W, 3] with opacity [H, W] in the photo's exposure, clamped at 1."""
        behind = (1 - opacity)[..., None] * background
        return ((rgb - behind) * torch.exp(self.gain[photo]) + behind).clamp(max=1)

    @torch.no_grad()
    def follow_photo(self, photo: int, own: Tensor, target: Tensor, mask: Tensor | None) -> None:
        """Updates the gains after a step on one whole photo; `own` and `target` [H, W, 3] without the background.

        Only photos that were seen have a gain.
        """
        kept = (target < SATURATED).to(own.dtype) * (1 if mask is None else mask[..., None])
        pair = torch.stack([(own * target * kept).mean((0, 1)), (own.square() * kept).mean((0, 1))])
        first = not bool(self.sums[1, photo].any())
        self.sums[:, photo] = pair if first else PHOTO_MEMORY * self.sums[:, photo] + (1 - PHOTO_MEMORY) * pair
        seen = self.sums[1].sum(1) > 0
        both, square = self.sums.clamp(min=0) + PRIOR
        gain = torch.log(both / square).clamp(-LARGEST, LARGEST)
        self.gain = torch.where(seen[:, None], gain - gain[seen].mean(0), 0.0)

    def record(self, names: Sequence[str]) -> dict[str, list[float]]:
        """The gains of photos by name, as factors."""
        gains = torch.exp(self.gain).tolist()
        return {name: [round(g, 4) for g in gain] for name, gain in zip(names, gains, strict=False)}

    def tensors(self) -> dict[str, Tensor]:
        """State that the next step depends on, for a checkpoint."""
        return {"exposure.gain": self.gain, "exposure.sums": self.sums}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The reverse of `tensors`."""
        device = self.gain.device
        self.gain, self.sums = tensors["exposure.gain"].to(device), tensors["exposure.sums"].to(device)


def by_other_half(own: np.ndarray, behind: np.ndarray, photo: np.ndarray, keep: np.ndarray | None = None) -> np.ndarray:
    """Render float [H, W, 3] in a photo's exposure: each half by the gain fitted on the other, left and right.

    `own`: the field's colours, `behind`: the background that shows through it; `photo` is over the same background.
    `keep` [H, W] bool: pixels that count. A half keeps its exposure where the other half has no valid pixel.
    """
    middle = own.shape[1] // 2
    halves = slice(None, middle), slice(middle, None)
    exposed = own + behind
    for one, other in (halves, halves[::-1]):
        counts = (photo[:, other] < SATURATED) & (True if keep is None else keep[:, other, None])
        both = (own[:, other] * (photo - behind)[:, other] * counts).sum((0, 1), dtype=np.float64)
        square = (np.square(own[:, other]) * counts).sum((0, 1), dtype=np.float64)
        gain = np.where((square > 0) & (both > 0), both / np.maximum(square, 1e-12), 1.0)
        exposed[:, one] = np.clip(own[:, one] * gain, 0, 1) + behind[:, one]
    return exposed
