"""Photos of different exposure and white balance: a gain for each photo and channel, found by least squares.

Vocabulary
  gain  [N, 3] natural logarithm of what a photo's colours are times the scene's; its mean over the photos is 0, so that
        the scene keeps the photos' mean brightness
  own   what the field says, [R, 3]; a photo is taken for min(1, exp(gain) own)

A camera's response is nearly a power, and a power of a product is a product of powers: exposure is a gain of stored
colours too. gain = log(sum own photo / sum own^2), over what the last steps have seen. A photo that was never trained
on has no gain: each half of it is measured with the gain found on the other half, so that no pixel helps itself (as in
NeRF in the Wild, arXiv:2008.02268, for one half).
"""

import math

import numpy as np
import torch
from torch import Tensor

from neuralfields import ranks
from neuralfields.options import training as training_options
from neuralfields.options.training import TrainingSettings
from neuralfields.rays import RaySums
from neuralfields.supervision.pixels import Batch

MEMORY_RAYS = 3000  # of a photo
SATURATED = 250 / 255  # brighter pixels of a photo have lost their exposure
LARGEST = 1.6  # of a gain's size: a factor of 5
PRIOR = 1e-5  # of a gain of 0, beside the mean of own^2


class Exposure:
    """The gains of the training photos: `gain` [N, 3], and the sums behind them."""

    def __init__(
        self, photos: int, device: torch.device | str = "cpu", settings: TrainingSettings | None = None
    ) -> None:
        self.settings = settings or training_options.DEFAULT
        self.gain = torch.zeros(photos, 3, device=device)
        self.sums = torch.zeros(2, photos, 3, device=device)  # of own photo, of own^2

    def applied(self, sums: RaySums, camera: Tensor) -> RaySums:
        """RaySums along rays of the photos `camera` [R] as those photos would have them."""
        rgb = (sums.rgb * torch.exp(self.gain)[camera]).clamp(max=1)
        return RaySums(torch.cat([rgb, sums.values[:, 3:]], 1), sums.valid, sums.samples)

    @torch.no_grad()
    def follow(self, step: int, batch: Batch, sums: RaySums, background: Tensor, weight: Tensor) -> None:
        """What a training step has seen sets the gains; `sums` are the field's own, `weight` [R]."""
        photo = batch.over(background) - (1 - sums.opacity)[:, None] * background
        kept = weight[:, None] * (batch.rgb < SATURATED)
        pair = torch.stack([sums.rgb * photo, sums.rgb.square()]) * kept
        if step < self.settings.exposure_start:
            return
        new = torch.zeros_like(self.sums).index_add_(1, batch.camera, pair) / len(weight)
        memory = math.exp(-ranks.total(len(weight)) / len(self.gain) / MEMORY_RAYS)
        self.sums = memory * self.sums + (1 - memory) * ranks.mean(new)
        if step >= self.settings.exposure_warmup:
            both, own = self.sums.clamp(min=0) + PRIOR / len(self.gain)
            gain = torch.log(both / own).clamp(-LARGEST, LARGEST)
            self.gain = gain - gain.mean(0)

    def tensors(self) -> dict[str, Tensor]:
        """What the next step depends on."""
        return {"exposure.gain": self.gain, "exposure.sums": self.sums}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The reverse of `tensors`."""
        device = self.gain.device
        self.gain, self.sums = tensors["exposure.gain"].to(device), tensors["exposure.sums"].to(device)


def by_other_half(own: np.ndarray, behind: np.ndarray, photo: np.ndarray, keep: np.ndarray | None = None) -> np.ndarray:
    """A picture float [H, W, 3] in a photo's exposure: each half with the gain found on the other, left and right.

    `own`: what the field says, `behind`: what of the background is seen past it; `photo` is over the same background.
    `keep` [H, W] bool: pixels that count. A half whose other half says nothing stays as it is.
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
