"""Encodings against their formulas, and first weights against what they are for."""

import math

import pytest
import torch

from neuralfields.layers.encodings import HIDDEN_OMEGA, RANGES, USUAL, activation, encoding, require_frequencies
from neuralfields.layers.trunk import Shape, Trunk


def points(count: int = 500, dimensions: int = 3) -> torch.Tensor:
    return torch.rand(count, dimensions, generator=torch.Generator().manual_seed(1))


def test_octaves_are_the_paper_s():
    x = points(dimensions=2).double()
    found = encoding("octaves", 2, 7, 3.0).double()(x)
    rows = [2 * x[:, 0] - 1, 2 * x[:, 1] - 1]
    for wave in (torch.sin, torch.cos):
        rows += [wave(2 * math.pi * 2**k * x[:, axis]) for axis in range(2) for k in range(3)]
    torch.testing.assert_close(found, torch.stack(rows, 1))


def test_octaves_repeat_after_a_whole_axis_and_not_before():
    e = encoding("octaves", 1, 1, 4.0)
    at = lambda x: e(torch.tensor([[x]]))[0, 1:]  # without the coordinate itself
    torch.testing.assert_close(at(0.0), at(1.0), atol=1e-5, rtol=0)
    assert float((at(0.0) - at(0.5)).abs().max()) > 1


def test_gaussian_frequencies_have_the_deviation_and_are_saved():
    torch.manual_seed(3)
    e = encoding("gaussian", 3, 4000, 7.0)
    assert float(e.matrix.std()) == pytest.approx(7.0, rel=0.02) and float(e.matrix.mean()) == pytest.approx(0, abs=0.2)
    assert e.outputs == 8000 and "matrix" in e.state_dict()
    x, e = points(50).double(), e.double()
    angles = 2 * math.pi * (x @ e.matrix)
    torch.testing.assert_close(e(x), torch.cat([angles.sin(), angles.cos()], 1))


def test_inner_products_depend_on_the_distance_alone():
    """Fourier features: e(x) . e(y) / M is a function of x - y that falls off over about 1 / (2 pi sigma)."""
    torch.manual_seed(0)
    e, x, step = encoding("gaussian", 2, 20000, 5.0), points(dimensions=2), torch.tensor([0.03, -0.02])
    product = (e(x) * e(x + step)).sum(1) / 20000
    expected = math.exp(-2 * (math.pi * 5.0 * float(step.norm())) ** 2)
    torch.testing.assert_close(product, torch.full_like(product, expected), atol=0.02, rtol=0)


@pytest.mark.parametrize("depth", [2, 6])
def test_siren_keeps_its_distribution_through_depth(depth):
    """Sitzmann et al.: activations stay arcsine distributed, of variance 1/2, at any depth and width."""
    torch.manual_seed(0)
    trunk = Trunk(2, Shape(depth, 512), activation("siren", 100.0))
    h = trunk(encoding("siren", 2, 1, 100.0)(points(4000, 2))).detach()
    assert float(h.var()) == pytest.approx(0.5, abs=0.05)


def test_relu_layers_keep_the_variance():
    torch.manual_seed(0)
    trunk = Trunk(128, Shape(6, 512), activation("gaussian", 5.0))
    h = trunk(encoding("gaussian", 3, 64, 5.0)(points(2000))).detach()
    assert 0.5 < float(h.square().mean()) / 0.5 < 2  # the encoding's mean square is 1/2


def test_finer_without_reach_near_nothing_is_siren():
    """For small z, |z| + 1 is 1; its first biases fill the reach that is asked for."""
    z = torch.linspace(-1e-4, 1e-4, 11)
    torch.testing.assert_close(
        activation("finer", 2.0)(1, z), activation("siren", HIDDEN_OMEGA)(1, z), rtol=2e-4, atol=0
    )
    torch.manual_seed(0)
    first = Trunk(2, Shape(2, 4000), activation("finer", 2.0)).body.linears[0]
    assert 1.95 < float(first.bias.detach().abs().max()) <= 2.0
    assert float(first.weight.detach().abs().max()) <= 0.5


@pytest.mark.parametrize("kind", sorted(RANGES))
def test_the_knob_raises_the_frequency(kind):
    """A network's output changes faster along a line where the setting is higher."""
    low, high = {"octaves": (2, 7), "gaussian": (2, 20), "siren": (10, 150), "finer": (0, 3)}[kind]
    x = torch.stack([torch.linspace(0, 1, 2000), torch.full((2000,), 0.3)], 1)
    speed = []
    for setting in (low, high):
        torch.manual_seed(0)
        e = encoding(kind, 2, 128, setting)
        h = Trunk(e.outputs, Shape(3, 64), activation(kind, setting))(e(x)).detach()
        speed.append(float((h.diff(dim=0).square().sum() / h.var(0).sum()).sqrt()))
    assert speed[1] > 1.5 * speed[0]


@pytest.mark.parametrize("kind", sorted(RANGES))
def test_what_the_ranges_allow_can_be_made(kind):
    for setting in (*RANGES[kind], USUAL[kind]):
        require_frequencies(kind, setting)
        e = encoding(kind, 3, 8, setting)
        assert bool(torch.isfinite(Trunk(e.outputs, Shape(2, 8), activation(kind, setting))(e(points(10)))).all())


@pytest.mark.parametrize(
    ("kind", "setting", "words"),
    [
        ("octaves", 2.5, "whole number"),
        ("octaves", 0.0, "octaves needs one between 1 and 24"),
        ("gaussian", -1.0, "gaussian needs one between"),
        ("siren", float("nan"), "siren needs one between"),
        ("octave", 4.0, "encoding 'octave': must be one of octaves"),
    ],
)
def test_refusals_say_what_is_allowed(kind, setting, words):
    with pytest.raises(ValueError, match=words):
        require_frequencies(kind, setting)
