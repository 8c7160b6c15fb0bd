"""Writes a model to a file of its kind: the one place that decides which.

  image, video, sound    a file of its kind (signals/writers.py)
  Gaussians              a splat file, its suffix says of which format; or a mesh, by fusion of depth (fusion.py)
  shape                  a mesh: the isosurface at distance zero
  radiance               a mesh: the isosurface of the density at a threshold, coloured by the field

A mesh is in the world frame of its capture or source. Vertex colours are the field's, for a scene as seen along the
normal.
"""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuralfields.codecs.splats import write_gaussians
from neuralfields.errors import InputError, UsageError
from neuralfields.evaluation.fusion import fused_mesh
from neuralfields.fields.gaussians import GaussianField
from neuralfields.files import check_writable
from neuralfields.mesh.files import WRITERS, write_mesh
from neuralfields.mesh.marching_cubes import marching_cubes
from neuralfields.mesh.mesh import Mesh
from neuralfields.models.model import Model, volume_of
from neuralfields.ops.occupancy_bits import occupied
from neuralfields.rendering.volume import Volume
from neuralfields.signals.shape import ShapeFacts, shape_mesh
from neuralfields.signals.signal import facts_of
from neuralfields.signals.writers import OutputSize, write_signal

ONLY_MESHES = (".obj",)
THRESHOLD = 50.0  # density in 1/side of the inner cube: half of the light is gone after a 72nd of the side


def export(
    model: Model,
    out: Path,
    size: OutputSize,
    resolution: int = 256,
    threshold: float | None = None,
    overwrite: bool = False,
    mesh: bool = False,
) -> dict[str, Any]:
    """Writes the model; keys: path, kind, seconds, and vertices, faces, coloured or gaussians, bytes or size and rate.

    `mesh`: a mesh of Gaussians, also where the suffix is that of a splat file. `size`: of images, videos and sounds.
    `resolution`, `threshold`: see `surface_mesh`. Raises UsageError for a suffix that
    does not suit the kind of field, InputError where there is no surface.
    """
    if not model.has_views:
        return write_signal(model, out, size, overwrite)
    if isinstance(model.field, GaussianField) and not (mesh or out.suffix.lower() in ONLY_MESHES):
        return _export_splats(model.field, model.bounds.origin, out, overwrite)
    kind = model.field.domain.kind
    if out.suffix.lower() not in WRITERS:
        raise UsageError(
            f"{out}: a field of {kind} is exported as a mesh ({' or '.join(WRITERS)}); pictures: nf render"
        )
    check_writable(out, overwrite)
    begin = time.perf_counter()
    surface = surface_mesh(model, resolution, threshold)
    write_mesh(out, surface)
    return {
        "path": str(out),
        "kind": kind,
        "vertices": len(surface.vertices),
        "faces": len(surface.faces),
        "coloured": surface.colours is not None,
        "seconds": time.perf_counter() - begin,
    }


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


def surface_mesh(model: Model, resolution: int = 256, threshold: float | None = None) -> Mesh:
    """Extracts the surface of a shape or a radiance field in the world frame; `resolution` cells along the cube.

    `threshold`: density in 1/side of the inner cube, of radiance only. Raises InputError where there is no surface.
    """
    if not model.has_views:
        raise UsageError(f"a field of {model.field.domain.kind} has no surface; export it to a file of its kind")
    if isinstance(model.field, GaussianField):
        mesh = fused_mesh(model, resolution)
        return replace(mesh, vertices=mesh.vertices + np.asarray(model.bounds.origin))
    if model.is_scene:
        mesh = _density_mesh(volume_of(model), resolution, THRESHOLD if threshold is None else threshold)
    else:
        mesh = shape_mesh(model.field, facts_of(model.signal, ShapeFacts), resolution)
    centre, side = np.add(model.bounds.centre, model.bounds.origin), model.bounds.side
    return Mesh((mesh.vertices - 0.5) * side + centre, mesh.faces, mesh.colours)


@torch.no_grad()
def _density_mesh(volume: Volume, resolution: int, threshold: float) -> Mesh:
    """Marching cubes on the density in the inner cube: mesh in the unit cube, with vertex colours."""
    device, opening = volume.occupancy.device, math.log(threshold)

    def level(x: Tensor) -> Tensor:
        x = x.to(device)
        value = torch.ones(len(x), device=device)  # empty cells of the occupancy grid are outside
        inside = occupied(x, torch.zeros(len(x), dtype=torch.int64, device=device), volume.occupancy)
        value[inside] = opening - volume.density(x[inside]).clamp(min=1e-9).log()
        return value.cpu()

    try:
        mesh = marching_cubes(level, resolution)
    except InputError:
        raise InputError(f"no density above {threshold:g} in the inner cube; choose a lower --threshold") from None
    x = torch.from_numpy(mesh.vertices).float()
    inwards = -torch.from_numpy(mesh.normals()).float()
    seen = x + inwards * (0.5 / resolution)  # visible colours are just below the surface
    parts = [_colours(volume, a, b) for a, b in zip(seen.split(1 << 17), inwards.split(1 << 17), strict=True)]
    return Mesh(mesh.vertices, mesh.faces, (torch.cat(parts).clamp(0, 1) * 255).round().to(torch.uint8).numpy())


def _colours(volume: Volume, x: Tensor, directions: Tensor) -> Tensor:
    device = volume.occupancy.device
    f = volume.field.features(volume.contraction(x.to(device)))
    return volume.field.decode(f, directions.to(device))[1].cpu()
