"""The pass of Gaussians that move: those of one moment, drawn by the pass of still ones, and the way back.

  values -> still ones of the moment -> SplatPass -> picture ... gradient of the still ones -> of all values -> Adam

Vocabulary
  values   Packed, its core [N, 32]: the 16 numbers of ops/splat_pass.py, the 15 of motion.py, and one of no use
  flat     values' cores, or their moments, the other way round: [32, N], one number of all Gaussians after the other,
           which is several times as fast to compute with; `sync` brings the values up to it
  shown    Packed, its core [N, 16]: what they are at the moment; the higher harmonics are the same memory
Those that have faded at the moment stay in their places and are left out where they would be projected.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from neuralfields.gaussians import Gaussians
from neuralfields.motion import (
    CENTRE,
    DURATION,
    LARGEST_OPACITY,
    MOTION,
    PATH,
    POWERS,
    SHORTEST,
    TURN,
    faded,
    moved_means,
    turned,
)
from neuralfields.ops.adam import adam
from neuralfields.ops.blend import COLOUR_ONLY, Blended
from neuralfields.ops.project import View
from neuralfields.ops.splat_pass import CORE, MEANS, OPACITY, ROTATIONS, Adam, Background, Packed, SplatPass

WIDE = CORE + 16
OWN = slice(CORE, CORE + MOTION)  # of a value: its motion
LONGEST = 3.5  # logarithm: a duration that a fit does not leave


@dataclass(frozen=True)
class MotionRates:
    """Rates of one step of Adam: of centres, log durations, the three powers of paths, and turns.

    `briefest`: the logarithm of a duration that none falls under. `lasting` times each log duration is taken from the
    loss, of what is seen: what need not be brief stays.
    """

    centres: float
    durations: float
    paths: tuple[float, float, float]
    turns: float
    lasting: float = 0.0
    briefest: float = SHORTEST

    def numbers(self) -> list[float]:
        """One for each number of a value beyond its core."""
        paths = [rate for rate in self.paths for _ in range(3)]
        return [self.centres, self.durations, *paths, *[self.turns] * 4, 0.0]


@dataclass(frozen=True)
class _Gradient(Adam):
    """Rates by which the pass leaves the gradient itself in the core's first moments, and the core as it is."""

    def core_settings(self) -> list[float]:
        return [0.0, 0.0, 0.0, 1.0]


def packed(gaussians: Gaussians) -> Packed:
    """Gaussians that move as values; copies."""
    parts = gaussians.means, gaussians.scales, gaussians.rotations, gaussians.opacities, gaussians.harmonics
    still = Packed.of(*parts)
    unused = still.core.new_zeros(len(still), WIDE - CORE - MOTION)
    return Packed(torch.cat([still.core, gaussians.motion, unused], 1).contiguous(), still.rest)


def unpacked(values: Packed, antialiased: bool) -> Gaussians:
    """The reverse of `packed`: copies."""
    return Gaussians(*values.unpacked(), antialiased=antialiased, motion=values.core[:, OWN].contiguous().clone())


class MovingPass:
    """Pictures and steps of Gaussians that move, with the calls of `SplatPass`; `moment` is the next picture's.

    Between `adam` and `sync` the cores of values and moments are those of before.
    """

    def __init__(self, values: Packed) -> None:
        self.moment, self.rates = 0.0, MotionRates(0.0, 0.0, (0.0, 0.0, 0.0), 0.0)
        self._shown_at: float | None = None
        self.replace(values)

    def replace(self, values: Packed) -> None:
        """Takes other Gaussians, e.g. after densification."""
        self.values, self._shown_at = values, None
        self._flat, self._moments = values.core.t().contiguous(), None
        self.shown = Packed(values.core[:, :CORE].contiguous().clone(), values.rest)
        self._gradient: tuple[Packed, Packed] | None = None
        self.run = SplatPass(self.shown)

    def sync(self) -> None:
        """Brings the cores of the values, and of the moments of the last `adam`, up to date."""
        self.values.core.copy_(self._flat.t())
        if self._moments is not None:
            for moment, flat in self._moments:
                moment.core.copy_(flat.t())

    def _show(self) -> None:
        """Brings `shown` to the moment."""
        if self._shown_at == self.moment:
            return
        core, still = self._flat.t(), self._flat[:CORE].clone()
        motion, now = core[:, OWN], still.t()
        now[:, MEANS] = moved_means(core[:, MEANS], motion, self.moment)
        now[:, ROTATIONS] = turned(core[:, ROTATIONS], motion, self.moment)
        now[:, OPACITY] = faded(core[:, OPACITY], motion, self.moment)
        self.shown.core.copy_(now)
        self.run.replace(self.shown)  # the boxes of its chunks have moved
        self._shown_at = self.moment

    def render(
        self,
        view: View,
        background: Background,
        degree: int,
        level: int = COLOUR_ONLY,
        importance: Tensor | None = None,
    ) -> Blended:
        """The picture at `moment`; see `SplatPass.render`."""
        self._show()
        return self.run.render(view, background, degree, level, importance)

    def backward(
        self,
        d_rgb: Tensor,
        d_opacity: Tensor | None = None,
        d_depth: Tensor | None = None,
        d_normal: Tensor | None = None,
        error: Tensor | None = None,
    ) -> Tensor:
        """Gradients of the last picture; see `SplatPass.backward`."""
        return self.run.backward(d_rgb, d_opacity, d_depth, d_normal, error)

    def adam(self, moments: tuple[Packed, Packed], rates: Adam, statistics: Tensor | None = None) -> None:
        """One step of what the last picture saw, also of its motion by `self.rates`; statistics as there."""
        gradient = self.gradient(moments, rates, statistics).t()
        if self._moments is None or any(a is not b for a, (b, _) in zip(moments, self._moments, strict=True)):
            self._moments = [(moment, moment.core.t().contiguous()) for moment in moments]
        first, second = (flat for _, flat in self._moments)
        change = torch.zeros_like(self._flat)
        adam(change, gradient, (first, second), rates.step, (1.0, *rates.betas, rates.epsilon), True)
        each = change.new_tensor([*rates.rates(), *self.rates.numbers()])
        self._flat.addcmul_(change, each[:, None])
        self._flat[CORE + DURATION].clamp_(self.rates.briefest, LONGEST)
        self._flat[CORE + CENTRE].clamp_(0, 1)
        self._shown_at = None

    def gradient(self, moments: tuple[Packed, Packed], rates: Adam, statistics: Tensor | None = None) -> Tensor:
        """The gradient [N, 32] of the values, from that of what was shown; a step of the higher harmonics, in place.

        With g = 1 / (1 + e^o (1 - T)): d_o = g d_shown and d_fade = (1 + e^o) g d_shown.
        """
        core, motion = self._flat, self._flat[OWN]
        d = self._shown_gradient(moments, rates, statistics).t().contiguous()
        centre, duration, path, turn = (motion[part] for part in (CENTRE, DURATION, PATH, TURN))
        path, d_means = path.unflatten(0, (POWERS, 3)), d[MEANS]
        dt, sharp = self.moment - centre, torch.exp(-duration)
        log_left = -(dt * sharp).square()
        grown = core[OPACITY].clamp(max=LARGEST_OPACITY).exp()
        share = d[OPACITY] / (1 - grown * torch.expm1(log_left))
        d_fade = (1 + grown) * share
        d_duration = -2 * log_left * d_fade - self.rates.lasting * (share != 0)
        speed = path[0] + dt * (2 * path[1] + 3 * dt * path[2])
        away = (speed * d_means).sum(0) + (turn * d[ROTATIONS]).sum(0)
        d_centre = 2 * dt * sharp.square() * d_fade - away
        slow, fast = dt * d_means, dt * dt * d_means
        d[OPACITY] = share
        parts = d_centre[None], d_duration[None], slow, fast, dt * fast, dt * d[ROTATIONS]
        return torch.cat([d, *parts, torch.zeros_like(d_centre)[None]]).t()

    def _shown_gradient(self, moments: tuple[Packed, Packed], rates: Adam, statistics: Tensor | None) -> Tensor:
        """The gradient [N, 16] of what was shown: the pass's own Adam, by rates that leave it in the first moments."""
        if self._gradient is None:
            cores = [torch.zeros_like(self.shown.core) for _ in range(2)]
            self._gradient = tuple(Packed(core, moment.rest) for core, moment in zip(cores, moments, strict=True))
        self._gradient[0].core.zero_()
        named = {name: getattr(rates, name) for name in rates.__dataclass_fields__}
        named |= dict.fromkeys(("means", "scales", "rotations", "opacities", "colours"), 0.0)
        self.run.adam(self._gradient, _Gradient(**named), statistics)
        return self._gradient[0].core
