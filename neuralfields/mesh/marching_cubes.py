"""Marching cubes: extracts the zero level set of a function of the unit cube as triangles, in blocks.

Vocabulary
  node     a point of the lattice of (n + 1)^3; n cells an axis, node i at i / n
  case     which of a cell's eight corners are inside (value below 0), one bit a corner
  corner   number c is at (c & 1, c >> 1 & 1, c >> 2)
  loop     a polygon of crossed edges around the inside corners of a cell, counter-clockwise from outside

The table of cases (Lorensen and Cline 1987) is derived, not written down: on each face of a cell the crossed edges are
joined in pairs around the inside corners; a face with two inside corners opposite each other keeps them apart. The rule
depends on the face alone, so neighbours agree and the surface has no holes. Pairs close to loops, loops are fans.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from neuralfields.errors import InputError
from neuralfields.mesh.mesh import Mesh

BLOCK = 64  # cells along a side of a block
PROBE = 8  # cells between the nodes that decide whether a block is evaluated
CORNERS = np.array([[c & 1, c >> 1 & 1, c >> 2] for c in range(8)])
EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if bin(a ^ b).count("1") == 1]
Function = Callable[[Tensor], Tensor]


@cache
def cases() -> tuple[np.ndarray, np.ndarray]:
    """Triangles of every case: [256, most, 3] indices into EDGES, and how many there are [256]."""
    fans = [[(loop[0], loop[i], loop[i + 1]) for loop in _loops(case) for i in range(1, len(loop) - 1)]
            for case in range(256)]  # fmt: skip
    counts = np.array([len(fan) for fan in fans])
    table = np.zeros((256, counts.max(), 3), dtype=np.int64)
    for case, fan in enumerate(fans):
        table[case, : len(fan)] = np.array(fan).reshape(-1, 3)
    return table, counts


def _face_rings() -> list[list[int]]:
    """The corners of each face of a cell, counter-clockwise seen from outside."""
    rings = []
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3  # u x v = axis
        around = [0, 1 << u, 1 << u | 1 << v, 1 << v]
        rings += [[c | 1 << axis for c in around], around[::-1]]
    return rings


def _loops(case: int) -> list[list[int]]:
    """Loops of edges of a case: along a face's ring a surface begins where inside begins, and ends where that ends."""
    inside = [bool(case >> c & 1) for c in range(8)]
    after = {}
    for ring in _face_rings():
        steps = [(ring[i], ring[(i + 1) % 4]) for i in range(4)]
        for i, (a, b) in enumerate(steps):
            if inside[a] or not inside[b]:
                continue
            # The run of inside corners that begins at b ends where the next step leaves it.
            j = next(k % 4 for k in range(i + 1, i + 4) if inside[steps[k % 4][0]] and not inside[steps[k % 4][1]])
            begin, end = EDGES.index(tuple(sorted((a, b)))), EDGES.index(tuple(sorted(steps[j])))
            after[begin] = end
    loops = []
    while after:
        loop = [next(iter(after))]
        while (follower := after.pop(loop[-1])) != loop[0]:
            loop.append(follower)
        loops.append(loop)
    return loops


def marching_cubes(function: Function, resolution: int, reach: float | None = None) -> Mesh:
    """Extracts the surface `function(x [S, 3]) -> [S]` = 0 in the unit cube, negative inside, as a mesh of its frame.

    `resolution`: cells an axis. `reach`: if the function is a distance, how many times too large it may be; blocks
    further from the surface are skipped. Default: every block is evaluated. The surface is closed at the border of
    the cube. Raises InputError if there is no surface.
    """
    keys, places, faces = [], [], []
    for low in _blocks(resolution):
        values = _block_values(function, low, resolution, reach)
        if values is None or bool((values < 0).all()) or not bool((values < 0).any()):
            continue
        key, place, face = _triangles(values.numpy().astype(np.float64), low, resolution)
        keys.append(key)
        places.append(place)
        faces.append(face + sum(map(len, keys[:-1])))
    if not faces or not sum(map(len, faces)):
        raise InputError("no surface: the field has one sign everywhere; fit it longer, or choose another --threshold")
    _, first, inverse = np.unique(np.concatenate(keys), return_index=True, return_inverse=True)
    triangles = inverse.reshape(-1)[np.concatenate(faces)]
    return Mesh(np.concatenate(places)[first] / resolution, triangles)


def _blocks(resolution: int) -> list[tuple[int, int, int]]:
    starts = range(0, resolution, BLOCK)
    return [(x, y, z) for x in starts for y in starts for z in starts]


def _nodes(low: tuple[int, int, int], high: list[int], step: int, resolution: int) -> tuple[Tensor, tuple[int, ...]]:
    """Positions [S, 3] of a block's nodes, every `step`-th and the last, and their count along each axis."""
    axes = [sorted({*range(a, b, step), b}) for a, b in zip(low, high, strict=True)]
    grid = torch.cartesian_prod(*(torch.tensor(axis) for axis in axes))
    return grid.to(torch.float32) / resolution, tuple(map(len, axes))


@torch.no_grad()
def _block_values(function: Function, low: tuple[int, int, int], resolution: int, reach: float | None) -> Tensor | None:
    """Values at a block's nodes, with a shell outside the cube that is outside the surface; None for a far block."""
    high = [min(a + BLOCK, resolution) for a in low]
    if reach is not None:
        x, _ = _nodes(low, high, PROBE, resolution)
        if float(function(x).abs().min()) > reach * 3**0.5 * PROBE / resolution:
            return None
    x, shape = _nodes(low, high, 1, resolution)
    values = torch.cat([function(part) for part in x.split(1 << 17)]).reshape(shape)
    for axis in range(3):  # the border of the cube is outside: the surface is closed there
        if low[axis] == 0:
            values.select(axis, 0).clamp_(min=1e-6)
        if high[axis] == resolution:
            values.select(axis, -1).clamp_(min=1e-6)
    return values


def _triangles(
    values: np.ndarray, low: tuple[int, int, int], resolution: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys of the crossed edges (unique in the lattice), their positions in cells, triangles of indices into them."""
    inside = values < 0
    n = [side - 1 for side in values.shape]
    parts = [inside[x : x + n[0], y : y + n[1], z : z + n[2]] for x, y, z in CORNERS]
    case = sum(part.astype(np.int64) << c for c, part in enumerate(parts))
    cell = np.argwhere((case > 0) & (case < 255))
    table, counts = cases()
    chosen = case[tuple(cell.T)]
    owner = np.repeat(np.arange(len(cell)), counts[chosen])
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(counts[chosen]) - counts[chosen], counts[chosen])
    edge = table[chosen[owner], rank]  # [T, 3]
    ends = np.array(EDGES)[edge]  # [T, 3, 2]; the first end is the lower one
    a, b = (cell[owner][:, None] + CORNERS[ends[..., i]] for i in (0, 1))
    axis = np.argmax(b - a, axis=-1)
    node = a + np.array(low)
    side = np.int64(resolution + 1)
    key = ((node[..., 0] * side + node[..., 1]) * side + node[..., 2]) * 3 + axis
    unique, first, face = np.unique(key, return_index=True, return_inverse=True)
    a, b, node = (part.reshape(-1, 3)[first] for part in (a, b, node))
    value_a, value_b = values[tuple(a.T)], values[tuple(b.T)]
    share = value_a / (value_a - value_b)
    return unique, node + share[:, None] * (b - a), face.reshape(-1, 3)
