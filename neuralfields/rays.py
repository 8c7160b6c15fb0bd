"""Rays, and what comes back along them.

Vocabulary
  R  number of rays; S of samples; R1 = R + 1; *R: any shape, of rays in a row or of a picture [H, W]
  t  distance along a ray, in the units of the frame the ray lives in (world, unless a name says otherwise)
"""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor

from neuralfields.errors import UsageError


@dataclass(frozen=True)
class Rays:
    """`origins` [R, 3] and unit `directions` [R, 3], world frame, float32.

    `times` [R]: when each is seen, in the capture's own unit; None for a scene that stands still, or for its first
    moment.

    What `neuralfields.render` is given may hold numpy arrays, of any float type and directions of any length.
    """

    origins: Float[Tensor, "R 3"] | Float[np.ndarray, "R 3"]
    directions: Float[Tensor, "R 3"] | Float[np.ndarray, "R 3"]
    times: Float[Tensor, " R"] | Float[np.ndarray, " R"] | None = None

    def __len__(self) -> int:
        return self.origins.shape[0]

    def __getitem__(self, index: slice | Tensor) -> "Rays":
        times = None if self.times is None else self.times[index]
        return Rays(self.origins[index], self.directions[index], times)

    def to(self, device: torch.device | str) -> "Rays":
        """The same rays on another device."""
        times = None if self.times is None else self.times.to(device)
        return Rays(self.origins.to(device), self.directions.to(device), times)

    @staticmethod
    def concatenate(parts: "list[Rays]") -> "Rays":
        """Rays [R_i] as one batch [sum R_i]; all or none of them have times."""
        times = None if parts[0].times is None else torch.cat([part.times for part in parts])
        return Rays(*(torch.cat([getattr(part, name) for part in parts]) for name in ("origins", "directions")), times)


def through_box(
    origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"], low: Float[Tensor, " 3"], high: Float[Tensor, " 3"]
) -> tuple[Float[Tensor, " R"], Float[Tensor, " R"]]:
    """Distances at which lines enter and leave a box, negative ones too; those that miss it enter after they leave."""
    steep = torch.where(directions.abs() < 1e-9, 1e-9, directions)  # a ray along a face divides by zero
    a, b = (low - origins) / steep, (high - origins) / steep
    return torch.minimum(a, b).amax(1), torch.maximum(a, b).amin(1)


@dataclass(frozen=True)
class Render:
    """What a ray sees.

    `rgb` [R, 3]: colour already laid over the background; `opacity` [R] in [0, 1]; `depth` [R]: expected distance
    along the ray in world units where opaque (the mean over what is opaque; 0 where nothing is). A picture has
    [H, W] in place of [R]. `normal` [R, 3]: unit, in the world's frame, 0 where nothing is hit; None where the renderer
    knows no surface.
    """

    rgb: Float[Tensor, "*R 3"]
    opacity: Float[Tensor, "*R"]
    depth: Float[Tensor, "*R"]
    normal: Float[Tensor, "*R 3"] | None = None

    def reshape(self, *shape: int) -> "Render":
        """[R] to any shape of as many elements, e.g. a picture's (H, W)."""
        normal = None if self.normal is None else self.normal.reshape(*shape, 3)
        return Render(self.rgb.reshape(*shape, 3), self.opacity.reshape(*shape), self.depth.reshape(*shape), normal)

    def detach(self) -> "Render":
        """The same without gradients."""
        return Render(*(None if part is None else part.detach() for part in self.parts()))

    def room_for(self, count: int) -> "Render":
        """Memory for `count` rays of the same kind, to be filled by `put`."""
        return Render(*(None if part is None else part.new_empty(count, *part.shape[1:]) for part in self.parts()))

    def put(self, begin: int, other: "Render") -> None:
        """Copies the render of some rays to those from `begin` on."""
        for mine, part in zip(self.parts(), other.parts(), strict=True):
            if mine is not None and part is not None:
                mine[begin : begin + len(part)] = part

    @staticmethod
    def concatenate(parts: "list[Render]") -> "Render":
        """Renders of [R_i] rays as one of [sum R_i]."""
        columns = zip(*(part.parts() for part in parts), strict=True)
        return Render(*(None if column[0] is None else torch.cat(column) for column in columns))

    def parts(self) -> tuple[Tensor | None, ...]:
        """rgb, opacity, depth and normal."""
        return self.rgb, self.opacity, self.depth, self.normal

    def to_pil(self) -> Image.Image:
        """The colours of a picture as an 8-bit image of Pillow. Raises UsageError for single rays."""
        if self.rgb.dim() != 3:
            raise UsageError(
                f"a render of shape {list(self.rgb.shape[:-1])} is no picture; reshape it to height, width"
            )
        return Image.fromarray((255 * self.rgb.detach().clamp(0, 1)).round().byte().cpu().numpy())

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows of a picture."""
        if self.rgb.dim() != 3:
            return None
        file = BytesIO()
        self.to_pil().save(file, "PNG")
        return file.getvalue()

    def __repr__(self) -> str:
        """Its shape, device and what it knows: `Render(270 x 480, cpu, with normals)`."""
        size = " x ".join(str(count) for count in self.rgb.shape[:-1])
        return f"Render({size}, {self.rgb.device}{'' if self.normal is None else ', with normals'})"


@dataclass(frozen=True)
class Samples:
    """Samples one after the other: x [S, 3], t [S] middle, length [S]; ray r owns offsets[r] : offsets[r + 1].

    In a scene that moves x is [S, 4], the last the moment in [0, 1].
    """

    x: Float[Tensor, "S D"]
    t: Float[Tensor, " S"]
    length: Float[Tensor, " S"]
    offsets: Int64[Tensor, " R1"]

    @property
    def ray(self) -> Int64[Tensor, " S"]:
        """Index of each sample's ray, [S]."""
        return torch.repeat_interleave(self.offsets.diff())


@dataclass(frozen=True)
class RaySums:
    """RaySums along rays: `values` [R, 7] (see ops/composite.py), `valid` [R] uint8, `samples` evaluated."""

    values: Float[Tensor, "R 7"]
    valid: UInt8[Tensor, " R"]
    samples: int

    @property
    def rgb(self) -> Float[Tensor, "R 3"]:
        """Sum of w rgb, [R, 3]: no background yet."""
        return self.values[:, :3]

    @property
    def opacity(self) -> Float[Tensor, " R"]:
        """Sum of w, [R]."""
        return self.values[:, 3]

    @property
    def depth(self) -> Float[Tensor, " R"]:
        """Sum of w t, [R]."""
        return self.values[:, 4]

    @property
    def distortion(self) -> Float[Tensor, " R"]:
        """How far a ray's weight is from being in one place, [R]."""
        return self.values[:, 5]
