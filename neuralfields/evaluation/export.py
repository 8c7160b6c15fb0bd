"""Writes a model to a file of its kind: the one place that decides which.

  image, video, sound    a file of its kind (signals/writers.py)
  Gaussians              a splat file, its suffix says of which format; or a mesh, by fusion of depth (fusion.py)
  shape                  a mesh: the isosurface at distance zero
  surface                a mesh: the isosurface at distance zero, coloured by the field
  radiance               a mesh: the isosurface of the density at a threshold, coloured by the field, or by fusion

A mesh is in the world frame of its capture or source. Vertex colours are the field's, for a scene as seen along the
normal.
"""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuralfields.captures.arrangement import common_up
from neuralfields.codecs.splats import write_gaussians
from neuralfields.errors import InputError, UsageError
from neuralfields.evaluation.fusion import LEAST_PART, fused_mesh
from neuralfields.fields.gaussians import GaussianField
from neuralfields.fields.surface import SurfaceField
from neuralfields.files import check_writable
from neuralfields.mesh.clean import decimated, without_floaters
from neuralfields.mesh.distance import MeshDistance
from neuralfields.mesh.marching_cubes import marching_cubes
from neuralfields.mesh.mesh import Mesh, faults
from neuralfields.mesh.models import MODELS, TEXTURED, write_model
from neuralfields.mesh.texture import TexturedMesh, baked
from neuralfields.models.model import Model, volume_of
from neuralfields.ops.occupancy_bits import occupied
from neuralfields.options.common import MeshSource
from neuralfields.rendering.traced import Traced
from neuralfields.rendering.volume import Volume
from neuralfields.signals.shape import ShapeFacts, shape_mesh
from neuralfields.signals.signal import facts_of
from neuralfields.signals.writers import OutputSize, write_signal

Box = tuple[float, ...]  # two corners x0 y0 z0 x1 y1 z1 in the capture's world
ONLY_MESHES = (".obj", ".glb")
THRESHOLD = 50.0  # density in 1/side of the inner cube: half of the light is gone after a 72nd of the side


@dataclass(frozen=True)
class MeshForm:
    """How a mesh is extracted and finished.

    `resolution`: cells or voxels along the cube; `threshold`, `box`: of a density; `source`: the density's level set,
    or depth, fused from renders (auto: depth of Gaussians alone); `mesh`: a mesh of Gaussians also where the suffix is
    that of a splat file. `faces`: as many triangles at most; `texture`: side of a baked texture in pixels, 0 for
    vertex colours; `least_part`: components with fewer faces than this share of the largest one's are floaters.
    """

    resolution: int = 256
    threshold: float | None = None
    box: Box | None = None
    source: MeshSource = "auto"
    mesh: bool = False
    faces: int | None = None
    texture: int = 0
    least_part: float = LEAST_PART


def export(
    model: Model, out: Path, size: OutputSize, form: MeshForm | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """Writes the model; keys: path, kind, seconds, and those of a mesh, or gaussians, bytes or size and rate.

    Of a mesh: files, vertices, faces, coloured, watertight, border (edges that one triangle has alone), dropped
    (floaters). `size`: of images, videos and sounds. A scene that reaches beyond what was exported has the key
    `left_out`, the side of its inner cube. Raises UsageError for a suffix, a box or a texture that does not suit,
    InputError where there is no surface.
    """
    form = form or MeshForm()
    if form.box is not None and (not model.is_scene or isinstance(model.field, GaussianField)):
        raise UsageError("--box: is of the mesh of a scene's density; leave it out")
    if not model.has_views:
        return write_signal(model, out, size, overwrite)
    suffix = out.suffix.lower()
    if isinstance(model.field, GaussianField) and not (form.mesh or suffix in ONLY_MESHES):
        return _export_splats(model.field, model.bounds.origin, out, overwrite)
    kind = model.field.domain.kind
    if suffix not in MODELS:
        raise UsageError(f"{out}: a field of {kind} is exported as a mesh ({' or '.join(MODELS)}); pictures: nf render")
    if form.texture and suffix not in TEXTURED:
        raise UsageError(f"{out}: --texture is of {' or '.join(TEXTURED)}; choose one, or leave it out")
    check_writable(out, overwrite)
    begin = time.perf_counter()
    whole = surface_mesh(model, form.resolution, form.threshold, form.box, form.source)
    surface, dropped = without_floaters(whole, form.least_part)
    if form.faces is not None:
        surface = decimated(surface, form.faces)
    found = faults(surface)
    made = _textured(model, surface, whole, form) if form.texture else surface
    files = write_model(out, made, _up(model) if suffix == ".glb" else None)
    outside = model.is_scene and model.bounds.cascades > 1 and form.box is None
    return {
        "path": str(out),
        "files": [str(path) for path in files],
        "kind": kind,
        "vertices": len(surface.vertices),
        "faces": len(surface.faces),
        "coloured": surface.colours is not None,
        "texture": form.texture,
        "watertight": found.watertight,
        "border": found.border,
        "dropped": dropped,
        **({"left_out": model.bounds.side} if outside else {}),
        "seconds": time.perf_counter() - begin,
    }


def _up(model: Model) -> np.ndarray | None:
    """The world's up direction by the model's cameras; None, y, where there are none."""
    return common_up(list(model.cameras)) if model.cameras else None


@torch.no_grad()
def _textured(model: Model, surface: Mesh, whole: Mesh, form: MeshForm) -> TexturedMesh:
    """The surface with a baked texture: the field's own colours, or those of the mesh before it was decimated.

    Baked in the frame of the inner cube, since float32 may not hold the capture's own positions.
    """
    centre, side = np.add(model.bounds.centre, model.bounds.origin), model.bounds.side

    def unit(mesh: Mesh) -> Mesh:
        return replace(mesh, vertices=(mesh.vertices - centre) / side + 0.5)

    if not fuses(model, form.source) and model.is_scene:
        volume, inwards = volume_of(model), 0.5 / form.resolution

        def colours(x: Tensor, normals: Tensor) -> Tensor:
            return _colours(volume, x - normals * inwards, -normals)
    elif whole.colours is not None:
        near = MeshDistance(unit(whole), True)

        def colours(x: Tensor, normals: Tensor) -> Tensor:
            return near.colours(x)
    else:
        raise UsageError("--texture: the shape has no colours; leave it out")
    made = baked(unit(surface), form.texture, colours)
    return replace(made, mesh=replace(made.mesh, vertices=(made.mesh.vertices - 0.5) * side + centre))


def fuses(model: Model, source: MeshSource) -> bool:
    """Whether a mesh comes from fused depth; raises UsageError for Gaussians' density, which they have none of."""
    gaussians = isinstance(model.field, GaussianField)
    if gaussians and source == "density":
        raise UsageError("--surface density: Gaussians have no density at a point; leave it out")
    return gaussians or (source == "depth" and model.is_scene)


def _export_splats(
    field: GaussianField, origin: tuple[float, float, float], out: Path, overwrite: bool
) -> dict[str, Any]:
    """Splat files hold float32, which cannot hold a far `origin`: it is reported in place of being added."""
    check_writable(out, overwrite)
    begin = time.perf_counter()
    write_gaussians(field.gaussians().to("cpu"), out)
    return {
        "path": str(out),
        "kind": "gaussians",
        "gaussians": len(field.means),
        "bytes": out.stat().st_size,
        **({"origin": origin} if any(origin) else {}),
        "seconds": time.perf_counter() - begin,
    }


def surface_mesh(
    model: Model,
    resolution: int = 256,
    threshold: float | None = None,
    box: Box | None = None,
    source: MeshSource = "auto",
) -> Mesh:
    """Extracts the surface of a shape or a radiance field in the world frame; `resolution` cells along the cube.

    `threshold`: density in 1/side of the inner cube, of radiance only. `box`: its two corners in the capture's world,
    in place of the inner cube, of radiance only; the cells are then of the longest side's. Raises InputError where
    there is no surface.
    """
    if not model.has_views:
        raise UsageError(f"a field of {model.field.domain.kind} has no surface; export it to a file of its kind")
    if fuses(model, source):
        if box is not None:
            raise UsageError("--box: is of a density; leave --surface depth out")
        mesh = fused_mesh(model, resolution)
        return replace(mesh, vertices=mesh.vertices + np.asarray(model.bounds.origin))
    centre, side = np.add(model.bounds.centre, model.bounds.origin), model.bounds.side
    if model.is_scene:
        low, high = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        if box is not None:
            low, high = (tuple(((np.array(corner) - centre) / side + 0.5).tolist()) for corner in (box[:3], box[3:]))
        part = _Part(volume_of(model), low, high, resolution)
        if isinstance(model.field, SurfaceField) and threshold is None and box is None:
            mesh = _level_mesh(part)
        else:
            mesh = _density_mesh(part, THRESHOLD if threshold is None else threshold)
    else:
        mesh = shape_mesh(model.field, facts_of(model.signal, ShapeFacts), resolution)
    return Mesh((mesh.vertices - 0.5) * side + centre, mesh.faces, mesh.colours)


@dataclass(frozen=True, eq=False)
class _Part:
    """A box of a volume, in the frame of the inner cube, and the cells along its longest side."""

    volume: Volume
    low: tuple[float, ...]
    high: tuple[float, ...]
    resolution: int

    @property
    def name(self) -> str:
        """The box in messages."""
        return "the inner cube" if (min(self.low), max(self.high)) == (0.0, 1.0) else "the box"

    @property
    def side(self) -> float:
        """The longest side; marching cubes walk the cube of that side from the lowest corner on."""
        return max(b - a for a, b in zip(self.low, self.high, strict=True))

    def level(self, x: Tensor, opening: float) -> Tensor:
        """Logarithms of threshold over density at `x` [S, 3]; 1 where all is empty or beyond the box."""
        volume = self.volume
        x = x.to(volume.occupancy.device)
        value = torch.ones(len(x), device=x.device)  # empty cells of the occupancy grid are outside
        reach = 2 * (x - 0.5).abs().amax(1)
        cascade = reach.clamp(min=1.0 + 1e-6).log2().ceil().long() * (reach > 1.0)
        known = cascade < len(volume.occupancy)
        inside = known & occupied(x, cascade.clamp(max=len(volume.occupancy) - 1), volume.occupancy)
        inside &= ((x >= x.new_tensor(self.low) - 1e-6) & (x <= x.new_tensor(self.high) + 1e-6)).all(1)
        value[inside] = opening - volume.density(x[inside]).clamp(min=1e-9).log()
        return value.cpu()


@torch.no_grad()
def _density_mesh(part: _Part, threshold: float) -> Mesh:
    """Marching cubes on the density in a box: mesh in the frame of the inner cube, with vertex colours."""
    opening, low = math.log(threshold), torch.tensor(part.low)
    try:
        mesh = marching_cubes(lambda u: part.level(u * part.side + low, opening), part.resolution)
    except InputError:
        raise InputError(f"no density above {threshold:g} in {part.name}; choose a lower --threshold") from None
    return _coloured(part, mesh)


@torch.no_grad()
def _level_mesh(part: _Part) -> Mesh:
    """Marching cubes on the signed distance of a surface field in the inner cube: with vertex colours.

    What the occupancy grid says is empty, and so was never looked at, is outside.
    """
    traced = Traced(part.volume)

    def level(u: Tensor) -> Tensor:
        u = u.to(traced.device)
        value = torch.full_like(u[:, 0], 1.0)
        inside = occupied(u, torch.zeros(len(u), dtype=torch.int64, device=u.device), part.volume.occupancy)
        value[inside] = traced.level(u[inside])
        return value.cpu()

    return _coloured(part, marching_cubes(level, part.resolution))


def _coloured(part: _Part, mesh: Mesh) -> Mesh:
    """A mesh of the part's cube in the frame of the inner cube, with the field's colours at its vertices."""
    vertices = mesh.vertices * part.side + np.array(part.low)
    inwards = -torch.from_numpy(mesh.normals()).float()
    # Visible colours are just below the surface.
    seen = torch.from_numpy(vertices).float() + inwards * (0.5 * part.side / part.resolution)
    parts = [_colours(part.volume, a, b) for a, b in zip(seen.split(1 << 17), inwards.split(1 << 17), strict=True)]
    return Mesh(vertices, mesh.faces, (torch.cat(parts).clamp(0, 1) * 255).round().to(torch.uint8).numpy())


def _colours(volume: Volume, x: Tensor, directions: Tensor) -> Tensor:
    device = volume.occupancy.device
    f = volume.field.features(volume.contraction(x.to(device)))
    return volume.field.decode(f, directions.to(device))[1].cpu()
