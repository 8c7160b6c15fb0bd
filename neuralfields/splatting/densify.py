"""How a set of Gaussians grows on a budget, and what dies: by error that was seen, not by gradients.

Every so many steps the Gaussians are weighed by the error of the pixels that they blended into since the last time
(sum of blending weight times mean |render - photo|). Those drawn by it are split along their longest axis; Gaussians
that turned transparent, and needles, take the places (Kheradmand et al., arXiv:2404.09591, relocate likewise). Until
half of the fit the number rises towards the budget.

Vocabulary
  statistics  [N, 4]: sums of blending weights, of weight times error, of the gradient's length, and how often seen
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neuralfields.ops.splat_pass import MEANS, OPACITY, ROTATIONS, SCALES, Packed, morton_order

DEAD = 0.005  # opacity below which a Gaussian gives its place away
SHIFT, SHORTER, THINNER, FAINTER = 0.6, 0.65, 0.92, 0.9  # of a half: in standard deviations, and as factors
NEEDLE = 60.0  # longest over middle axis beyond which a Gaussian dies


@dataclass(frozen=True)
class State:
    """Gaussians with their moments, all in Morton order."""

    values: Packed
    first: Packed
    second: Packed

    def at(self, index: Tensor) -> "State":
        """Those of an index, in its order."""
        return State(self.values[index], self.first[index], self.second[index])


def grown(state: State, statistics: Tensor, count: int, largest: float, generator: torch.Generator) -> State:
    """The Gaussians after a growth to `count`, sorted anew; none is kept whose deviation is beyond `largest`."""
    values = state.values
    scales = values.core[:, SCALES]
    longest, middle = scales.sort(1, descending=True).values.unbind(1)[:2]
    alive = torch.sigmoid(values.core[:, OPACITY]) >= DEAD
    alive &= (longest - middle < math.log(NEEDLE)) & (longest < math.log(largest))
    kept = alive.nonzero().flatten()
    error = statistics[kept, 1]
    wanted = max(0, min(count, 2 * len(kept)) - len(kept))
    born = min(wanted, int((error > 0).sum()))
    state = state.at(kept)
    if born:
        parents = torch.multinomial(error.double().cpu(), born, replacement=False, generator=generator).to(error.device)
        state = split(state, parents, generator)
    return state.at(morton_order(state.values.core[:, MEANS]))


def split(state: State, parents: Tensor, generator: torch.Generator) -> State:
    """Replaces each parent by two halves along its longest axis, the second of them appended; moments start anew."""
    core, rest = state.values.core, state.values.rest
    axis = core[parents, SCALES].argmax(1)
    length = core[parents, SCALES].gather(1, axis[:, None]).exp()
    direction = rotation_columns(core[parents, ROTATIONS], axis)
    shift = SHIFT * length * direction
    half = core[parents].clone()
    half[:, SCALES] += math.log(THINNER)
    place = (SCALES.start + axis)[:, None]
    half.scatter_(1, place, core[parents].gather(1, place) + math.log(SHORTER))
    half[:, OPACITY] = torch.logit((FAINTER * torch.sigmoid(half[:, OPACITY])).clamp(1e-4, 1 - 1e-4))
    other = half.clone()
    half[:, MEANS] += shift
    other[:, MEANS] -= shift
    core = core.clone()
    core[parents] = half
    values = Packed(torch.cat([core, other]), torch.cat([rest, rest[parents]]))
    moments = []
    for moment in (state.first, state.second):
        whole = Packed(moment.core.clone(), moment.rest.clone())
        whole.core[parents], whole.rest[parents] = 0.0, 0.0
        zeros = torch.zeros_like(whole.core[parents]), torch.zeros_like(whole.rest[parents])
        moments.append(Packed(torch.cat([whole.core, zeros[0]]), torch.cat([whole.rest, zeros[1]])))
    return State(values, *moments)


def rotation_columns(quaternions: Tensor, axis: Tensor) -> Tensor:
    """The axes [N, 3] of Gaussians in the world: column `axis` [N] of the rotations of quaternions wxyz [N, 4]."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=1).unbind(1)
    columns = torch.stack(
        [
            torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)], 1),
            torch.stack([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)], 1),
            torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], 1),
        ],
        1,
    )
    return columns[torch.arange(len(axis), device=axis.device), axis]
