"""Gaussians keep their parts together and say what is wrong with them."""

import math
from dataclasses import replace

import pytest
import torch

from neuralfields.errors import InputError
from neuralfields.gaussians import DC, Gaussians, empty, keep_sound, logit
from tests.support.splats import random_gaussians


def test_parts_are_taken_and_joined_together():
    whole = random_gaussians(7, degree=2, extra=("tag",))
    assert (len(whole), whole.degree) == (7, 2)
    for index in (torch.tensor([3, 0, 3]), torch.arange(7) % 2 == 0, slice(2, 5)):
        part = whole.take(index)
        for name in ("means", "scales", "rotations", "opacities", "harmonics"):
            assert torch.equal(getattr(part, name), getattr(whole, name)[index])
        assert torch.equal(part.extra["tag"], whole.extra["tag"][index])
    again = Gaussians.cat([whole.take(slice(0, 3)), whole.take(slice(3, 7))])
    assert torch.equal(again.harmonics, whole.harmonics) and torch.equal(again.extra["tag"], whole.extra["tag"])
    joined = Gaussians.cat([whole, random_gaussians(2, degree=3)])
    assert joined.degree == 3 and not joined.extra and len(joined) == 9
    assert torch.equal(joined.harmonics[:7, :9], whole.harmonics) and not joined.harmonics[:7, 9:].any()
    assert torch.equal(whole.with_degree(0).harmonics, whole.harmonics[:, :1])
    assert len(empty(1)) == 0 and empty(1).degree == 1 and whole.to("cpu").device.type == "cpu"


def test_colour_and_opacity():
    one = random_gaussians(1, degree=0)
    one = replace(one, opacities=torch.tensor([math.log(3)]), harmonics=torch.full((1, 1, 3), 0.2 / DC))
    torch.testing.assert_close(one.opacity(), torch.tensor([0.75]))
    torch.testing.assert_close(one.base_colour(), torch.full((1, 3), 0.7))
    assert bool(torch.isfinite(logit(torch.tensor([0.0, 1.0]))).all())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"scales": torch.zeros(3, 2)}, r"scales is \[3, 2\], \[3, 3\] is needed"),
        ({"opacities": torch.zeros(3, 1)}, r"opacities is \[3, 1\], \[3\] is needed"),
        ({"harmonics": torch.zeros(3, 5, 3)}, r"harmonics is \[3, 5, 3\], \[3, 1 | 4"),
        ({"means": torch.zeros(3, 3, dtype=torch.float64)}, "means is torch.float64"),
        ({"extra": {"tag": torch.zeros(2)}}, r"extra tag is \[2\], 3 rows"),
        ({"means": torch.tensor([[0, 0, 0], [0, math.nan, 0], [math.inf, 0, 0]])}, "means of 2 of 3 Gaussians are not"),
        ({"rotations": torch.zeros(3, 4)}, "3 of 3 Gaussians have a scale beyond"),
        ({"scales": torch.full((3, 3), 80.0)}, "3 of 3 Gaussians have a scale beyond"),
    ],
)
def test_what_is_wrong_is_named(change, match):
    good = random_gaussians(3)
    assert good.require_sound() is good
    with pytest.raises(InputError, match="a.ply: " + match):
        replace(good, **change).require_sound("a.ply")


def test_the_sound_ones_of_a_file_are_kept_and_the_others_counted():
    good = random_gaussians(5)
    means, scales, opacities = good.means.clone(), good.scales.clone(), good.opacities.clone()
    means[0, 1], scales[1, 2], scales[2, 0], opacities[3] = math.nan, -math.inf, 80.0, math.inf
    kept = keep_sound(replace(good, means=means, scales=scales, opacities=opacities), "a.ply")
    assert kept.require_sound() is kept and torch.equal(kept.means, good.means[[1, 3, 4]])
    assert kept.opacity()[1] == 1 and kept.scales[0, 2].exp() < 1e-12
    assert kept.notes == ("2 of 5 Gaussians left out: not finite, too large or without a rotation",)
    with pytest.raises(InputError, match="none of its 5 Gaussians"):
        keep_sound(replace(good, means=good.means * math.nan), "a.ply")
