"""Refines Gaussians against photos or pictures of the original: freely, or what a quantisation leaves to choose.

views -> render -> 0.8 L1 + 0.2 D-SSIM -> backward -> Adam (ops/splat_pass.py), no growth
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import NO_DISTORTION, Camera
from neuralfields.compression.latent import UNIT, Latent
from neuralfields.compression.nfz import encode
from neuralfields.compression.photos import Photo
from neuralfields.compression.quantise import Quantiser, Settings
from neuralfields.compression.quantised import Quantised, dequantised
from neuralfields.compression.tune import Judge, balanced, for_bytes, for_quality
from neuralfields.errors import InputError
from neuralfields.gaussians import Gaussians
from neuralfields.models.loops import MOMENT, Loops
from neuralfields.ops.blend import COLOUR_ONLY
from neuralfields.ops.image_loss import image_loss
from neuralfields.ops.project import View
from neuralfields.ops.splat_pass import Adam, Packed, SplatPass, morton_order
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.splat import Splats, near_of
from neuralfields.scene import Bounds

HARMONICS_EVERY = 4  # steps between updates of the higher harmonics
LAST = 0.1  # share of the rates at the end
FREE = 0.35  # share of the steps before anything is quantised
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # of the Gaussians, that pruning tries
SPARES = (0.0, 4.0)  # dB over what is wanted, of what is pruned before it is refined, in turn
ROOM_ABOVE = 1.5  # dB over what is wanted that refining must reach, for quantisation
GAINED = 3.0  # dB that tuning behind the steps is expected to bring
ROOM = 0.96  # share of the bytes at which tuning begins: it adds some
ROUNDS, NEAR_ENOUGH = (0.5, 0.2, 0.15, 0.15), 0.06  # shares of the steps; logarithm of the steps' factor
BYTES_SLOPE = 0.4  # logarithm of bytes that a logarithm of the steps saves


@dataclass(frozen=True)
class Rates:
    """Adam's rates at the beginning: of means in half sides of the scene, the others in their own units."""

    means: float = 2e-5
    scales: float = 5e-3
    rotations: float = 1e-3
    opacities: float = 2e-2
    colours: float = 2.5e-3
    harmonics: float = 5e-4


GAIN = 0.02  # of each value's own step, that a value behind a rounded one moves at most


@dataclass(frozen=True)
class Target:
    """A picture to come near to: `rgb` [H, W, 3] over black, and `opacity` [H, W] where something may be behind.

    `mask` [H, W]: how much each pixel counts; None: all alike.
    """

    view: View
    rgb: Tensor
    opacity: Tensor | None
    mask: Tensor | None = None

    def over(self, colour: Colour) -> Tensor:
        """The picture over a colour, where there is an opacity."""
        if self.opacity is None:
            return self.rgb
        return self.rgb + (1 - self.opacity)[..., None] * self.rgb.new_tensor(colour)


class Refiner:
    """Pictures of the original Gaussians by `cameras` and `photos`, and the steps of Adam that bring others near them.

    Random colours are behind a scene that ends with its cube and behind photos with alpha in it, else `background`.
    `loops`: what knows the steps that were taken before an interruption.
    """

    def __init__(
        self,
        original: Gaussians,
        bounds: Bounds,
        cameras: list[Camera],
        background: Colour,
        seed: int = 0,
        photos: Sequence[Photo] = (),
        loops: Loops | None = None,
    ) -> None:
        self.bounds, self.background, self.seed, self.loops = bounds, background, seed, loops or Loops()
        self.random = bounds.cascades == 1
        splats = Splats(original, bounds)
        self.targets = []
        for camera in cameras:
            straight = replace(camera, distortion=NO_DISTORTION)
            seen = splats.render(straight, (0.0, 0.0, 0.0) if self.random else background)
            view = View.of(straight, near_of(bounds), antialiased=original.antialiased)
            opacity = seen.opacity.clone() if self.random else None
            self.targets.append(Target(view, seen.rgb.clamp(0, 1).clone(), opacity))
        for photo in photos:
            view = View.of(photo.camera, near_of(bounds), antialiased=original.antialiased)
            parts = (None if part is None else part.to(original.device) for part in photo.tensors())
            self.targets.append(Target(view, *parts))

    def free(self, gaussians: Gaussians, steps: int, rates: Rates = Rates()) -> Gaussians:
        """The Gaussians after `steps`, every parameter tuned."""
        order = morton_order(gaussians.means)
        chosen = gaussians.take(order)
        run = SplatPass(_packed(chosen))
        moments = run.gaussians.zeros_like(), run.gaussians.zeros_like()
        for step, target, colour in self._steps(steps, lambda: _state(run, moments), run):
            self._lead_back(run, target, colour, gaussians.degree)
            run.adam(moments, self._adam(rates, LAST ** (step / steps), step))
        refined = replace(chosen, **dict(zip(_NAMES, run.gaussians.unpacked(), strict=True)))
        return refined.take(torch.argsort(order))

    def tied(self, latent: Latent, steps: int, gain: float = GAIN) -> None:
        """Tunes values that are shown rounded, by pictures of what they are decoded to."""
        decoded = dequantised(latent.quantised)
        run = SplatPass(_packed(decoded))
        moments = run.gaussians.zeros_like(), run.gaussians.zeros_like()
        rates = Rates(*[UNIT] * 6)
        for step, target, colour in self._steps(steps, lambda: _state(run, moments) | latent.tensors(), run):
            rest = step % HARMONICS_EVERY == 0
            latent.show(run.gaussians, rest or step == 1)
            run.replace(run.gaussians)  # for the boxes around them
            self._lead_back(run, target, colour, decoded.degree)
            run.adam(moments, replace(self._adam(rates, 1.0, step), means=UNIT))
            latent.follow(run.gaussians, gain * LAST ** (step / steps), rest)

    def _steps(
        self, steps: int, state: Callable[[], dict[str, Tensor]], run: SplatPass
    ) -> Iterator[tuple[int, Target, Colour]]:
        return self.loops.run(self.turns(steps), state, lambda _: run.replace(run.gaussians))  # boxes made anew

    def turns(self, steps: int) -> Iterator[tuple[int, Target, Colour]]:
        """Step from 1, its picture and what is behind it."""
        chance = np.random.default_rng(self.seed)
        order: list[int] = []
        for step in range(1, steps + 1):
            order = order or chance.permutation(len(self.targets)).tolist()
            target, colour = self.targets[order.pop()], tuple(chance.random(3).tolist())
            yield step, target, colour if self.random and target.opacity is not None else self.background

    @staticmethod
    def _lead_back(run: SplatPass, target: Target, colour: Colour, degree: int) -> None:
        rendered = run.render(target.view, colour, degree, COLOUR_ONLY)
        run.backward(image_loss(rendered.rgb, target.over(colour), target.mask).d_rgb)

    def _adam(self, rates: Rates, share: float, step: int) -> Adam:
        return Adam(
            means=rates.means * share * self.bounds.side / 2,
            scales=rates.scales * share,
            rotations=rates.rotations * share,
            opacities=rates.opacities * share,
            colours=rates.colours * share,
            harmonics=rates.harmonics * share,
            step=step,
            rest_step=0 if step % HARMONICS_EVERY else step // HARMONICS_EVERY,
        )


@dataclass(frozen=True)
class Recipe:
    """PSNR that is wanted against the original, in dB, or bytes at most; whether to prune; steps of tuning in all."""

    wanted: float
    most_bytes: int | None
    prune: bool
    steps: int


def tuned(
    gaussians: Gaussians,
    importance: np.ndarray,
    refiner: Refiner,
    judge: Judge,
    recipe: Recipe,
    stage: Callable[[str], None],
) -> Quantised | None:
    """The quantisation that meets a recipe once it is tuned: pruned, refined, quantised, refined behind its steps.

    Rounds of the last begin with the values that the round before left, at steps corrected by what it measured. None
    where so few steps do not reach the quality. Raises InputError where the bytes cannot be kept to.
    """
    stage("refining")
    gaussians, importance = _pruned(gaussians, importance, refiner, judge, recipe)
    quantiser = Quantiser(gaussians, importance)
    steps = balanced(quantiser, judge.of(gaussians))
    stage("tuning")
    limit = judge.psnr(gaussians)  # without quantisation
    if recipe.most_bytes is not None:
        quantised = for_bytes(quantiser, steps, round(recipe.most_bytes * ROOM))
    else:
        quantised = for_quality(quantiser, judge, steps, min(recipe.wanted, limit - GAINED) - GAINED)
    steps = _settings(quantised)
    found: list[tuple[bool, float, Quantised]] = []
    for turn, share in enumerate(ROUNDS):
        latent = Latent(quantised, quantiser, gaussians)
        refiner.tied(latent, max(1, round(recipe.steps * (1 - FREE) * share)))
        made = latent.rounded()
        factor, met = _correction(made, judge, recipe, limit)
        found.append((not met, -turn if met else abs(factor), made))
        if met and abs(factor) < NEAR_ENOUGH:
            break
        importance = importance[quantiser.placed(quantised.grid).order]
        gaussians = latent.gaussians()
        quantiser, steps = Quantiser(gaussians, importance), steps.times(math.exp(factor))
        quantised = quantiser.quantise(steps)
    missed, _, best = min(found, key=lambda one: one[:2])
    if not missed:
        return best
    if recipe.most_bytes is not None:
        return for_bytes(quantiser, steps, recipe.most_bytes)
    try:
        return for_quality(quantiser, judge, steps, recipe.wanted)
    except InputError:  # so few steps do not reach it
        return None


def _pruned(
    gaussians: Gaussians, importance: np.ndarray, refiner: Refiner, judge: Judge, recipe: Recipe
) -> tuple[Gaussians, np.ndarray]:
    """What pruning leaves, refined, and its importance: as much as refining makes good."""
    steps = round(recipe.steps * FREE)
    for spare in SPARES if recipe.prune else ():
        kept = prunable(gaussians, importance, judge, recipe.wanted + spare)
        found = refiner.free(gaussians.take(torch.from_numpy(kept)), steps)
        if judge.psnr(found) >= recipe.wanted + ROOM_ABOVE:
            return found, importance[kept]
    return gaussians, importance


def _correction(made: Quantised, judge: Judge, recipe: Recipe, limit: float) -> tuple[float, bool]:
    """Logarithm of the factor at which steps would meet the goal just so, a little to the safe side; is it met?

    The error of pictures is that of the steps, which grows by their square, on top of that at `limit` dB, which stays.
    """
    if recipe.most_bytes is not None:
        over = math.log(len(encode(made)) / recipe.most_bytes) / BYTES_SLOPE
        return over + NEAR_ENOUGH / 2, over <= 0
    psnr = judge.psnr(dequantised(made))
    kept, seen, wanted = (10 ** (-value / 10) for value in (limit, psnr, recipe.wanted))
    spare = 0.5 * math.log(max(wanted - kept, 0.1 * wanted) / max(seen - kept, 0.1 * seen))
    return spare - NEAR_ENOUGH / 2, psnr >= recipe.wanted


def prunable(gaussians: Gaussians, importance: np.ndarray, judge: Judge, wanted: float) -> np.ndarray:
    """Mask [N] without the largest of SHARES, the least important, at which pictures still have `wanted` dB."""
    order = np.argsort(importance, kind="stable")
    kept = np.ones(len(order), bool)
    for share in SHARES:
        tried = kept.copy()
        tried[order[: int(share * len(order))]] = False
        if judge.psnr(gaussians.take(torch.from_numpy(np.flatnonzero(tried)))) < wanted:
            break
        kept = tried
    return kept


def _settings(quantised: Quantised) -> Settings:
    s = quantised.steps
    return Settings(quantised.grid.step, s.scales, s.rotations, s.opacities, s.colours, s.harmonics)


def _state(run: SplatPass, moments: tuple[Packed, Packed]) -> dict[str, Tensor]:
    """Tensors that the next step of a pass depends on."""
    parts = {"": run.gaussians, f"{MOMENT}m.": moments[0], f"{MOMENT}v.": moments[1]}
    return {f"{name}{part}": getattr(packed, part) for name, packed in parts.items() for part in ("core", "rest")}


_NAMES = ("means", "scales", "rotations", "opacities", "harmonics")


def _packed(gaussians: Gaussians) -> Packed:
    return Packed.of(*(getattr(gaussians, name).float() for name in _NAMES))
