"""Where training cameras looked: a coarse grid over all of space, by which the page and its server fade what none saw.

Vocabulary
  cell    one of SIDE^3 of the contracted cube (contraction "cube" of ops/contract.py, whatever the scene's own is): the
          inner cube is the middle half of each axis, what is far away lies in the cells of its direction
  seen    two training cameras (or the only one) have the cell's middle in their image or close beside it, whatever
          stands before it
  factor  smoothstep of the seen cells, interpolated linearly between their middles, in [0, 1]

What is fitted to photos reaches a little beyond their edges, hence the `MARGIN`: on a fit of the fox (43 photos) faded
pictures of its own cameras are within 53.6 dB of unfaded ones, and within 42.6 dB without it.

Gaussians have their opacity multiplied by the factor at their mean; a hash field that the page marches its density.
The server leaves out the occupancy cells of a field where the factor is below one half, which needs no other field: at
the border its picture has an edge where the page's is smooth. What moves is not faded.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from neuralfields.cameras import Camera
from neuralfields.captures.bounds import count_views
from neuralfields.gaussians import Gaussians
from neuralfields.ops.contract import Contraction, contract, uncontract
from neuralfields.ops.occupancy_bits import CELLS, bricks_of
from neuralfields.rendering.splat import Splats
from neuralfields.rendering.volume import Volume
from neuralfields.scene import Bounds

SIDE = 48
FEWEST = 2  # cameras: what one alone saw has no depth
MARGIN = 0.05  # of the image's sides, beyond each edge
MOST_CAMERAS = 400  # evenly taken
LEAST = 1e-3  # factor under which a Gaussian is left out


@dataclass(frozen=True, eq=False)
class Seen:
    """Seen cells [SIDE, SIDE, SIDE] bool by z, y, x, about the inner cube of `bounds`."""

    cells: Tensor
    bounds: Bounds

    def describe(self) -> dict[str, Any]:
        """Plain data for the page: bytes of runs in base64, x fastest, of unseen and seen cells in turn.

        A run of 255 cells or more is 255, 0 and its rest.
        """
        flat = self.cells.flatten().numpy().astype(np.int8)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
        runs = np.diff(edges, prepend=0)  # the first is of unseen cells, if need be none
        data = bytes(part for run in runs.tolist() for part in [255, 0] * (run // 255) + [run % 255])
        return {"side": SIDE, "runs": base64.b64encode(data).decode()}

    def factor(self, points: Tensor) -> Tensor:
        """Factor [P] in [0, 1] at points [P, 3] of the world."""
        centre = points.new_tensor(self.bounds.centre)
        unit = contract(((points - centre) / self.bounds.side + 0.5).float().cpu(), "cube", 1.0)
        grid, at = self.cells[None, None].float(), 2 * unit[None, None, None] - 1
        share = grid_sample(grid, at, align_corners=False, padding_mode="border")[0, 0, 0, 0]
        return (share * share * (3 - 2 * share)).to(points.device)

    def faded(self, gaussians: Gaussians) -> Gaussians:
        """Gaussians with their opacities multiplied; those of which nothing is left are left out."""
        factor = self.factor(gaussians.means)
        opacity = gaussians.opacity().double() * factor
        logits = torch.where(factor < 1, torch.logit(opacity, 1e-12).float(), gaussians.opacities)
        return replace(gaussians, opacities=logits).take(factor >= LEAST)

    def occupied(self, bounds: Bounds) -> Tensor:
        """Bits [cascades, 32768] of the occupancy cells that stay, two by two by two."""
        half = CELLS // 2
        axis = (torch.arange(half) + 0.5) / half - 0.5
        z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
        middle = torch.stack([x, y, z], -1).reshape(-1, 3)
        kept = []
        for cascade in range(bounds.cascades):
            points = middle * (bounds.side * 2.0**cascade) + torch.tensor(bounds.centre)
            few = (self.factor(points) >= 0.5).reshape(half, half, half)
            kept.append(few.repeat_interleave(2, 0).repeat_interleave(2, 1).repeat_interleave(2, 2))
        return bricks_of(torch.stack(kept))


def seen_by(cameras: Sequence[Camera], bounds: Bounds) -> Seen | None:
    """The cells that cameras saw; None without cameras, and where they saw everything."""
    chosen = np.unique(np.linspace(0, len(cameras) - 1, min(MOST_CAMERAS, len(cameras))).round().astype(int))
    if bounds.times is not None or not len(cameras):
        return None
    axis = (torch.arange(SIDE) + 0.5) / SIDE
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    inner = uncontract(torch.stack([x, y, z], -1).reshape(-1, 3), Contraction("cube", 1.0)).double().numpy()
    points = (inner - 0.5) * bounds.side + np.asarray(bounds.centre)
    few = min(FEWEST, len(chosen))
    count = count_views([_widened(cameras[i]) for i in chosen], points, few)
    cells = torch.from_numpy(count >= few).reshape(SIDE, SIDE, SIDE)
    return None if bool(cells.all()) else Seen(cells, bounds)


def _widened(camera: Camera) -> Camera:
    """The camera with a margin all around its image."""
    x, y = round(MARGIN * camera.width), round(MARGIN * camera.height)
    size = {"width": camera.width + 2 * x, "height": camera.height + 2 * y}
    return replace(camera, **size, cx=camera.cx + x, cy=camera.cy + y)


def can_fade(volume: object) -> bool:
    """Whether `Fader` fades it: Gaussians and volumes that stand still, none of several parts."""
    return isinstance(volume, Splats | Volume) and volume.bounds.times is None


class Fader:
    """Fades what a subject shows, and remembers it: Gaussians are put in order and packed once for many pictures."""

    def __init__(self) -> None:
        self._last: tuple[object, Seen, Any] | None = None

    def faded(self, volume: Any, seen: Seen | None) -> Any:
        """The volume as it was seen; itself where nothing says what was."""
        if seen is None:
            return volume
        if self._last is None or self._last[0] is not volume or self._last[1] is not seen:
            self._last = (volume, seen, _faded(volume, seen))
        return self._last[2]


def _faded(volume: Any, seen: Seen) -> Any:
    if isinstance(volume, Splats):
        return Splats(seen.faded(volume.gaussians), volume.bounds)
    return replace(volume, occupancy=volume.occupancy & _kept(seen, volume.bounds).to(volume.device))


@lru_cache(maxsize=4)
def _kept(seen: Seen, bounds: Bounds) -> Tensor:
    return seen.occupied(bounds)
