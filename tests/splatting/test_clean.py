import pytest
import torch

from neuralfields.distillation.boxes import Edit
from neuralfields.splatting.clean import floaters, largest, shares
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


def test_a_check_counts_what_is_of_no_use(generator, tmp_path, capsys):
    from dataclasses import replace

    from neuralfields.cli import main
    from neuralfields.codecs.splats import write_gaussians

    gaussians = cloud(generator)
    gaussians.opacities[:100] = -9.0
    gaussians.scales[100:150, 0] += 5.0
    gaussians = replace(gaussians, means=torch.cat([gaussians.means[:1].expand(10, 3), gaussians.means[10:]]))
    found = shares(gaussians)
    assert found["transparent"] == pytest.approx(100 / 1005) and found["needles"] == pytest.approx(50 / 1005)
    assert found["repeated"] == pytest.approx(9 / 1005) and 0.0049 < found["floaters"] < 0.02
    write_gaussians(gaussians, tmp_path / "a.ply")
    assert main(["check", str(tmp_path / "a.ply")]) == 0
    shown = capsys.readouterr().out
    assert "1,005 Gaussians" in shown and "10.0% transparent" in shown and "--drop-floaters" in shown
