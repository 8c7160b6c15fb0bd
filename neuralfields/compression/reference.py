"""The decoder in plain Python: the specification for other languages, and the judge of the native one.

Nothing but whole numbers below 2^53; `>>` rounds down, as it does for negative numbers in C, JavaScript and Python. A
megabit takes some seconds: files are read by `coder.py`.
"""

from collections.abc import Sequence

SQUASH = (
    22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743, 32768,
    40793, 47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514,
)  # fmt: skip
STRETCH_LIMIT, SLOT_LIMIT = 2047, 255
NEAR, WINDOW, NODES, BUCKETS, LARGEST = 6, 64, 256, 20, 2**20 - 1
Rows = Sequence[Sequence[int]]


def squash(x: int) -> int:
    """65536 / (1 + exp(-x / 256)) by a table of 33 values and straight lines between them."""
    place = max(-STRETCH_LIMIT, min(STRETCH_LIMIT, x)) + 2048
    part = place & 127
    return (SQUASH[place >> 7] * (128 - part) + SQUASH[(place >> 7) + 1] * part + 64) >> 7


def _stretch_table() -> list[int]:
    found, x = [], -STRETCH_LIMIT
    for i in range(4096):
        while x < STRETCH_LIMIT and squash(x) < 16 * i + 8:
            x += 1
        found.append(x)
    return found


STRETCH = _stretch_table()


class BitReader:
    """Range decoder: a bit at a time, each with its probability."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 4
        self.low, self.high = 0, 0xFFFFFFFF
        self.value = int.from_bytes(data[:4].ljust(4, b"\0"), "big")

    def bit(self, p: int) -> int:
        """The next bit; `p` of 65536 is the probability that it is 1."""
        span = self.high - self.low
        middle = self.low + (span >> 16) * p + (((span & 0xFFFF) * p) >> 16)
        bit = int(self.value <= middle)
        if bit:
            self.high = middle
        else:
            self.low = middle + 1
        while (self.low ^ self.high) >> 24 == 0:
            byte = self.data[self.place] if self.place < len(self.data) else 0
            self.place += 1
            self.low = (self.low << 8) & 0xFFFFFFFF
            self.high = ((self.high << 8) & 0xFFFFFFFF) | 255
            self.value = ((self.value << 8) & 0xFFFFFFFF) | byte
        return bit


class Mixed:
    """Bits under several contexts: a slot for each, [probability of 22 bits, count], and weights for each set."""

    def __init__(self, reader: BitReader, inputs: int) -> None:
        self.reader, self.inputs = reader, inputs
        self.slots: dict[tuple[int, ...], list[int]] = {}
        self.weights: dict[int, list[int]] = {}

    def bit(self, contexts: Sequence[tuple[int, ...]], group: int) -> int:
        """The next bit; the slots of `contexts` and the weights of `group` learn it."""
        slots = [self.slots.setdefault(context, [1 << 21, 0]) for context in contexts]
        weights = self.weights.setdefault(group, [65536 * 5 // (4 * self.inputs)] * self.inputs)
        stretched = [STRETCH[slot[0] >> 10] for slot in slots]
        p = squash(sum(w * s for w, s in zip(weights, stretched, strict=True)) >> 16)
        bit = self.reader.bit(p)
        error = (bit << 16) - p
        for i, slot in enumerate(slots):
            weights[i] += (stretched[i] * error + (1 << 13)) >> 14
            apart = (2**22 - 1 if bit else 0) - slot[0]
            slot[0] += (apart * (131072 // (2 * slot[1] + 3))) >> 16
            slot[1] = min(slot[1] + 1, SLOT_LIMIT)
        return bit


def decode_places(data: bytes, count: int, bits: int) -> list[int]:
    """Morton codes [count] in order: cells halved bit by bit, how many of a cell's Gaussians lie in its lower half."""
    mixed = Mixed(BitReader(data), 2)
    codes: list[int] = []

    def decide(node: int, level: int) -> int:
        return mixed.bit([(level, node), (64 + level % 3, node)], level)

    def below(many: int, level: int) -> int:
        first = 16 * min(many, 16)
        if many == 1:
            return decide(first, level)
        if decide(first, level):
            return 0
        if decide(first + 1, level):
            return many
        found = 0
        if many < 16:
            found = 1
            while found < many - 1 and decide(first + 1 + found, level):
                found += 1
            return found
        width = many.bit_length()
        for b in range(width - 1, -1, -1):
            if found | 1 << b <= many:
                done = width - 1 - b
                inside = 8 + 8 * done + ((found >> (b + 1)) & 7) if done < 3 else 2 + min(b, 5)
                found |= decide(first + 64 * width + inside, level) << b
        return found

    def halve(many: int, prefix: int, level: int) -> None:
        if level < 0:
            codes.extend([prefix] * many)
            return
        low = below(many, level)
        if low:
            halve(low, prefix, level - 1)
        if many > low:
            halve(many - low, prefix | 1 << level, level - 1)

    halve(count, 0, bits - 1)
    return codes


def nearest_before(places: Rows) -> list[list[int]]:
    """For each row the up to 6 nearest of the 64 before it, nearest first, of two equal the later one first."""
    found = []
    for i, place in enumerate(places):
        before = range(i - 1, max(-1, i - 1 - WINDOW), -1)
        apart = {j: sum((a - b) ** 2 for a, b in zip(place, places[j], strict=True)) for j in before}
        found.append(sorted(before, key=lambda j: apart[j])[:NEAR])
    return found


def decode_columns(data: bytes, columns: int, shifts: Sequence[int], near: Rows, predict: bool) -> list[list[int]]:
    """Values [N, columns] in fine steps, row by row; `near` as `nearest_before` gives it."""
    mixed = Mixed(BitReader(data), 4)
    values: list[list[int]] = []
    for shift, row in zip(shifts, near, strict=True):
        before, found = [0, 0], []
        for c in range(columns):
            around = [values[j][c] for j in row] if predict else []
            mean, spread = _guess(around)
            q = (mean + ((1 << shift) >> 1)) >> shift
            fraction = (((mean - (q << shift)) * 8 + (4 << shift)) >> shift) & 7
            scatter = min(11, (spread >> shift).bit_length()) if around else 11
            contexts = (
                (0, scatter, fraction), (1, _signed_class(before[-1]), _signed_class(before[-2])),
                (2, shift, min(scatter, 7)), (3, max(0, min(63, q + 32))),
            )  # fmt: skip
            residual = _number(mixed, contexts, c)
            most = LARGEST >> shift
            found.append(max(-most, min(most, q + residual)) * (1 << shift))
            before.append(residual)
        values.append(found)
    return values


def _guess(around: Sequence[int]) -> tuple[int, int]:
    """Weighted mean, and four times the mean distance from it."""
    if not around:
        return 0, 0
    weights = [3, 2, 2, 1, 1, 1][: len(around)]
    total, weight = sum(w * v for w, v in zip(weights, around, strict=True)), sum(weights)
    mean = (abs(total) + weight // 2) // weight
    mean = -mean if total < 0 else mean
    return mean, sum(abs(v - mean) for v in around) * 4 // len(around)


def _signed_class(value: int) -> int:
    size = min(4, abs(value).bit_length())
    return 4 - size if value < 0 else 4 + size


def _number(mixed: Mixed, contexts: Sequence[tuple[int, ...]], column: int) -> int:
    """One whole number: is it 0, its sign, how many bits it has, the bits below the highest."""

    def decide(node: int) -> int:
        return mixed.bit([(*context, column, node) for context in contexts], column * NODES + node)

    if not decide(0):
        return 0
    negative = decide(1)
    side, bits, found = negative << 7, 0, 1
    while bits < BUCKETS and decide(2 + bits + side):
        bits += 1
    for b in range(bits - 1, -1, -1):
        done = bits - 1 - b
        node = 24 + bits if done == 0 else 46 + 2 * bits + (found & 1) if done == 1 else 90 + b
        found = found << 1 | decide(node + side)
    return -found if negative else found
