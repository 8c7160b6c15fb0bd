"""Gaussians as a .splat: 32 bytes each and nothing else, for viewers that stream them. One colour, no harmonics.

    N rows, little-endian, no header
      float32 x, y, z             means
      float32 sx, sy, sz          standard deviations, linear
      uint8   r, g, b, a          colour of the constant harmonic and opacity, 255 = 1
      uint8   w, x, y, z          quaternion of length 1: (byte - 128) / 128

The world is that of an INRIA .ply. Viewers draw while they load, so the largest and most opaque come first by custom;
here the order is kept. Round trip: means the same bits, logarithms of scales 1e-6, colours and opacities 1/510 where
they are in [0, 1] (clipped where not), rotations ANGLE. Harmonics, extra properties and `antialiased` are lost.
"""

from pathlib import Path

import numpy as np
import torch

from neuralfields.codecs.quantisation import array, colour_of, harmonic_of, logits_of, sigmoid, to_byte
from neuralfields.codecs.untrusted import read_whole, require_count
from neuralfields.errors import InputError
from neuralfields.files import atomic_write_bytes
from neuralfields.gaussians import Gaussians, keep_sound

NAME = "splats without a header (.splat)"
ROW = np.dtype([("means", "<f4", 3), ("scales", "<f4", 3), ("colour", "u1", 4), ("rotation", "u1", 4)])
ANGLE = 0.016  # radians: four numbers off by 1/256 each; +1, which has no byte, is off in length alone


def recognises(path: Path) -> bool:
    """Whether a file is named .splat and is made of whole rows; there is nothing else to tell it by."""
    if path.suffix.lower() != ".splat" or not path.is_file():
        return False
    size = path.stat().st_size
    return size > 0 and size % ROW.itemsize == 0


def read(path: Path) -> Gaussians:
    """The Gaussians of a .splat, degree 0. Raises InputError for a size that is no multiple of 32."""
    data = read_whole(path)
    if len(data) % ROW.itemsize:
        raise InputError(f"{path}: {len(data)} bytes are no whole number of rows of {ROW.itemsize}; copy it again")
    rows = np.frombuffer(data, ROW)
    require_count(path, len(rows), 0, len(data))
    with np.errstate(invalid="ignore", divide="ignore"):
        scales = np.log(rows["scales"].astype(np.float64)).astype(np.float32)
    colour = rows["colour"].astype(np.float64) / 255
    gaussians = Gaussians(
        means=torch.from_numpy(rows["means"].astype(np.float32)),
        scales=torch.from_numpy(scales),
        rotations=torch.from_numpy((rows["rotation"].astype(np.float32) - 128) / 128),
        opacities=logits_of(colour[:, 3]),
        harmonics=torch.from_numpy(harmonic_of(colour[:, :3]))[:, None],
    )
    return keep_sound(gaussians, path)


def write(gaussians: Gaussians, path: Path) -> None:
    """Writes a .splat in the order given, whole or not at all."""
    rows = np.empty(len(gaussians), ROW)
    rows["means"] = array(gaussians.means)
    rows["scales"] = np.exp(array(gaussians.scales).astype(np.float64))
    rows["colour"][:, :3] = to_byte(colour_of(gaussians.harmonics[:, 0]))
    rows["colour"][:, 3] = to_byte(sigmoid(gaussians.opacities))
    unit = array(gaussians.rotations).astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    rows["rotation"] = np.clip(np.rint(unit * 128 + 128), 0, 255)
    atomic_write_bytes(path, rows.tobytes())
