import torch

from neuralfields.distillation.boxes import Edit
from neuralfields.splatting.clean import floaters, largest
from neuralfields.splatting.initial import gaussians_at


def cloud(generator: torch.Generator):
    """A thousand on a plane, five far above it, the last of them ten times as large."""
    plane = torch.rand(1000, 3, generator=generator) * torch.tensor([1.0, 1.0, 0.0])
    away = torch.tensor([[0.5, 0.5, 1.0], [0.1, 0.1, 2.0], [0.9, 0.2, 3.0], [0.3, 0.8, 4.0], [0.5, 0.5, 6.0]])
    widths = torch.full((1005,), 0.01)
    widths[-1] = 0.1
    points = torch.cat([plane, away])
    return gaussians_at(points, torch.rand(1005, 3, generator=generator), widths, 0.5, 0)


def test_floaters(generator):
    found = floaters(cloud(generator))
    assert found[1000:].all() and found[:1000].sum() < 10


def test_the_largest(generator):
    gaussians = cloud(generator)
    assert largest(gaussians, 0.001).nonzero().flatten().tolist() == [1004]
    assert largest(gaussians, 0.0).sum() == 0


def test_an_edit_drops_both(generator):
    gaussians = cloud(generator)
    left = Edit(drop_floaters=True, drop_largest=0.1).gaussians(gaussians)
    assert 990 < len(left) <= 1000 and float(left.means[:, 2].max()) == 0.0


def test_few_have_no_floaters(generator):
    assert not floaters(cloud(generator).take(slice(0, 5))).any()
