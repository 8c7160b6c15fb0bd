"""Packs Gaussians for the page, which draws them in the visitor's own GPU (viewer/splats.js).

Layout, little endian; N Gaussians, K harmonics a channel; every part is as WebGL2 takes it for a texture of uint32
  header   64 bytes: "NFSP", then uint32 layout (1), N, K, version, flags (bit 0: antialiased), float32 near, 0;
           then 32 bytes of zeros
  ranges   float32 [16]: r_k, the largest |harmonic k| of any channel, k >= 1 (r_0 is not used)
  core     32 bytes a Gaussian: float32 mean [3]; uint16 rotation [3]; float16 scales [3] (natural logarithms), logit,
           harmonic 0 [3]
  rest     16 bytes times ceil(3 (K - 1) / 16) a Gaussian: int8 code of harmonic 1 red, green, blue, of harmonic 2 ...;
           then zeros. h = r_k c |c|, c = code / 127: steps are finest at 0, where most harmonics are
  motion   32 bytes a Gaussian, of a scene that moves alone (flags, bit 1): float16 centre, log duration, path [9],
           turn [4] (motion.py), of the unit quaternion in the sign below, and a zero
A rotation leaves out the largest number of its unit quaternion, made positive: the three others, in order, are each
round((v sqrt(2) + 1) / 2 32767) in the lower 15 bits; the top bits of the first two are the place of the one left out.

80 bytes a Gaussian of degree 3: 40 MB for 500 thousand.
"""

import struct

import numpy as np
import torch

from neuralfields.errors import UsageError
from neuralfields.gaussians import Gaussians
from neuralfields.motion import MOTION, TURN
from neuralfields.rendering.splat import Splats, near_of

MAGIC, LAYOUT = b"NFSP", 1
HEADER, RANGES, CORE, MOVED = 64, 64, 32, 32
MOST_BYTES = 200_000_000
LARGEST_HALF = 60000.0


def packed_size(count: int, harmonics: int, moves: bool = False) -> int:
    """Bytes of N packed Gaussians with K harmonics a channel."""
    return HEADER + RANGES + count * (CORE + 16 * texels(harmonics) + MOVED * moves)


def texels(harmonics: int) -> int:
    """Texels of 16 bytes that the harmonics after the first take."""
    return -(-3 * (harmonics - 1) // 16)


def pack(splats: Splats, version: int = 0) -> bytes:
    """Packs the Gaussians of a scene in the layout above. Raises UsageError for more than `MOST_BYTES`."""
    gaussians = splats.gaussians.to("cpu")
    count, many = len(gaussians), gaussians.harmonics.shape[1]
    moves = gaussians.motion is not None
    size = packed_size(count, many, moves)
    if size > MOST_BYTES:
        raise UsageError(
            f"{count:,} Gaussians are {size / 1e6:.0f} MB, at most {MOST_BYTES / 1e6:.0f} MB are drawn in the page; "
            "the server draws them"
        )
    near, flags = near_of(splats.bounds), int(gaussians.antialiased) | 2 * moves
    header = struct.pack("<4s5If", MAGIC, LAYOUT, count, many, version, flags, near).ljust(HEADER, b"\0")
    ranges, codes = _codes(gaussians)
    parts = [header, ranges.tobytes(), _core(gaussians).tobytes(), codes.tobytes()]
    return b"".join([*parts, _motion(gaussians).tobytes()] if moves else parts)


def _core(gaussians: Gaussians) -> np.ndarray:
    """The first 32 bytes of each Gaussian, uint8 [N, 32]."""
    halves = torch.cat([gaussians.scales, gaussians.opacities[:, None], gaussians.harmonics[:, 0]], 1)
    halves = halves.clamp(-LARGEST_HALF, LARGEST_HALF).numpy().astype("<f2")
    means = np.ascontiguousarray(gaussians.means.numpy(), dtype="<f4")
    parts = [means, _rotations(gaussians.rotations), halves]
    return np.concatenate([part.view(np.uint8).reshape(len(gaussians), -1) for part in parts], 1)


def _motion(gaussians: Gaussians) -> np.ndarray:
    """The motion of each Gaussian, float16 [N, 16], its turn as that of the unit quaternion that is packed."""
    q, motion = gaussians.rotations, gaussians.motion.clone()
    largest = q.gather(1, q.abs().argmax(1, keepdim=True))
    motion[:, TURN] /= torch.linalg.vector_norm(q, dim=1, keepdim=True) * torch.where(largest < 0, -1.0, 1.0)
    whole = torch.cat([motion, motion.new_zeros(len(motion), 16 - MOTION)], 1)
    return whole.clamp(-LARGEST_HALF, LARGEST_HALF).half().numpy()


def _rotations(quaternions: torch.Tensor) -> np.ndarray:
    """The three smaller numbers of unit quaternions with the place of the largest, uint16 [N, 3]."""
    unit = torch.nn.functional.normalize(quaternions.double(), dim=1).numpy()
    place = np.abs(unit).argmax(1)
    unit = unit * np.where(np.take_along_axis(unit, place[:, None], 1) < 0, -1.0, 1.0)
    others = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])[place]
    smaller = np.take_along_axis(unit, others, 1)
    codes = np.round((smaller * np.sqrt(2) + 1) / 2 * 32767).clip(0, 32767).astype("<u2")
    codes[:, 0] |= ((place & 1) << 15).astype("<u2")
    codes[:, 1] |= ((place >> 1) << 15).astype("<u2")
    return codes


def _codes(gaussians: Gaussians) -> tuple[np.ndarray, np.ndarray]:
    """Ranges float32 [16] and the codes of harmonics after the first, int8 [N, 16 texels]."""
    rest = gaussians.harmonics[:, 1:].numpy()
    count, many = rest.shape[:2]
    ranges, codes = np.zeros(16, "<f4"), np.zeros((count, 16 * texels(many + 1)), np.int8)
    if rest.size:
        ranges[1 : many + 1] = np.abs(rest).max((0, 2))
        share = rest / np.maximum(ranges[1 : many + 1, None], 1e-30)
        codes[:, : 3 * many] = np.round(127 * np.sign(share) * np.sqrt(np.abs(share))).reshape(count, -1)
    return ranges, codes
