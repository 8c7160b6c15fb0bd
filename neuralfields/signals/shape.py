"""A shape as a signal: the signed distance (SDF) to a mesh in the unit cube, or its occupancy (inside or outside).

Vocabulary
  distance    d [S], negative inside, in sides of the unit cube
  occupancy   the field's value is minus the log-odds of being inside, so that it is negative inside too
  near        points of the surface with Gaussian noise of a small standard deviation

Samples of a step: some on the surface (d = 0; cheap, so new in each step), the others from a pool of points whose
distances are computed once: most of them near the surface, some anywhere in the cube.

  loss of a distance = |v - d| / (|d| + 0.01): relative, so that far distances may err by more
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from neuralfields import cameras as cameras_module
from neuralfields.cameras import Camera, focal_from_angle
from neuralfields.domain import Domain
from neuralfields.errors import InputError
from neuralfields.fields.field import Field, values_at
from neuralfields.mesh.distance import VOTES, MeshDistance
from neuralfields.mesh.files import read_mesh
from neuralfields.mesh.marching_cubes import marching_cubes
from neuralfields.mesh.mesh import Mesh, SurfaceSampler, checked, faults
from neuralfields.pictures.metrics import psnr_from_mse
from neuralfields.scene import Bounds
from neuralfields.signals.signal import Signal

Values = Literal["distance", "occupancy"]
FILL = 0.8  # of the unit cube's side that the mesh's longest side takes
NEAR = ((0.02, 1 << 17), (0.005, 1 << 17))  # standard deviation in sides of the cube, points
ANYWHERE = 1 << 16
ON_SURFACE = 0.25  # of a step's samples
SOFTENING = 0.01
COLOUR_REACH = 0.02  # colours are supervised within this distance of the surface
IOU_POINTS = 1 << 17  # points in the mesh's box of the intersection over union
CHAMFER_RESOLUTION, CHAMFER_POINTS = 192, 1 << 15
VALIDATION_POINTS = 1 << 13
MOST_DOUBT = 0.4
REACH = 1.5  # a fitted distance is trusted to be at most this much too large
FAR = 1000.0  # distance from the origin, in sides, from which a mesh is moved near it
VIEWS, VIEW_SIZE, VIEW_ANGLE = 12, 512, 0.7

Unit = Annotated[float, msgspec.Meta(ge=0, le=1)]


class ShapeFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Facts of a shape: the meaning of its values, and the mesh's box in the unit cube."""

    values: Values
    low: tuple[Unit, Unit, Unit]
    high: tuple[Unit, Unit, Unit]


@dataclass(frozen=True, eq=False)
class ShapeSignal(Signal):
    """A shape: `mesh` in the unit cube, `pool` x [P, 3] and y [P, channels]: distance, then colour if any."""

    name: str
    root: Path
    domain: Domain
    facts: ShapeFacts
    bounds: Bounds
    mesh: Mesh
    distance: MeshDistance
    surface: SurfaceSampler
    pool: tuple[Tensor, Tensor]
    warnings: tuple[str, ...] = ()

    def batch(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws samples on the surface, then of the pool. An occupancy has no value on the surface itself."""
        free = int(count * ON_SURFACE) if self.facts.values == "distance" else 0
        index = torch.randint(0, len(self.pool[0]), (count - free,), generator=generator)
        x, y = (part[index] for part in self.pool)
        if free:
            on = self.surface.draw(free, generator)
            zero = torch.zeros(free, 1)
            x = torch.cat([on.points, x])
            y = torch.cat([zero if on.colours is None else torch.cat([zero, on.colours], 1), y])
        return x, y

    def loss(self, values: Tensor, y: Tensor) -> Tensor:
        """See the module's equations; colours add their squared error near the surface."""
        v, d = values[:, 0], y[:, 0]
        if self.facts.values == "occupancy":
            loss = softplus(torch.where(d < 0, v, -v))
        else:
            loss = (v - d).abs() / (d.abs() + SOFTENING)
        if y.shape[1] == 4:
            loss = loss + (values[:, 1:] - y[:, 1:]).square().mean(1) * (d.abs() < COLOUR_REACH)
        return loss

    def held_out(self, field: Field) -> float | None:
        """Validation: signal-to-noise ratio in dB of the distance at held-out points near the surface."""
        if self.facts.values == "occupancy":
            return None
        x, y = _near(self, torch.Generator().manual_seed(2**40), ((0.02, VALIDATION_POINTS),))
        error = values_at(field, x)[:, 0] - y[:, 0]
        return psnr_from_mse(float(error.square().mean() / y[:, 0].square().mean()))

    def measure(self, field: Field) -> dict[str, float]:
        """Intersection over union inside the mesh's box, and the Chamfer distance over the box's diagonal.

        `chamfer`: the mean of the distances from points of either surface to the other, averaged over both ways.
        """
        x, generator = _in_box(self.facts, IOU_POINTS), torch.Generator().manual_seed(0)
        truth, seen = self.distance.inside(x), values_at(field, x)[:, 0] < 0
        overlap = {"iou": float((truth & seen).sum() / (truth | seen).sum().clamp(min=1))}
        try:
            found = shape_mesh(field, self.facts, CHAMFER_RESOLUTION)
        except InputError:  # no surface yet
            return overlap
        there = self.distance.distance(SurfaceSampler(found).draw(CHAMFER_POINTS, generator).points)
        back = MeshDistance(found, True).distance(self.surface.draw(CHAMFER_POINTS, generator).points)
        mean = 0.5 * (there.mean() + back.mean())
        return overlap | {"chamfer": float(mean) / float(np.linalg.norm(np.subtract(self.facts.high, self.facts.low)))}

    def fingerprint(self) -> str:
        """Hash of the mesh and of its supervised values."""
        digest = hashlib.sha256(repr((self.domain, self.facts)).encode())
        for part in (self.mesh.vertices, self.mesh.faces, self.mesh.colours):
            digest.update(b"" if part is None else part.tobytes())
        return digest.hexdigest()

    def views(self) -> tuple[Camera, ...]:
        """Cameras on a circle around the shape, a little above; y is up, as in most meshes."""
        return ring(self.bounds)


def ring(bounds: Bounds) -> tuple[Camera, ...]:
    """Cameras on a circle around a cube, the first one in front of it to the left."""
    cameras = []
    focal = focal_from_angle(VIEW_ANGLE, VIEW_SIZE)
    centre, up = np.array(bounds.centre), np.array([0.0, 1.0, 0.0])
    for turn in np.linspace(0, 2 * np.pi, VIEWS, endpoint=False) - np.pi / 6:
        away = np.array([np.sin(turn), 0.35, np.cos(turn)])
        pose = cameras_module.look_at(centre + 1.6 * bounds.side * away / np.linalg.norm(away), centre, up)
        cameras.append(Camera(pose, VIEW_SIZE, VIEW_SIZE, focal, focal, VIEW_SIZE / 2, VIEW_SIZE / 2))
    return tuple(cameras)


def read_shape_signal(path: Path, values: Values = "distance") -> ShapeSignal:
    """Reads a mesh file as a signal; defects of the mesh go to `warnings`.

    Raises InputError for a mesh that cannot be used or encloses nothing, UsageError without Open3D.
    """
    mesh, notes = checked(read_mesh(path), str(path))
    low, high = mesh.box
    centre, side = (low + high) / 2, float((high - low).max()) / FILL
    far = float(np.abs(centre).max()) > FAR * side  # float32 would deform what is rendered there
    origin = tuple((centre if far else np.zeros(3)).tolist())
    bounds = Bounds(tuple((centre - origin).tolist()), side, origin=origin)
    unit = Mesh((mesh.vertices - centre) / side + 0.5, mesh.faces, mesh.colours)
    box = [tuple(((corner - centre) / side + 0.5).tolist()) for corner in (low, high)]
    domain = Domain("shape", 3, 1 if mesh.colours is None else 4)
    distance = MeshDistance(unit, faults(unit).watertight)
    parts = (unit, distance, SurfaceSampler(unit))
    empty = torch.empty(0, 3), torch.empty(0, domain.channels)
    bare = ShapeSignal(path.stem, path, domain, ShapeFacts(values, *box), bounds, *parts, empty, tuple(notes))
    x, y = _pool(bare)
    doubt = 0.0 if distance.votes == VOTES else distance.doubt(_in_box(bare.facts, VALIDATION_POINTS))
    if doubt > MOST_DOUBT or not bool((y[:, 0] < 0).any()):
        raise InputError(f"{path}: encloses no volume that rays agree on ({doubt:.0%} disagree); close the mesh first")
    return ShapeSignal(path.stem, path, domain, bare.facts, bounds, *parts, (x, y), tuple(notes))


def _near(shape: ShapeSignal, generator: torch.Generator, scales: tuple) -> tuple[Tensor, Tensor]:
    points = [shape.surface.draw(count, generator).points for _, count in scales]
    noise = [torch.randn(count, 3, generator=generator) * scale for scale, count in scales]
    return _labelled(shape, (torch.cat(points) + torch.cat(noise)).clamp(0, 1))


def _pool(shape: ShapeSignal) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    near = _near(shape, generator, NEAR)
    far = _labelled(shape, torch.rand(ANYWHERE, 3, generator=generator))
    return torch.cat([near[0], far[0]]), torch.cat([near[1], far[1]])


def _in_box(facts: ShapeFacts, count: int) -> Tensor:
    """Uniform random points in the mesh's box, the same ones each time."""
    low, high = torch.tensor(facts.low), torch.tensor(facts.high)
    return low + torch.rand(count, 3, generator=torch.Generator().manual_seed(2)) * (high - low)


def _labelled(shape: ShapeSignal, x: Tensor) -> tuple[Tensor, Tensor]:
    distance = shape.distance.signed(x)[:, None]
    return x, distance if shape.mesh.colours is None else torch.cat([distance, shape.distance.colours(x)], 1)


def shape_mesh(field: Field, facts: ShapeFacts, resolution: int) -> Mesh:
    """Extracts the field's surface in the unit cube, with its colours if any. Raises InputError if there is none."""
    reach = REACH if facts.values == "distance" else None
    mesh = marching_cubes(lambda x: values_at(field, x)[:, 0], resolution, reach)
    if field.domain.channels < 4:
        return mesh
    colours = values_at(field, torch.from_numpy(mesh.vertices).float())[:, 1:4]
    return Mesh(mesh.vertices, mesh.faces, (colours.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
