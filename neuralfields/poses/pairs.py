"""Image pairs to match where exhaustive matching is too slow: neighbours in a sequence, and retrieval (VLAD).

No torch here: COLMAP's own process uses it (poses/colmap_child.py).

Vocabulary
  word   a cluster centre of features (k-means of these photos' own, so that no vocabulary file is needed)
  code   global descriptor of a photo: for each word the sum of its features' residuals (VLAD)
"""

import numpy as np

WORDS, WORD_SAMPLES, ROUNDS = 64, 30_000, 8


def sequence(count: int, overlap: int) -> list[tuple[int, int]]:
    """Sequential pairs: neighbours up to `overlap` apart, and photos 8, 16, 32 ... apart beyond it."""
    steps = [*range(1, overlap + 1), *(2**k for k in range(3, 12) if 2**k > overlap)]
    return [(i, i + step) for step in steps for i in range(count - step)]


def similar(described: list[np.ndarray], neighbours: int, seed: int) -> set[tuple[int, int]]:
    """Image retrieval: pairs of each photo with the `neighbours` most similar ones, by VLAD.

    `described`: uint8 [K, 128] per photo. VLAD (Jegou et al. 2010): sums of residuals to the nearest of 64 words, with
    square roots of their sizes, normalised.
    """
    generator = np.random.default_rng(seed)
    unit = [
        d.astype(np.float32) / np.maximum(np.linalg.norm(d.astype(np.float32), axis=1), 1)[:, None] for d in described
    ]
    pool = np.concatenate(unit)
    if len(pool) < WORDS or len(described) < 3:
        return {(i, j) for j in range(len(described)) for i in range(j)}
    sample = pool[generator.permutation(len(pool))[:WORD_SAMPLES]]
    words = sample[:WORDS].copy()
    for _ in range(ROUNDS):
        nearest = (sample @ words.T - 0.5 * (words**2).sum(1)).argmax(1)
        sums = np.stack([np.bincount(nearest, sample[:, k], WORDS) for k in range(sample.shape[1])], axis=1)
        count = np.bincount(nearest, minlength=WORDS)[:, None]
        words = np.where(count > 0, sums / np.maximum(count, 1), words).astype(np.float32)
    codes = np.zeros((len(unit), WORDS, pool.shape[1]), np.float32)
    for code, one in zip(codes, unit, strict=True):
        nearest = (one @ words.T - 0.5 * (words**2).sum(1)).argmax(1) if len(one) else np.zeros(0, int)
        np.add.at(code, nearest, one - words[nearest])
    codes = np.sign(codes) * np.sqrt(np.abs(codes))
    flat = codes.reshape(len(codes), -1)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
    likeness = flat @ flat.T
    np.fill_diagonal(likeness, -2)
    best = np.argsort(-likeness, axis=1, kind="stable")[:, :neighbours]
    return {(min(i, int(j)), max(i, int(j))) for i in range(len(best)) for j in best[i]}
