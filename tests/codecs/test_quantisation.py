"""Codebooks, palettes, quaternions of three numbers, the Z-curve."""

import numpy as np
import pytest
import torch

from neuralfields.codecs import quantisation as q

CHANCE = np.random.default_rng(0)


def lloyd(values: np.ndarray, words: np.ndarray) -> np.ndarray:
    """k-means in one dimension to its end: the least error of a codebook of so many words, or close to it."""
    for _ in range(100):
        label = q.nearest_word(values, words)
        many, total = np.bincount(label, minlength=256), np.bincount(label, values, 256)
        words = np.sort(np.where(many > 0, total / np.maximum(many, 1), words))
    return words


@pytest.mark.parametrize("shape", ["normal", "laplace", "outlier", "few"])
def test_no_value_is_far_from_its_word(shape):
    values = {
        "normal": CHANCE.standard_normal(20_000), "laplace": CHANCE.laplace(size=20_000),
        "outlier": np.append(CHANCE.standard_normal(5000), 1000.0), "few": CHANCE.integers(0, 200, 4000) / 7,
    }[shape]  # fmt: skip
    words = q.codebook(values)
    assert len(words) == 256 and (np.diff(words) >= 0).all()
    off = np.abs(words[q.nearest_word(values, words)] - values)
    assert off.max() <= q.farthest(np.ptp(values))
    assert (np.abs(words[None] - values[:500, None]).min(1) == off[:500]).all()  # the nearest, by looking at all
    if shape == "few":
        assert off.max() == 0
    elif shape != "outlier":
        best = lloyd(values, words)
        assert np.mean(off**2) < 1.1 * np.mean((best[q.nearest_word(values, best)] - values) ** 2)


def test_a_palette_holds_what_it_can_and_comes_near_k_means_where_not():
    groups = CHANCE.standard_normal((40, 9)).astype(np.float32)
    vectors = groups[CHANCE.integers(0, 40, 3000)]
    words, label = q.palette(vectors, 64)
    assert len(words) == 40 and np.array_equal(words[label], vectors)
    vectors = (vectors + 0.1 * CHANCE.standard_normal(vectors.shape)).astype(np.float32)
    words, label = q.palette(vectors, 256)
    assert len(words) <= 256
    ours = ((words[label] - vectors) ** 2).mean()
    points = torch.from_numpy(vectors)
    flat = q._kmeans(points, 256, 20, torch.Generator().manual_seed(0))
    assert ours < 1.05 * float(((flat[q._nearest(points, flat)[0]] - points) ** 2).mean())
    again = q.palette(vectors, 256)
    assert np.array_equal(again[0], words) and np.array_equal(again[1], label)


def test_a_palette_leaves_the_threads_as_they_were():
    before = torch.get_num_threads()
    q.palette(CHANCE.standard_normal((500, 9)), 64)
    assert torch.get_num_threads() == before


def test_three_numbers_hold_a_rotation():
    turns = CHANCE.standard_normal((1000, 4)).astype(np.float32)
    index, three = q.without_largest(turns)
    assert set(index) == {0, 1, 2, 3} and np.abs(three).max() <= q.ROOT_HALF + 1e-9
    back = q.with_largest(index, three)
    unit = turns / np.linalg.norm(turns, axis=1, keepdims=True)
    np.testing.assert_allclose(back * np.sign((back * unit).sum(1, keepdims=True)), unit, atol=1e-6)
    long = q.with_largest(np.array([2]), np.array([[0.9, 0.9, -0.9]]))
    np.testing.assert_allclose(np.linalg.norm(long, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("steps", [255, 1023])
def test_the_angle_of_a_step_is_a_bound(steps):
    """At the worst all four numbers are alike: there the one that is left out is three times as wrong."""
    turns = np.concatenate([CHANCE.standard_normal((20_000, 4)), 1 + 0.01 * CHANCE.standard_normal((2000, 4))])
    index, three = q.without_largest(turns)
    step = 2 * q.ROOT_HALF / steps
    back = q.with_largest(index, np.rint(three / step) * step).astype(np.float64)
    unit = turns / np.linalg.norm(turns, axis=1, keepdims=True)
    back *= np.sign((back * unit).sum(1, keepdims=True))
    angle = 4 * np.arcsin(np.linalg.norm(back / np.linalg.norm(back, axis=1, keepdims=True) - unit, axis=1) / 2)
    assert 0.3 * q.ANGLE_PER_STEP * step / 2 < angle.max() < 1.01 * q.ANGLE_PER_STEP * step / 2


def test_the_curve_keeps_neighbours_together():
    points = CHANCE.random((4096, 3)).astype(np.float32)
    order = q.morton_order(points)
    assert sorted(order) == list(range(4096))
    steps = np.linalg.norm(np.diff(points[order], axis=0), axis=1)
    assert steps.mean() < 0.25 * np.linalg.norm(np.diff(points, axis=0), axis=1).mean()
    cube = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)], np.float32)
    assert q.morton_order(cube[::-1]).tolist() == list(range(7, -1, -1))
    assert q.morton_order(np.zeros((3, 3), np.float32)).tolist() == [0, 1, 2]
