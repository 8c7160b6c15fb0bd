"""The native coder against the decoder in plain Python, and against what entropy allows."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from neuralfields.compression import coder, reference
from neuralfields.compression.grid import cells_of, fit_grid, from_morton, morton
from neuralfields.errors import InputError
from neuralfields.ops.native import library


def scattered(count: int, bits: int, seed: int = 0) -> np.ndarray:
    """Places in Morton order, a third of them in one heap and some in one cell."""
    chance = np.random.default_rng(seed)
    places = chance.integers(0, 2**bits, (count, 3))
    places[: count // 3] = 2 ** (bits - 1) + chance.integers(0, min(3, 2 ** (bits - 1)), (count // 3, 3))
    return np.ascontiguousarray(places[np.argsort(morton(places), kind="stable")], np.int32)


def columns(count: int, width: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Values in fine steps of their rows' shifts: a walk, noise and rare large ones."""
    chance = np.random.default_rng(seed)
    shifts = chance.integers(0, 5, count).astype(np.uint8)
    values = np.cumsum(chance.normal(0, 3, (count, width)), 0) + chance.normal(0, 9, (count, width))
    values[chance.random((count, width)) < 0.02] *= 300
    own = shifts.astype(np.int64)[:, None]
    return (np.clip(values, -(2**19), 2**19).astype(np.int64) >> own << own).astype(np.int32), shifts


@pytest.mark.parametrize("bits", [1, 4, 13, 21])
def test_places_are_read_as_they_were_by_both_decoders(bits: int):
    codes = morton(scattered(300, bits))
    data = coder.encode_places(codes, 3 * bits)
    assert np.array_equal(coder.decode_places(data, 300, 3 * bits), codes)
    assert reference.decode_places(data, 300, 3 * bits) == codes.tolist()
    assert np.array_equal(from_morton(codes), scattered(300, bits))


@pytest.mark.parametrize("predict", [True, False])
def test_columns_are_read_as_they_were_by_both_decoders(predict: bool):
    places, (values, shifts) = scattered(260, 9), columns(260, 3)
    near = coder.nearest_before(places)
    rows = [[j for j in row if j >= 0] for row in near.tolist()]
    assert rows == reference.nearest_before(places.tolist())
    data = coder.encode_columns(values, shifts, near, predict)
    assert np.array_equal(coder.decode_columns(data, 3, shifts, near, predict), values)
    assert reference.decode_columns(data, 3, shifts.tolist(), rows, predict) == values.tolist()


def test_the_largest_values_are_kept():
    values = np.array([[coder.LARGEST], [-coder.LARGEST], [0], [coder.LARGEST], [-1]], np.int32)
    near, shifts = coder.nearest_before(np.zeros((5, 3), np.int32)), np.zeros(5, np.uint8)
    data = coder.encode_columns(values, shifts, near)
    assert np.array_equal(coder.decode_columns(data, 1, shifts, near), values)
    with pytest.raises(ValueError, match="beyond"):
        coder.encode_columns(values + 1, shifts, near)


def test_bytes_come_near_the_entropy():
    """Independent numbers of a known distribution: no coder takes less, ours takes a few percent more."""
    chance = np.random.default_rng(3)
    numbers = np.rint(chance.normal(0, 4, (20_000, 1))).astype(np.int32)
    near, shifts = coder.nearest_before(scattered(20_000, 12)), np.zeros(20_000, np.uint8)
    _, many = np.unique(numbers, return_counts=True)
    entropy = -sum(n * math.log2(n / 20_000) for n in many) / 8
    size = len(coder.encode_columns(numbers, shifts, near, False))
    assert entropy * 0.99 < size < entropy * 1.04
    assert len(coder.encode_columns(numbers * 0, shifts, near)) < 60  # 20 thousand zeros


def test_even_places_cost_what_their_number_allows():
    """N splats of no order in 2^b cells: log2(2^(b N) / N!) bits at the least."""
    places = np.random.default_rng(4).integers(0, 2**10, (5000, 3))
    codes = np.sort(morton(places))
    least = (5000 * 30 - math.lgamma(5001) / math.log(2)) / 8
    assert least * 0.999 < len(coder.encode_places(codes, 30)) < least * 1.02


def test_the_same_bytes_on_every_instruction_set_and_in_every_thread():
    places, (values, shifts) = scattered(2000, 12), columns(2000, 4)
    core, found = library(), set()
    chosen = core.instruction_set()
    try:
        for name in core.instruction_sets():
            core.choose(name)
            near = coder.nearest_before(places)
            with ThreadPoolExecutor(4) as pool:
                found |= set(pool.map(lambda _: coder.encode_columns(values, shifts, near), range(4)))  # noqa: B023
    finally:
        core.choose(chosen)
    assert len(found) == 1


def test_bytes_that_are_not_all_are_refused():
    codes = morton(scattered(500, 10))
    data = coder.encode_places(codes, 30)
    for wrong in (data[:-1], data[: len(data) // 2], data + b"\0", b""):
        with pytest.raises(InputError, match="damaged"):
            coder.decode_places(wrong, 500, 30)
    near, shifts = coder.nearest_before(scattered(500, 10)), np.zeros(500, np.uint8)
    with pytest.raises(InputError, match="damaged"):
        coder.decode_columns(data, 3, shifts, near)
    with pytest.raises(ValueError, match="come before"):
        coder.decode_columns(data, 3, shifts, near + 1)
    with pytest.raises(ValueError, match="shifts"):
        coder.decode_columns(data, 3, shifts + 11, near)


def test_cells_double_beyond_the_middle():
    chance = np.random.default_rng(5)
    means = chance.standard_cauchy((3000, 3)) * 2 + 7
    grid, places = fit_grid(means, 0.01)
    off = np.abs(grid.means(places) - means)
    distance = np.abs(means - np.array(grid.centre))
    allowed = np.maximum(distance / grid.even, grid.step) / 2
    assert (off <= allowed * 1.0001).all() and off[distance < 5].max() <= grid.step / 2 * 1.0001
    assert places.min() == 0 and places.max() < 2**grid.bits
    steps = cells_of(np.linspace(-100, 100, 4001)[:, None].repeat(3, 1), np.zeros(3), 1.0, 8)
    assert (np.diff(steps[:, 0]) >= 0).all()  # order is kept
    same, first = fit_grid(np.full((4, 3), 2.5), 0.1)
    assert np.allclose(same.means(first), 2.5, atol=1e-6)
