"""Quantised Gaussians: the decoder's arithmetic, the freedom of equal descriptions, classes."""

import numpy as np
import pytest
import torch

from neuralfields.compression.nfz import decode, encode
from neuralfields.compression.quantise import Quantiser, Settings, axis_turns, classes_of
from neuralfields.compression.quantised import dequantised, logits, quaternions, rotation_shifts
from neuralfields.errors import InputError
from tests.support.splats import random_gaussians

FINE = Settings(places=1e-4, scales=1e-3, rotations=1e-4, opacities=1e-3, colours=2e-3, harmonics=2e-3)


def covariances(gaussians) -> torch.Tensor:
    """Covariance matrices [N, 3, 3], which no choice of axes changes."""
    w, x, y, z = torch.nn.functional.normalize(gaussians.rotations.double(), dim=1).unbind(1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    turned = torch.stack(rows, 1).reshape(-1, 3, 3) * gaussians.scales.double().exp()[:, None]
    return turned @ turned.mT


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_fine_steps_give_the_same_gaussians(degree: int):
    """Axes may come in another order; what is rendered, the covariance, may not change."""
    before = random_gaussians(200, degree)
    quantised = Quantiser(before, None).quantise(FINE)
    after = dequantised(decode(encode(quantised), "a"))
    index = torch.cdist(after.means.double(), before.means.double()).argmin(1)
    assert len(set(index.tolist())) == 200
    before = before.take(index)
    torch.testing.assert_close(after.means, before.means, atol=1e-3, rtol=0)
    torch.testing.assert_close(after.opacity(), before.opacity(), atol=1e-3, rtol=0)
    torch.testing.assert_close(after.harmonics, before.harmonics, atol=0.02, rtol=0)
    one, other = covariances(before), covariances(after)
    assert float(((one - other).flatten(1).norm(dim=1) / one.flatten(1).norm(dim=1)).max()) < 0.01
    assert not torch.equal(after.scales, before.scales)


def test_the_turns_are_all_of_a_cube_and_keep_a_gaussian():
    turns, orders = axis_turns()
    assert turns.shape == (24, 4) and len({tuple(order) for order in orders}) == 6
    assert np.allclose(np.abs(turns @ turns.T).round(6).diagonal(), 1)
    assert len({tuple(np.round(q * np.sign(q[np.abs(q).argmax()]), 6)) for q in turns}) == 24


def test_exact_functions_are_those_of_libm():
    x = np.concatenate([np.linspace(0, 40, 4001), [1e-9, 1e-4]])
    truth = -x - np.log(np.maximum(-np.expm1(-x), 2.0**-20))
    assert np.abs(logits(x) - truth).max() < 1e-9 * 1e3  # 1 - exp(-x) loses digits near 0
    v = np.random.default_rng(0).normal(0, 0.4, (100, 3))
    assert np.allclose(np.linalg.norm(quaternions(v), axis=1), 1, atol=1e-12)
    assert np.allclose(quaternions(v)[:, 1:] / (1 + quaternions(v)[:, :1]), v)


def test_classes_and_turns_follow_what_is_seen():
    found = classes_of(np.array([1.0] * 50 + [0.25, 1 / 16, 0.0]))
    assert found[:50].max() == 0 and found[50:].tolist() == [1, 2, 6]
    ball, needle = np.array([[10, 10, 10]]), np.array([[100, 10, 10]])
    classes = np.array([1], np.uint8)
    assert rotation_shifts(classes, ball, 0.05, 10) == 5 and rotation_shifts(classes, needle, 0.05, 10) == 2
    assert rotation_shifts(classes, ball, 0.05, 3) == 3


def test_important_gaussians_are_kept_better():
    before = random_gaussians(400, 0)
    weight = np.where(np.arange(400) < 100, 1.0, 1e-3)
    steps = Settings(places=1e-5, scales=0.01, rotations=0.001, opacities=0.01, colours=0.02, harmonics=0.02)
    after = dequantised(Quantiser(before, weight).quantise(steps))
    index = torch.cdist(before.means.double(), after.means.double()).argmin(1)
    off = (after.take(index).harmonics - before.harmonics).abs().flatten(1).amax(1)
    assert float(off[:100].max()) < 0.05 < float(off[100:].max())


def test_steps_that_do_not_fit_are_refused():
    tiny = Settings(places=1e-4, scales=1e-9, rotations=1e-4, opacities=1e-3, colours=2e-3, harmonics=2e-3)
    with pytest.raises(InputError, match="do not fit"):
        Quantiser(random_gaussians(10, 0), None).quantise(tiny)


def test_the_same_gaussians_give_the_same_bytes():
    before = random_gaussians(300, 2)
    weight = np.random.default_rng(0).random(300)
    assert encode(Quantiser(before, weight).quantise(FINE)) == encode(Quantiser(before, weight).quantise(FINE))
