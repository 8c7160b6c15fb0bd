"""Draws a scene's box over a photo: the twelve edges of the inner cube, those behind the camera left out."""

import itertools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from neuralfields.cameras import Camera, project
from neuralfields.captures.bounds import points_in_view
from neuralfields.scene import Bounds, Frame

PIECES = 64  # of an edge: a lens bends it, and a part of it may be behind the camera
LINE, UNDER = (255, 196, 0), (20, 20, 20)


def two_views(frames: Sequence[Frame]) -> tuple[int, ...]:
    """Indices of two frames: the first, and the one whose viewing direction is nearest to a right angle with it."""
    if len(frames) < 2:
        return tuple(range(len(frames)))
    cosine = np.array([abs(frame.camera.forward @ frames[0].camera.forward) for frame in frames])
    return 0, int(np.argmin(cosine[1:])) + 1


def draw_box(photo: np.ndarray, camera: Camera, bounds: Bounds) -> np.ndarray:
    """A copy of a photo, uint8 [H, W, 3 or 4] at its camera's size, as [H, W, 3] with the edges of the inner cube."""
    picture = Image.fromarray(photo[..., :3]) if photo.shape[2] == 3 else _over_white(photo)
    pen, width = ImageDraw.Draw(picture), max(1, round(max(picture.size) / 300))
    corners = np.array(list(itertools.product((-0.5, 0.5), repeat=3))) * bounds.side + bounds.centre
    for first, last in itertools.combinations(range(8), 2):
        if (first ^ last).bit_count() != 1:
            continue
        along = np.linspace(0, 1, PIECES + 1)[:, None]
        points = corners[first] * (1 - along) + corners[last] * along
        pixels, _ = project(camera, points)
        shown = points_in_view(camera, points)
        for colour, wide in ((UNDER, 3 * width), (LINE, width)):
            for k in np.flatnonzero(shown[:-1] & shown[1:]):
                pen.line([tuple(pixels[k]), tuple(pixels[k + 1])], fill=colour, width=wide)
    return np.asarray(picture)


def _over_white(photo: np.ndarray) -> Image.Image:
    alpha = photo[..., 3:].astype(np.float32) / 255
    return Image.fromarray(np.round(photo[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8))
