"""Snapshots of Instant-NGP (arXiv:2201.05989) as our own `hash` field: the same formulas, so the same numbers.

Vocabulary
  their frame  x scaled and moved into the unit cube (scale x + offset), then its axes cycled: (x, y, z) -> (y, z, x);
               scenes from Mitsuba are not cycled
  inner cube   our frame of the same unit cube, not cycled: the field's Config says in what order coordinates enter
  padded       widths rounded up to a multiple of 16 (fully fused networks) or 8

The parameters are one row of numbers: the density network's matrices, the colour network's, the table; every matrix
[out, in] by rows. What is refused is named: other encodings, activations, latent codes, HDR. The density grid is in
Morton order, x lowest, one value a cell: optical thickness of the finest step.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import Camera, pose_from_matrix
from neuralfields.codecs.ngp_snapshot import VERSION, Metadata, Network, Snapshot, decode, is_snapshot
from neuralfields.codecs.placement import Placement, find_occupied
from neuralfields.errors import InputError
from neuralfields.fields.hash import Config, HashField
from neuralfields.models.model import Model
from neuralfields.ops.hash_grid import HashGeometry
from neuralfields.ops.occupancy_bits import CELLS, bricks_of, turn_occupancy
from neuralfields.rendering.volume import Volume
from neuralfields.scene import Bounds

__all__ = ["decode", "describe", "is_snapshot", "read"]

FINEST = 2048  # points along an axis of the unit cube that the default per_level_scale aims at
MOST_AABB = 128
THICKNESS = 0.01  # cells above this, or above the mean if that is less, are occupied
NEAR = 0.05  # of the unit cube: before it Instant-NGP samples nothing
BACK = (2, 0, 1)  # the cycle undone
TYPES = {"__half": np.dtype("<f2"), "float": np.dtype("<f4")}
FUSED = ("fullyfusedmlp", "megakernelmlp")


def describe(snapshot: Snapshot) -> dict[str, Any]:
    """What the snapshot is, as plain data."""
    state, data = snapshot.snapshot, snapshot.dataset
    return {
        "mode": state.mode,
        "encoding": snapshot.encoding.otype,
        "parameters": state.n_params,
        "steps": state.training_step,
        "cameras": len(data.xforms),
        "aabb_scale": snapshot.aabb_scale,
    }


def read(path: Path, snapshot: Snapshot, place: Placement) -> Model:
    """The snapshot as a Model of the `hash` field in the world of its data set, with that data set's cameras.

    Raises InputError naming what in it differs from the hash field.
    """
    _check(path, snapshot)
    field = _field(path, snapshot)
    bounds = _bounds(path, snapshot, place)
    occupancy = _occupancy(path, snapshot, bounds.cascades)
    if occupancy is None:  # saved before anything was learned of it
        occupancy = find_occupied(Volume(field, bounds, torch.zeros(bounds.cascades, 0, dtype=torch.int64)))
    cameras, names = _cameras(path, snapshot)
    state = snapshot.snapshot
    colour = tuple(min(max(float(v), 0.0), 1.0) for v in state.background_color[:3])
    left_out = len(snapshot.dataset.xforms) - len(cameras)
    made = {"source": "instant-ngp", "file": path.name, "steps": state.training_step, "cameras": "the snapshot's"}
    return Model(
        field.eval(),
        bounds,
        occupancy,
        cameras,
        camera_names=names,
        background=place.background or (colour if len(colour) == 3 else (0.0, 0.0, 0.0)),
        made=made | ({"cameras_left_out": left_out} if left_out else {}),
        lineage=[f"instant-ngp snapshot ({path.name})"],
    )


def _check(path: Path, snapshot: Snapshot) -> None:
    """Refuses, by name, what is not the hash field's."""
    state, grid, data = snapshot.snapshot, snapshot.encoding, snapshot.dataset
    _need(path, "snapshot.version", state.version, state.version == VERSION, str(VERSION))
    _need(path, "snapshot.mode", state.mode, state.mode.lower() == "nerf", "nerf, a radiance field")
    _need(path, "snapshot.params_type", state.params_type, state.params_type in TYPES, "__half or float")
    _need(path, "snapshot.density_grid_size", state.density_grid_size, state.density_grid_size == CELLS, str(CELLS))
    _need(path, "encoding.otype", grid.otype, grid.otype.lower() in ("hashgrid", "grid"), "HashGrid")
    _need(path, "encoding.type", grid.type, grid.type.lower() == "hash", "Hash")
    _need(path, "encoding.hash", grid.hash, grid.hash.lower() == "coherentprime", "CoherentPrime")
    _need(path, "encoding.interpolation", grid.interpolation, grid.interpolation.lower() == "linear", "Linear")
    _need(path, "encoding.fixed_point_pos", grid.fixed_point_pos, not grid.fixed_point_pos, "false")
    for name, network in (("network", snapshot.network), ("rgb_network", snapshot.rgb_network or Network("missing"))):
        known = network.otype.lower() in (*FUSED, "cutlassmlp")
        _need(path, f"{name}.otype", network.otype, known, "FullyFusedMLP or CutlassMLP")
        _need(path, f"{name}.activation", network.activation, network.activation.lower() == "relu", "ReLU")
        own = network.output_activation
        _need(path, f"{name}.output_activation", own, own.lower() == "none", "None")
    kind, degree = _direction(snapshot)
    _need(path, "dir_encoding", kind, kind.lower() == "sphericalharmonics" and degree == 4, "harmonics of degree 4")
    extra = data.n_extra_learnable_dims
    _need(path, "n_extra_learnable_dims", extra, extra == 0, "0, no latent code a photo")
    _need(path, "is_hdr", data.is_hdr, not data.is_hdr, "false")


def _need(path: Path, name: str, given: object, holds: bool, allowed: str) -> None:
    if not holds:
        raise InputError(f"{path}: {name} is {str(given)[:60]}; the hash field needs {allowed}")


def _direction(snapshot: Snapshot) -> tuple[str, int]:
    """The direction's encoding, alone or first of a composite, and its degree."""
    own = snapshot.dir_encoding
    if own is not None and own.otype.lower() == "composite" and own.nested:
        own = own.nested[0]
    return (own.otype, own.degree) if own is not None else ("missing", 0)


def _field(path: Path, snapshot: Snapshot) -> HashField:
    """The field of the Config whose size is the number of parameters."""
    state = snapshot.snapshot
    kind = TYPES[state.params_type]
    if len(state.params_binary) != state.n_params * kind.itemsize:
        raise InputError(f"{path}: params_binary has {len(state.params_binary)} bytes for n_params {state.n_params}")
    values = np.frombuffer(state.params_binary, kind)
    needed = []
    for config, density, colour in _candidates(path, snapshot):
        entries = HashGeometry.of(config.levels, config.table, config.base, config.finest).entries
        needed.append(sum(math.prod(shape) for shape in density + colour) + entries * config.features)
        if needed[-1] == len(values):
            return _filled(path, values, config, density, colour)
    raise InputError(
        f"{path}: holds {len(values)} parameters, its configs need {needed[0]}; it has inputs that its configs do not "
        "name (light directions, latent codes), or is of another version"
    )


def _candidates(path: Path, snapshot: Snapshot) -> Iterator[tuple[Config, list, list]]:
    """Configs with the shapes of both networks: widths are padded to 16 or, on older GPUs, to 8.

    A per_level_scale that was not given was computed in float32: one rounding up or down can add a point to a dense
    level, which the number of parameters then tells.
    """
    grid, inner, outer = snapshot.encoding, snapshot.network, snapshot.rgb_network
    features = grid.n_features_per_level
    levels = grid.n_features // max(features, 1) if grid.n_features else grid.n_levels
    base = grid.base_resolution or 1 << (grid.log2_hashmap_size // 3)
    for alignment in (16, 8) if inner.otype.lower() in FUSED or outer.otype.lower() in FUSED else (8,):
        code = _padded(inner.n_output_dims, alignment)
        for growth in _growths(snapshot, levels, base):
            try:
                finest = base * float(growth) ** (levels - 1)
                config = Config(
                    levels=levels, features=features, table=grid.log2_hashmap_size, base=base, finest=finest,
                    hidden=max(inner.n_neurons, outer.n_neurons), density_layers=inner.n_hidden_layers,
                    colour_layers=outer.n_hidden_layers, code=code, degree=4,
                    axes="xyz" if snapshot.dataset.from_mitsuba else "yzx",
                )  # fmt: skip
            except (ValueError, OverflowError) as error:
                raise InputError(f"{path}: its sizes are not those of a hash field: {error}") from None
            inputs = _padded(levels * features, 16 if inner.otype.lower() in FUSED else 8)
            density = _shapes(inputs, inner, code)
            yield config, density, _shapes(code + config.degree**2, outer, _padded(3, alignment))


def _growths(snapshot: Snapshot, levels: int, base: int) -> list[np.float32]:
    given = snapshot.encoding.per_level_scale
    if given > 0 or levels < 2:
        return [np.float32(given if given > 0 else 1.0)]
    finest = np.float32(FINEST * snapshot.aabb_scale) / np.float32(base)
    middle = np.exp(np.log(finest) / np.float32(levels - 1), dtype=np.float32)
    return [middle, np.nextafter(middle, np.float32(np.inf)), np.nextafter(middle, np.float32(0))]


def _padded(width: int, alignment: int) -> int:
    return -(-width // alignment) * alignment


def _shapes(inputs: int, network: Network, outputs: int) -> list[tuple[int, int]]:
    """[out, in] of a network's matrices."""
    widths = [inputs] + [network.n_neurons] * network.n_hidden_layers + [outputs]
    return [(after, before) for before, after in pairwise(widths)]


def _filled(path: Path, values: np.ndarray, config: Config, density: list, colour: list) -> HashField:
    """The field with these parameters, without padding; a network narrower than the other gets units that give 0."""
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise InputError(f"{path}: {bad} of {len(values)} parameters are not finite; take an earlier snapshot")
    with torch.random.fork_rng(devices=[]):  # its first values are overwritten: the caller's random numbers stay
        field = HashField(config)
    names = [f"heads.density.{i}" for i in range(len(density))] + [f"heads.colour.{i}" for i in range(len(colour))]
    found, begin, expected = {}, 0, field.state_dict()
    for name, (rows, columns) in zip(names, density + colour, strict=True):
        matrix = torch.from_numpy(values[begin : begin + rows * columns].astype(np.float32)).reshape(rows, columns)
        begin += rows * columns
        found[name] = torch.zeros_like(expected[name])
        rows, columns = min(rows, found[name].shape[0]), min(columns, found[name].shape[1])
        found[name][:rows, :columns] = matrix[:rows, :columns]
    found["table"] = torch.from_numpy(values[begin:].astype(np.float32)).reshape(expected["table"].shape)
    field.load_state_dict(found)
    return field


def _bounds(path: Path, snapshot: Snapshot, place: Placement) -> Bounds:
    """The unit cube in the world of the data set."""
    data, extent = snapshot.dataset, snapshot.aabb_scale
    if not (1 <= extent <= MOST_AABB and extent & (extent - 1) == 0):
        raise InputError(f"{path}: aabb_scale is {extent}; a power of two from 1 to {MOST_AABB} is needed")
    if not (0 < data.scale < 1e9 and all(abs(v) < 1e9 for v in data.offset)):
        raise InputError(f"{path}: scale {data.scale:g} or offset {data.offset} is impossible; save it again")
    centre = tuple((0.5 - v) / data.scale for v in data.offset)
    near = NEAR / data.scale if place.near is None else place.near
    return Bounds(centre, 1 / data.scale, 1 + int(math.log2(extent)), "box", near)


def _occupancy(path: Path, snapshot: Snapshot, cascades: int) -> Tensor | None:
    """Bits of our bricks from the density grid; what lies outside a saved crop box is empty."""
    raw = np.frombuffer(snapshot.snapshot.density_grid_binary, np.uint8)
    if not len(raw):
        return None
    if len(raw) != cascades * CELLS**3 * 2:
        needed = cascades * CELLS**3 * 2
        raise InputError(f"{path}: density_grid_binary has {len(raw)} bytes, {needed} are needed for its aabb_scale")
    density = torch.from_numpy(raw.view("<f2").astype(np.float32)).reshape(cascades, -1)[:, _morton()]
    density = density.reshape(cascades, CELLS, CELLS, CELLS)  # z, y, x
    density = torch.where(density.isfinite(), density, 1.0)  # an overflow of half precision is dense
    cells = density > min(THICKNESS, float(density[0].clamp(min=0).mean()))
    quarter = CELLS // 4
    for cascade in range(1, cascades):
        inner = torch.nn.functional.max_pool3d(cells[cascade - 1].float()[None], 2)[0] > 0
        cells[cascade, quarter:-quarter, quarter:-quarter, quarter:-quarter] |= inner
    cells &= _uncropped(snapshot, cascades)
    bits = bricks_of(cells)
    return bits if snapshot.dataset.from_mitsuba else turn_occupancy(bits, BACK)


def _morton() -> Tensor:
    """Places in Morton order of all cells by z, y, x."""
    spread = sum(((torch.arange(CELLS) >> bit) & 1) << (3 * bit) for bit in range(7))
    return (spread[:, None, None] << 2 | spread[:, None] << 1 | spread).reshape(-1)


def _uncropped(snapshot: Snapshot, cascades: int) -> Tensor:
    """Cells [cascades, z, y, x] whose middle lies within the crop box, where that has the axes' directions."""
    state = snapshot.snapshot
    kept = torch.ones(cascades, CELLS, CELLS, CELLS, dtype=torch.bool)
    turned = state.render_aabb_to_local
    if state.render_aabb is None or (turned and not np.allclose(np.array(turned), np.eye(3), atol=1e-4)):
        return kept
    middle = (torch.arange(CELLS) + 0.5) / CELLS - 0.5
    for cascade in range(cascades):
        for axis in range(3):
            p = middle * 2.0**cascade + 0.5
            inside = (p > state.render_aabb.min[axis]) & (p < state.render_aabb.max[axis])
            kept[cascade] &= inside.reshape([-1 if place == 2 - axis else 1 for place in range(3)])
    return kept


def _cameras(path: Path, snapshot: Snapshot) -> tuple[tuple[Camera, ...], tuple[str, ...]]:
    """The data set's cameras in its own world, and their photos' names; lenses that are not ours are left out."""
    data = snapshot.dataset
    if len(data.metadata) != len(data.xforms):
        raise InputError(f"{path}: {len(data.metadata)} entries of metadata for {len(data.xforms)} xforms")
    cameras, names = [], []
    for index, (about, transform) in enumerate(zip(data.metadata, data.xforms, strict=True)):
        where = f"{path}: xforms[{index}]"
        pose, _ = pose_from_matrix(transform.start, "opencv", where)
        order = (0, 1, 2) if data.from_mitsuba else BACK
        pose[:3] = pose[order, :]
        pose[:3, 3] = (pose[:3, 3] - np.array(data.offset)) / data.scale
        camera = _camera(pose, about, where)
        if camera is not None:
            cameras.append(camera)
            own = data.paths[index].replace("\\", "/").rpartition("/")[2] if index < len(data.paths) else ""
            names.append(own if own and own not in names else f"{index:04d}")
    return tuple(cameras), tuple(names)


def _camera(pose: np.ndarray, about: Metadata, where: str) -> Camera | None:
    lens = about.camera_distortion or about.lens
    if lens.ftheta_p0 is not None or lens.latlong or lens.equirectangular or lens.orthographic:
        return None
    (width, height), (fx, fy), (cx, cy) = about.resolution, about.focal_length, about.principal_point
    numbers = (lens.k1, lens.k2, lens.k3, lens.k4, lens.p1, lens.p2)
    sane = all(1 <= side <= 2**20 for side in (width, height)) and all(0 < f < 1e7 for f in (fx, fy))
    if not (sane and max(abs(v) for v in (cx, cy)) < 1e3 and all(abs(v) < 1e6 for v in numbers)):
        raise InputError(f"{where}: its resolution, focal length or lens is impossible; save the snapshot again")
    camera = Camera(pose, width, height, fx, fy, cx * width, cy * height)
    if lens.is_fisheye:
        return replace(camera, model="fisheye", distortion=(lens.k1, lens.k2, lens.k3, lens.k4, 0.0, 0.0, 0.0, 0.0))
    return replace(camera, distortion=(lens.k1, lens.k2, lens.p1, lens.p2, 0.0, 0.0, 0.0, 0.0))
