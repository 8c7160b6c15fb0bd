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
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from neuralfields import ranks
from neuralfields.options import training as training_options
from neuralfields.options.training import TrainingSettings
from neuralfields.rays import RaySums
from neuralfields.supervision.colour_maps import fitted_maps, mapped_picture, picture_moments, with_opacity
from neuralfields.supervision.pixels import Batch

MEMORY_RAYS = 3000  # of a photo: time constant of the moving averages
PHOTO_MEMORY = 0.7  # of a whole photo's sums, from one step on it to the next
SATURATED = 250 / 255  # brighter pixels of a photo have lost their exposure
LARGEST = 1.6  # of a gain's size: a factor of 5
PRIOR = 1e-5  # of a gain of 0, beside the mean of own^2
TYPICAL = 0.2  # mean of own^2

Learned = Literal["", "exposure", "appearance"]  # of each photo: nothing, a gain, an affine map of colours


def learned_of(made: Mapping[str, Any]) -> Learned:
    """What a fit with that record learned of each photo's colours; the stronger one where both were asked for."""
    return "appearance" if made.get("appearance") else "exposure" if made.get("exposure") else ""


class Exposure:
    """The gains of the training photos: `gain` [N, 3], and the sums behind them, [:, N, :].

    What a subclass changes (appearance.py): which sums there are, how they are solved, and how colours follow.
    """

    learned: ClassVar[Learned] = "exposure"

    def __init__(
        self, photos: int, device: torch.device | str = "cpu", settings: TrainingSettings | None = None
    ) -> None:
        self.settings = settings or training_options.DEFAULT
        self.gain = torch.zeros(photos, 3, device=device)
        self.sums = self.no_sums()
        self.begun = False

    def no_sums(self) -> Tensor:
        """The sums of nothing: of own photo and of own^2, [2, N, 3]."""
        return torch.zeros_like(self.gain).repeat(2, 1, 1)

    def begin(self, gain: Tensor, share: float = 1.0) -> None:
        """Begins with gains [N, 3] found beforehand, if any; `share`: of a step's pixels that are one photo's."""
        if not bool(gain.any()):
            return
        self.gain = gain.clamp(-LARGEST, LARGEST).to(self.gain)
        self.sums = self.typical_sums() * share
        self.begun = True

    def typical_sums(self) -> Tensor:
        """The sums of typical colours in the gains as they are."""
        own = torch.full_like(self.gain, TYPICAL)
        return torch.stack([own * torch.exp(self.gain), own])

    def applied(self, sums: RaySums, camera: Tensor) -> RaySums:
        """Applies the gains of the photos `camera` [R] to the rendered colours, clamped at 1."""
        rgb = self.of_rays(sums, camera).clamp(max=1)
        return RaySums(torch.cat([rgb, sums.values[:, 3:]], 1), sums.valid, sums.samples)

    def of_rays(self, sums: RaySums, camera: Tensor) -> Tensor:
        """Rendered colours of rays, [R, 3], as their photos `camera` [R] show them."""
        return sums.rgb * torch.exp(self.gain)[camera]

    @torch.no_grad()
    def follow(self, step: int, batch: Batch, sums: RaySums, background: Tensor, weight: Tensor) -> None:
        """Updates the moving averages and the gains after a training step; `sums` without gains, `weight` [R]."""
        photo = batch.over(background) - (1 - sums.opacity)[:, None] * background
        if step < self.settings.exposure_start:  # there is no scene yet to compare with
            return
        terms = self.ray_terms(sums, photo, weight[:, None] * (batch.rgb < SATURATED))
        new = torch.zeros_like(self.sums).index_add_(1, batch.camera, terms) / len(weight)
        memory = math.exp(-ranks.total(len(weight)) / len(self.gain) / MEMORY_RAYS)
        self.sums = memory * self.sums + (1 - memory) * ranks.mean(new)
        if self.begun or step >= self.settings.exposure_warmup:
            self.solve(1 / len(self.gain), None)

    def ray_terms(self, sums: RaySums, photo: Tensor, kept: Tensor) -> Tensor:
        """What each ray adds to the sums, [:, R, :]; `photo` and weights `kept` [R, 3]."""
        return torch.stack([sums.rgb * photo, sums.rgb.square()]) * kept

    def solve(self, share: float, seen: Tensor | None) -> None:
        """Sets the gains by the sums; `share`: of a step's pixels that are one photo's; `seen` [N]: photos that count.

        Only photos that were seen have a gain; None: all.
        """
        both, square = self.gain_sums().clamp(min=0) + PRIOR * share
        gain = torch.log(both / square).clamp(-LARGEST, LARGEST)
        if seen is None:
            self.gain = gain - gain.mean(0)
        else:
            self.gain = torch.where(seen[:, None], gain - gain[seen].mean(0), 0.0)

    def gain_sums(self) -> Tensor:
        """The sums that gains follow from, [2, N, 3]."""
        return self.sums

    def exposed_photo(self, photo: int, rgb: Tensor, opacity: Tensor, background: Tensor) -> Tensor:
        """A whole render [H, W, 3] with opacity [H, W] in the photo's exposure, clamped at 1."""
        behind = (1 - opacity)[..., None] * background
        return (self.of_picture(photo, rgb - behind, opacity) + behind).clamp(max=1)

    def of_picture(self, photo: int, own: Tensor, opacity: Tensor) -> Tensor:
        """Rendered colours [H, W, 3] without background, as the photo shows them; opacity [H, W]."""
        return own * torch.exp(self.gain[photo])

    def led_back(self, photo: int, d_shown: Tensor, background: Tensor) -> tuple[Tensor, Tensor | None]:
        """Leads a gradient [H, W, 3] of `exposed_photo` back to rgb [H, W, 3] and opacity [H, W] (None: zeros).

        The background is not exposed: what is behind is added without gain. What was clamped has no gradient.
        """
        gain = torch.exp(self.gain[photo])
        d_opacity = (d_shown * (background * (gain - 1))).sum(2) if bool(background.any()) else None
        return d_shown * gain, d_opacity

    @torch.no_grad()
    def follow_photo(self, photo: int, own: Tensor, opacity: Tensor, target: Tensor, mask: Tensor | None) -> None:
        """Updates the gains after a step on one whole photo; `own` and `target` [H, W, 3] without the background.

        Only photos that were seen have a gain.
        """
        kept = (target < SATURATED).to(own.dtype) * (1 if mask is None else mask[..., None])
        new = self.picture_sums(own, opacity, target, kept)
        first = not bool(self.sums[1, photo].any())
        self.sums[:, photo] = new if first else PHOTO_MEMORY * self.sums[:, photo] + (1 - PHOTO_MEMORY) * new
        self.solve(1.0, self.sums[1].sum(1) > 0)

    def picture_sums(self, own: Tensor, opacity: Tensor, target: Tensor, kept: Tensor) -> Tensor:
        """The sums of one whole photo, [:, :], as means over its pixels; weights `kept` [H, W, 3]."""
        return torch.stack([(own * target * kept).mean((0, 1)), (own.square() * kept).mean((0, 1))])

    def record(self, names: Sequence[str]) -> dict[str, Any]:
        """What was learned, for the model's record: `exposure_gains`, the gains of photos by name, as factors."""
        gains = torch.exp(self.gain).tolist()
        found = {name: [round(g, 4) for g in gain] for name, gain in zip(names, gains, strict=False)}
        return {"exposure_gains": found}

    def tensors(self) -> dict[str, Tensor]:
        """State that the next step depends on, for a checkpoint."""
        return {"exposure.gain": self.gain, "exposure.sums": self.sums}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The reverse of `tensors`."""
        device = self.gain.device
        self.gain, self.sums = tensors["exposure.gain"].to(device), tensors["exposure.sums"].to(device)


def by_other_half(
    own: np.ndarray,
    behind: np.ndarray,
    photo: np.ndarray,
    keep: np.ndarray | None = None,
    opacity: np.ndarray | None = None,
) -> np.ndarray:
    """Render float [H, W, 3] in a photo's exposure: each half by the gain fitted on the other, left and right.

    `own`: the field's colours, `behind`: the background that shows through it; `photo` is over the same background.
    `keep` [H, W] bool: pixels that count. A half keeps its exposure where the other half has no valid pixel.
    `opacity` [H, W]: where it is given, halves follow an affine map of colours in place of a gain (colour_maps.py).
    """
    middle = own.shape[1] // 2
    halves = slice(None, middle), slice(middle, None)
    exposed = own + behind
    for one, other in (halves, halves[::-1]):
        counts = (photo[:, other] < SATURATED) & (True if keep is None else keep[:, other, None])
        wanted = (photo - behind)[:, other]
        both = (own[:, other] * wanted * counts).sum((0, 1), dtype=np.float64)
        square = (np.square(own[:, other]) * counts).sum((0, 1), dtype=np.float64)
        gain = np.where((square > 0) & (both > 0), both / np.maximum(square, 1e-12), 1.0)
        if opacity is None:
            shown = own[:, one] * gain
        else:
            seen = own[:, other], opacity[:, other], wanted, counts.all(2)
            shown = _mapped_alike(gain, seen, (own[:, one], opacity[:, one]))
        exposed[:, one] = np.clip(shown, 0, 1) + behind[:, one]
    return exposed


def _mapped_alike(gain: np.ndarray, seen: tuple[np.ndarray, ...], others: tuple[np.ndarray, ...]) -> np.ndarray:
    """Colours and opacity `others` by the map that `seen` shows: colours, opacity, those of the photo, what counts."""
    own, opacity, wanted, counts = (torch.from_numpy(np.ascontiguousarray(part)).double() for part in seen)
    moments = picture_moments(with_opacity(own, opacity), wanted, counts)
    found = fitted_maps(moments, torch.from_numpy(gain))
    return mapped_picture(found, *(torch.from_numpy(np.ascontiguousarray(part)).double() for part in others)).numpy()
