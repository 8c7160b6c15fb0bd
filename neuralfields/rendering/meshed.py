"""Renders shapes from many sides: the surface is found once as triangles, and each view corrects it by the field.

  lattice of levels -> triangles -> in each view: z-buffer -> a step along the ray to where the field's level is 0

Vocabulary
  u         a point of the unit cube, in which the field lives
  gradient  of the level, by finite differences at the triangles' corners, interpolated between them
  candidate a pixel centre within the bounding box of a projected triangle

A view takes four evaluations of the field a pixel of the shape, which are its normal too; tracing (surface.py) takes
dozens, also where nothing is. Tolerance against tracing, in views of 512 x 512: depth within a fifth of a lattice cell
on average, at most one of 100 pixels of the shape is none in the other, 33 dB (measured: benchmarks/orbit.md).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool3d, normalize

from neuralfields.cameras import NO_DISTORTION, Camera
from neuralfields.errors import InputError
from neuralfields.mesh.marching_cubes import marching_cubes
from neuralfields.rays import Rays, Render
from neuralfields.rendering.renderable import Colour, Renderable
from neuralfields.rendering.surface import AMBIENT, Surface
from neuralfields.rendering.volume import rays_of
from neuralfields.scene import Bounds

COARSE, FINER = 48, 4  # cells of the first lattice along a side, and of each of them along a side in the second
REACH = 1.5  # a fitted distance is trusted to be at most this much too large
NEAR = 1e-3  # depth in cubes from which on a triangle is projected
CANDIDATES = 1 << 19  # of triangles that are drawn together
NOTHING = (1 << 63) - 1  # in the z-buffer
EDGE = -1e-5  # barycentric coordinate that is still inside: neighbours leave no gap


MANY = 4  # views from which on the triangles, found in about the time of one traced view, are worth their time


def for_many(renderable: Renderable, views: int) -> Renderable:
    """What renders so many views best: a shape by its triangles, all else as it is."""
    return MeshedSurface(renderable) if isinstance(renderable, Surface) and views >= MANY else renderable


@dataclass(frozen=True)
class Triangles:
    """The surface in the unit cube: `corners` [V, 3], `faces` [T, 3]; `about` [V, 6]: place, colour."""

    corners: Tensor
    faces: Tensor
    about: Tensor


@dataclass(frozen=True)
class MeshedSurface:
    """A `Renderable` of a shape that is to be seen often; views of bent lenses, and from within it, are traced."""

    surface: Surface

    @property
    def bounds(self) -> Bounds:
        """Those of the shape."""
        return self.surface.bounds

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return self.surface.device

    def render_rays(self, rays: Rays, background: Colour) -> Render:
        """Traces rays [R] as `Surface` does."""
        return self.surface.render_rays(rays, background)

    @cached_property
    def triangles(self) -> Triangles | None:
        """The surface; None where there is none, or where it leaves the cube."""
        with torch.no_grad():
            return surface_triangles(self.surface)

    @torch.no_grad()
    def render(self, camera: Camera, background: Colour) -> Render:
        """Renders a camera's view: rgb and normal [H, W, 3], opacity and depth [H, W]."""
        triangles = self.triangles
        if triangles is None or camera.model != "perspective" or tuple(camera.distortion) != NO_DISTORTION:
            return self.surface.render(camera, background)
        seen = _projected(camera, self.bounds, triangles.corners)
        if seen is None:
            return self.surface.render(camera, background)
        pixel, face, weights = visible(camera, triangles.faces, seen)
        rays = _unit_rays(camera, self.bounds, pixel)
        count = camera.width * camera.height
        rgb = torch.tensor(background).expand(count, 3).clone()
        normal, opacity, depth = torch.zeros(count, 3), torch.zeros(count), torch.zeros(count)
        if len(pixel):
            shown = self._shaded(triangles, face, weights, rays)
            rgb[pixel], normal[pixel], depth[pixel] = shown
            opacity[pixel] = 1
        return Render(rgb, opacity, depth, normal).reshape(camera.height, camera.width)

    def _shaded(
        self, triangles: Triangles, face: Tensor, weights: Tensor, rays: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Colour, normal and depth of the visible pixels, where the field's level along their rays is 0."""
        origins, directions = rays
        corners = triangles.faces[face].unbind(1)
        between = sum(w[:, None] * triangles.about[corner] for w, corner in zip(weights, corners, strict=True))
        place, colour = between.split(3, 1)
        t = ((place - origins) * directions).sum(1)
        gradient, level = self.surface.slopes(origins + t[:, None] * directions)
        slope, cell = (gradient * directions).sum(1), 1 / (COARSE * FINER)
        steep = slope.abs().clamp(min=0.1 * gradient.norm(dim=1).clamp(min=1e-9))
        t = t - (level / torch.where(slope < 0, -steep, steep)).clamp(-cell, cell)
        normal = normalize(gradient, dim=1)
        facing = (normal * directions).sum(1).abs()
        rgb = colour * (AMBIENT + (1 - AMBIENT) * facing)[:, None]
        return rgb, normal, t * self.bounds.side


def surface_triangles(surface: Surface) -> Triangles | None:
    """Finds the surface on a lattice that is evaluated near it alone; None where it is not closed in the cube."""
    levels = lattice(surface)
    sides = [levels[i] if axis == 0 else levels[:, i] if axis == 1 else levels[..., i]
             for axis in range(3) for i in (0, -1)]  # fmt: skip
    if any(bool((side < 0).any()) for side in sides):
        return None
    cells = COARSE * FINER

    def known(x: Tensor) -> Tensor:
        i, j, k = (x * cells).round().long().unbind(1)
        return levels[i, j, k]

    try:
        mesh = marching_cubes(known, cells)
    except InputError:
        return None
    corners = torch.from_numpy(mesh.vertices).float()
    about = torch.cat([corners, surface.colours(corners)], 1)
    return Triangles(corners, torch.from_numpy(mesh.faces), about)


def lattice(surface: Surface) -> Tensor:
    """Levels at the nodes of a lattice [N, N, N]: the field's near the surface, else interpolated from a coarse one."""
    coarse = _at_nodes(surface, torch.ones(COARSE + 1, COARSE + 1, COARSE + 1, dtype=torch.bool), COARSE)
    coarse = coarse.reshape(COARSE + 1, COARSE + 1, COARSE + 1)
    size = (COARSE * FINER + 1,) * 3
    levels = interpolate(coarse[None, None], size, mode="trilinear", align_corners=True)[0, 0]
    if surface.distance:  # no point of a cell is further from a corner than half its diagonal
        least = -max_pool3d(-coarse.abs()[None, None], 2, 1)
        cell = (least < REACH * 0.5 * 3**0.5 / COARSE).float()
    else:  # no distance: where the sign changes, and a cell around it
        inside = (coarse < 0).float()[None, None]
        cell = max_pool3d(max_pool3d(inside, 3, 1, 1) + max_pool3d(-inside, 3, 1, 1), 2, 1)
    fine = cell.repeat_interleave(FINER, 2).repeat_interleave(FINER, 3).repeat_interleave(FINER, 4)
    wanted = max_pool3d(torch.nn.functional.pad(fine, (1, 1, 1, 1, 1, 1)), 2, 1)[0, 0] > 0
    levels[wanted] = _at_nodes(surface, wanted, COARSE * FINER)
    return levels


def _at_nodes(surface: Surface, wanted: Tensor, cells: int) -> Tensor:
    return surface.level(wanted.nonzero().float() / cells)


def _projected(camera: Camera, bounds: Bounds, corners: Tensor) -> Tensor | None:
    """Pixel places and inverse depths [V, 3] of corners; None where one of them is not well before the camera."""
    pose = np.asarray(camera.world_from_camera, dtype=np.float64)
    rotation, place = pose[:3, :3], (pose[:3, 3] - np.array(bounds.centre)) / bounds.side + 0.5
    seen = (corners.double() - torch.from_numpy(place)) @ torch.from_numpy(rotation.copy())
    z = seen[:, 2]
    if bool((z < NEAR).any()):
        return None
    u, v = camera.fx * seen[:, 0] / z + camera.cx, camera.fy * seen[:, 1] / z + camera.cy
    return torch.stack([u, v, 1 / z], 1).float()


def visible(camera: Camera, faces: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What each pixel shows: pixels [P], their nearest face, and its corners' weights [3, P] in space.

    `seen` [V, 3]: `_projected` corners. Faces are counter-clockwise from outside; those that look away are left out.
    """
    a, b, c = (seen[corner] for corner in faces.unbind(1))
    front = (_area(a, b, c) < 0).nonzero().flatten()  # rows run downwards, so the sense is turned
    a, b, c = a[front], b[front], c[front]
    low = (torch.minimum(torch.minimum(a, b), c)[:, :2] - 0.5).ceil().clamp(min=0).long()
    high = (torch.maximum(torch.maximum(a, b), c)[:, :2] - 0.5).floor().long()
    high = torch.minimum(high, torch.tensor([camera.width - 1, camera.height - 1]))
    wide, tall = (high - low + 1).clamp(min=0).unbind(1)
    chosen = (wide * tall).nonzero().flatten()
    counts = (wide * tall)[chosen]
    nearest, ends = torch.full((camera.width * camera.height,), NOTHING), counts.cumsum(0)
    begin = done = 0
    while begin < len(chosen):
        end = max(begin + 1, int(torch.searchsorted(ends, done + CANDIDATES, right=True)))
        face, count = chosen[begin:end], counts[begin:end]
        index = face.repeat_interleave(count)
        turn = torch.arange(len(index)) - (ends[begin:end] - count - done).repeat_interleave(count)
        down = turn // wide[index]
        u, v = low[index, 0] + turn - down * wide[index], low[index, 1] + down
        weights = _weights(a[index], b[index], c[index], u + 0.5, v + 0.5)
        depth = 1 / (weights[0] * a[index, 2] + weights[1] * b[index, 2] + weights[2] * c[index, 2])
        inside = (weights[0] >= EDGE) & (weights[1] >= EDGE) & (weights[2] >= EDGE)
        key = (depth.view(torch.int32).long() << 32) | index  # positive floats are ordered as their bits
        nearest.scatter_reduce_(0, (v * camera.width + u)[inside], key[inside], "amin")
        begin, done = end, int(ends[end - 1])
    pixel = (nearest < NOTHING).nonzero().flatten()
    face = nearest[pixel] & 0xFFFFFFFF
    a, b, c = a[face], b[face], c[face]
    weights = _weights(a, b, c, pixel % camera.width + 0.5, pixel // camera.width + 0.5).clamp(min=0)
    weights = weights * torch.stack([a[:, 2], b[:, 2], c[:, 2]])
    return pixel, front[face], weights / (weights[0] + weights[1] + weights[2])


def _area(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Twice the signed areas [S] of projected triangles [S, 2 or 3]."""
    return (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1])


def _weights(a: Tensor, b: Tensor, c: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Barycentric coordinates [3, S] of pixel places in projected triangles."""
    area = _area(a, b, c)
    first = ((b[:, 0] - u) * (c[:, 1] - v) - (c[:, 0] - u) * (b[:, 1] - v)) / area
    second = ((c[:, 0] - u) * (a[:, 1] - v) - (a[:, 0] - u) * (c[:, 1] - v)) / area
    return torch.stack([first, second, 1 - first - second])


def _unit_rays(camera: Camera, bounds: Bounds, pixel: Tensor) -> tuple[Tensor, Tensor]:
    """Origins and directions [P, 3] of the pixels' rays in the unit cube."""
    rays = rays_of(camera, pixel)
    return (rays.origins - rays.origins.new_tensor(bounds.centre)) / bounds.side + 0.5, rays.directions
