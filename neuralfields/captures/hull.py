"""The visual hull: where an object can be by its silhouettes in photos, and the bounds that follow from it.

still    within the silhouettes of nearly all photos
moving   within those of most photos taken one after the other, at some time: photos of different times have no
         common hull, those of about one time have
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Integer

from neuralfields.cameras import Camera
from neuralfields.captures.bounds import around_cube, common_cube, in_view
from neuralfields.scene import Bounds

COMMON_VIEW = 0.5  # share of the photos that have a part of an object in view
MOST_OF_BORDER = 0.25  # share of a photo's border that an object may cover and be one
CELLS, ERRORS = (40, 40), 0.05  # along a side, at first and then; share of the photos that may err
# Of a scene that moves: photos one after the other, or as many as were taken at once; how many of them must show a
# cell; and the share of those that have it in view which may not, since what moves has left it in some. What is too
# fast for that leaves silhouettes that no cell explains: of most photos nearly all must be explained.
WINDOW, SHOWN, GONE = 6, 4, 0.34
EXPLAINED, PHOTOS_EXPLAINED = 0.97, 0.95
CELLS_IN_TIME = (24, 32)  # so many more photos are looked at


@dataclass(frozen=True)
class Silhouette:
    """Where a photo may show the object: `map` [h, w] bool at its camera's size; False is background for certain."""

    camera: Camera
    map: Bool[np.ndarray, "h w"]


def votes(
    silhouettes: Sequence[Silhouette], centres: Float[np.ndarray, "N 3"], radius: float, whole: bool = False
) -> tuple[Integer[np.ndarray, " N"], Integer[np.ndarray, " N"]]:
    """In how many photos the centres [N, 3] of balls lie, [N], and in how many the balls are on background alone, [N].

    Of a ball at a photo's border what is seen decides; with `whole` such a photo does not speak of background.
    """
    inside, empty = np.zeros((2, len(centres)), dtype=np.int64)
    for seen, vacant in _each_vote(silhouettes, centres, radius, whole):
        inside += seen
        empty += vacant
    return inside, empty


def _each_vote(
    silhouettes: Sequence[Silhouette], centres: np.ndarray, radius: float, whole: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each photo which balls lie in it and which are on background alone, bool [N] both."""
    for silhouette in silhouettes:
        camera, (height, width) = silhouette.camera, silhouette.map.shape
        total = np.zeros((height + 1, width + 1), dtype=np.int64)
        total[1:, 1:] = silhouette.map.cumsum(0).cumsum(1)
        seen, pixels, depth = in_view(camera, centres)
        which = np.flatnonzero(seen)
        pixels, depth = pixels[which], depth[which]
        low, high = _square(pixels, _pixels_of(radius, camera, depth))
        told = depth > radius
        if whole:
            told &= (low >= 0).all(1) & (high <= (width, height)).all(1)
        (left, top), (right, bottom) = (np.clip(edge, 0, (width, height)).astype(np.int64).T for edge in (low, high))
        marked = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
        vacant = np.zeros(len(centres), dtype=bool)
        vacant[which] = told & (marked == 0)
        yield seen, vacant


def votes_in_time(
    silhouettes: Sequence[Silhouette],
    centres: Float[np.ndarray, "N 3"],
    radius: float,
) -> tuple[Integer[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """In how many photos balls lie, and whether those taken one after the other show something there at some time.

    Arguments as of `votes`.
    """
    times = np.array([silhouette.camera.time or 0.0 for silhouette in silhouettes])
    ordered = [silhouettes[index] for index in times.argsort(kind="stable")]
    window = min(len(ordered), max(WINDOW, int(np.unique(times, return_counts=True)[1].max(initial=0))))
    total, inside, empty = np.zeros((3, len(centres)), dtype=np.int64)
    shown, lately = np.zeros(len(centres), dtype=bool), deque()
    for seen, vacant in _each_vote(ordered, centres, radius, False):
        lately.append((seen, vacant))
        total, inside, empty = total + seen, inside + seen, empty + vacant
        if len(lately) > window:
            seen, vacant = lately.popleft()
            inside, empty = inside - seen, empty - vacant
        if len(lately) == window:
            shown |= (inside - empty >= SHOWN) & (empty <= GONE * inside)
    return total, shown


def hull_cube(
    silhouettes: Sequence[Silhouette], centre: np.ndarray, half: float, moves: bool = False
) -> tuple[np.ndarray, float] | None:
    """The cube of the visual hull within a cube; None if nothing is in it.

    Half of the photos must have it in view. What stands still is on background in a twentieth of them at most, what
    `moves` in a third of some that were taken one after the other. Twice, the second time in finer cells.
    """
    for count in CELLS_IN_TIME if moves else CELLS:
        step = 2 * half / count
        axis = (np.arange(count) + 0.5) * step - half
        cells = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3) + centre
        if moves:
            inside, shown = votes_in_time(silhouettes, cells, 0.5 * step)
        else:
            inside, empty = votes(silhouettes, cells, 0.5 * step)
            shown = empty <= ERRORS * inside
        kept = cells[(inside >= COMMON_VIEW * len(silhouettes)) & shown]
        if not len(kept) or (moves and not _explain(kept, 0.5 * step, silhouettes)):
            return None
        low, high = kept.min(axis=0) - step, kept.max(axis=0) + step
        centre, half = (low + high) / 2, float((high - low).max()) / 2
    return centre, half


def _explain(cells: np.ndarray, radius: float, silhouettes: Sequence[Silhouette]) -> bool:
    """Whether balls about cells [N, 3] cover what most silhouettes show."""
    covered = []
    for silhouette in silhouettes:
        camera, (height, width) = silhouette.camera, silhouette.map.shape
        seen, pixels, depth = in_view(camera, cells)
        pixels, away = pixels[seen], _pixels_of(radius, camera, depth[seen])
        low, high = (np.clip(edge, 0, (width, height)).astype(np.int64) for edge in _square(pixels, away))
        count = np.zeros((height + 1, width + 1), dtype=np.int64)
        for x, y, sign in ((low, low, 1), (high, low, -1), (low, high, -1), (high, high, 1)):
            np.add.at(count, (y[:, 1], x[:, 0]), sign)
        cover = count.cumsum(0).cumsum(1)[:-1, :-1] > 0
        covered.append((cover & silhouette.map).sum() >= EXPLAINED * silhouette.map.sum())
    return float(np.mean(covered)) >= PHOTOS_EXPLAINED


def _pixels_of(radius: float, camera: Camera, depth: np.ndarray) -> np.ndarray:
    """How many pixels about its centre a ball at depths [N] covers at most."""
    return np.ceil(radius * max(camera.fx, camera.fy) / np.maximum(depth - radius, 1e-3 * radius)) + 1


def _square(pixels: np.ndarray, away: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners [N, 2] of the whole pixels about centres [N, 2], so far away [N]."""
    return np.floor(pixels - away[:, None]), np.ceil(pixels + away[:, None])


def goes_on(silhouettes: Sequence[Silhouette]) -> bool:
    """Whether what photos show goes on beyond their borders: a floor under an object, say, before a sky cut away."""
    shares = []
    for silhouette in silhouettes:
        shape = silhouette.map
        shares.append(np.concatenate([shape[0], shape[-1], shape[1:-1, 0], shape[1:-1, -1]]).mean())
    return float(np.median(shares)) > MOST_OF_BORDER


def object_bounds(
    silhouettes: Sequence[Silhouette], cameras: Sequence[Camera], times: tuple[float, float] | None = None
) -> Bounds | None:
    """The bounds of an object by its silhouettes, if they agree; nothing is outside of it. `times`: it moves."""
    found = hull_cube(silhouettes, *common_cube(cameras), moves=times is not None)
    if found is None:
        return None
    return replace(around_cube(cameras, *found), cascades=1, contraction="box", times=times)
