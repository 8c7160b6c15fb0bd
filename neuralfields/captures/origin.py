"""Moves captures that lie far from their world's origin, as in UTM or geocentric metres, near it: in float64.

Rendering is in float32, whose steps are 0.25 to 0.5 at such magnitudes.
"""

from dataclasses import replace

import numpy as np

from neuralfields.captures.bounds import NGP_OFFSET, NGP_SCALE, Hints
from neuralfields.captures.capture import Capture

FAR = 1000.0  # distance from the origin, in reaches of the cameras, from which float32 costs visibly: 6e-5 of a reach


def near_origin(capture: Capture) -> Capture:
    """The capture with float32 points; moved by whole units near (0, 0, 0) if it is far, with `origin` set.

    Far is a thousand times as far as the cameras lie apart. What is exported goes back by `origin`.
    """
    centres = np.stack([frame.camera.centre for frame in capture.frames])
    middle = np.median(centres, axis=0)
    reach = float(np.abs(centres - middle).max())
    points = capture.points
    if reach == 0.0 or float(np.abs(middle).max()) < FAR * reach:
        return replace(capture, points=None if points is None else points.astype(np.float32))
    scale = 10.0 ** np.floor(np.log10(reach))  # whole units of about the reach, exact in float64 and easy to read
    origin = np.round(middle / scale) * scale
    return replace(
        capture,
        frames=tuple(replace(frame, camera=frame.camera.moved(-origin)) for frame in capture.frames),
        points=None if points is None else (points - origin).astype(np.float32),
        hints=_moved(capture.hints, origin),
        origin=tuple(float(v) for v in origin),
    )


def _moved(hints: Hints, origin: np.ndarray) -> Hints:
    """instant-ngp's offset for positions that are `origin` less: s x + o = s (x - origin) + (o + s origin)."""
    if hints.aabb_scale is None:
        return hints
    scale, offset = hints.scale or NGP_SCALE, hints.offset or (NGP_OFFSET,) * 3
    return replace(hints, offset=tuple(float(v) for v in np.asarray(offset) + scale * origin))
