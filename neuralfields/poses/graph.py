"""The pose graph: photos, verified matches and the reconstruction, as arrays; agreement of each pair with it.

Vocabulary (I photos, K keypoints, P points, M pairs, V matches)
  pair       two photos with verified matches: inliers of one epipolar geometry
  agreement  fraction of a pair's matches that are inliers of the model's poses too: within 8 px of the epipolar line,
             on an image of 1000 px across its diagonal
  apart      triangulation angle of the two photos in degrees, by the model
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

CLOSE = 8.0  # px on a diagonal of 1000
ENOUGH = 30  # matches of a pair below which it is left out


@dataclass(frozen=True)
class PoseGraph:
    """Arrays as colmap_child.write_graph writes them: names [I], registered [I], camera_from_world [I, 3, 4], focal and
    diagonal [I] px, starts [I + 1], normalised [K, 2], point [K], points [P, 3], pairs [M, 2], raw [M],
    match_starts [M + 1], matches [V, 2].
    """

    names: np.ndarray
    registered: np.ndarray
    camera_from_world: np.ndarray
    focal: np.ndarray
    diagonal: np.ndarray
    starts: np.ndarray
    normalised: np.ndarray
    point: np.ndarray
    points: np.ndarray
    pairs: np.ndarray
    raw: np.ndarray
    match_starts: np.ndarray
    matches: np.ndarray

    @property
    def inliers(self) -> np.ndarray:
        """Number of verified matches (inliers) of each pair, [M]."""
        return np.diff(self.match_starts)

    @property
    def centres(self) -> np.ndarray:
        """Camera centres [I, 3], NaN for photos without a pose."""
        rotation, shift = self.camera_from_world[:, :, :3], self.camera_from_world[:, :, 3]
        return -np.einsum("nji,nj->ni", rotation, shift)

    @property
    def photo_of(self) -> np.ndarray:
        """Index of the photo of each keypoint, [K]."""
        return np.repeat(np.arange(len(self.names)), np.diff(self.starts))


def read_graph(path: Path) -> PoseGraph:
    """Reads the graph that colmap_child wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return PoseGraph(**{name: arrays[name] for name in PoseGraph.__dataclass_fields__})


@dataclass(frozen=True)
class PairFigures:
    """Statistics of pairs of registered photos: `pairs` [m, 2], `inliers` [m], `agreement` [m], `apart` [m] degrees."""

    pairs: np.ndarray
    inliers: np.ndarray
    agreement: np.ndarray
    apart: np.ndarray


def pair_figures(graph: PoseGraph, fewest: int = ENOUGH) -> PairFigures:
    """Statistics of every pair of registered photos that has `fewest` verified matches or more."""
    keep = graph.registered[graph.pairs].all(axis=1) & (graph.inliers >= fewest)
    index = np.repeat(np.arange(len(graph.pairs)), graph.inliers)
    chosen = keep[index]
    owner = (np.cumsum(keep) - 1)[index[chosen]]
    pairs, inliers = graph.pairs[keep], graph.inliers[keep]
    if not len(pairs):
        none = np.zeros(0)
        return PairFigures(pairs, inliers, none, none)
    first, second = graph.camera_from_world[pairs[:, 0]], graph.camera_from_world[pairs[:, 1]]
    rotation = second[:, :, :3] @ first[:, :, :3].transpose(0, 2, 1)
    shift = second[:, :, 3] - np.einsum("mij,mj->mi", rotation, first[:, :, 3])
    matches = graph.matches[chosen]
    x = _on_plane(graph, pairs[owner, 0], matches[:, 0])
    y = _on_plane(graph, pairs[owner, 1], matches[:, 1])
    error = _sampson(rotation, shift, x, y, owner)
    scale = 1000 * graph.focal[pairs].mean(axis=1) / graph.diagonal[pairs].mean(axis=1)
    close = error * scale[owner] < CLOSE
    agreement = np.bincount(owner, close, len(pairs)) / inliers
    cosine = np.einsum("vi,vi->v", _unit(np.einsum("vij,vj->vi", rotation[owner], x)), _unit(y))
    apart = np.degrees(np.arccos(np.clip(np.bincount(owner, cosine, len(pairs)) / inliers, -1, 1)))
    return PairFigures(pairs, inliers, agreement, apart)


def _on_plane(graph: PoseGraph, photo: np.ndarray, keypoint: np.ndarray) -> np.ndarray:
    flat = graph.normalised[graph.starts[photo] + keypoint]
    return np.concatenate([flat, np.ones((len(flat), 1))], axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _sampson(rotation: np.ndarray, shift: np.ndarray, x: np.ndarray, y: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Sampson distance to the epipolar line on the plane z = 1, [V]."""
    length = np.linalg.norm(shift, axis=1)
    t = shift / np.maximum(length, 1e-12)[:, None]
    zero = np.zeros(len(t))
    cross = np.stack([zero, -t[:, 2], t[:, 1], t[:, 2], zero, -t[:, 0], -t[:, 1], t[:, 0], zero], 1).reshape(-1, 3, 3)
    essential = (cross @ rotation)[owner]
    line, back = np.einsum("vij,vj->vi", essential, x), np.einsum("vji,vj->vi", essential, y)
    slope = np.sqrt((line[:, :2] ** 2).sum(1) + (back[:, :2] ** 2).sum(1))
    return np.abs(np.einsum("vi,vi->v", y, line)) / np.maximum(slope, 1e-12)


def held_out_errors(graph: PoseGraph) -> np.ndarray:
    """Held-out reprojection errors in px: of observations that their point was not triangulated from, [n].

    Of every point seen by four photos or more one observation is held out (the last one), the point is triangulated
    again from the others (least squares distance to their rays, weighted by 1 / distance^2), and projected into the
    held-out photo. The poses themselves were estimated from all observations.
    """
    seen = np.flatnonzero(graph.point >= 0)
    number, photo = graph.point[seen], graph.photo_of[seen]
    order = np.lexsort((photo, number))
    seen, number, photo = seen[order], number[order], photo[order]
    last = np.r_[number[1:] != number[:-1], True] if len(number) else np.zeros(0, bool)
    count = np.bincount(number, minlength=len(graph.points))
    last &= count[number] >= 4
    use = ~last
    pose = graph.camera_from_world[photo[use]]
    local = np.concatenate([graph.normalised[seen[use]], np.ones((use.sum(), 1))], axis=1)
    ray = _unit(np.einsum("nji,nj->ni", pose[:, :, :3], local))
    centre = graph.centres[photo[use]]
    away = 1 / np.maximum(((graph.points[number[use]] - centre) ** 2).sum(1), 1e-12)
    across = (np.eye(3) - ray[:, :, None] * ray[:, None, :]) * away[:, None, None]
    matrix, right = np.zeros((len(graph.points), 3, 3)), np.zeros((len(graph.points), 3))
    np.add.at(matrix, number[use], across)
    np.add.at(right, number[use], np.einsum("nij,nj->ni", across, centre))
    wanted, judge = number[last], photo[last]
    if not len(wanted):
        return np.zeros(0)
    found = np.einsum("nij,nj->ni", np.linalg.pinv(matrix[wanted], rcond=1e-9, hermitian=True), right[wanted])
    pose = graph.camera_from_world[judge]
    local = np.einsum("nij,nj->ni", pose[:, :, :3], found) + pose[:, :, 3]
    depth = np.where(local[:, 2] > 1e-9, local[:, 2], np.nan)
    error = np.linalg.norm(local[:, :2] / depth[:, None] - graph.normalised[seen[last]], axis=1) * graph.focal[judge]
    return np.where(np.isfinite(error), error, graph.diagonal[judge])
