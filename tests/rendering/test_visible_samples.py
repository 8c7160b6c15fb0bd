"""What is behind an opaque sample is left out, and nothing else."""

import pytest
import torch

from neuralfields.ops.composite import composite
from neuralfields.rays import Samples
from neuralfields.rendering.visible_samples import take, visible_samples


def rays(counts: list[int]) -> Samples:
    """Samples of unit length; x holds the sample's index, so that a density can be looked up by it."""
    offsets = torch.tensor([0, *counts]).cumsum(0)
    total = int(offsets[-1])
    x = torch.arange(total, dtype=torch.float64)[:, None].expand(total, 3).contiguous()
    return Samples(x, x[:, 0] + 0.5, torch.ones(total, dtype=torch.float64), offsets)


def test_an_opaque_ray_is_left_after_its_run():
    samples = rays([100, 0, 100, 3])
    density = torch.zeros(203, dtype=torch.float64)
    density[5] = 50.0
    looked: list[torch.Tensor] = []

    def look(x: torch.Tensor) -> torch.Tensor:
        looked.append(x[:, 0].long())
        return density[looked[-1]]

    index, found, order = visible_samples(samples, look)
    assert torch.equal(torch.cat(looked)[order], index)
    assert index.tolist() == [*range(8), *range(100, 203)]  # the first ray's first run; the others whole
    assert torch.equal(found, density[index])
    assert len(order) == len(index)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_sums_do_not_change(scale):
    generator = torch.Generator().manual_seed(3)
    counts = torch.randint(0, 200, (50,), generator=generator).tolist()
    samples = rays(counts)
    density = torch.rand(len(samples.t), generator=generator, dtype=torch.float64) ** 4 * scale
    rgb = torch.rand(len(samples.t), 3, generator=generator, dtype=torch.float64)
    whole, _ = composite(density, samples.length, samples.t, rgb, samples.offsets)
    index, found, _ = visible_samples(samples, lambda x: density[x[:, 0].long()])
    few = take(samples, index)
    assert few.offsets[-1] == len(index) and torch.equal(few.ray, samples.ray[index])
    got, _ = composite(found, few.length, few.t, rgb[index], few.offsets)
    assert torch.equal(got, whole)
    assert scale < 1 or len(index) < len(samples.t)


def test_no_samples_at_all():
    samples = rays([0, 0])
    index, found, _ = visible_samples(samples, lambda x: x[:, 0])
    assert len(index) == len(found) == 0 and take(samples, index).offsets.tolist() == [0, 0, 0]
