"""How splat formats make numbers small: bytes, quaternions of three numbers, codebooks, order along a curve.

Numpy, because files are bytes; N Gaussians, K words of a codebook, D numbers a word.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from neuralfields.gaussians import DC

ROOT_HALF = 2**-0.5  # no number of a unit quaternion but its largest exceeds it
# With each of the three kept numbers off by h, the fourth is off by 3 h and the angle by 4 sqrt(3) h, to first order.
ANGLE_PER_STEP = 4 * 3**0.5
UNIFORM_SHARE = 1 / 8  # of a codebook's words, spread evenly over the whole range
BINS, LLOYD_STEPS = 256, 4
SAMPLE, NEIGHBOURS = 40_000, 4  # vectors that the groups are found from; groups looked into beside one's own
ROWS = 2**24  # distances held at once


def sigmoid(logits: Tensor) -> np.ndarray:
    """Opacities in [0, 1] of logits, float64."""
    return torch.sigmoid(logits.detach().double().cpu()).numpy()


def to_byte(values: np.ndarray) -> np.ndarray:
    """Nearest of 256 even steps of [0, 1]; what lies outside goes to its end."""
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def logits_of(opacity: np.ndarray, margin: float = 1e-6) -> Tensor:
    """Logits of opacities; 0 and 1, where they are infinite, are moved inwards by `margin`."""
    inside = np.clip(opacity.astype(np.float64), margin, 1 - margin)
    return torch.from_numpy(np.log(inside / (1 - inside)).astype(np.float32))


def colour_of(harmonics: Tensor) -> np.ndarray:
    """Colours [N, 3] of the constant harmonic [N, 3]."""
    return harmonics.detach().double().cpu().numpy() * DC + 0.5


def harmonic_of(colour: np.ndarray) -> np.ndarray:
    """The constant harmonic [N, 3] of colours."""
    return ((colour - 0.5) / DC).astype(np.float32)


def array(values: Tensor) -> np.ndarray:
    """A tensor as float32 numbers of numpy, without a copy where it can be."""
    return values.detach().to("cpu", torch.float32).contiguous().numpy()


def without_largest(rotations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index [N] of each quaternion's number of largest magnitude, and the other three [N, 3] in their order.

    Of the unit quaternion whose largest number is positive: the same rotation, as q and -q are.
    """
    unit = rotations.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    index = np.abs(unit).argmax(1)
    sign = np.where(np.take_along_axis(unit, index[:, None], 1) < 0, -1.0, 1.0)
    others = np.arange(3)[None] + (np.arange(3)[None] >= index[:, None])
    return index, np.take_along_axis(unit, others, 1) * sign


def with_largest(index: np.ndarray, three: np.ndarray) -> np.ndarray:
    """Unit quaternions [N, 4] from `without_largest`; three numbers that are too long together are cut to length."""
    three = three.astype(np.float64)
    squares = (three**2).sum(1)
    largest = np.sqrt(np.maximum(0, 1 - squares))
    found = np.empty((len(index), 4))
    others = np.arange(3)[None] + (np.arange(3)[None] >= index[:, None])
    np.put_along_axis(found, others, three, 1)
    np.put_along_axis(found, index[:, None].astype(np.int64), largest[:, None], 1)
    return (found / np.sqrt(np.maximum(squares, 1))[:, None]).astype(np.float32)


def morton_order(means: np.ndarray) -> np.ndarray:
    """Order [N] along a Z-curve of 2^21 steps an axis; those of equal place keep their order."""
    low = means.min(0).astype(np.float64)
    extent = max(float((means.max(0) - low).max()), 1e-30)
    steps = ((means.astype(np.float64) - low) / extent * (2**21 - 1)).astype(np.uint64)
    code = np.zeros(len(means), np.uint64)
    for axis in range(3):
        code |= _spread(steps[:, axis]) << np.uint64(axis)
    return np.argsort(code, kind="stable")


def _spread(bits: np.ndarray) -> np.ndarray:
    """21 bits, two zeros after each."""
    for shift, mask in (
        (32, 0x1F00000000FFFF), (16, 0x1F0000FF0000FF), (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3), (2, 0x1249249249249249),
    ):  # fmt: skip
        bits = (bits | bits << np.uint64(shift)) & np.uint64(mask)
    return bits


def codebook(values: np.ndarray, words: int = 256) -> np.ndarray:
    """Up to `words` numbers in order for values of any shape: the values themselves where they are that few.

    Otherwise most lie at a density proportional to the cube root of the values' (Panter and Dite 1951, least squared
    error), UNIFORM_SHARE of them evenly, the ends at the ends; then Lloyd's steps, each taken only while no value is
    farther from its word than `farthest(range, words)`, which holds at the beginning: half the widest gap.
    """
    flat = np.sort(values.reshape(-1).astype(np.float64))
    distinct = flat[np.concatenate([[True], np.diff(flat) > 0])]
    if len(distinct) <= words:
        return np.concatenate([distinct, np.full(words - len(distinct), distinct[-1])])
    counts, edges = np.histogram(flat, BINS, (flat[0], flat[-1]))
    density = np.cbrt(counts)
    share = (1 - UNIFORM_SHARE) * density / density.sum() + UNIFORM_SHARE / BINS
    found = np.interp(np.linspace(0, 1, words), np.concatenate([[0], np.cumsum(share)]) / share.sum(), edges)
    found[0], found[-1] = flat[0], flat[-1]
    sums = np.concatenate([[0], np.cumsum(flat)])
    for _ in range(LLOYD_STEPS):
        cuts = np.concatenate([[0], np.searchsorted(flat, (found[1:] + found[:-1]) / 2), [len(flat)]])
        members = np.diff(cuts)
        better = np.where(members > 0, np.diff(sums[cuts]) / np.maximum(members, 1), found)
        if np.abs(better[nearest_word(flat, better)] - flat).max() > farthest(flat[-1] - flat[0], words):
            break
        found = better
    return found


def farthest(extent: float, words: int = 256) -> float:
    """The most that a value is from its word in a `codebook` of values of some range."""
    return float(extent) / (words * UNIFORM_SHARE - 1) / 2


def nearest_word(values: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Index, shaped as the values and uint8, of the nearest of up to 256 words in order."""
    return np.searchsorted((words[1:] + words[:-1]) / 2, values).astype(np.uint8)


def palette(vectors: np.ndarray, words: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Up to `words` vectors [K, D] that stand for vectors [N, D], and for each which one [N].

    The vectors themselves where no more are distinct. Otherwise k-means in two stages: sqrt(K) groups, each divided
    into words in proportion to its squared error; then every vector takes the nearest word of its own and the
    NEIGHBOURS nearest groups, and each word the mean of its vectors. N sqrt(K) D work a step instead of N K D.
    """
    points = torch.from_numpy(np.ascontiguousarray(vectors, np.float32))
    with _one_thread():
        return _palette(points, words, torch.Generator().manual_seed(seed))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Thousands of small matrices cost threads that wait for each other ten times their work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _palette(points: Tensor, words: int, chance: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
    if (same := _distinct(points, chance)) is not None and len(same[0]) <= words:
        return same[0].numpy(), same[1].numpy()
    groups = max(1, round(words**0.5))
    some = points[torch.randperm(len(points), generator=chance)[: max(SAMPLE, 16 * groups)]]
    centres = _kmeans(some, groups, 8, chance)
    label, error = _nearest(points, centres)
    sizes = torch.bincount(label, minlength=groups)
    totals = torch.zeros(groups, dtype=torch.float64).index_add_(0, label, error.double())
    members = torch.split(torch.argsort(label, stable=True), sizes.tolist())
    parts = [
        _kmeans(points[index], share, 5, chance) if share < len(index) else points[index]
        for index, share in zip(members, _shares(totals, sizes, words), strict=True)
    ]
    return _settle(points, members, parts, centres)


def _distinct(points: Tensor, chance: torch.Generator) -> tuple[Tensor, Tensor] | None:
    """The distinct vectors and which of them each is; told apart by one random projection, then compared in full."""
    line = points.double() @ torch.randn(points.shape[1], dtype=torch.float64, generator=chance)
    _, which = torch.unique(line, return_inverse=True)
    first = torch.empty(int(which.max()) + 1, dtype=torch.long)
    first[which] = torch.arange(len(points))
    return (points[first], which) if torch.equal(points[first][which], points) else None


def _nearest(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Index [N] of the nearest centre, and the squared distance [N]; ROWS points at a time."""
    labels, errors = [], []
    half = (centres * centres).sum(1) / 2
    for some in points.split(max(1, ROWS // len(centres))):
        least, label = torch.addmm(half, some, centres.T, alpha=-1).min(1)
        labels.append(label)
        errors.append((2 * least + (some * some).sum(1)).clamp(min=0))
    return torch.cat(labels), torch.cat(errors)


def _kmeans(points: Tensor, words: int, steps: int, chance: torch.Generator) -> Tensor:
    """Centres [words, D] after some steps of Lloyd's from points drawn at random."""
    centres = points[torch.randperm(len(points), generator=chance)[:words]].clone()
    for _ in range(steps):
        _to_means(centres, points, _nearest(points, centres)[0])
    return centres


def _to_means(centres: Tensor, points: Tensor, label: Tensor) -> None:
    """Moves each centre that has points to their mean."""
    count = torch.bincount(label, minlength=len(centres)).float()
    total = torch.zeros_like(centres).index_add_(0, label, points)
    taken = count > 0
    centres[taken] = total[taken] / count[taken, None]


def _shares(totals: Tensor, sizes: Tensor, words: int) -> list[int]:
    """Words of each group, in proportion to its squared error, 1 to its size, `words` in all or fewer."""
    most = sizes.double()
    weight = totals + 1e-12 * most
    share = torch.minimum(most, torch.ones_like(most))
    for _ in range(16):  # what groups that are full do not take goes to the others
        left, open_ = words - share.sum(), weight * (share < most)
        if left < 1 or not bool((open_ > 0).any()):
            break
        share = torch.minimum(share + (open_ / open_.sum() * left).floor(), most)
    return [int(v) for v in share.tolist()]


def _settle(points: Tensor, members: tuple[Tensor, ...], parts: list[Tensor], centres: Tensor) -> tuple:
    """All words, and for each vector the nearest of those of its own group and of the groups beside it."""
    begins = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    numbers = [torch.arange(begin, begin + len(part)) for begin, part in zip(begins, parts, strict=False)]
    words = torch.cat(parts)
    label = torch.empty(len(points), dtype=torch.long)
    beside = torch.cdist(centres, centres).topk(min(1 + NEIGHBOURS, len(centres)), largest=False).indices
    for index, groups in zip(members, beside.tolist(), strict=True):
        if len(index):
            near = torch.cat([numbers[group] for group in groups])
            label[index] = near[_nearest(points[index], words[near])[0]]
    _to_means(words, points, label)
    return words.numpy(), label.numpy()
