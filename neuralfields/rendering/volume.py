"""Volume rendering of a radiance field: ray marching, field queries, alpha compositing along rays.

Two paths with the same numbers: a field's fused native renderer, or the composition of the ops. Rays come in the
world's frame and are converted to the frame of the inner cube.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.fields.field import Field
from neuralfields.ops.composite import composite
from neuralfields.ops.contract import Contraction
from neuralfields.ops.march import Marching, MarchSettings, march_rays
from neuralfields.ops.pixel_rays import camera_table, camera_times, pixel_rays
from neuralfields.pictures.background import premultiplied_over
from neuralfields.rays import Rays, RaySums, Render, Samples
from neuralfields.rendering.in_time import Still, march_in_time, moments_of
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.visible_samples import take, visible_samples
from neuralfields.scene import Bounds

STEPS_PER_CUBE = 512 / 3**0.5
CONE = 1 / 128
# Samples with less weight than this get no colour in a render. In floaters (fog) many such samples add up: a colour was
# seen to differ by 4.4e-3, a step of 8 bits.
WEIGHT_FLOOR = 1e-4
RENDER_CHUNK = 1 << 16
RECALLED_CHUNK = 1 << 13  # of a field whose features are kept meanwhile
RENDER_CHUNK_GPU = 1 << 21  # few launches: a GPU is not full with less than an image
# Samples that a field evaluates at once without gradients: what a wide network keeps of them stays small.
PIECE = 1 << 15


@dataclass(frozen=True)
class Volume:
    """A renderable radiance field: the field, its bounds and its occupancy grid.

    `occupancy` [cascades, 32768] int64 bits (see ops/march.py); of a field that moves so many for each segment of time
    (see in_time.py).
    """

    field: Field
    bounds: Bounds
    occupancy: Tensor

    @property
    def device(self) -> torch.device:
        """The field's device; its rays must be there."""
        return self.occupancy.device

    @property
    def moves(self) -> bool:
        """Whether the field takes a moment beside a point."""
        return self.field.domain.dimensions == 4

    def at(self, moment: float) -> "Volume":
        """The volume held still at a moment in [0, 1]; itself if it does not move."""
        if not self.moves:
            return self
        segments = len(self.occupancy) // self.bounds.cascades
        layer = min(int(moment * segments), segments - 1) * self.bounds.cascades
        bits = self.occupancy[layer : layer + self.bounds.cascades]
        return Volume(Still(self.field, moment), replace(self.bounds, times=None), bits)

    @property
    def contraction(self) -> Contraction:
        """The contraction from the frame of the inner cube to the field's unit cube."""
        return Contraction(self.bounds.contraction, float(2 ** (self.bounds.cascades - 1)))

    def settings(self, coarseness: float = 1.0) -> MarchSettings:
        """Ray-marching steps: fine in the inner cube, growing with distance if the scene reaches beyond it."""
        smallest = coarseness / STEPS_PER_CUBE
        cone = CONE * coarseness if self.bounds.cascades > 1 else 0.0
        largest = smallest if cone == 0 else max(smallest, self.contraction.extent / 16)
        return MarchSettings(smallest, largest, cone, self.bounds.near / self.bounds.side)

    @torch.no_grad()
    def density(self, x: Tensor, known: list[Tensor] | None = None) -> Tensor:
        """Density at points of the inner cube's frame, x [S, 3] -> [S], in 1/inner cube.

        Of a scene that moves x is [S, 4], with the moment in [0, 1]. The features are appended to `known`.
        """
        renderer = self.field.fused()
        if renderer is not None:
            return renderer.density(x, self.contraction)
        parts = []
        for piece in x.split(PIECE):
            f = self.field.features(self.unit(piece))
            parts.append(self.field.log_density(f))
            if known is not None:
                known.append(f)
        return torch.exp(torch.cat(parts).clamp(max=15))

    def unit(self, x: Tensor) -> Tensor:
        """Points of the inner cube's frame in the field's unit cube, with their moment where they have one."""
        if x.shape[1] == 3:
            return self.contraction(x)
        return torch.cat([self.contraction(x[:, :3]), x[:, 3:]], dim=1)

    def normalise(self, rays: Rays) -> tuple[Tensor, Tensor]:
        """Converts origins and directions to the frame of the inner cube (distances are divided by its side)."""
        centre = rays.origins.new_tensor(self.bounds.centre)
        return (rays.origins - centre) / self.bounds.side + 0.5, rays.directions

    def march(self, rays: Rays, jitter: Tensor | None = None, settings: MarchSettings | None = None) -> Samples:
        """Samples along rays [R] of the world's frame, in the frame of the inner cube, each at its ray's moment."""
        origins, directions = self.normalise(rays)
        jitter = origins.new_zeros(len(rays)) if jitter is None else jitter
        settings = settings or self.settings()
        if not self.moves:
            return march_rays(origins, directions, jitter, self.occupancy, settings)
        moments = moments_of(rays, self.bounds)
        return march_in_time(Rays(origins, directions), jitter, moments, self.occupancy, self.bounds.cascades, settings)

    def sums(
        self,
        rays: Rays,
        jitter: Tensor | None = None,
        capacity: int = 0,
        coarseness: float = 1.0,
        fused: bool = True,
    ) -> RaySums:
        """Accumulates values along rays [R] of the world's frame; depth in inner cubes. See `RaySums`.

        `jitter` [R] in [0, 1) of the first step. `capacity` > 0: differentiable, for training, with room for so many
        samples; rays past it come back with `valid` 0. `coarseness`: steps so many times as long. `fused` False runs
        op by op.
        """
        origins, directions = self.normalise(rays)
        settings = self.settings(coarseness)
        renderer = self.field.fused() if fused else None
        if renderer is not None:
            floor = 0.0 if capacity else WEIGHT_FLOOR
            scene = Marching(Rays(origins, directions), jitter, self.occupancy, settings, self.contraction)
            return renderer.render(scene, capacity, floor)
        samples = self.march(rays, jitter, settings)
        known: list[Tensor] | None = [] if self.field.recalls else None
        index, density, order = visible_samples(samples, lambda x: self.density(x, known))
        samples = take(samples, index)
        found = torch.cat(known) if known else None
        recall = None if found is None else lambda index: found[order[index]]
        sums = _training_sums if capacity else _render_sums
        values = sums(self, samples, directions, density, recall)
        return RaySums(values, torch.ones_like(origins[:, 0], dtype=torch.uint8), samples.x.shape[0])

    @torch.no_grad()
    def render_rays(self, rays: Rays, background: Colour, fused: bool = True) -> Render:
        """Renders rays [R] of the world's frame in chunks: rgb [R, 3], opacity and depth [R]."""
        colour = torch.tensor(background, device=self.device)
        chunk = RECALLED_CHUNK if self.field.recalls else RENDER_CHUNK
        chunk = chunk if self.device.type == "cpu" else RENDER_CHUNK_GPU
        starts = range(0, max(1, len(rays)), chunk)
        return Render.concatenate(
            [finish(self.sums(rays[i : i + chunk], fused=fused), colour, self.bounds.side) for i in starts]
        )

    def render(self, camera: Camera, background: Colour, fused: bool = True) -> Render:
        """Renders a camera's view: rgb [H, W, 3], opacity and depth [H, W], depth in world units."""
        chunk = RENDER_CHUNK if self.device.type == "cpu" else RENDER_CHUNK_GPU
        return by_parts(camera, chunk, self.device, lambda rays: self.render_rays(rays, background, fused))


@dataclass(frozen=True)
class OfVolume:
    """A renderable of a volume whose rays are rendered in a way of their own: a subclass has `render_rays`."""

    volume: Volume

    @property
    def field(self) -> Field:
        """The volume's field."""
        return self.volume.field

    @property
    def bounds(self) -> Bounds:
        """The volume's bounds."""
        return self.volume.bounds

    @property
    def occupancy(self) -> Tensor:
        """The volume's occupancy grid."""
        return self.volume.occupancy

    @property
    def device(self) -> torch.device:
        """The volume's device."""
        return self.volume.device

    def render_rays(self, rays: Rays, background: Colour) -> Render:
        """Renders rays [R] of the world's frame."""
        raise NotImplementedError

    def render(self, camera: Camera, background: Colour) -> Render:
        """Renders a camera's view: rgb [H, W, 3], opacity and depth [H, W], depth in world units."""
        chunk = RENDER_CHUNK if self.device.type == "cpu" else RENDER_CHUNK_GPU
        return by_parts(camera, chunk, self.device, lambda rays: self.render_rays(rays, background))


Recall = Callable[[Tensor | slice], Tensor]  # features of samples by their index


def _training_sums(
    volume: Volume, samples: Samples, directions: Tensor, density: Tensor, recall: Recall | None
) -> Tensor:
    """Field and composite with gradients, [R, 7]; `density`: the samples' densities, evaluated without gradients."""
    x = volume.unit(samples.x)
    f = volume.field.features(x) if recall is None else volume.field.recalled(x, recall(slice(None)))
    log_density, rgb = volume.field.decode(f, directions[samples.ray])
    return composite(TruncatedExp.apply(log_density), samples.length, samples.t, rgb, samples.offsets)[0]


@torch.no_grad()
def _render_sums(
    volume: Volume, samples: Samples, directions: Tensor, density: Tensor, recall: Recall | None
) -> Tensor:
    """Composites without gradients, [R, 7]: colours only for samples with weight."""
    rgb, ray = samples.x.new_zeros(len(samples.x), 3), samples.ray
    weight = composite(density, samples.length, samples.t, rgb, samples.offsets)[1]
    for index in (weight > WEIGHT_FLOOR).nonzero().flatten().split(PIECE):
        f = volume.field.features(volume.unit(samples.x[index])) if recall is None else recall(index)
        rgb[index] = volume.field.decode(f, directions[ray[index]])[1]
    return composite(density, samples.length, samples.t, rgb, samples.offsets)[0]


class TruncatedExp(torch.autograd.Function):
    """exp(min(x, 15)) whose gradient is exp(clamp(x, -15, 15)): see cuda/activation.h."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # noqa: ANN001
        ctx.save_for_backward(x)
        return torch.exp(x.clamp(max=15))

    @staticmethod
    def backward(ctx, d_y: Tensor) -> Tensor:  # noqa: ANN001
        return d_y * torch.exp(ctx.saved_tensors[0].clamp(-15, 15))


def finish(sums: RaySums, background: Tensor, side: float) -> Render:
    """Composites RaySums over a background ([3] or [R, 3]); depth as a mean in world units."""
    rgb = premultiplied_over(sums.rgb, sums.opacity, background)
    depth = torch.where(sums.opacity > 1e-3, sums.depth / sums.opacity.clamp(min=1e-3), 0) * side
    return Render(rgb, sums.opacity, depth)


def by_parts(camera: Camera, chunk: int, device: torch.device | str, render: Callable[[Rays], Render]) -> Render:
    """Renders a camera's view [H, W] part by part, `chunk` rays each: the rays of a large picture are never all made.

    Needs 20 bytes a pixel for the picture, 32 with normals, beside what a part takes.
    """
    count = camera.width * camera.height
    part = render(camera_rays(camera, device, 0, min(chunk, count)))
    if chunk >= count:
        return part.reshape(camera.height, camera.width)
    whole = part.room_for(count)
    for begin in range(0, count, chunk):
        if begin:
            part = render(camera_rays(camera, device, begin, min(begin + chunk, count)))
        whole.put(begin, part)
    return whole.reshape(camera.height, camera.width)


def camera_rays(camera: Camera, device: torch.device | str = "cpu", begin: int = 0, end: int | None = None) -> Rays:
    """Makes one ray per pixel, row by row, through the pixels' centres; of pixels `begin` to `end` alone if given."""
    at = torch.arange(begin, camera.width * camera.height if end is None else end, device=device)
    return rays_of(camera, at)


def rays_of(camera: Camera, at: Tensor) -> Rays:
    """The rays of pixels by their index, row by row, on its device."""
    device = at.device
    pixel = torch.stack([at % camera.width, at // camera.width], -1).to(torch.float32) + 0.5
    index = torch.zeros(len(pixel), dtype=torch.int64, device=device)
    rays = Rays(*pixel_rays(camera_table([camera]).to(device), index, pixel))
    times = camera_times([camera])
    return rays if times is None else replace(rays, times=times.to(device).expand(len(pixel)))
