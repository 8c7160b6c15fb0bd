"""Gaussians as .nfz, our own compressed format, coded or as networks: docs/nfz.md and the modules of `compression`.

`write` keeps what 8 bits a number can show: it is for `nf export`; `nf compress` chooses by a quality or a size.

Round trip, in an order of its own: means a cell of 2^-16 of the scene's half side, more beyond its middle; log
scales 2^-10, rotations 0.01 radians, opacities 1/1000, harmonics 1/128; extra properties are lost.
"""

from pathlib import Path
from typing import Any

from neuralfields.codecs.untrusted import head_of, read_whole
from neuralfields.compression import field_file, files, neural_file
from neuralfields.compression.container import MAGIC
from neuralfields.compression.grid import extent_of
from neuralfields.compression.nfz import encode, section_bytes, times_of
from neuralfields.compression.quantise import Quantiser, Settings
from neuralfields.fields import field_name
from neuralfields.files import atomic_write_bytes
from neuralfields.gaussians import Gaussians, keep_sound
from neuralfields.models.model import Model

HEAD = 24  # bytes, to the end of the first section's name
NAME = "compressed Gaussians (.nfz)"
FINE = Settings(
    places=2.0**-16, scales=2.0**-10, rotations=2.0**-12, opacities=2.0**-10, colours=2.0**-8, harmonics=2.0**-7
)


def recognises(path: Path) -> bool:
    """Whether a file begins as .nfz of Gaussians does."""
    head = head_of(path, HEAD)
    return head.startswith(MAGIC) and not field_file.is_field(head)


def is_field(path: Path) -> bool:
    """Whether a file begins as .nfz of a field that is not Gaussians does."""
    head = head_of(path, HEAD)
    return head.startswith(MAGIC) and field_file.is_field(head)


def is_networks(path: Path) -> bool:
    """Whether a file is a .nfz of networks (compression/neural.py), which a page does not decode."""
    return recognises(path) and neural_file.begins(head_of(path, HEAD))


def read_field(path: Path) -> Model:
    """The model of a .nfz of a field, on the CPU. Raises InputError with one line for any other file."""
    return field_file.decode(read_whole(path), path)


def describe_field(path: Path) -> dict[str, Any]:
    """What a .nfz of a field holds, as plain data."""
    data, model = read_whole(path), read_field(path)
    numbers = sum(parameter.numel() for parameter in model.field.parameters())
    return {
        "path": str(path),
        "bytes": len(data),
        "kind": "compressed field (.nfz)",
        "field": field_name(model.field),
        "parameters": numbers,
        "bits_each": 8 * len(data) / max(numbers, 1),
        "cameras": len(model.cameras),
        "sections": section_bytes(data, path),
    }


def read(path: Path) -> Gaussians:
    """The Gaussians of a .nfz. Raises InputError with one line for any other file."""
    return keep_sound(files.read(read_whole(path), path), path)


def times(path: Path) -> tuple[float, float]:
    """The first and the last time of the scene that moves in a file."""
    return times_of(read_whole(path), path) or (0.0, 1.0)


def write(gaussians: Gaussians, path: Path) -> None:
    """Writes Gaussians finely quantised, all alike."""
    _, reach = extent_of(gaussians.means.detach().cpu().double().numpy())
    quantised = Quantiser(gaussians, None).quantise(FINE.placed(FINE.places * reach))
    atomic_write_bytes(path, encode(quantised))


def describe(path: Path) -> dict[str, Any]:
    """Bytes of each section, and of a Gaussian, of a file, and how it was made small."""
    return files.describe(read_whole(path), path)
