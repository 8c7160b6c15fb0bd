"""Photos that a field reads colours from: which of them look at a point at a moment, and what they show there.

Vocabulary
  N  photos     T  instants     K  candidates of an instant: the photos taken then     S  samples     V  chosen photos
  x  [S, 3] points in the frame of the inner cube, in which the photos' eyes are too

An instant that fewer than `FEWEST` photos show borrows those nearest in time, so that one moving camera serves too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, normalize

from neuralfields.cameras import Camera
from neuralfields.errors import UsageError
from neuralfields.pictures.stored_film import film_bytes, pictures_of
from neuralfields.scene import Bounds

FEWEST = 4
MOST_BYTES = 1 << 33
REDUCED = 4  # the second picture of a photo is so many times smaller
OWN_EYE = 1e-4  # sine of the angle under which a photo counts as the one that is being learned
LEAST_ALPHA = 0.05


@dataclass(frozen=True)
class Shape:
    """Sizes: N photos, T instants, K candidates, pixels, channels (4: with alpha), bytes of the film."""

    photos: int
    instants: int
    candidates: int
    height: int
    width: int
    channels: int
    coded: int

    def __post_init__(self) -> None:
        sizes = self.photos, self.instants, self.candidates, self.height, self.width, self.coded
        if min(sizes) < 1 or self.channels not in (3, 4) or prod(sizes[:1] + sizes[3:5]) > MOST_BYTES // 4:
            raise ValueError(f"sources {sizes}: no sizes of photos")


@dataclass(frozen=True)
class Seen:
    """What the chosen photos show: `rgb` [S, V, 3], `taps` [S, V, 72], `turned` [S, V, 4] and `valid` [S, V] bool.

    `taps`: 3 x 3 pixels about the point in the photo, then in its small picture, red, green and blue premultiplied by
    alpha, then alpha; `turned`: the cosine between the ray and the photo's own, and the difference of both directions.
    """

    rgb: Float[Tensor, "S V 3"]
    taps: Float[Tensor, "S V 72"]
    turned: Float[Tensor, "S V 4"]
    valid: Bool[Tensor, "S V"]


class SourcePhotos(nn.Module):
    """Photos as a film, with their eyes and instants; the pixels are decoded when they are first asked for."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("coded", torch.zeros(shape.coded, dtype=torch.uint8))
        self.register_buffer("poses", torch.zeros(shape.photos, 3, 4))
        self.register_buffer("lenses", torch.zeros(shape.photos, 4))
        self.register_buffer("moments", torch.zeros(shape.instants))
        self.register_buffer("table", torch.zeros(shape.instants, shape.candidates, dtype=torch.int64))
        self._pixels: list[Tensor] = []

    @classmethod
    def of(cls, images: Sequence[np.ndarray], cameras: Sequence[Camera], bounds: Bounds) -> "SourcePhotos":
        """Takes photos uint8 [H, W, 3 or 4] of pinhole cameras. Raises UsageError for photos of several sizes."""
        if len({image.shape[:2] for image in images}) != 1:
            raise UsageError("--field im4d: its photos must be of one size; resize or crop them first")
        first, last = bounds.times or (0.0, 1.0)
        moments = [0.0 if camera.time is None else (camera.time - first) / (last - first) for camera in cameras]
        # The pictures of a camera follow each other in the film: they are alike.
        order = sorted(range(len(images)), key=lambda i: (cameras[i].world_from_camera.tobytes(), moments[i]))
        images, cameras = [images[i] for i in order], [cameras[i] for i in order]
        table, instants = _candidates(np.array([moments[i] for i in order]))
        channels = max(image.shape[2] for image in images)
        coded = film_bytes(np.stack([_film_frame(image, channels) for image in images]))
        sizes = len(images), *table.shape, *images[0].shape[:2], channels, len(coded)
        made = cls(Shape(*sizes))
        made.coded.copy_(torch.frombuffer(bytearray(coded), dtype=torch.uint8))
        poses = torch.tensor(np.stack([camera.world_from_camera[:3] for camera in cameras]))
        poses[:, :, 3] = (poses[:, :, 3] - torch.tensor(bounds.centre, dtype=poses.dtype)) / bounds.side + 0.5
        made.poses.copy_(poses)
        made.lenses.copy_(torch.tensor([[c.fx, c.fy, c.cx, c.cy] for c in cameras]))
        made.moments.copy_(torch.from_numpy(instants))
        made.table.copy_(torch.from_numpy(table))
        return made

    def pixels(self) -> list[Tensor]:
        """The photos, and the same `REDUCED` times smaller, [N, H, W]: four bytes of an int32, premultiplied by alpha.

        As one number a pixel is fetched several times as fast as four.
        """
        device = self.poses.device
        if not self._pixels or self._pixels[0].device != device:
            high = self.shape.height * (2 if self.shape.channels == 4 else 1)
            coded = self.coded.cpu().numpy().tobytes()
            film = pictures_of(coded, (self.shape.photos, high, self.shape.width), "the model")
            whole = torch.from_numpy(film).to(device)
            colour, alpha = whole[:, : self.shape.height], whole[:, self.shape.height :, :, 1:2]
            alpha = alpha if self.shape.channels == 4 else torch.full_like(colour[..., :1], 255)
            whole = torch.cat([colour, alpha], dim=3)
            self._pixels = [pixels.view(torch.int32).squeeze(3) for pixels in (whole, _reduced(whole))]
        return self._pixels

    def forward(
        self, x: Float[Tensor, "S 3"], moments: Float[Tensor, " S"], directions: Float[Tensor, "S 3"], count: int
    ) -> Seen:
        """The `count` photos that see x under the smallest angle to the rays, at the instants nearest to the moments.

        While gradients are computed the photo that a ray belongs to is left out: it would give the answer away.
        """
        candidates = self.table[_nearest(self.moments, moments)]
        known, candidates = candidates >= 0, candidates.clamp(min=0)
        towards = x[:, None] - self.poses[:, :, 3][candidates]
        apart = normalize(towards, dim=2)
        cosine = (apart * directions[:, None]).sum(2)
        column, depth = self._project(candidates, towards)
        size = column.new_tensor([self.shape.width, self.shape.height])
        valid = known & (depth > 0) & ((column > 0) & (column < size)).all(2)
        if torch.is_grad_enabled():
            valid = valid & ((1 - cosine.square() > OWN_EYE**2) | (cosine < 0))
        score = torch.where(valid, cosine, -2.0)
        chosen = score.topk(min(count, score.shape[1]), dim=1).indices
        photo, column = candidates.gather(1, chosen), column.gather(1, chosen[..., None].expand(-1, -1, 2))
        apart = apart.gather(1, chosen[..., None].expand(-1, -1, 3))
        near, far = (
            _taps(pixels, photo, column / scale) for pixels, scale in zip(self.pixels(), (1, REDUCED), strict=True)
        )
        colour, alpha = near[..., 16:19], near[..., 19:20]  # of the middle one
        turned = torch.cat([cosine.gather(1, chosen)[..., None], directions[:, None] - apart], dim=2)
        seen = valid.gather(1, chosen) & (alpha[..., 0] > LEAST_ALPHA)
        return Seen(colour / alpha.clamp(min=LEAST_ALPHA), torch.cat([near, far], 2), turned, seen)

    def _project(self, photo: Int64[Tensor, "S K"], towards: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels [S, K, 2] and depth [S, K] of points that lie `towards` [S, K, 3] of the eyes."""
        local = torch.einsum("skij,ski->skj", self.poses[:, :, :3][photo], towards)
        depth, lens = local[..., 2], self.lenses[photo]
        plane = local[..., :2] / torch.where(depth.abs() < 1e-9, 1e-9, depth)[..., None]
        return plane * lens[..., :2] + lens[..., 2:], depth


def _film_frame(image: np.ndarray, channels: int) -> np.ndarray:
    """A photo as the film holds it, [H or 2 H, W, 3]: premultiplied by alpha, which lies below as grey."""
    if channels == 3:
        return image
    alpha = image[..., 3:] if image.shape[2] == 4 else np.full_like(image[..., :1], 255)
    colour = np.round(image[..., :3] * (alpha / 255)).astype(np.uint8)
    return np.concatenate([colour, alpha.repeat(3, axis=2)])


def _candidates(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The photos of each instant [T, K], -1 where there are no more, and the instants' moments [T] float32."""
    instants, rows = np.unique(moments), []
    for instant in instants:
        near = np.argsort(np.abs(moments - instant), kind="stable")
        rows.append(near[: max(int((moments == instant).sum()), min(FEWEST, len(moments)))])
    most = max(map(len, rows))
    table = np.stack([np.pad(row, (0, most - len(row)), constant_values=-1) for row in rows])
    return table.astype(np.int64), instants.astype(np.float32)


def _nearest(instants: Float[Tensor, " T"], moments: Float[Tensor, " S"]) -> Int64[Tensor, " S"]:
    """The index of the instant nearest to each moment."""
    after = torch.searchsorted(instants, moments.contiguous()).clamp(max=len(instants) - 1)
    before = (after - 1).clamp(min=0)
    return torch.where(moments - instants[before] < instants[after] - moments, before, after)


def _reduced(pixels: Tensor) -> Tensor:
    """uint8 [N, H, W, C] as means of squares of `REDUCED` pixels, photo by photo."""
    side = tuple(min(REDUCED, length) for length in pixels.shape[1:3])
    parts = [avg_pool2d(one.permute(2, 0, 1)[None].float(), side).round().to(torch.uint8) for one in pixels]
    return torch.cat(parts).permute(0, 2, 3, 1).contiguous()


def _taps(pixels: Tensor, photo: Int64[Tensor, "S V"], column: Float[Tensor, "S V 2"]) -> Float[Tensor, "S V 36"]:
    """3 x 3 bilinear samples of four channels, a pixel apart, about a place in photos: in [0, 1], row by row."""
    high, wide = pixels.shape[1:]
    at = column - 0.5
    corner = at.floor()
    u, v = (at - corner).unbind(2)
    steps = torch.arange(-1, 3, device=pixels.device)
    columns = (corner[..., :1].long() + steps).clamp(0, wide - 1)[:, :, None, :]
    rows = (corner[..., 1:].long() + steps).clamp(0, high - 1)[:, :, :, None]
    index = (photo[..., None, None] * high + rows) * wide + columns
    patch = pixels.take(index)[..., None].view(torch.uint8).to(column.dtype)
    u, v = u[..., None, None, None], v[..., None, None, None]
    across = patch[..., :-1, :] * (1 - u) + patch[..., 1:, :] * u
    return ((across[..., :-1, :, :] * (1 - v) + across[..., 1:, :, :] * v) / 255).flatten(2)
