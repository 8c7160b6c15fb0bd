"""Files for the tests of decoders: 16-bit PNG written by hand, videos that are to be shown turned."""

import struct
import zlib
from pathlib import Path

import numpy as np

IDENTITY = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
# ISO 14496-12: (x, y) is shown at (a x + c y, b x + d y); (1, 0), to the right, goes to (0, 1), down: clockwise.
CLOCKWISE = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deep_png(values: np.ndarray, size: tuple[int, int] | None = None) -> bytes:
    """A PNG of uint16 [H, W] or [H, W, 2 to 4]; `size` is what it declares instead of its own (width, height)."""
    height, width = values.shape[:2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[1 if values.ndim == 2 else values.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", *(size or (width, height)), 16, colour, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def shown_clockwise(path: Path) -> None:
    """Flags an mp4 file to be shown turned by 90 degrees clockwise."""
    data = path.read_bytes()
    at = data.index(IDENTITY, data.index(b"tkhd"))
    path.write_bytes(data[:at] + CLOCKWISE + data[at + len(IDENTITY) :])
