"""Chooses steps: balanced between the parameters by what renderings say, then as large as a quality or a size allows.

A parameter's error grows with the square of its step, D = s step^2, and a halved step costs a bit for each number.
So a file is best where D is the same for each number: step = sqrt(numbers / s). `balanced` measures s by renderings in
which one parameter alone is quantised.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from neuralfields.cameras import Camera
from neuralfields.compression.nfz import encode
from neuralfields.compression.quantise import Quantiser, Settings
from neuralfields.compression.quantised import Quantised, dequantised
from neuralfields.errors import InputError
from neuralfields.gaussians import Gaussians
from neuralfields.pictures.metrics import psnr, psnr_from_mse, ssim
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.splat import Splats
from neuralfields.scene import Bounds

# What balance comes to in several scenes, at about 45 dB; `places` in half sides of the scene.
USUAL = Settings(places=1 / 1024, scales=0.05, rotations=0.0022, opacities=0.05, colours=0.06, harmonics=0.08)
NUMBERS = {"places": 3, "scales": 3, "rotations": 3, "opacities": 1, "colours": 3}
APART = 3.0  # times that a measured step may differ from the usual one
FINE = 1 / 32
TOLERANCE, DECIBELS = 0.1, 20 / math.log(10)  # dB; dB lost for steps that are e times as large
TRIES = 9
NARROW = 0.02  # of a logarithm of steps: under it quality goes up and down, in pictures of many thin Gaussians
FINEST, COARSEST = -6.0, 6.0  # of the logarithm of the factor on balanced steps


FITTED = 30.0  # dB of a usual fit against its photos
LEAST_LOST = 1e-3  # dB: a loss under it is taken for it, since none at all stands for an infinite PSNR


def wanted_psnr(lost: float, fitted: float = FITTED) -> float:
    """PSNR against the original, in dB, at which a fit of `fitted` dB loses `lost`."""
    return fitted - 10 * math.log10(10 ** (max(lost, LEAST_LOST) / 10) - 1)


def lost_of(psnr: float, fitted: float = FITTED) -> float:
    """dB that a fit of `fitted` dB loses at a PSNR against the original."""
    return 10 * math.log10(1 + 10 ** ((fitted - psnr) / 10))


class Judge:
    """Pictures of the original Gaussians, and how far others' pictures are from them; all drawn on its device."""

    def __init__(self, original: Gaussians, bounds: Bounds, cameras: list[Camera], background: Colour) -> None:
        self.bounds, self.cameras, self.background, self.device = bounds, cameras, background, original.device
        self.pictures = self._render(original)

    def _render(self, gaussians: Gaussians) -> list[np.ndarray]:
        splats = Splats(gaussians.to(self.device), self.bounds)
        return [splats.render(camera, self.background).rgb.clamp(0, 1).cpu().numpy() for camera in self.cameras]

    def errors(self, gaussians: Gaussians, views: int | None = None) -> list[float]:
        """Mean squared error of each picture, not rounded to 8 bits; of the first `views` alone."""
        judge = self if views is None else self._first(views)
        return [float(((a - b) ** 2).mean()) for a, b in zip(judge._render(gaussians), judge.pictures, strict=True)]

    def _first(self, views: int) -> "Judge":
        found = object.__new__(Judge)
        found.bounds, found.background, found.device = self.bounds, self.background, self.device
        found.cameras, found.pictures = self.cameras[:views], self.pictures[:views]
        return found

    def of(self, gaussians: Gaussians) -> "Judge":
        """A judge with the same cameras and these Gaussians as its original."""
        return Judge(gaussians, self.bounds, self.cameras, self.background)

    def psnr(self, gaussians: Gaussians) -> float:
        """Mean over the pictures of their PSNR in dB, of values as they are, at most 100 each."""
        return float(np.mean([psnr_from_mse(max(error, 1e-10)) for error in self.errors(gaussians)]))

    def report(self, gaussians: Gaussians) -> dict[str, float]:
        """`psnr` and `ssim` of pictures rounded to 8 bits; equal pictures count as 100 dB."""
        pairs = list(zip(self._render(gaussians), self.pictures, strict=True))
        return {
            "psnr": float(np.mean([min(psnr(a, b), 100.0) for a, b in pairs])),
            "ssim": float(np.mean([ssim(a, b) for a, b in pairs])),
        }


def usual(bounds: Bounds) -> Settings:
    """The usual steps in a scene of these bounds."""
    return replace(USUAL, places=USUAL.places * bounds.side / 2)


def balanced(quantiser: Quantiser, judge: Judge, views: int = 4) -> Settings:
    """Steps at which every number adds the same error to the pictures, each at most APART times from the usual ones."""
    probe = usual(judge.bounds)
    fine = probe.times(FINE)
    wanted = {}
    for name, numbers in NUMBERS.items():
        one = replace(fine, **{name: getattr(probe, name)})
        error = float(np.mean(judge.errors(dequantised(quantiser.quantise(one)), views)))
        wanted[name] = math.sqrt(numbers / max(error, 1e-12))
    middle = math.exp(float(np.mean([math.log(v) for v in wanted.values()])))
    ratio = {name: min(max(value / middle, 1 / APART), APART) for name, value in wanted.items()}
    found = {name: getattr(probe, name) * value for name, value in ratio.items()}
    return replace(probe, **found, harmonics=probe.harmonics * ratio["colours"])


def for_quality(quantiser: Quantiser, judge: Judge, steps: Settings, wanted: float) -> Quantised:
    """The coarsest quantisation in these proportions, to TOLERANCE, whose pictures have the PSNR `wanted`, in dB.

    Raises InputError where none has.
    """
    found: dict[float, Quantised] = {}

    def spare(at: float) -> float:
        found[at] = quantiser.quantise(steps.times(math.exp(at)))
        return judge.psnr(dequantised(found[at])) - wanted

    good = search(spare, TOLERANCE, DECIBELS)
    if good is None:
        raise InputError(f"no steps give {wanted:.1f} dB; ask for less quality")
    return found[good]


def search(spare: Callable[[float], float], tolerance: float, slope: float) -> float | None:
    """The largest x, to `tolerance`, at which a falling function is not under 0; None where there is none.

    From x = 0 by its expected `slope`, then between the points on either side, within FINEST to COARSEST.
    """
    good: tuple[float, float] | None = None
    bad: tuple[float, float] | None = None
    at = 0.0
    for _ in range(TRIES):
        value = spare(at)
        if value >= 0:
            good = at, value
            if value < tolerance:
                break
        else:
            bad = at, value
        if good and bad and bad[0] - good[0] < NARROW:
            break
        if good and bad:
            share = min(max((good[1] - tolerance / 2) / (good[1] - bad[1]), 0.1), 0.9)
            at = good[0] + share * (bad[0] - good[0])
        else:
            at = min(max(at + 1.2 * (value - tolerance / 2) / slope, FINEST), COARSEST)
        if at in (good and good[0], bad and bad[0]):
            break
    return good[0] if good else None


def for_bytes(quantiser: Quantiser, steps: Settings, most: int) -> Quantised:
    """The finest quantisation in these proportions, to a percent, whose file has at most `most` bytes.

    Raises InputError where none has.
    """
    found: dict[float, tuple[int, Quantised]] = {}

    def over(at: float) -> float:  # of -x: finer steps cost more bytes
        found[at] = _sized(quantiser.quantise(steps.times(math.exp(-at))))
        return math.log(most / found[at][0])

    good = search(over, 0.01, 0.4)
    if good is None:
        least = min(size for size, _ in found.values())
        raise InputError(
            f"{len(quantiser)} Gaussians take {least} bytes at the coarsest, {most} are allowed; allow more"
        )
    return found[good][1]


def _sized(quantised: Quantised) -> tuple[int, Quantised]:
    return len(encode(quantised)), quantised
