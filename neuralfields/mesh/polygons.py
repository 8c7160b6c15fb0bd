"""Triangulates polygons: fans where they are convex, ear clipping where they are not."""

from collections.abc import Sequence

import numpy as np

MOST_CORNERS = 4096  # of a polygon whose ears are clipped, which takes time with their square; fans beyond


def triangulated(vertices: np.ndarray, polygons: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
    """Triangles [F, 3] int64 of polygons, each a list of indices into `vertices` [V, 3], in their order and direction.

    A polygon with fewer than three corners gives none; one that names no vertex gives a fan, for `checked` to refuse.
    """
    sizes = np.array([len(polygon) for polygon in polygons], dtype=np.int64)
    parts, owners = [np.empty((0, 3), np.int64)], [np.empty(0, np.int64)]
    for size in np.unique(sizes[sizes >= 3]):
        rows = np.flatnonzero(sizes == size)
        if isinstance(polygons, np.ndarray) and polygons.dtype != object:
            corners = polygons[rows].astype(np.int64)
        else:
            corners = np.array([polygons[row] for row in rows], dtype=np.int64)
        fans = np.stack([corners[:, [0, i, i + 1]] for i in range(1, size - 1)], axis=1)
        if 3 < size <= MOST_CORNERS:
            for row in np.flatnonzero(_concave(vertices, corners)):
                fans[row] = _ears(vertices[corners[row]], corners[row])
        parts.append(fans.reshape(-1, 3))
        owners.append(np.repeat(rows, size - 2))
    return np.concatenate(parts)[np.argsort(np.concatenate(owners), kind="stable")]


def _normals(places: np.ndarray) -> np.ndarray:
    """Newell's normals [P, 3] of polygons [P, n, 3]: twice their area long, right for any outline."""
    middle = places - places.mean(axis=1, keepdims=True)
    return np.cross(middle, np.roll(middle, -1, axis=1)).sum(axis=1)


def _concave(vertices: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Whether polygons [P, n] turn back at a corner, bool [P]; False for those with indices out of range."""
    known = ((corners >= 0) & (corners < len(vertices))).all(axis=1)
    found = np.zeros(len(corners), dtype=bool)
    places = vertices[corners[known]]
    with np.errstate(invalid="ignore", over="ignore"):
        ahead = np.roll(places, -1, axis=1) - places
        turns = np.cross(np.roll(ahead, 1, axis=1), ahead)
        normals = _normals(places)
        along = np.einsum("pnd,pd->pn", turns, normals)
        found[known] = (along < -1e-9 * (normals * normals).sum(axis=1, keepdims=True)).any(axis=1)
    return found


def _ears(places: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Ear clipping of one polygon [n, 3] in the plane of its normal; triangles [n - 2, 3] of its indices."""
    normal = _normals(places[None])[0]
    drop = int(np.argmax(np.abs(normal)))  # the plane is seen along its steepest axis
    kept = [(1, 2), (2, 0), (0, 1)][drop]
    flat = places[:, kept] * (1.0, np.sign(normal[drop]) or 1.0)  # counterclockwise
    left, triangles = list(range(len(corners))), []
    while len(left) > 3:
        for turn in range(len(left)):
            a, b, c = left[turn - 1], left[turn], left[(turn + 1) % len(left)]
            if _is_ear(flat, a, b, c, left):
                break
        else:  # an outline that crosses itself has no ear
            turn, a, b, c = 1, left[0], left[1], left[2]
        triangles.append((a, b, c))
        del left[turn]
    return corners[np.array([*triangles, tuple(left)])]


def _is_ear(flat: np.ndarray, a: int, b: int, c: int, left: list[int]) -> bool:
    """Whether the corner at b points outwards and its triangle holds no other corner."""
    p, q, r = flat[a], flat[b], flat[c]
    if _side(p, q, r[None])[0] <= 0:
        return False
    others = flat[[index for index in left if index not in (a, b, c)]]
    others = others[~(others[:, None] == flat[[a, b, c]]).all(axis=2).any(axis=1)]  # corners may lie on one another
    inside = (_side(p, q, others) >= 0) & (_side(q, r, others) >= 0) & (_side(r, p, others) >= 0)
    return not inside.any()


def _side(a: np.ndarray, b: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Twice the signed area of the triangles a, b, point: above 0 to the left of the edge."""
    return (b[0] - a[0]) * (points[:, 1] - a[1]) - (b[1] - a[1]) * (points[:, 0] - a[0])
