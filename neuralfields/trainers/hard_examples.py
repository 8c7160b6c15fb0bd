"""Hard-example mining for distillation: the camera and ray levels of active learning in PVD-AL (arXiv:2304.04012).

  cameras  after each round the worst tenth of its cameras enter a pool; a tenth of the next round's cameras are drawn
           from the pool, jittered
  rays     after each step its worst tenth of rays enter a pool; each step is extended by a tenth drawn from the pool

The third level, points, is importance sampling within a step (trainers/distil.py).
"""

import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.ops.pixel_rays import camera_table, pixel_rays
from neuralfields.rays import Rays
from neuralfields.trainers.sampled_cameras import Viewpoints, jittered

POSES = 100  # cameras of a round, and at most in the pool
ROUND = 100  # steps of a round
AGAIN = 0.1  # fraction of cameras, and of rays, that are hard examples
RAY_POOL = 1 << 16


class CameraPool:
    """Cameras of a round, and a pool of hard examples: those of the largest errors of earlier rounds.

    `real`: cameras of a capture, drawn from as well; `again`: whether hard examples are mined. Rays are on `device`,
    where the generators are too.
    """

    def __init__(
        self, viewpoints: Viewpoints, real: list[Camera], seed: int, again: bool, device: torch.device | str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self.viewpoints, self.real, self.seed, self.again = viewpoints, real, seed, again
        self.pool: list[Camera] = []
        self.round = self.from_pool = 0
        self.begin()

    def begin(self) -> None:
        """Samples the cameras of the next round."""
        random = np.random.default_rng((self.seed, self.round))
        self.cameras = self.viewpoints.draw(POSES, random)
        for index in range(0, POSES, 2) if self.real else ():
            self.cameras[index] = self.real[int(random.integers(len(self.real)))]
        if self.again and self.pool:
            count = round(AGAIN * POSES)
            chosen = random.integers(len(self.pool), size=count)
            self.cameras[-count:] = [jittered(self.pool[int(i)], random) for i in chosen]
            self.from_pool += count
        size = [[camera.width, camera.height] for camera in self.cameras]
        self.table = camera_table(self.cameras).to(self.device)
        self.size = torch.tensor(size, dtype=torch.float32, device=self.device)
        self.error, self.count = torch.zeros(2, POSES, device=self.device)
        self.round += 1

    def go_to(self, round: int) -> None:
        """Samples the cameras of a round again; `round`: how many have begun. Without hard examples."""
        self.round = round - 1
        self.begin()

    def rays(self, count: int, generator: torch.Generator) -> tuple[Rays, Tensor]:
        """Rays through random pixels of the round's cameras, and the camera [R] of each."""
        camera = torch.randint(0, POSES, (count,), generator=generator, device=self.device)
        pixel = torch.rand(count, 2, generator=generator, device=self.device) * self.size[camera]
        return Rays(*pixel_rays(self.table, camera, pixel)), camera

    def learn(self, camera: Tensor, error: Tensor) -> None:
        """Adds the squared errors [R] of rays to those of their cameras [R]."""
        self.error.index_add_(0, camera, error)
        self.count.index_add_(0, camera, torch.ones_like(error))

    def end(self) -> None:
        """Adds the worst tenth to the pool, a first-in first-out queue, and begins the next round."""
        if self.again and bool(self.count.any()):  # in the stages of points no camera has an error
            worst = (self.error / self.count.clamp(min=1)).argsort(descending=True)[: round(AGAIN * POSES)]
            self.pool = (self.pool + [self.cameras[i] for i in worst.tolist()])[-POSES:]
        self.begin()


class RayPool:
    """Pool of hard rays, of the largest errors; drawn ones are replaced by the worst of the step that drew them."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.rays = torch.empty(0, 6, device=device)
        self.times: Tensor | None = None  # of the same rays, in a scene that moves
        self.drawn: Tensor | None = None
        self.seen_again = 0

    def draw(self, count: int, generator: torch.Generator) -> Rays:
        """Draws hard rays: a tenth of `count`, or fewer while the pool is small."""
        count = min(round(AGAIN * count), len(self.rays))
        order = torch.randperm(len(self.rays), generator=generator, device=self.rays.device)
        self.drawn = order[:count] if count else None
        self.seen_again += count
        chosen = self.rays[self.drawn] if count else self.rays[:0]
        times = None
        if self.times is not None:
            times = self.times[self.drawn] if count else self.times[:0]
        return Rays(chosen[:, :3], chosen[:, 3:], times)

    def learn(self, rays: Rays, error: Tensor) -> None:
        """Adds the worst tenth of a step's rays by their errors [R]."""
        worst = error.argsort(descending=True)[: max(1, round(AGAIN * len(error)))]
        new = torch.cat([rays.origins[worst], rays.directions[worst]], 1)
        if self.drawn is not None:
            keep = torch.ones(len(self.rays), dtype=torch.bool, device=self.rays.device)
            keep[self.drawn] = False
            self.rays = self.rays[keep]
            self.times = None if self.times is None else self.times[keep]
        self.rays = torch.cat([self.rays, new])[-RAY_POOL:]
        if rays.times is not None:
            kept = rays.times[:0] if self.times is None else self.times
            self.times = torch.cat([kept, rays.times[worst]])[-RAY_POOL:]

    def tensors(self) -> dict[str, Tensor]:
        """The pool, for a checkpoint."""
        moments = {} if self.times is None else {"hard.times": self.times}
        drawn = {} if self.drawn is None else {"hard.drawn": self.drawn}
        return {"hard.rays": self.rays} | moments | drawn

    def restore(self, tensors: dict[str, Tensor], seen_again: int) -> None:
        """The reverse of `tensors`; `seen_again`: how many rays have been drawn."""
        device = self.rays.device
        self.rays, self.seen_again = tensors["hard.rays"].to(device), seen_again
        self.times, self.drawn = (
            tensors[name].to(device) if name in tensors else None for name in ("hard.times", "hard.drawn")
        )
