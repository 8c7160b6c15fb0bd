"""Tri-plane and K-Planes: every pair of axes has its plane, and time is what it says."""

import dataclasses

import pytest
import torch

from neuralfields.domain import RADIANCE, Domain
from neuralfields.errors import UsageError
from neuralfields.fields import kplanes, triplane
from neuralfields.fields.kplanes import KPlanesField
from neuralfields.fields.triplane import TriplaneField
from neuralfields.layers.grids import PENALTY_EVERY, plane_features, plane_pairs
from tests.support.grid_truths import error, learnt, lopsided, points

TRI = triplane.Config(resolution=9, features=8, doublings=2)
KP = kplanes.Config(resolutions=(5, 9), moments=7, features=8)
SHAPE, VIDEO, MOVING = Domain("shape", 3, 1), Domain("video", 3, 3), Domain("radiance", 4)
LINE = torch.linspace(0, 1, 9)


@pytest.mark.parametrize("dimensions", [2, 3, 4])
@pytest.mark.parametrize("product", [False, True])
def test_each_pair_of_axes_has_its_plane(dimensions, product):
    """Planes with a slope of their own along each side, and sides of different lengths: nothing is exchanged."""
    pairs = plane_pairs(dimensions)
    assert len(pairs) == len(set(pairs)) == dimensions * (dimensions - 1) // 2 and all(i < j for i, j in pairs)
    x, planes, truth = points(300, dimensions), [], []
    for index, (i, j) in enumerate(pairs):
        first, second = torch.linspace(0, 1, 3 + i), torch.linspace(0, 1, 4 + j)
        planes.append((1 + (index + 1) * first[:, None] - 2 * second)[..., None])
        truth.append(1 + (index + 1) * x[:, i] - 2 * x[:, j])
    truth = torch.stack(truth)
    want = truth.prod(0) if product else truth.sum(0)
    torch.testing.assert_close(plane_features(x, planes, product)[:, 0], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("combination", ["sum", "product"])
def test_triplane_growth_keeps_the_function(combination):
    torch.manual_seed(0)
    field = TriplaneField(dataclasses.replace(TRI, combination=combination))
    final, x = [p.shape for p in field.parameters()], points(300, 3)
    field.grow(0)
    assert all(plane.shape == (3, 3, 8) for plane in field.planes)
    for stage in (1, 2):
        before = field.features(x)
        field.grow(stage)
        torch.testing.assert_close(field.features(x), before)
    assert [p.shape for p in field.parameters()] == final


@pytest.mark.parametrize("combination", ["sum", "product"])
def test_triplane_learns_in_all_three_axes(combination):
    torch.manual_seed(0)
    config = dataclasses.replace(TRI, combination=combination, doublings=0)
    says = learnt(TriplaneField(config, SHAPE), lopsided, 3, 100)
    assert error(says, lopsided, 3) < 0.15
    for order in ([1, 0, 2], [0, 2, 1], [2, 1, 0]):
        assert error(says, lambda x, o=order: lopsided(x[:, o]), 3) > 0.5


def test_triplane_has_three_planes_of_three_coordinates():
    heads = TriplaneField(TRI).heads
    assert TriplaneField(TRI).bytes() == 4 * (3 * 9 * 9 * 8 + sum(p.numel() for p in heads.parameters()))
    with pytest.raises(UsageError, match="takes 3 coordinates, not 4; use kplanes"):
        TriplaneField(TRI, MOVING)


@pytest.mark.parametrize("domain", [Domain("image", 2, 3), RADIANCE, VIDEO, MOVING], ids=["image", "3d", "video", "4d"])
def test_kplanes_has_a_plane_for_each_pair_and_resolution(domain):
    field = KPlanesField(KP, domain)
    time = {VIDEO: 2, MOVING: 3}.get(domain)
    shapes = [
        (*(7 if axis == time else side for axis in pair), 4)
        for side in (5, 9)
        for pair in plane_pairs(domain.dimensions)
    ]
    assert [tuple(plane.shape) for plane in field.planes] == shapes
    assert field.features(points(10, domain.dimensions)).shape == (10, 8)


@pytest.mark.parametrize("domain", [VIDEO, MOVING], ids=["video", "4d"])
def test_at_first_nothing_moves(domain):
    torch.manual_seed(0)
    field, x = KPlanesField(KP, domain), points(100, domain.dimensions)
    later = x.clone()
    later[:, -1] = 1 - later[:, -1]
    torch.testing.assert_close(field.features(x), field.features(later), rtol=1e-5, atol=0)
    assert float(field.features(x).detach().std(dim=0).min()) > 0


def moving(x: torch.Tensor) -> torch.Tensor:
    """The log-density [S, 1] of a ball that crosses the cube, and of a wall that stands still, at x [S, 4]."""
    place, t = x[:, :3], x[:, 3:]
    centre = torch.cat([0.2 + 0.6 * t, 0.5 + 0.3 * torch.sin(3 * t), 0.7 - 0.3 * t], dim=1)
    ball = 6 * torch.exp(-(place - centre).square().sum(1, keepdim=True) / 0.08)
    return ball + 2 * place[:, :1] - 3


def test_time_is_learnt_and_a_static_field_cannot():
    config = dataclasses.replace(KP, resolutions=(9,), moments=9, features=16, learning_rate=0.05)
    torch.manual_seed(0)
    says = learnt(KPlanesField(config, MOVING), moving, 4, 100)
    static = KPlanesField(config)
    generator = torch.Generator().manual_seed(6)
    blind = learnt(static, lambda x: moving(torch.cat([x, torch.rand(len(x), 1, generator=generator)], 1)), 3, 60)
    in_time = error(says, moving, 4)
    without = error(lambda x: blind(x[:, :3]), moving, 4)
    x, moments = points(2000, 3, seed=5), torch.linspace(0, 1, 33)
    movie = torch.stack([moving(torch.cat([x, t.expand(2000, 1)], 1)) for t in moments])
    least = float(movie.var(dim=0).mean().sqrt() / movie.std())  # the best that any field without time can do
    assert in_time < 0.25 and without > 0.95 * least > 2 * in_time


def test_kplanes_learns_in_all_three_axes():
    torch.manual_seed(0)
    says = learnt(KPlanesField(dataclasses.replace(KP, features=16), SHAPE), lopsided, 3, 100)
    assert error(says, lopsided, 3) < 0.15
    for order in ([1, 0, 2], [0, 2, 1], [2, 1, 0]):
        assert error(says, lambda x, o=order: lopsided(x[:, o]), 3) > 0.5


def looked(field: KPlanesField | TriplaneField) -> float:
    """The next look's penalty."""
    return float([field.penalty() for _ in range(PENALTY_EVERY)][-1].detach())


@pytest.mark.parametrize("make", [lambda: TriplaneField(TRI), lambda: KPlanesField(KP)], ids=["triplane", "kplanes"])
def test_variation_is_zero_for_constant_planes_alone(make):
    field = make()
    assert looked(field) > 0
    with torch.no_grad():
        for plane in field.planes:
            plane.fill_(3)
    assert looked(field) == 0


@pytest.mark.parametrize("domain", [VIDEO, MOVING], ids=["video", "4d"])
def test_penalties_in_time(domain):
    """Smooth is what changes evenly, still is what stays 1; neither is asked of space."""
    none = dataclasses.replace(KP, variation=0.0, smoothness=0.0, stillness=0.0)
    count = 2 * (domain.dimensions - 1)  # planes that hold time
    smooth = KPlanesField(dataclasses.replace(none, smoothness=1.0), domain)
    still = KPlanesField(dataclasses.replace(none, stillness=1.0), domain)
    assert looked(smooth) == looked(still) == 0
    for field in (smooth, still):
        with torch.no_grad():
            for plane in field.planes:
                if bool((plane == 1).all()):
                    plane += torch.arange(7.0)[:, None]  # along time, the second axis
    assert looked(smooth) == pytest.approx(0, abs=1e-9)
    assert looked(still) == pytest.approx(PENALTY_EVERY * count * 3)  # the mean of 0 to 6
    with torch.no_grad():
        for plane in smooth.planes:
            plane += torch.arange(7.0)[: plane.shape[1], None].square() if plane.shape[1] == 7 else 0
    assert looked(smooth) == pytest.approx(PENALTY_EVERY * count * 4)  # squares have second differences of 2
    assert [KPlanesField(none, domain).penalty() for _ in range(PENALTY_EVERY)] == [None] * PENALTY_EVERY


def test_a_signals_samples_bound_the_points():
    clip = Domain("video", 3, 3, lengths=(40, 6, 3))
    planes = KPlanesField(KP, clip).planes
    assert [tuple(plane.shape[:2]) for plane in planes] == [(5, 5), (5, 3), (5, 3), (9, 6), (9, 3), (6, 3)]
    assert [tuple(plane.shape[:2]) for plane in TriplaneField(TRI, clip).planes] == [(9, 6), (9, 3), (6, 3)]


def test_features_are_shared_evenly():
    with pytest.raises(ValueError, match="features 30: must be a multiple of the 4 resolutions"):
        kplanes.Config(features=30)
    with pytest.raises(ValueError, match="resolutions"):
        kplanes.Config(resolutions=())
