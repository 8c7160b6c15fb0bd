"""Which photos are compared: neighbours far and near, similar ones found by their features alone."""

import numpy as np

from neuralfields.poses import pairs as photo_pairs


def test_pairs_in_sequence_reach_further_than_the_neighbours():
    pairs = photo_pairs.sequence(40, 3)
    assert {(0, 1), (0, 2), (0, 3), (0, 8), (0, 16), (0, 32), (36, 39)} <= set(pairs)
    assert (0, 4) not in pairs and all(0 <= i < j < 40 for i, j in pairs) and len(set(pairs)) == len(pairs)


def test_similar_photos_are_found_by_their_features_alone():
    generator = np.random.default_rng(0)
    rooms = [generator.integers(0, 256, (300, 128), dtype=np.uint8) for _ in range(3)]
    photos = [rooms[i % 3][generator.permutation(300)[:200]] for i in range(12)]
    pairs = photo_pairs.similar(photos, neighbours=2, seed=0)
    assert all(i % 3 == j % 3 for i, j in pairs) and len(pairs) >= 12
    assert photo_pairs.similar([rooms[0][:5], rooms[1][:5]], 2, 0) == {(0, 1)}
    assert photo_pairs.similar([*photos, np.zeros((0, 128), np.uint8)], 2, 0)
