"""Unrounded values behind quantised Gaussians: shown rounded, moved by the steps of what was shown.

Straight through (arXiv:1308.3432): the picture is that of the decoded values, its gradient moves values that are not
rounded. Adam's directions, about 1 in size, are taken in units of each value's own step, so that a coarse value moves
as fast as a fine one.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from neuralfields.compression.grid import Grid, cells_of, morton
from neuralfields.compression.quantise import DEAD_ZONE, LEAST_OPACITY, Quantiser, along, rounded
from neuralfields.compression.quantised import AXIS, LEAST_TRANSPARENCY, Axes, Quantised, rotation_shifts, shifts_of
from neuralfields.gaussians import Gaussians
from neuralfields.ops.splat_pass import COLOUR, MEANS, OPACITY, ROTATIONS, SCALES, Packed

UNIT = 1e-3  # Adam's rate of the shown values: its steps are directions in this unit
FAINTEST = -float(np.log(LEAST_OPACITY))


class Latent:
    """Values of N Gaussians in the order of `quantised`, which says steps and axes: means [N, 3], log scales [N, 3],
    unit quaternions [N, 4], -ln(opacity) [N], colours [N, 3], harmonics [N, D].

    `quantiser` made it of `gaussians`.
    """

    def __init__(self, quantised: Quantised, quantiser: Quantiser, gaussians: Gaussians) -> None:
        placed = quantiser.placed(quantised.grid)
        gaussians = gaussians.take(torch.from_numpy(placed.order))
        q = self.quantised = quantised
        self.means = gaussians.means.float().clone()
        self.scales, xyz = (torch.from_numpy(part.astype(np.float32)) for part in (placed.scales, placed.rotations))
        self.rotations = _quaternions(xyz)
        self.minus_log = -torch.sigmoid(gaussians.opacities.float()).clamp(LEAST_OPACITY, 1).log()
        self.colours = gaussians.harmonics[:, 0].float().clone()
        self.harmonics = gaussians.harmonics[:, 1:].float().flatten(1).clone()
        self._steps = {name: _own(q, name) for name in ("scales", "opacities", "colours", "harmonics")}
        self._colour_rounding = _Rounding(q.colour_axes, self._steps["colours"], 0.5)
        self._harmonic_rounding = _Rounding(q.harmonic_axes, self._steps["harmonics"], DEAD_ZONE)
        self._shown = self._shown_rest = self._place_steps = self._turn_steps = torch.empty(0)

    def show(self, packed: Packed, rest: bool) -> None:
        """Writes what it is decoded to into the Gaussians of a pass; its harmonics only with `rest`."""
        q, core = self.quantised, packed.core
        core[:, MEANS], self._place_steps = _placed(self.means, q.grid)
        whole = (self.scales / self._steps["scales"]).round()
        core[:, SCALES] = whole * self._steps["scales"]
        fine = (core[:, SCALES] / q.steps.scales).round().int().numpy()
        turn = rotation_shifts(q.classes, fine, q.steps.scales, q.most.rotations)
        self._turn_steps = torch.from_numpy(np.ldexp(np.float32(q.steps.rotations), turn))[:, None]
        xyz = self.rotations[:, 1:] / (1 + self.rotations[:, :1])
        core[:, ROTATIONS] = _quaternions((xyz / self._turn_steps).round() * self._turn_steps)
        step = self._steps["opacities"][:, 0]
        minus = (self.minus_log / step).round() * step
        core[:, OPACITY] = -minus - torch.log((1 - minus.neg().exp()).clamp(min=LEAST_TRANSPARENCY))
        core[:, COLOUR] = self._colour_rounding(self.colours)
        if rest and self.harmonics.shape[1]:
            packed.rest[:, : self.harmonics.shape[1]] = self._harmonic_rounding(self.harmonics)
            self._shown_rest = packed.rest[:, : self.harmonics.shape[1]].clone()
        self._shown = core.clone()

    def follow(self, packed: Packed, gain: float, rest: bool) -> None:
        """Takes the step that the shown values took, `gain` of each value's own step for one of UNIT."""
        way = (packed.core - self._shown) * (gain / UNIT)
        self.means += way[:, MEANS] * self._place_steps
        self.scales += way[:, SCALES] * self._steps["scales"]
        turned = self.rotations + way[:, ROTATIONS] * (2 * self._turn_steps)
        turned[:, 0].clamp_(min=-0.5)
        self.rotations = torch.nn.functional.normalize(turned, dim=1)
        self.minus_log -= way[:, OPACITY] * self._steps["opacities"][:, 0]
        self.minus_log.clamp_(0, FAINTEST)
        self.colours += way[:, COLOUR] * self._steps["colours"]
        if rest and self.harmonics.shape[1]:
            width = self.harmonics.shape[1]
            self.harmonics += (packed.rest[:, :width] - self._shown_rest) * (gain / UNIT) * self._steps["harmonics"]

    def tensors(self) -> dict[str, Tensor]:
        """The values themselves, by name."""
        names = ("means", "scales", "rotations", "minus_log", "colours", "harmonics")
        return {f"latent.{name}": getattr(self, name) for name in names}

    def gaussians(self) -> Gaussians:
        """The values as they are, not rounded, in the same order."""
        opacity = self.minus_log.neg().exp().clamp(LEAST_OPACITY, 1 - LEAST_TRANSPARENCY)
        rest = self.harmonics.unflatten(1, (-1, 3)) if self.harmonics.shape[1] else self.harmonics.view(-1, 0, 3)
        harmonics = torch.cat([self.colours[:, None], rest], 1)
        return Gaussians(
            self.means, self.scales, self.rotations, torch.logit(opacity), harmonics,
            antialiased=self.quantised.antialiased,
        )  # fmt: skip

    def rounded(self) -> Quantised:
        """The whole numbers that are shown, in Morton order."""
        q, s, grid = self.quantised, self.quantised.steps, self.quantised.grid
        cells = cells_of(self.means.double().numpy(), np.array(grid.centre), grid.step, grid.even)
        places = (cells - np.array(grid.low)).clip(0, 2**grid.bits - 1).astype(np.int32)
        order = np.argsort(morton(places), kind="stable")
        classes = q.classes[order]
        scales = rounded(_sorted(self.scales, order), s.scales, shifts_of(classes, q.most.scales))
        turn = rotation_shifts(classes, scales, s.scales, q.most.rotations)
        rotations = _sorted(self.rotations, order)
        colours = along(_sorted(self.colours, order), q.colour_axes)
        harmonics = along(_sorted(self.harmonics, order), q.harmonic_axes)
        return replace(
            q,
            places=np.ascontiguousarray(places[order]),
            classes=classes,
            scales=scales,
            rotations=rounded(rotations[:, 1:] / (1 + rotations[:, :1]), s.rotations, turn),
            opacities=rounded(
                _sorted(self.minus_log, order)[:, None], s.opacities, shifts_of(classes, q.most.opacities)
            ),
            colours=rounded(colours, s.colours, shifts_of(classes, q.most.colours)),
            harmonics=rounded(harmonics, s.harmonics, shifts_of(classes, q.most.harmonics), DEAD_ZONE),
        )


class _Rounding:
    """Values [N, D] to what their coefficients along axes, rounded, stand for."""

    def __init__(self, axes: Axes, steps: Tensor, up: float) -> None:
        matrix = axes.axes.astype(np.float64) / AXIS
        inverse = np.linalg.pinv(matrix) if matrix.size else matrix.T
        self.back, self.into = (torch.from_numpy(part.astype(np.float32)) for part in (matrix, inverse))
        self.mean, self.steps, self.up = torch.from_numpy(axes.mean.copy()), steps, up

    def __call__(self, values: Tensor) -> Tensor:
        if not self.into.numel():
            return self.mean.expand_as(values)
        coefficients = (values - self.mean) @ self.into / self.steps
        whole = (coefficients.abs() + self.up).floor().copysign(coefficients)
        return (whole * self.steps) @ self.back + self.mean


def _sorted(values: Tensor, order: np.ndarray) -> np.ndarray:
    return values.double().numpy()[order]


def _own(quantised: Quantised, name: str) -> Tensor:
    """Each Gaussian's own step [N, 1] of a parameter."""
    shifts = shifts_of(quantised.classes, getattr(quantised.most, name))
    return torch.from_numpy(np.ldexp(np.float32(getattr(quantised.steps, name)), shifts))[:, None]


def _placed(means: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Middles [N, 3] of the cells of means, and the cells' sides [N, 3]; see grid.py."""
    off = means - means.new_tensor(grid.centre)
    t = off.abs() / grid.step
    doublings = torch.log2(t.clamp(min=1) / grid.even).floor().clamp(min=0)
    size = (t * torch.exp2(-doublings)).floor().clamp(max=2 * grid.even - 1) + grid.even * doublings
    cells = torch.where(off < 0, -1 - size, size)
    low = means.new_tensor(grid.low)
    cells = cells.maximum(low).minimum(low + (2**grid.bits - 1))
    size = torch.where(cells < 0, -1 - cells, cells)
    doublings = ((size / grid.even).floor() - 1).clamp(min=0)
    sides = grid.step * torch.exp2(doublings)
    return torch.where(cells < 0, -1.0, 1.0) * (size - grid.even * doublings + 0.5) * sides + means.new_tensor(
        grid.centre
    ), sides


def _quaternions(xyz: Tensor) -> Tensor:
    """Unit quaternions [N, 4] of xyz / (1 + w) [N, 3]."""
    square = (xyz * xyz).sum(1, keepdim=True)
    return torch.cat([1 - square, 2 * xyz], 1) / (1 + square)
