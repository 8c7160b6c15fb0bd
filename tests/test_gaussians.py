"""Gaussians keep their parts together and say what is wrong with them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralfields.errors import InputError
from neuralfields.gaussians import DC, Gaussians, basis, empty, flipped, keep_sound, logit, moved
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


def matrices(rotations: torch.Tensor) -> torch.Tensor:
    """Rotation matrices [N, 3, 3] of quaternions of any length, by turning the three axes."""
    w, v = torch.nn.functional.normalize(rotations.double(), dim=1).split([1, 3], 1)
    axes = torch.eye(3, dtype=torch.float64).expand(len(w), 3, 3)
    v, w = v[:, None].expand_as(axes), w[:, None]
    twice = 2 * torch.linalg.cross(v, axes, dim=-1)
    return (axes + w * twice + torch.linalg.cross(v, twice, dim=-1)).mT


def colours(gaussians: Gaussians, directions: torch.Tensor) -> torch.Tensor:
    return torch.einsum("dk,nkc->ndc", basis(directions, gaussians.degree), gaussians.harmonics.double())


def covariances(gaussians: Gaussians) -> torch.Tensor:
    axes = matrices(gaussians.rotations) * gaussians.scales.double().exp()[:, None]
    return axes @ axes.mT


SEEN = torch.nn.functional.normalize(
    torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), dim=1
)


def test_harmonics_are_orthonormal():
    """Judged by an integral over the sphere: Gauss-Legendre in z, even steps around; exact for these degrees."""
    height, weight = map(torch.from_numpy, np.polynomial.legendre.leggauss(8))
    around = torch.arange(16, dtype=torch.float64) * (2 * math.pi / 16)
    flat = (1 - height**2).sqrt()[:, None]
    there = torch.stack([flat * around.cos(), flat * around.sin(), height[:, None].expand(8, 16)], -1)
    y = basis(there)
    gram = torch.einsum("hak,haj,h->kj", y, y, weight) * (2 * math.pi / 16)
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("axes", ["x", "yz", "xy", "xyz"])
def test_a_flip_is_seen_from_the_flipped_direction(axes):
    before = random_gaussians(6)
    after, signs = flipped(before, axes), torch.tensor([-1.0 if a in axes else 1.0 for a in "xyz"]).double()
    torch.testing.assert_close(colours(after, SEEN * signs), colours(before, SEEN))
    torch.testing.assert_close(after.means.double(), before.means.double() * signs)
    torch.testing.assert_close(covariances(after), signs[:, None] * covariances(before) * signs)
    again = flipped(after, axes)
    assert torch.equal(again.harmonics, before.harmonics) and torch.equal(again.rotations, before.rotations)


def test_a_moved_frame_moves_everything():
    before, chance = random_gaussians(6), torch.Generator().manual_seed(3)
    for _ in range(8):  # all four forms of a matrix's quaternion
        turn = matrices(torch.randn(1, 4, generator=chance))[0]
        frame = torch.eye(4, dtype=torch.float64)
        frame[:3, :3], frame[:3, 3] = 2.5 * turn, torch.tensor([1.0, -2.0, 3.0])
        after = moved(before, frame)
        torch.testing.assert_close(colours(after, SEEN @ turn.T), colours(before, SEEN), atol=1e-5, rtol=0)
        expected = before.means.double() @ (2.5 * turn).T + frame[:3, 3]
        torch.testing.assert_close(after.means.double(), expected, atol=1e-5, rtol=1e-6)
        spread = 2.5**2 * turn @ covariances(before) @ turn.T
        torch.testing.assert_close(covariances(after), spread, atol=1e-6, rtol=1e-5)
    for bad in (torch.diag(torch.tensor([1.0, 1.0, -1.0, 1.0])), torch.diag(torch.tensor([1.0, 2.0, 1.0, 1.0]))):
        with pytest.raises(InputError, match="mirrors, shears or scales"):
            moved(before, bad)
    half_turn = flipped(before, "xy")
    frame = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0]))
    torch.testing.assert_close(moved(before, frame).harmonics, half_turn.harmonics, atol=1e-6, rtol=0)
