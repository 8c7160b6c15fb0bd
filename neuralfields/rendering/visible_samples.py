"""Early ray termination: the samples of a ray up to where its transmittance is spent. For fields without a fused pass.

Samples are evaluated front to back in runs of a few per ray; an opaque ray terminates. Samples behind have no weight
and no gradient in `composite`, so leaving them out changes nothing but the time.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from neuralfields.ops.composite import TRANSMITTANCE_STOP
from neuralfields.rays import Samples

# Optical depth that terminates a ray here: a little beyond composite's own stop, which decides.
OPAQUE = -torch.tensor(TRANSMITTANCE_STOP).log().item() + 0.01
RUNS = (8, 8, 16, 32)  # samples a ray of the first runs; each later run is as long as all before


@torch.no_grad()
def visible_samples(samples: Samples, density: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Selects the visible samples by early termination: their indices, ascending [K], and densities [K].

    `density` maps x [S, 3] to [S], in the inverse unit of the samples' lengths. The third result [K] says which of all
    samples that it was called for, one call after the other, each of them was.
    """
    begin, end = samples.offsets[:-1].clone(), samples.offsets[1:]
    depth = torch.zeros(len(begin), dtype=samples.x.dtype, device=samples.x.device)
    alive = (begin < end).nonzero().flatten()
    seen, densities = [samples.offsets.new_empty(0)], [depth.new_empty(0)]
    number = total = 0
    while len(alive):
        run = RUNS[number] if number < len(RUNS) else total
        number, total = number + 1, total + run
        index = begin[alive, None] + torch.arange(run, device=begin.device)
        inside = index < end[alive, None]
        flat = index[inside]
        seen.append(flat)
        densities.append(density(samples.x[flat]))
        optical = torch.zeros(index.shape, dtype=depth.dtype, device=depth.device)
        optical[inside] = densities[-1] * samples.length[flat]
        depth[alive] += optical.sum(1)
        begin[alive] += run
        alive = alive[(depth[alive] < OPAQUE) & (begin[alive] < end[alive])]
    index, order = torch.cat(seen).sort()
    return index, torch.cat(densities)[order], order


def take(samples: Samples, index: Tensor) -> Samples:
    """Takes the samples of these ascending indices; each stays with its ray."""
    count = torch.bincount(samples.ray[index], minlength=len(samples.offsets) - 1)
    offsets = torch.cat([count.new_zeros(1), count.cumsum(0)])
    return Samples(samples.x[index], samples.t[index], samples.length[index], offsets)
