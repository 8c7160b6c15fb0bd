"""Gaussians to the bytes of a .nfz with a report: importance, balanced steps, a quality or a size, entropy coding.

`quality` is in dB that a scene which its photos show at `fitted` dB (FITTED if nothing is known) may lose: an error e
against the original, which has nothing to do with that against the photos, turns F into -10 log10(10^(-F / 10) + e).
Without photos e is what can be measured. With photos the loss on those that judge is held to as well: the common factor
of all steps is all that they decide, what is tuned sees other photos (and pictures of the original between them).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from neuralfields.compression.files import read
from neuralfields.compression.nfz import encode
from neuralfields.compression.original import CaptureCameras, Compressed, Original
from neuralfields.compression.quantise import Quantiser
from neuralfields.compression.quantised import Quantised, dequantised
from neuralfields.compression.refine import Recipe, tuned
from neuralfields.compression.tune import FITTED, Judge, balanced, for_bytes, for_quality, wanted_psnr
from neuralfields.gaussians import Gaussians
from neuralfields.models.loops import Loops
from neuralfields.rendering.renderable import Colour
from neuralfields.scene import Bounds

UNSEEN, MOST_UNSEEN = 4.0, 1e-3  # share of all importance that those left out may have: times the squared error


@dataclass(frozen=True)
class Goal:
    """What a file is to be: dB that it may lose, or bytes that it may have; whether splats may be left out.

    `steps` of tuning against renderings; 0, and for what moves: none, seconds in all. `fitted`: dB of the original
    against its photos.
    """

    quality: float = 0.3
    most_bytes: int | None = None
    prune: bool = True
    steps: int = 0
    seed: int = 0
    fitted: float = FITTED

    def unseen(self) -> float:
        """Share of the importance that may be left out."""
        if not self.prune:
            return 0.0
        if self.most_bytes is not None:
            return MOST_UNSEEN / 3
        return min(UNSEEN * 10 ** (-wanted_psnr(self.quality, self.fitted) / 10), MOST_UNSEEN)


def compress(
    gaussians: Gaussians,
    bounds: Bounds,
    goal: Goal,
    background: Colour = (0.0, 0.0, 0.0),
    cameras: CaptureCameras | None = None,
    stage: Callable[[str], None] = lambda _: None,
    loops: Loops | None = None,
) -> Compressed:
    """The file of Gaussians at a goal, from drawn cameras, or a capture's own; `stage` is told what is done.

    `loops`: steps that are kept, so that tuning which is interrupted goes on with the same arguments.

    Raises InputError for Gaussians that are not sound and for a goal that cannot be reached.
    """
    loops = loops or Loops()
    begin = time.perf_counter() - loops.seconds
    original = Original(gaussians, bounds, background, cameras)
    goal = replace(goal, fitted=original.fitted(goal.fitted))
    stage("importance")
    importance = original.importance()
    kept = np.flatnonzero(worth_keeping(importance, goal.unseen()))
    stage("steps")
    judge, seen, importance = original.judge, gaussians.take(torch.from_numpy(kept)), importance[kept]
    quantised = _once(Quantiser(seen, importance), judge, goal)
    if goal.steps and gaussians.motion is None:
        wanted = (
            wanted_psnr(goal.quality, goal.fitted) if goal.most_bytes is None else judge.psnr(dequantised(quantised))
        )
        recipe = Recipe(wanted, goal.most_bytes, goal.prune, goal.steps)
        refined = tuned(seen, importance, original.refiner(goal.seed, loops), judge, recipe, stage)
        quantised = _better(quantised, refined, judge, goal)
    stage("coding")
    data = encode(quantised, bounds.times)
    seconds = time.perf_counter() - begin
    stage("report")
    report = original.report(data, goal.fitted)
    return Compressed(data, read(data, "the file just made"), {**report, "steps": goal.steps, "seconds": seconds})


def _once(quantiser: Quantiser, judge: Judge, goal: Goal) -> Quantised:
    """The quantisation that meets the goal, nothing tuned."""
    steps = balanced(quantiser, judge)
    if goal.most_bytes is not None:
        return for_bytes(quantiser, steps, goal.most_bytes)
    return for_quality(quantiser, judge, steps, wanted_psnr(goal.quality, goal.fitted))


def _better(plain: Quantised, refined: Quantised | None, judge: Judge, goal: Goal) -> Quantised:
    """Of two that meet a goal the smaller one, or with a goal of bytes the nearer one."""
    if refined is None:
        return plain
    if goal.most_bytes is None:
        return min(plain, refined, key=lambda one: len(encode(one)))
    return max(plain, refined, key=lambda one: judge.psnr(dequantised(one)))


def worth_keeping(importance: np.ndarray, unseen: float) -> np.ndarray:
    """Mask [N]: all but the least important, which have less than a share `unseen` of the importance together."""
    order = np.argsort(importance, kind="stable")
    total = np.cumsum(importance[order], dtype=np.float64)
    kept = np.ones(len(importance), bool)
    kept[order[total < unseen * total[-1]]] = False
    return kept
