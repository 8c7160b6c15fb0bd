"""Where a fit of Gaussians begins: from sparse points, from what a field shows, or at random.

Vocabulary
  N          Gaussians
  footprint  world units that a pixel covers at a depth: depth / focal length
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from neuralfields.cameras import Camera
from neuralfields.gaussians import COUNTS, DC, Gaussians
from neuralfields.ops.pixel_rays import camera_table, pixel_rays
from neuralfields.scene import Bounds
from neuralfields.splatting.depth_maps import CONFIRMED, DepthMap, normals

OPACITY = 0.1  # of random and sparse beginnings; of surfaces SURE
SURE = 0.5
NEIGHBOURS = 3
LEAST_FOOTPRINTS, MOST_SHARE = 0.3, 0.1  # bounds of a scale: footprints, and the share of the inner cube's side
FLAT = 0.3  # of a Gaussian on a surface: its width along the normal
GREY = 0.5
WIDTH = 0.5  # of a random one, in distances to its neighbours
TRIES = 4  # pixels that are looked at for each Gaussian
# Where photos do not agree: of so many pixels of the photo that are sure the farthest of the nearest. What is not
# found is mostly behind what is found, as a sky behind a roof.
LOOKED_AT, NEAREST = 64, 8


def gaussians_at(points: Tensor, colours: Tensor, scales: Tensor, opacity: float, degree: int) -> Gaussians:
    """Gaussians at points [N, 3] with colours [N, 3] in [0, 1] and widths [N] in world units: round ones."""
    count = len(points)
    harmonics = points.new_zeros(count, COUNTS[degree], 3)
    harmonics[:, 0] = (colours - 0.5) / DC
    log_scales = scales.log()[:, None].repeat(1, 3)
    rotations = points.new_zeros(count, 4)
    rotations[:, 0] = 1
    logit = float(np.log(opacity / (1 - opacity)))
    return Gaussians(points, log_scales, rotations, points.new_full((count,), logit), harmonics)


def one_gaussian(degree: int) -> Gaussians:
    """A single one, which holds the place of a checkpoint's."""
    return gaussians_at(torch.zeros(1, 3), torch.full((1, 3), GREY), torch.ones(1), OPACITY, degree)


def from_points(points: np.ndarray, photos: "Photos", degree: int, most: int) -> Gaussians:
    """Gaussians at sparse points [P, 3], as large as the distance to their neighbours, coloured by the photos."""
    chosen = np.unique(points.round(6), axis=0).astype(np.float32)
    if len(chosen) > most:
        chosen = chosen[np.random.default_rng(0).permutation(len(chosen))[:most]]
    x = torch.from_numpy(chosen)
    return gaussians_at(x, photos.colours_of(x), widths_of(x, photos.bounds), OPACITY, degree)


def at_random(photos: "Photos", degree: int, count: int, generator: torch.Generator) -> Gaussians:
    """Gaussians at random places along rays of the photos, in the inner cube and a little beyond it."""
    camera = torch.randint(0, len(photos.cameras), (count,), generator=generator)
    size = torch.tensor([[c.width, c.height] for c in photos.cameras], dtype=torch.float32)
    pixel = torch.rand(count, 2, generator=generator) * size[camera]
    origins, directions = pixel_rays(camera_table(photos.cameras), camera, pixel)
    near, far = reach_of(photos.bounds, origins, directions)
    share = torch.rand(count, generator=generator)
    if photos.bounds.cascades > 1:  # a third of them behind the cube, evenly in inverse distance
        behind = torch.rand(count, generator=generator) < 1 / 3
        far = torch.where(behind, far * photos.bounds.cascades, far)
        depth = torch.where(behind, 1 / (share / near + (1 - share) / far), near + share * (far - near))
    else:
        depth = near + share * (far - near)
    x = origins + directions * depth[:, None]
    return gaussians_at(x, photos.read(camera, pixel), WIDTH * widths_of(x, photos.bounds), OPACITY, degree)


def reach_of(bounds: Bounds, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Distances [N] at which rays [N, 3] enter and leave the inner cube."""
    half, centre = 0.5 * bounds.side, torch.tensor(bounds.centre)
    steep = torch.where(directions.abs() < 1e-9, 1e-9, directions)
    a, b = (centre - half - origins) / steep, (centre + half - origins) / steep
    enter, leave = torch.minimum(a, b).amax(1), torch.maximum(a, b).amin(1)
    near = enter.clamp(min=max(bounds.near, 0.02 * bounds.side))
    return near, torch.where(leave > near, leave, near + bounds.side)


@torch.no_grad()
def from_depth_maps(
    maps: list[DepthMap],
    photos: "Photos",
    degree: int,
    count: int,
    generator: torch.Generator,
    fill: float = 0.0,
) -> Gaussians:
    """Gaussians where other photos confirm a photo's depth (depth_maps.py), more where photos have detail.

    `fill`: as a share of `count`, fainter ones where no depth is confirmed, as far away as what is beside them, or at a
    depth that one other photo has found too.
    """
    camera, pixel = photos.detailed(TRIES * count, generator)
    depth, votes = torch.zeros(len(camera)), torch.zeros(len(camera), dtype=torch.int32)
    normal = torch.zeros(len(camera), 3)
    for index, each in enumerate(maps):
        mine = camera == index
        height, width = each.depth.shape
        column, row = (pixel[mine] / each.times).long().unbind(1)
        row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)
        depth[mine], votes[mine] = each.depth[row, column], each.votes[row, column]
        normal[mine] = normals(each, photos.cameras[index], row, column)
    sure = (votes >= CONFIRMED).nonzero().flatten()[:count]
    kept = sure
    if fill:
        unsure = (votes < CONFIRMED).nonzero().flatten()[: round(fill * count)]
        guessed, depth = _guessed(unsure[votes[unsure] == 0], sure, (camera, pixel, depth), generator)
        kept = torch.cat([sure, unsure[votes[unsure] > 0], guessed])
    camera, pixel, depth = camera[kept], pixel[kept], depth[kept]
    origins, directions = pixel_rays(camera_table(photos.cameras), camera, pixel)
    axes = torch.tensor(np.stack([c.world_from_camera[:3, 2] for c in photos.cameras]), dtype=torch.float32)
    along = (directions * axes[camera]).sum(1).clamp(min=0.05)
    x = origins + directions * (depth / along)[:, None]
    footprint = depth / photos.focal()[camera]
    widths = torch.maximum(widths_of(x, photos.bounds), LEAST_FOOTPRINTS * footprint)
    found = gaussians_at(x, photos.read(camera, pixel), widths, SURE, degree)
    flatten(found, normal[kept[: len(sure)]])
    found.opacities[len(sure) :] = math.log(OPACITY / (1 - OPACITY))
    return found


def flatten(gaussians: Gaussians, normal: Tensor) -> None:
    """Makes the first Gaussians, round ones, as thin as FLAT along a normal [M, 3] each; in place."""
    count = len(normal)
    n = torch.where(normal[:, 2:] < 0, -normal, normal)  # which side is the front does not matter
    turn = torch.stack([1 + n[:, 2], -n[:, 1], n[:, 0], torch.zeros(count)], 1)
    gaussians.rotations[:count] = normalize(turn, dim=1)
    gaussians.scales[:count, 2] += math.log(FLAT)


def _guessed(
    unsure: Tensor, sure: Tensor, seen: tuple[Tensor, Tensor, Tensor], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Of pixels `unsure` those in a photo that has sure ones, and all depths, theirs being that of a sure one beside.

    `seen`: photos [N], pixels [N, 2] and depths [N].
    """
    camera, pixel, depth = seen
    order = sure[camera[sure].argsort(stable=True)]
    counts = torch.bincount(camera[sure], minlength=int(camera.max()) + 1 if len(camera) else 1)
    first = counts.cumsum(0) - counts
    unsure = unsure[counts[camera[unsure]] > 0]
    mine = camera[unsure]
    share = torch.rand(len(mine), LOOKED_AT, generator=generator)
    looked_at = order[first[mine][:, None] + (share * counts[mine][:, None]).long()]
    away = (pixel[looked_at] - pixel[unsure][:, None]).norm(dim=2)
    beside = looked_at.gather(1, away.topk(NEAREST, 1, largest=False).indices)
    depth = depth.clone()
    depth[unsure] = depth[beside].amax(1)
    return unsure, depth


def evenly(count: int, most: int) -> list[int]:
    """At most so many of the numbers below `count`, evenly, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist()


class Photos:
    """The training photos for a beginning: `images` uint8 [H, W, 3], cameras without distortion, the bounds.

    `inside` [H, W] bool or None: which pixels of each show the scene, by mask and alpha.
    """

    def __init__(
        self, images: list[Tensor], cameras: list[Camera], bounds: Bounds, inside: list[Tensor | None] | None = None
    ) -> None:
        self.images, self.cameras, self.bounds = images, cameras, bounds
        self.inside = [None] * len(images) if inside is None else inside

    def spread(self, most: int) -> "Photos":
        """At most so many of them, evenly through the capture's order."""
        chosen = evenly(len(self.images), most)
        parts = [[values[i] for i in chosen] for values in (self.images, self.cameras, self.inside)]
        return Photos(parts[0], parts[1], self.bounds, parts[2])

    def focal(self) -> Tensor:
        """Focal lengths [N] in pixels: the mean of both axes."""
        return torch.tensor([math.sqrt(camera.fx * camera.fy) for camera in self.cameras], dtype=torch.float32)

    def read(self, camera: Tensor, pixel: Tensor) -> Tensor:
        """Colours [N, 3] of the pixels [N, 2] of photos [N]."""
        out = torch.empty(len(camera), 3)
        for index, image in enumerate(self.images):
            mine = camera == index
            column, row = pixel[mine].long().unbind(1)
            out[mine] = image[row.clamp(0, image.shape[0] - 1), column.clamp(0, image.shape[1] - 1)].float() / 255
        return out

    def detailed(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Photos [N] and pixels [N, 2], drawn by the size of the image's gradient, half of them evenly."""
        each = -(-count // len(self.images))
        cameras, pixels = [], []
        for index, (image, inside) in enumerate(zip(self.images, self.inside, strict=True)):
            if inside is not None and not bool(inside.any()):
                continue
            grey = image.float().sum(2) / (3 * 255)
            slope = torch.zeros_like(grey)
            slope[:, 1:] += (grey[:, 1:] - grey[:, :-1]).abs()
            slope[1:] += (grey[1:] - grey[:-1]).abs()
            weight = slope / slope.mean().clamp(min=1e-6) + 1
            if inside is not None:
                weight = weight * inside
            place = torch.multinomial(weight.flatten(), each, replacement=True, generator=generator)
            row, column = place // image.shape[1], place % image.shape[1]
            cameras.append(torch.full((each,), index))
            pixels.append(torch.stack([column, row], 1) + 0.5)
        if not cameras:
            return torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2)
        order = torch.randperm(each * len(cameras), generator=generator)[:count]
        return torch.cat(cameras)[order], torch.cat(pixels)[order].float()

    def colours_of(self, points: Tensor) -> Tensor:
        """Mean colours [N, 3] of points in the photos whose picture they fall in; grey where there is none."""
        from neuralfields.cameras import project
        from neuralfields.captures.bounds import points_in_view

        total, count = torch.zeros(len(points), 3), torch.zeros(len(points), 1)
        world = points.numpy().astype(np.float64)
        for camera, image in zip(self.cameras, self.images, strict=True):
            seen = torch.from_numpy(points_in_view(camera, world))
            pixel, _ = project(camera, world)
            column = torch.from_numpy(pixel[:, 0]).nan_to_num().clamp(0, image.shape[1] - 1).long()
            row = torch.from_numpy(pixel[:, 1]).nan_to_num().clamp(0, image.shape[0] - 1).long()
            total += torch.where(seen[:, None], image[row, column].float() / 255, 0)
            count += seen[:, None]
        return torch.where(count > 0, total / count.clamp(min=1), GREY)


def widths_of(x: Tensor, bounds: Bounds) -> Tensor:
    """Mean distance of points [N, 3] to their three nearest neighbours, within the bounds of a scale, [N]."""
    if len(x) <= NEIGHBOURS:
        return x.new_full((len(x),), 0.02 * bounds.side)
    return nearest_distance(x, NEIGHBOURS).clamp(1e-5 * bounds.side, MOST_SHARE * bounds.side * bounds.cascades)


def nearest_distance(x: Tensor, neighbours: int) -> Tensor:
    """Mean distance [N] to the nearest others, by a grid whose cells hold about one point each."""
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(x.numpy()).query(x.numpy(), k=neighbours + 1, workers=1)
    return torch.from_numpy(np.sqrt(np.square(distance[:, 1:]).mean(1))).to(x.dtype)
