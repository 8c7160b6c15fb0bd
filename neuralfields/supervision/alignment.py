"""Direct image alignment (Lucas-Kanade) of many cameras at once: moves them until renders match the photos.

Vocabulary
  motion  [N, 6] of each photo's camera: axis times angle (radians), then a shift (world units), both along the world's
          axes; a ray's direction becomes exp(axis angle) d, its origin o + shift
  slope   [R, 3, 2] image gradient of the photo (supervision/image_gradients.py)
  J       [R, 3, 6] Jacobian of a pixel of the render with respect to its camera's motion

A camera motion (w, v) shifts the point that a pixel sees by t (w x d) + v, t being the depth along the ray d. With
g the slope in terms of the direction, J = [d x g, g / t], and least squares of  render + J motion - photo  gives a
Gauss-Newton step, photo by photo: Lucas and Kanade's, with the photo's own gradient in the place of the render's (Baker
and Matthews, 2004). So no gradient has to pass through the field and its fused renderer, colour and depth of an
ordinary step are enough; and the gradients of coarse photos have a wide basin of convergence, which those of a field's
fine levels lack.
"""

import torch
from torch import Tensor

from neuralfields import ranks
from neuralfields.ops.pixel_rays import pixel_rays
from neuralfields.rays import Rays, Render
from neuralfields.supervision.image_gradients import Slopes
from neuralfields.supervision.pixels import Batch, Pixels

# Decay of the curvature's moving average, from batch to batch: longer, and depths that were floaters (fog) stay in it.
MEMORY = 0.97
# Rays of a photo before its camera moves at all, and rays of a batch below which the step is shortened.
FEWEST_RAYS, STEP_RAYS = 100, 3
ROBUST = 0.1  # Huber threshold of the colour difference
NEAREST = 0.1  # of the mean depth: anything nearer is a floater, and its gradient would be large
LEAST_OPACITY = 0.5  # a ray of less has no reliable depth


class Alignment:
    """Camera motions of the photos of a `Pixels`, `motion` [N, 6], with a moving average of their curvature (J^T J).

    `damping` (Levenberg-Marquardt) and `prior` are fractions of each parameter's own curvature: a parameter that a
    photo hardly constrains changes slowly, one that it does not constrain stays as it was.
    """

    damping, prior = 0.02, 1e-3

    def __init__(self, pixels: Pixels) -> None:
        self.pixels, count = pixels, len(pixels.widths)
        self.motion = pixels.cameras.new_zeros(count, 6)
        self.curvature = pixels.cameras.new_zeros(count, 6, 6)
        self.known = self.seen = 0.0  # weight in the curvature's moving average, rays of a photo in it
        self.slopes: Slopes | None = None

    def rotations(self) -> Tensor:
        """Rotation matrices of the motions, [N, 3, 3]."""
        return rotations(self.motion[:, :3])

    def moved(self, rays: Rays, camera: Tensor) -> Rays:
        """The rays of the photos `camera` [R] after the motions."""
        directions = torch.einsum("rij,rj->ri", self.rotations()[camera], rays.directions)
        return Rays(rays.origins + self.motion[camera, 3:], directions, rays.times)

    def set_scale(self, scale: int) -> None:
        """Changes to image gradients of that scale and resets the curvature, which belongs to the scale before."""
        if self.slopes is None or self.slopes.scale != scale:
            if self.slopes is not None:
                self.curvature, self.known, self.seen = torch.zeros_like(self.curvature), 0.0, 0.0
            self.slopes = Slopes(self.pixels, scale)

    @torch.no_grad()
    def learn(self, batch: Batch, seen: Render, background: Tensor, weight: Tensor, rate: float) -> None:
        """Takes a fraction `rate` of the Gauss-Newton step, less where the batch has few rays of a photo.

        `seen`: render of the moved rays of the batch; `background` [3] or [R, 3] lies behind both; `weight` [R].
        """
        pull, curvature = self._equations(batch, seen, background, weight)
        pull, curvature = (self._by_photo(each.flatten(1), batch.camera) for each in (pull, curvature))
        rays = ranks.total(len(batch.camera)) / len(self.motion)
        self.curvature = MEMORY * self.curvature + (1 - MEMORY) * curvature.reshape(-1, 6, 6)
        self.known = MEMORY * self.known + (1 - MEMORY)
        self.seen += rays
        if self.seen >= FEWEST_RAYS:
            step = self._step(pull, self.curvature / self.known, self.motion)
            self.motion = self.motion - rate * min(1.0, rays / STEP_RAYS) * step

    @torch.no_grad()
    def learn_photo(self, batch: Batch, seen: Render, background: Tensor, weight: Tensor, rate: float) -> None:
        """As `learn`, where all rays of the batch are of one photo, as many as its own curvature needs."""
        pull, curvature = (each.mean(0, keepdim=True) for each in self._equations(batch, seen, background, weight))
        one = batch.camera[:1]
        self.motion = self.motion.index_add(0, one, -rate * self._step(pull, curvature, self.motion[one]))

    def _equations(self, batch: Batch, seen: Render, background: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Each ray's part of the normal equations: J^T difference [R, 6] and J^T J [R, 6, 6], weighted."""
        difference = seen.rgb - batch.over(background)
        weight = weight * (seen.opacity > LEAST_OPACITY) * seen.opacity
        nearest = NEAREST * (seen.depth * weight).sum() / weight.sum().clamp(min=1e-6)
        j = self._change(batch, seen.depth.clamp(min=float(nearest) + 1e-9), background)
        weight = weight / (difference.abs().amax(1) / ROBUST).clamp(min=1)
        weighted = j * weight[:, None, None]
        return torch.einsum("rci,rc->ri", weighted, difference), torch.einsum("rci,rcj->rij", weighted, j)

    def _change(self, batch: Batch, depth: Tensor, background: Tensor) -> Tensor:
        """Jacobian J [R, 3, 6]."""
        slope = self.slopes.at(batch.camera, batch.uv, background)
        g = slope @ self._pixels_of_direction(batch) @ self.rotations()[batch.camera].transpose(1, 2)
        d = self.moved(batch.rays, batch.camera).directions[:, None].expand_as(g)
        return torch.cat([torch.linalg.cross(d, g), g / depth[:, None, None]], 2)

    def _pixels_of_direction(self, batch: Batch) -> Tensor:
        """Derivative of the pixel by the ray's direction before the motion, [R, 2, 3], by finite differences."""
        steps = batch.uv.new_tensor([[1.0, 0.0], [0.0, 1.0]])
        next_to = [pixel_rays(self.pixels.cameras, batch.camera, batch.uv + step)[1] for step in steps]
        a, b = (direction - batch.rays.directions for direction in next_to)
        aa, ab, bb = ((one * two).sum(1, keepdim=True) for one, two in ((a, a), (a, b), (b, b)))
        return torch.stack([bb * a - ab * b, aa * b - ab * a], 1) / (aa * bb - ab * ab)[..., None]

    def _by_photo(self, values: Tensor, camera: Tensor) -> Tensor:
        """Sums per photo of a batch's values, divided by its rays: [R, K] -> [N, K]."""
        total = values.new_zeros(len(self.motion), values.shape[1]).index_add_(0, camera, values)
        return ranks.mean(total / max(len(camera), 1))

    def _step(self, pull: Tensor, curvature: Tensor, motion: Tensor) -> Tensor:
        """Damped least squares (Levenberg-Marquardt), each parameter scaled by its own curvature, [N, 6]."""
        diagonal = curvature.diagonal(dim1=1, dim2=2)
        pull = pull + self.prior * diagonal * motion
        unit = diagonal.clamp(min=1e-20).sqrt()
        normal = curvature / unit[:, :, None] / unit[:, None, :]
        normal = normal + (self.damping + self.prior) * torch.eye(6, dtype=unit.dtype, device=unit.device)
        return torch.linalg.solve(normal, (pull / unit)[..., None])[..., 0] / unit


def rotations(turn: Tensor) -> Tensor:
    """Rotation matrices [N, 3, 3] of axis times angle [N, 3], by the exponential map."""
    x, y, z = turn.unbind(1)
    zero = torch.zeros_like(x)
    return torch.linalg.matrix_exp(torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3))
