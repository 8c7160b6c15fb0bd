"""Small photos of a capture's cameras for the page, and the colours of its sparse points by them.

Vocabulary
  thumb  a photo of at most `SIDE` pixels a side, undistorted over its camera's extent
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import numpy as np

from neuralfields.cameras import project
from neuralfields.captures.images import downscale, read_image
from neuralfields.errors import NeuralfieldsError
from neuralfields.serving.album import Album
from neuralfields.serving.messages import packet
from neuralfields.serving.shading import Reference, jpeg
from neuralfields.serving.stage import Stage, straightened

SIDE = 128
MOST = 256  # photos that are sent, of the first cameras
UNSEEN = (158, 189, 219)  # colour of a point that no photo shows
LOOKS = 24  # photos by which a point is coloured, evenly taken

Send = Callable[[str | bytes], Awaitable[None]]


def thumb(album: Album, index: int) -> Reference:
    """A camera's photo at most `SIDE` pixels a side, RGB over grey, with its camera at that size. Raises InputError."""
    frame = album.frames[index]
    assert frame is not None
    size = (frame.camera.width, frame.camera.height)
    image = read_image(frame.path, size, at_least=min(SIDE, *size))
    scale = min(1.0, SIDE / max(image.shape[:2]))
    small = downscale(image, (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))))
    if small.shape[2] == 4:
        share = small[..., 3:].astype(np.float32) / 255
        small = np.round(small[..., :3] * share + 128 * (1 - share)).astype(np.uint8)
    return Reference(small, frame.camera.resized(small.shape[1], small.shape[0]))


def thumbs(stage: Stage) -> Iterator[tuple[int, Reference]]:
    """The thumbs of the first `MOST` cameras that have a photo which can be read, one after the other."""
    for index in range(min(len(stage.cameras), MOST)):
        if stage.album is not None and stage.album.has(index):
            try:
                yield index, thumb(stage.album, index)
            except NeuralfieldsError:  # said when the photo itself is asked for
                continue


def encoded(photo: Reference) -> bytes:
    """A thumb as a JPEG over its camera's extent."""
    return jpeg(straightened(photo)[..., :3], fine=False)


def point_colours(points: np.ndarray, photos: list[Reference]) -> np.ndarray:
    """Colours of points [P, 3] as uint8 [P, 3]: the median over photos in whose view they are.

    A photo in which another thing hides a point counts too; most do not.
    """
    chosen = [photos[i] for i in np.unique(np.linspace(0, len(photos) - 1, min(LOOKS, len(photos))).astype(int))]
    values = np.full((len(chosen), len(points), 3), np.nan, dtype=np.float32)
    for row, photo in zip(values, chosen, strict=True):
        uv, depth = project(photo.camera, points.astype(np.float64))
        height, width = photo.image.shape[:2]
        inside = (depth > 0) & (uv >= 0).all(1) & (uv < (width, height)).all(1)
        column, line = uv[inside].astype(int).T
        row[inside] = photo.image[line, column, :3]
    found = np.tile(np.array(UNSEEN, np.float32), (len(points), 1))
    seen = ~np.isnan(values[..., 0]).all(0) if len(chosen) else np.zeros(len(points), bool)
    if seen.any():
        found[seen] = np.nanmedian(values[:, seen], axis=0)
    return np.round(found).astype(np.uint8)


async def send_points(stage: Stage, send: Send, colours: bytes = b"") -> None:
    """Sends the sparse points, float32 [P, 3], with their colours, uint8 [P, 3], where they are known."""
    if stage.points is not None and len(stage.points):
        values = np.ascontiguousarray(stage.points[:, :3], dtype="<f4")
        header = {"type": "points", "count": len(values), "coloured": bool(colours)}
        await send(packet(header, values.tobytes(), colours))


async def send_thumbs(stage: Stage, send: Send) -> None:
    """Sends small photos one after the other, then the points in their colours."""
    found, photos = thumbs(stage), []
    while (one := await asyncio.to_thread(next, found, None)) is not None:
        photos.append(one[1])
        await send(packet({"type": "thumb", "camera": one[0]}, await asyncio.to_thread(encoded, one[1])))
    if photos and stage.points is not None and len(stage.points):
        colours = await asyncio.to_thread(point_colours, stage.points[:, :3], photos)
        await send_points(stage, send, colours.tobytes())
