"""Files of Gaussian splats: which formats there are, which one a file is by its content, reading and writing.

| suffix            | module         | read | write | bytes a Gaussian of degree 0, 3 |
|-------------------|----------------|------|-------|---------------------------------|
| .ply              | ply            | yes  | yes   | 68, 248                         |
| .compressed.ply   | compressed_ply | yes  | yes   | 16, 61                          |
| .splat            | splat          | yes  | yes   | 32, no harmonics                |
| .spz              | spz            | yes  | yes   | about 16, 21 to 33              |
| .sog, meta.json   | sog            | yes  | yes   | about 13, 17 to 48              |
| lod-meta.json     | sog            | yes  |       |                                 |
| .ksplat           | ksplat         | yes  |       |                                 |
| .glb, .gltf       | gltf_splats    | yes  | yes   | 60, 240                         |
| .nfz              | nfz            | yes  | yes   | ours; 2 to 8 by `nf compress`   |

A module of a format has NAME, `recognises(path)`, `read(path)` and, where it writes, `write(gaussians, path)`; its
docstring states the layout, the axes and how far a round trip may be off. Only the module that is needed is imported.
"""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from neuralfields.codecs.untrusted import head_of
from neuralfields.errors import InputError, UsageError
from neuralfields.fields.gaussians import GaussianField
from neuralfields.files import plain
from neuralfields.gaussians import Gaussians
from neuralfields.models.model import Model
from neuralfields.scene import Bounds

SPLAT_FORMATS = {
    ".compressed.ply": "compressed_ply", ".ply": "ply", ".splat": "splat", ".spz": "spz", ".sog": "sog",
    "lod-meta.json": "sog", "meta.json": "sog", ".ksplat": "ksplat", ".glb": "gltf_splats", ".gltf": "gltf_splats",
    ".nfz": "nfz",
}  # fmt: skip
# Those that are told by their content first; .splat has nothing to tell it by but its name.
LOOKED_AT = ("nfz", "ply", "compressed_ply", "spz", "sog", "gltf_splats", "ksplat", "splat")


def is_splat_file(path: Path | str) -> bool:
    """Whether a path, a file or a folder, holds Gaussians by its content; a mesh .ply or an empty file does not."""
    return format_of(path) is not None


def format_of(path: Path | str) -> str | None:
    """The module of a file's format, by its content; None where it holds no Gaussians or is not there."""
    path = Path(path)
    try:
        there = path.is_file() or path.is_dir()
    except (OSError, ValueError):
        return None
    return next((name for name in LOOKED_AT if there and _module(name).recognises(path)), None)


def read_gaussians(path: Path | str, level: int | None = None) -> Gaussians:
    """The Gaussians of a file of any format, finite and with rotations; `notes` say what was left out or changed.

    `level` of a SOG with levels of detail, 0 the finest. Raises InputError with one line for anything else.
    """
    path = Path(path)
    name = format_of(path)
    if name is None:
        raise InputError(f"{path}: {_why_not(path)}")
    if level is not None and name != "sog":
        raise UsageError(f"{path}: has no levels of detail; leave the level out")
    return _module(name).read(path, level) if level is not None else _module(name).read(path)


def write_gaussians(gaussians: Gaussians, path: Path | str) -> None:
    """Writes Gaussians in the format that the name ends with, whole or not at all.

    Raises UsageError for another name or a format that is only read, InputError for Gaussians that are not sound.
    """
    path = Path(path)
    suffix = next((suffix for suffix in SPLAT_FORMATS if path.name.lower().endswith(suffix)), None)
    module = _module(SPLAT_FORMATS[suffix]) if suffix is not None and suffix != "lod-meta.json" else None
    if module is None or not hasattr(module, "write"):
        raise UsageError(f"{path}: splats are written as {', '.join(writable())}; choose one of them")
    if not len(gaussians):
        raise InputError(f"{path}: there are no Gaussians to write")
    if gaussians.motion is not None:
        raise UsageError(f"{path}: a splat file stands still, these Gaussians move; name one time with --time")
    module.write(gaussians.require_sound(path), path)


def splat_model(path: Path | str) -> Model:
    """A splat file as a model that renders: without cameras, over black, its bounds those of nine tenths of it."""
    gaussians = read_gaussians(path)
    centre = gaussians.means.median(0).values
    reach = float(torch.quantile((gaussians.means - centre).abs().amax(1)[:1_000_000], 0.9)) if len(gaussians) else 1.0
    bounds = Bounds(tuple(centre.tolist()), max(2 * reach, 1e-6))
    if gaussians.motion is not None:
        bounds = replace(bounds, times=_module("nfz").times(path))
    made = {"scene": None, "notes": list(gaussians.notes)}
    return Model(GaussianField.of(gaussians), bounds, background=(0.0, 0.0, 0.0), made=made)


def describe_splats(path: Path | str) -> dict[str, Any]:
    """What a file of Gaussians holds, as plain data: path, bytes, kind, number, degree, bounds, notes."""
    path = Path(path)
    gaussians = read_gaussians(path)
    means = gaussians.means
    return plain(
        {
            "path": str(path),
            "bytes": path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*")),
            "kind": _module(str(format_of(path))).NAME,
            "gaussians": len(gaussians),
            "degree": gaussians.degree,
            "antialiased": gaussians.antialiased,
            "extra": sorted(gaussians.extra),
            "low": means.amin(0),
            "high": means.amax(0),
            "notes": gaussians.notes,
            **getattr(_module(str(format_of(path))), "describe", lambda _: {})(path),
        }
    )


def writable() -> list[str]:
    """Names and suffixes that can be written."""
    return [s for s, name in SPLAT_FORMATS.items() if s != "lod-meta.json" and hasattr(_module(name), "write")]


def _module(name: str) -> ModuleType:
    return import_module(f"neuralfields.codecs.{name}")


def _why_not(path: Path) -> str:
    """What is known of a file that holds no Gaussians."""
    try:
        if not path.exists():
            return "no such file; check the path"
        if path.is_dir():
            return "is a folder without a SOG's meta.json or lod-meta.json; give a file of splats"
        if path.stat().st_size == 0:
            return "is empty; export it again"
    except (OSError, ValueError) as error:
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"
    head = head_of(path, 2**20)
    if head.startswith(b"ply"):
        from neuralfields.codecs import ply

        try:
            header = ply.read_header(path, head)
        except InputError as error:
            return str(error).removeprefix(f"{path}: ")
        faces = any(element.name == "face" and element.count for element in header.elements)
        return f"is a PLY of {'a mesh' if faces else 'points'}, its vertices lack the properties of Gaussians"
    if head.startswith(b"glTF"):
        return "is glTF without KHR_gaussian_splatting, a mesh perhaps; give a file of splats"
    return f"is no file of splats that is known here ({', '.join(SPLAT_FORMATS)})"
