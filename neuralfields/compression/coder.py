"""The native entropy coder of places and of columns of whole numbers; `reference.py` is its judge and specification.

Vocabulary
  place   a Gaussian's cell, three whole numbers; code: their bits interleaved (Morton)
  near    [N, 6] int32, the nearest of the 64 rows before a row, nearest first; -1 where there are fewer
  values  [N, C] int32 in fine steps, each a multiple of 2^shift of its row
"""

import numpy as np

from neuralfields.errors import InputError
from neuralfields.ops.native import library

NEAR, WINDOW = 6, 64
LARGEST, MOST_SHIFT = 2**20 - 1, 10  # of |value|, of a shift


def nearest_before(places: np.ndarray) -> np.ndarray:
    """`near` [N, 6] of places [N, 3] in Morton order, by whole squared distance; of two equal the later one first."""
    near = np.empty((len(places), NEAR), np.int32)
    library().splat_near(np.ascontiguousarray(places, np.int32), WINDOW, near)
    return near


def encode_columns(values: np.ndarray, shifts: np.ndarray, near: np.ndarray, predict: bool = True) -> bytes:
    """Codes columns; `predict` each value from those near it, else from 0."""
    if values.size and int(np.abs(values.astype(np.int64)).max()) > LARGEST:
        raise ValueError(f"values are beyond {LARGEST} fine steps")
    return library().columns_encode(
        np.ascontiguousarray(values, np.int32), np.ascontiguousarray(shifts, np.uint8), near, predict
    )


def decode_columns(data: bytes, columns: int, shifts: np.ndarray, near: np.ndarray, predict: bool = True) -> np.ndarray:
    """The values [N, C] of `encode_columns`. Raises InputError where the bytes are not exactly theirs."""
    values = np.empty((len(shifts), columns), np.int32)
    whole = library().columns_decode(
        np.frombuffer(data, np.uint8), values, np.ascontiguousarray(shifts, np.uint8), near, predict
    )
    if not whole:
        raise InputError("the coded columns are damaged")
    return values


def encode_places(codes: np.ndarray, bits: int) -> bytes:
    """Codes sorted Morton codes [N] of `bits` bits, 1 to 63."""
    return library().places_encode(np.ascontiguousarray(codes, np.int64), bits)


def decode_places(data: bytes, count: int, bits: int) -> np.ndarray:
    """The codes int64 [N] of `encode_places`. Raises InputError where the bytes are not exactly theirs."""
    codes = np.empty(count, np.int64)
    if not library().places_decode(np.frombuffer(data, np.uint8), codes, bits):
        raise InputError("the coded places are damaged")
    return codes


def align(rotations: np.ndarray, turns: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of quaternions [N, 4] times each of `turns` [M, 4], the one nearest its near: xyz / (1 + w) [N, 3], which [N]."""
    out, chosen = np.empty((len(rotations), 3)), np.empty(len(rotations), np.int32)
    given = np.ascontiguousarray(rotations, np.float64), np.ascontiguousarray(turns, np.float64)
    library().splat_align(*given, near, out, chosen)
    return out, chosen
