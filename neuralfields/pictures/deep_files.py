"""Writes images of more than 8 bits a channel: PNG of 16 bits, OpenEXR, TIFF of 16 bits or of floats.

Pixels are [H, W, 1 or 3], or [H, W, 2 or 4] with straight alpha.
"""

import io
import struct
import zlib
from pathlib import Path

import numpy as np

from neuralfields.files import atomic_file, atomic_write_bytes
from neuralfields.media import import_plugin

COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # PNG's, by channels


def sixteen_bit(values: np.ndarray) -> np.ndarray:
    """Values in [0, 1] as uint16, clamped and rounded; NaN becomes 0."""
    return np.round(np.clip(np.nan_to_num(values), 0, 1).astype(np.float64) * 65535).astype(np.uint16)


def save_png16(path: Path, values: np.ndarray) -> None:
    """Writes sRGB values in [0, 1] as a PNG of 16 bits a channel; Pillow writes such of grey alone.

    Raises as files.atomic_write_bytes.
    """
    pixels = sixteen_bit(values)
    height, width, channels = pixels.shape
    data = pixels.astype(">u2").reshape(height, width, channels).view(np.uint8).reshape(height, -1)
    step = 2 * channels
    rows = np.empty((height, 1 + data.shape[1]), np.uint8)
    rows[:, 0] = 1  # each byte less that of the pixel before: smaller, and quick
    rows[:, 1 : 1 + step] = data[:, :step]
    rows[:, 1 + step :] = data[:, step:] - data[:, :-step]
    head = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", head), (b"sRGB", b"\0"), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
    parts = [struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks]
    atomic_write_bytes(path, b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def save_tiff(path: Path, pixels: np.ndarray) -> None:
    """Writes pixels in their own type, deflated: whole numbers are sRGB, floats light. Raises as `save_png16`."""
    import tifffile

    buffer, channels = io.BytesIO(), pixels.shape[2]
    alpha = {} if channels % 2 else {"extrasamples": ["unassalpha"]}
    shown = pixels[..., 0] if channels == 1 else pixels
    kind = "rgb" if channels > 2 else "minisblack"
    planar = {} if channels == 1 else {"planarconfig": "contig"}
    tifffile.imwrite(buffer, shown, photometric=kind, compression="zlib", metadata=None, **alpha, **planar)
    atomic_write_bytes(path, buffer.getvalue())


def save_exr(path: Path, light: np.ndarray) -> None:
    """Writes light as OpenEXR with 32-bit floats, colour multiplied by alpha as the format has it.

    Raises InputError where OpenEXR is missing, and as files.atomic_file.
    """
    exr = import_plugin("OpenEXR", path, "an OpenEXR image")
    channels = light.shape[2]
    alpha = None if channels % 2 else light[..., -1]
    colour = light if alpha is None else light[..., :-1] * alpha[..., None]
    names = "RGB" if channels > 2 else "Y"
    parts = {name: np.ascontiguousarray(colour[..., i], np.float32) for i, name in enumerate(names)}
    parts |= {} if alpha is None else {"A": np.ascontiguousarray(alpha, np.float32)}
    header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
    with atomic_file(path) as temporary, exr.File(header, parts) as file:
        file.write(str(temporary))
