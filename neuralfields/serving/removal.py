"""Files of the Gaussians that are left after some were deleted in the page.

Vocabulary
  bits     one for each Gaussian in the order of the subject, 1: deleted; the lowest bit of a byte first; the last byte
           is filled with zeros
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

from neuralfields.codecs.splats import write_gaussians
from neuralfields.errors import InputError
from neuralfields.gaussians import Gaussians

FORMATS = ("ply", "spz", "sog", "nfz")


def removed_of(bits: bytes, count: int) -> torch.Tensor:
    """Decodes the bits of `count` Gaussians, bool [N]. Raises InputError for another number of bits."""
    values = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
    if not 0 <= len(values) - count < 8 or values[count:].any():
        raise InputError(f"message of the page: {len(values)} bits for {count} Gaussians; reload the page")
    return torch.from_numpy(values[:count].astype(bool))


def written(gaussians: Gaussians, removed: torch.Tensor, suffix: str) -> bytes:
    """Writes the Gaussians that are not removed, as a file of that format (one of `FORMATS`).

    Raises InputError where none is left.
    """
    left = gaussians.to("cpu").take(~removed)
    if not len(left):
        raise InputError("every Gaussian is deleted: there is nothing to save")
    with tempfile.TemporaryDirectory(prefix="neuralfields-edit-") as folder:
        path = Path(folder) / f"edited.{suffix}"
        write_gaussians(left, path)
        return path.read_bytes()
