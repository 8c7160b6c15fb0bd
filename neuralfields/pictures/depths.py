"""Depth as numbers, and one scale of colours for all frames of a film.

.npy   [H, W] float32, distance from the camera along each pixel's ray in the capture's units, NaN where nothing is
.exr   the same as its channel Z, infinite where nothing is
.png   the same in steps of a unit as uint16, 0 where nothing is, 65535 for all that is farther; the unit stands in it
"""

import io
from pathlib import Path

import numpy as np

from neuralfields.files import atomic_file, atomic_write_bytes
from neuralfields.media import import_plugin
from neuralfields.pictures.panels import depth_scale
from neuralfields.rays import Render

DEPTH_FILES = (".npy", ".exr")
FARTHEST = 65535  # steps in a 16-bit PNG
SOLID = 0.5  # opacity from which a pixel has a depth


def depth_numbers(seen: Render) -> np.ndarray:
    """Distances along the rays [H, W] float32 in world units; NaN where less than half is opaque."""
    depth, opacity = (part.detach().cpu().numpy() for part in (seen.depth, seen.opacity))
    return np.where((opacity > SOLID) & (depth > 0), depth, np.nan).astype(np.float32)


def save_depth(path: Path, depth: np.ndarray, unit: float | None = None) -> None:
    """Writes distances [H, W] as .npy, .exr, or .png in steps of `unit`.

    Raises as files.atomic_file; InputError where OpenEXR is missing.
    """
    if unit is not None:
        from PIL import Image, PngImagePlugin

        steps = np.round(np.nan_to_num(depth / unit, nan=0.0)).clip(0, FARTHEST).astype(np.uint16)
        about, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
        about.add_text("depth", f"distance along the ray in steps of {unit:g} units of the capture; 0 is unknown")
        Image.fromarray(steps).save(buffer, "PNG", pnginfo=about)
        atomic_write_bytes(path, buffer.getvalue())
        return
    if path.suffix.lower() == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, depth)
        atomic_write_bytes(path, buffer.getvalue())
        return
    exr = import_plugin("OpenEXR", path, "an OpenEXR image")
    header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
    channels = {"Z": np.where(np.isnan(depth), np.float32(np.inf), depth)}
    with atomic_file(path) as temporary, exr.File(header, channels) as file:
        file.write(str(temporary))


def common_scale(renders: list[Render]) -> tuple[float, float] | None:
    """One scale for `colour_depth` of all these views: from the nearest to the farthest of their own scales."""
    scales = [depth_scale(seen.depth, seen.opacity) for seen in renders]
    known = [scale for scale in scales if scale is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None
