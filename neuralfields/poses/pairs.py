"""Which photos are worth comparing, where comparing all is too much: neighbours in a sequence, and similar ones.

No torch here: COLMAP's own process uses it (poses/colmap_child.py).

Vocabulary
  word   a typical feature; words are found among the photos' own features, so that no vocabulary is needed
  code   what tells photos apart: for each word the sum of what its features have beyond it (VLAD)
"""

import numpy as np

WORDS, WORD_SAMPLES, ROUNDS = 64, 30_000, 8


def sequence(count: int, overlap: int) -> list[tuple[int, int]]:
    """Pairs of neighbours up to `overlap` apart, and of photos 1, 2, 4, 8 ... apart beyond it."""
    steps = [*range(1, overlap + 1), *(2**k for k in range(3, 12) if 2**k > overlap)]
    return [(i, i + step) for step in steps for i in range(count - step)]


def similar(described: list[np.ndarray], neighbours: int, seed: int) -> set[tuple[int, int]]:
    """Pairs of each photo with the `neighbours` most similar ones, by VLAD over words found in these photos.

    `described`: uint8 [K, 128] per photo. VLAD (Jegou et al. 2010): sums of residuals to the nearest of 64 words, with
    square roots of their sizes, normalised. No vocabulary is needed from elsewhere.
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
