"""Fits Gaussians to photos: one photo a step, drawn, compared, and led back by hand (ops/splat_pass.py).

  photo -> render -> 0.8 L1 + 0.2 D-SSIM -> backward -> Adam on what was seen, and now and then growth (splatting/)

Rates are those of 3DGS (arXiv:2308.04079); growth, degrees and sizes of the photos are shares of the fit, so that a
fit of 20 seconds ends as well as it can.
"""

import math

import torch
from torch import Tensor

from neuralfields.errors import InputError
from neuralfields.fields.gaussians import GaussianField
from neuralfields.gaussians import Gaussians
from neuralfields.models.model import Model
from neuralfields.ops.blend import COLOUR_ONLY, WITH_DEPTH, Blended
from neuralfields.ops.image_loss import image_loss
from neuralfields.ops.pixel_rays import pixel_rays
from neuralfields.ops.project import View
from neuralfields.ops.splat_pass import Adam, Packed, SplatPass, morton_order
from neuralfields.rays import Rays, Render
from neuralfields.rendering.moving_splats import MovingPass
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.splat import Splats, finished, parameters
from neuralfields.scene import Bounds
from neuralfields.splatting.densify import State, grown
from neuralfields.splatting.photos import PhotoPyramid
from neuralfields.supervision.exposure import Exposure
from neuralfields.supervision.pixels import Batch
from neuralfields.supervision.pose_refinement import PoseRefinement
from neuralfields.supervision.robust import Robust
from neuralfields.trainers.radiance import Background
from neuralfields.trainers.spare_threads import SpareThreads
from neuralfields.trainers.trainer import StepReport, mixed_seed
from neuralfields.trainers.weight_average import AVERAGED, MovingAverage

MEANS_RATE, MEANS_LAST = 6e-4, 0.1  # in extents, and the share of it at the end
SCALES_RATE, ROTATIONS_RATE, OPACITIES_RATE, COLOURS_RATE, HARMONICS_RATE = 2e-2, 3e-3, 5e-2, 5e-3, 1e-3
DEGREES = (0.1, 0.2, 0.3)  # shares of a fit at which the harmonics' degree rises
# Until which share of a fit photos are half as wide: as good a step, at a third of the time. Of a fit that ends by its
# time a quarter is about half of its steps.
SMALL_UNTIL, SMALL_TIME = 0.5, 0.25
# Steps between updates of the higher harmonics. Every 16th, as fits of thirty thousand steps have it, saves 5 to
# 11 % of the time and loses 0.1 to 1.3 dB after a thousand steps (benchmarks/gaussians_ablation.md).
HARMONICS_EVERY = 2
BETAS = (0.8, 0.999)  # of Adam: photos see other sides, so that the gradients of ten photos ago say less
# Share of the second moments that is kept when photos become larger: gradients of the first, blurred pictures were
# large, and would hold the steps small for long.
SECOND_KEPT = 0.1
AVERAGE_EVERY = 2  # steps between two that count, in the last tenth of a fit
GROW_EVERY, GROW_FROM, GROW_UNTIL = 100, 0.02, 0.5
# Pixels of photos that a Gaussian fills at least in each round of them, by its blending weights, in the last fifth of a
# fit; hidden ones and those beyond every photo do not, and go at the end: of a chair a quarter, which no view shows.
UNSEEN, COUNTED = 0.1, 0.8
LARGEST = 0.5  # standard deviation in inner cubes beyond which a Gaussian dies, where the scene ends with the cube
POSE_PIXELS = 4096  # of a photo by which its camera is moved
OPACITY_PULL, SCALE_PULL = 1e-7, 1e-7


class SplatTrainer:
    """Gaussians being fitted: parameters, moments, statistics, the order of the photos; all that a step depends on."""

    averaging = False
    timed = False  # whether progress is that of the clock, not of steps
    robust: Robust | None = None  # what leaves transients out, if anything does
    bits = 32

    def __init__(
        self,
        gaussians: Gaussians,
        photos: list[PhotoPyramid],
        bounds: Bounds,
        background: Background,
        most: int,
        seed: int,
        exposure: Exposure | None = None,
        poses: PoseRefinement | None = None,
    ) -> None:
        self.photos, self.bounds, self.background, self.seed = photos, bounds, background, seed
        self.exposure, self.poses = exposure, poses
        self.antialiased, self.most = gaussians.antialiased, max(most, len(gaussians))
        self.first_count = len(gaussians)
        self.state = self.beginning(gaussians)
        values = self.state.values
        self.statistics = values.core.new_zeros(len(values), 4)
        self.run = self.pass_of(values)
        self.threads, self.averages = SpareThreads(), MovingAverage(decay=None)
        self.step_count = self.adam_steps = self.rest_steps = self.grown_at = self.times = 0
        self.counted_from = -1  # the step from which on it is counted how much each is shown; -1: none yet

    def beginning(self, gaussians: Gaussians) -> State:
        """Gaussians in Morton order, with moments of none."""
        gaussians = gaussians.take(morton_order(gaussians.means))
        values = self.packed(gaussians)
        return State(values, values.zeros_like(), values.zeros_like())

    def packed(self, gaussians: Gaussians) -> Packed:
        """Gaussians as this trainer keeps them."""
        return Packed.of(*parameters(gaussians))

    def pass_of(self, values: Packed) -> SplatPass | MovingPass:
        """What draws them and leads gradients back."""
        return SplatPass(values)

    @property
    def extent(self) -> float:
        """World units in which rates of places are given: about half of the inner cube's side."""
        return 0.5 * self.bounds.side * 1.1

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.state.values.core.device

    @property
    def gaussians(self) -> Gaussians:
        """The Gaussians as they are."""
        return Gaussians(*self.state.values.unpacked(), antialiased=self.antialiased)

    @property
    def field(self) -> GaussianField:
        """The Gaussians as what a model holds."""
        return GaussianField.of(self.gaussians, self.most)

    @property
    def volume(self) -> Splats:
        """What renders, as it is now."""
        return Splats(self.gaussians, self.bounds)

    def advance(self, progress: float) -> None:
        """Ends the fit at progress 1: the Gaussians become their mean over its last tenth; the unseen go."""
        if progress >= 1 and self.averages.settle():
            self._take(self.state.at(self._seen()))

    def weights(self) -> dict[Tensor, str]:
        """What is averaged, by the names of a checkpoint's tensors."""
        return {self.state.values.core: "average.core", self.state.values.rest: "average.rest"}

    def generator(self) -> torch.Generator:
        """The randomness of this step."""
        return torch.Generator().manual_seed(mixed_seed(self.seed, self.step_count))

    def step(self, progress: float) -> StepReport:
        """One step; `progress` in [0, 1] says how far the fit is, for rates, sizes, degrees and growth."""
        with self.threads.step():  # with any number of threads the same bits
            return self._step(progress)

    def _step(self, progress: float) -> StepReport:
        generator = self.generator()
        turn = self._turn()
        photo = self.photos[turn]
        smaller = 2 if progress < (SMALL_TIME if self.timed else SMALL_UNTIL) else 1
        if smaller < self.times:
            self._forget()
        self.times = smaller
        smaller = max(times for times in photo.images if times <= smaller)
        colour = self._background(photo, generator)
        target = photo.target(smaller, colour)
        view = self._view(turn, smaller)
        degree = sum(progress >= share for share in DEGREES)
        rendered = self.run.render(view, colour, degree, COLOUR_ONLY if self.poses is None else WITH_DEPTH)
        growing = GROW_FROM <= progress < GROW_UNTIL
        counting = growing or progress >= COUNTED
        if progress >= COUNTED and self.counted_from < 0:
            self.counted_from = self.step_count
            self.statistics.zero_()
        mask = self._mask(turn, smaller)
        shown = self._backward(turn, rendered, target, mask, colour, counting)
        self.run.adam(
            (self.state.first, self.state.second), self._rates(progress), self.statistics if counting else None
        )
        if self.poses is not None:
            self._follow_pose(turn, progress, (view, rendered, colour), (target, mask), generator)
        self.step_count += 1
        if self.robust is not None:
            self.robust.follow_photo(self.step_count, turn, shown - target, photo.mask(smaller), smaller)
        if growing and self.step_count - self.grown_at >= GROW_EVERY:
            self._grow(progress, generator)
        if progress >= AVERAGED and self.step_count % AVERAGE_EVERY == 0:
            self.averages.follow(self.weights())
        pixels = target.shape[0] * target.shape[1]
        squared = float((rendered.rgb - target).square().mean()) if self.step_count % 10 == 1 else self._squared
        self._squared = squared
        return StepReport(pixels, len(self.state.values), squared, "" if smaller == 1 else f"1/{smaller}")

    _squared = 0.0

    def _forget(self) -> None:
        for half in (self.state.second.core, self.state.second.rest):
            half.mul_(SECOND_KEPT)

    def _backward(
        self, turn: int, rendered: Blended, target: Tensor, mask: Tensor | None, colour: Colour, counting: bool
    ) -> Tensor:
        """Leads the loss of a render back, in the photo's own exposure where exposures are learned; as it was shown."""
        if self.exposure is None:
            loss = image_loss(rendered.rgb, target, mask)
            self.run.backward(loss.d_rgb, error=loss.error if counting else None)
            return rendered.rgb
        behind = target.new_tensor(colour)
        shown = self.exposure.exposed_photo(turn, rendered.rgb, rendered.opacity, behind)
        loss = image_loss(shown, target, mask)
        d_rgb, d_opacity = self.exposure.led_back(turn, loss.d_rgb * (shown < 1), behind)
        self.run.backward(d_rgb, d_opacity, error=loss.error if counting else None)
        rest = (1 - rendered.opacity)[..., None] * behind
        self.exposure.follow_photo(turn, rendered.rgb - rest, rendered.opacity, target - rest, mask)
        return shown

    def _mask(self, turn: int, smaller: int) -> Tensor | None:
        """What counts of a photo, [H, W]: its mask, without transients where they are left out; None: all."""
        photo = self.photos[turn]
        mask = photo.mask(smaller)
        if self.robust is None:
            return mask
        kept = self.robust.photo_weight(turn, photo.views[smaller].size, smaller)
        return kept if mask is None else kept * mask

    def _view(self, turn: int, smaller: int) -> View:
        """The photo's view at that size, by its refined pose where poses are refined."""
        view = self.photos[turn].views[smaller]
        return view if self.poses is None else view.moved_to(self.poses.pose(turn))

    def _follow_pose(
        self,
        turn: int,
        progress: float,
        seen: tuple[View, Blended, Colour],
        wanted: tuple[Tensor, Tensor | None],
        generator: torch.Generator,
    ) -> None:
        """Moves the photo's camera by where its render and the photo differ, at some of its pixels."""
        (view, blended, colour), (target, mask) = seen, wanted
        width, height = view.size
        place = torch.randint(0, width * height, (POSE_PIXELS,), generator=generator).to(self.device)
        render = finished(blended, view).reshape(width * height)
        behind = target.new_tensor(colour)
        rgb = render.rgb
        if self.exposure is not None:
            rgb = self.exposure.exposed_photo(turn, rgb, render.opacity, behind)
        pixels = self.poses.pixels
        times = int(pixels.widths[turn]) // width
        uv = (torch.stack([place % width, place // width], 1) + 0.5) * times
        camera = torch.full_like(place, turn)
        rays = Rays(*pixel_rays(pixels.cameras, camera, uv))
        batch = Batch(rays, target.reshape(-1, 3)[place], None, camera, uv)
        weight = torch.ones_like(uv[:, 0]) if mask is None else mask.flatten()[place]
        picked = Render(rgb[place], render.opacity[place], render.depth[place])
        self.poses.follow_photo(self.step_count, progress, batch, picked, (behind, weight))

    def _turn(self) -> int:
        """Which photo this step takes: all of them in a new order each round."""
        count = len(self.photos)
        turn, place = divmod(self.step_count, count)
        if getattr(self, "_round", None) != turn:
            generator = torch.Generator().manual_seed(mixed_seed(self.seed + 1, turn))
            self._round, self._order = turn, torch.randperm(count, generator=generator).tolist()
        return self._order[place]

    def _background(self, photo: PhotoPyramid, generator: torch.Generator) -> Colour:
        """The step's background: a random colour where that is asked for and the photo has alpha."""
        if photo.clear and self.background.random:
            return tuple(torch.rand(3, generator=generator).tolist())
        return self.background.colour

    def _rates(self, progress: float) -> Adam:
        self.adam_steps += 1
        rest = self.adam_steps % HARMONICS_EVERY == 0
        self.rest_steps += rest
        return Adam(
            means=MEANS_RATE * self.extent * MEANS_LAST**progress,
            scales=SCALES_RATE,
            rotations=ROTATIONS_RATE,
            opacities=OPACITIES_RATE,
            colours=COLOURS_RATE,
            harmonics=HARMONICS_RATE * HARMONICS_EVERY**0.5,
            step=self.adam_steps,
            rest_step=self.rest_steps if rest else 0,
            betas=BETAS,
            opacity_pull=OPACITY_PULL,
            scale_pull=SCALE_PULL,
        )

    def _seen(self) -> Tensor:
        """Which Gaussians photos show; all, if not every photo has been taken since the count began."""
        rounds = (self.step_count - self.counted_from) / len(self.photos)
        counted = self.counted_from >= 0 and rounds >= 1
        seen = self.statistics[:, 0] >= (UNSEEN * rounds / self.times**2 if counted else 0.0)
        return (seen if seen.any() else ~seen).nonzero().flatten()

    def _grow(self, progress: float, generator: torch.Generator) -> None:
        share = (progress - GROW_FROM) / (GROW_UNTIL - GROW_FROM)
        count = round(self.first_count + (self.most - self.first_count) * min(1.0, share * 1.15))
        largest = LARGEST * self.bounds.side * (1 if self.bounds.cascades == 1 else 2 ** (self.bounds.cascades - 1))
        self._take(grown(self.state, self.statistics, max(count, len(self.state.values)), largest, generator))
        self.grown_at = self.step_count

    def _take(self, state: State) -> None:
        self.state, self.statistics = state, state.values.core.new_zeros(len(state.values), 4)
        self.run.replace(state.values)

    def tensors(self) -> dict[str, Tensor]:
        """Everything the next step depends on, for a checkpoint."""
        parts = {"values": self.state.values, "first": self.state.first, "second": self.state.second}
        found = {f"{name}.{half}": getattr(part, half) for name, part in parts.items() for half in ("core", "rest")}
        for part in (self.exposure, self.poses, self.robust):
            found |= {} if part is None else part.tensors()
        return found | {"statistics": self.statistics} | self.averages.tensors(self.weights())

    def counters(self) -> dict[str, int]:
        """The same, of plain numbers."""
        names = ("step_count", "adam_steps", "rest_steps", "grown_at", "counted_from", "times", "first_count", "most")
        return {name: getattr(self, name) for name in names} | {"averaged": self.averages.count}

    def continues(self, model: Model) -> bool:
        """Whether a finished model's Gaussians are of the kind that is fitted here; their number may be any."""
        config = model.field.config
        alike = (config.degree, config.antialiased) == (self.field.config.degree, self.antialiased)
        return alike and model.field.domain == self.bounds.domain

    def adopt(self, model: Model) -> None:
        """Goes on from a finished model: its Gaussians and number of steps, new moments; exposures and poses as given.

        Raises InputError where its scene has other bounds.
        """
        if model.bounds != self.bounds:
            raise InputError("the finished model is of a scene with other bounds; start anew with --overwrite")
        gaussians = model.field.gaussians().to(self.device)
        self.first_count, self.most = len(gaussians), max(self.most, len(gaussians))
        self._take(self.beginning(gaussians))
        self.step_count = self.grown_at = int(model.made.get("steps", 0))

    def restore(self, tensors: dict[str, Tensor], counters: dict[str, int]) -> None:
        """The reverse of `tensors` and `counters`."""
        tensors = {name: tensor.to(self.device) for name, tensor in tensors.items()}
        parts = [Packed(tensors[f"{name}.core"], tensors[f"{name}.rest"]) for name in ("values", "first", "second")]
        for name in counters.keys() - {"averaged"}:
            setattr(self, name, counters[name])
        self._take(State(*parts))
        self.averages.restore(self.weights(), tensors, counters.get("averaged", 0))
        self.statistics = tensors["statistics"]
        for part in (self.exposure, self.poses, self.robust):
            if part is not None:
                part.restore(tensors)


def budget(pixels: int, seconds: float | None) -> int:
    """Gaussians that a fit may grow to: by the pixels of all photos, and by the time that there is.

    44 thousand in 20 seconds, 68 in a minute, 111 in three: more learn less, of as much time.
    """
    by_time = math.inf if seconds is None else 10_000 + 7_500 * math.sqrt(seconds)
    return int(min(20_000 + pixels / 60, by_time, 400_000))
