"""Appearance of each photo: an affine map of colours, found by least squares as the gains of exposure.py are.

  photo = min(1, A own + b opacity),  [A | b] = map [N, 3, 4]; the mean map of all photos is the identity

Gains are the case of a diagonal A without b, and what the maps are pulled to (colour_maps.py); a map also knows casts
that mix channels and contrast. It is found from moments, so that no gradient goes through it; the loss goes back to the
scene by A transposed. Affine maps of colours are those of Urban Radiance Fields (arXiv:2111.14643), which learns them.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from neuralfields.options.fit import Supervision
from neuralfields.options.training import TrainingSettings
from neuralfields.rays import RaySums
from neuralfields.supervision import colour_maps
from neuralfields.supervision.colour_maps import with_opacity
from neuralfields.supervision.exposure import TYPICAL, Exposure, Learned

# Moments of typical colours: of a mean of 0.4, whose channels go together, with some colour in them.
MEAN, TOGETHER = 0.4, 0.19


class Appearance(Exposure):
    """The maps of the training photos: `maps` [N, 3, 4], the gains that they are pulled to, and the moments."""

    learned: ClassVar[Learned] = "appearance"

    def __init__(
        self, photos: int, device: torch.device | str = "cpu", settings: TrainingSettings | None = None
    ) -> None:
        super().__init__(photos, device, settings)
        self.maps = colour_maps.identity_maps(photos, self.gain)

    def no_sums(self) -> Tensor:
        """The moments of nothing, [4, N, 7]."""
        return self.gain.new_zeros(4, len(self.gain), 7)

    def begin(self, gain: Tensor, share: float = 1.0) -> None:
        """Begins with gains as `Exposure.begin`, as maps."""
        super().begin(gain, share)
        if self.begun:
            self.solve(share, None)

    def typical_sums(self) -> Tensor:
        """The moments of typical colours in the gains as they are."""
        gram = torch.full((4, 4), TOGETHER, dtype=self.gain.dtype, device=self.gain.device)
        gram.diagonal().fill_(TYPICAL)
        gram[3], gram[:, 3] = MEAN, MEAN
        gram[3, 3] = 1
        gram = gram[:, None].expand(-1, len(self.gain), -1)
        return torch.cat([gram, gram[..., :3] * torch.exp(self.gain)], 2)

    def of_rays(self, sums: RaySums, camera: Tensor) -> Tensor:
        """Rendered colours of rays, [R, 3], as their photos `camera` [R] show them."""
        return colour_maps.mapped_rays(self.maps[camera], sums.rgb, sums.opacity)

    def ray_terms(self, sums: RaySums, photo: Tensor, kept: Tensor) -> Tensor:
        """What each ray adds to the moments, [4, R, 7]; a ray counts with its darkest weight."""
        x = with_opacity(sums.rgb, sums.opacity)
        return (x * kept.amin(1, keepdim=True)).T[..., None] * torch.cat([x, photo], 1)

    def solve(self, share: float, seen: Tensor | None) -> None:
        """Sets gains and maps by the moments; their mean over the photos that were seen is the identity."""
        super().solve(share, seen)
        maps = colour_maps.fitted_maps(self.sums.transpose(0, 1), torch.exp(self.gain), share)
        if seen is None:
            self.maps = colour_maps.about_mean(maps)
        else:
            self.maps = colour_maps.identity_maps(len(maps), maps)
            self.maps[seen] = colour_maps.about_mean(maps[seen])

    def gain_sums(self) -> Tensor:
        """The moments that gains follow from, [2, N, 3]: their diagonals."""
        squares, both = self.sums[:3, :, :3], self.sums[:3, :, 4:]
        return torch.stack([part.diagonal(dim1=0, dim2=2) for part in (both, squares)])

    def of_picture(self, photo: int, own: Tensor, opacity: Tensor) -> Tensor:
        """Rendered colours [H, W, 3] without background, as the photo shows them; opacity [H, W]."""
        return colour_maps.mapped_picture(self.maps[photo], own, opacity)

    def led_back(self, photo: int, d_shown: Tensor, background: Tensor) -> tuple[Tensor, Tensor | None]:
        """Leads a gradient [H, W, 3] of `exposed_photo` back to rgb [H, W, 3] and opacity [H, W], as there.

        With what is behind = (1 - opacity) background: d opacity = d_shown . (A background + b - background).
        """
        d_rgb, d_opacity = colour_maps.led_back(self.maps[photo], d_shown)
        return d_rgb, d_opacity + (d_rgb - d_shown) @ background

    def picture_sums(self, own: Tensor, opacity: Tensor, target: Tensor, kept: Tensor) -> Tensor:
        """The moments of one whole photo, [4, 7], of pixels that no channel leaves out."""
        return colour_maps.picture_moments(with_opacity(own, opacity), target, kept.amin(2))

    def record(self, names: Sequence[str]) -> dict[str, Any]:
        """What was learned, for the model's record: `appearance_maps`, by name the rows of each [A | b]."""
        rows = ([[round(v, 4) for v in row] for row in photo] for photo in self.maps.tolist())
        return {"appearance_maps": dict(zip(names, rows, strict=False))}

    def tensors(self) -> dict[str, Tensor]:
        """State that the next step depends on, for a checkpoint."""
        return super().tensors() | {"appearance.maps": self.maps}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The reverse of `tensors`."""
        super().restore(tensors)
        self.maps = tensors["appearance.maps"].to(self.gain.device)


def exposure_of(
    options: Supervision, photos: int, device: torch.device | str, settings: TrainingSettings
) -> Exposure | None:
    """What a fit learns of each photo's colours, if anything: --appearance contains --exposure."""
    if options.appearance:
        return Appearance(photos, device, settings)
    return Exposure(photos, device, settings) if options.exposure else None
