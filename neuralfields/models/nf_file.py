"""Reads and writes `.nf`, the file of a fitted model: safetensors with a JSON header (nf_header.py), no pickle.

Tensors of the file
  field.<name>                 every entry of the field's state_dict, as in memory, or float16 where `half` names it,
                               or 8-bit codes where `quantised` does (models/quantise.py)
  occupancy                    [cascades, 32768] int64, one bit a cell, of a scene that moves so many for each of 8
                               segments of time; then, and beside 8-bit codes, one zlib stream of them
  cameras.world_from_camera    [N, 4, 4] float64
  cameras.intrinsics           [N, 14] float64: width, height, fx, fy, cx, cy, 8 of distortion
  cameras.model                [N] uint8: 0 perspective, 1 fisheye
  cameras.held_out             [N] uint8: 1 for a held-out (test) view
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import torch
from torch import Tensor

from neuralfields import fields
from neuralfields.cameras import Camera
from neuralfields.domain import CASCADE_WORDS, Domain
from neuralfields.errors import InputError, NeuralfieldsError
from neuralfields.fields import field_name
from neuralfields.fields.field import Field
from neuralfields.files import atomic_write, plain
from neuralfields.models.model import Model
from neuralfields.models.nf_header import (
    CONVENTIONS,
    FORMAT_VERSION,
    NEEDS,
    BoundsHeader,
    DomainHeader,
    Header,
    Quantised,
    TensorEntry,
    first_line,
    open_model,
    read_header,
    seal,
)
from neuralfields.models.quantise import Codes, Form, decode, encode, pack_words, plan, unpack_words
from neuralfields.models.record import located, portable, portable_lineage
from neuralfields.models.whole import whole
from neuralfields.scene import Bounds
from neuralfields.settings import did_you_mean

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


CAMERA_MODELS = ("perspective", "fisheye")


def save(model: Model, path: Path, half: bool = False, bits: int = 32, full_record: bool = False) -> None:
    """Writes a model to `path`, atomically; the same model gives the same bytes.

    `half` stores the field's grids as float16, `bits` 8 grids and weights as codes (models/quantise.py). The record
    names the capture relative to the file and holds no command line, unless `full_record` (models/record.py). Raises
    InputError when a value is not finite (the tensor is named) or the field is not one of ours, ResourceError when the
    disk is full, and what `files.atomic_write` raises.
    """
    if bits not in (8, 32) or (half and bits == 8):
        raise ValueError(f"bits {bits} with half {half}: 8 or 32, and half only with 32")
    if field_name(model.field) not in fields.stored_names():
        name = field_name(model.field)
        raise InputError(f"{path}: a {name} field is a teacher from elsewhere and is not saved; use nf convert")
    model = dataclasses.replace(model, field=whole(model.field))
    forms = plan(model.field) if bits == 8 else {}
    halves = _grid_keys(model.field) if half else {key for key, form in forms.items() if form == "half"}
    tensors, halved = _field_tensors(model.field, halves)
    quantised = _quantise(path, forms, tensors)
    if model.occupancy is not None:
        tensors["occupancy"] = model.occupancy.detach().cpu().contiguous()
        shape = list(model.occupancy.shape)
        needed = [model.bounds.cascades * model.field.domain.segments, CASCADE_WORDS]
        if shape != needed or model.occupancy.dtype != torch.int64:
            raise ValueError(f"occupancy is {model.occupancy.dtype} {shape}, int64 {needed} is needed")
        if bits == 8 or needed[0] > model.bounds.cascades:  # eight segments of time are much alike
            tensors["occupancy"] = pack_words(tensors["occupancy"])
    tensors |= camera_tensors(model.cameras, model.held_out)
    cameras_of(path, tensors)  # what `load` would refuse is not written
    for name, tensor in tensors.items():
        _require_finite(str(path), name, tensor)
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # every tensor stays aligned
    entries, position = {}, 0
    for name in order:
        tensor = tensors[name]
        end = position + tensor.numel() * tensor.element_size()
        entries[name] = TensorEntry(DTYPE_NAMES[tensor.dtype], list(tensor.shape), (position, end))
        position = end
    if not full_record:
        folder = Path(os.path.realpath(path)).parent
        model = dataclasses.replace(
            model, made=portable(model.made, folder), lineage=portable_lineage(model.lineage, folder)
        )
    header = header_of(model, {name: _sha256(tensors[name]) for name in order})
    header.half, header.quantised = halved, quantised
    head = seal(header, entries)

    def write(file: BinaryIO) -> None:
        file.write(head)
        for name in order:
            file.write(_bytes(tensors[name]))

    atomic_write(path, write, needed=len(head) + position)


def header_of(model: Model, hashes: dict[str, str]) -> Header:
    """The header of a model whose tensors have these hashes, not yet sealed."""
    names = model.camera_names or tuple(f"{index:04d}" for index in range(len(model.cameras)))
    if len(names) != len(model.cameras):
        raise ValueError(f"{len(names)} camera names for {len(model.cameras)} cameras")
    bounds = dataclasses.asdict(model.bounds) | {"centre": tuple(float(value) for value in model.bounds.centre)}
    bounds["origin"] = bounds["origin"] if any(bounds["origin"]) else None
    config, times = dataclasses.asdict(model.field.config), [camera.time for camera in model.cameras]
    parts = {"config": config, "bounds": bounds, "signal": model.signal, "background": list(model.background)}
    parts["camera_times"] = [time for time in times if time is not None]
    for part, values in parts.items():
        if _lost(values):
            raise InputError(f"{part} holds a value that is not finite: {values}; nothing was written")
    return Header(
        digest="",
        format_version=FORMAT_VERSION,
        needs=NEEDS,
        field=field_name(model.field),
        config=plain(config),
        domain=msgspec.convert(dataclasses.asdict(model.field.domain), DomainHeader),
        signal=plain(model.signal),
        bounds=msgspec.convert(bounds, BoundsHeader),
        conventions=CONVENTIONS,
        made=plain(model.made),
        metrics=plain(model.metrics),
        background=tuple(float(value) for value in model.background),  # type: ignore[arg-type]
        lineage=plain(model.lineage),
        camera_names=list(names),
        half=[],
        quantised={},
        sha256=hashes,
        camera_times=[] if None in times else times,
    )


def _lost(values: Any) -> bool:
    """Whether JSON would lose a number: it has no NaN and no infinity."""
    if isinstance(values, dict):
        return any(map(_lost, values.values()))
    if isinstance(values, list | tuple):
        return any(map(_lost, values))
    return isinstance(values, float) and not np.isfinite(values)


def _field_tensors(module: Field, halves: set[str]) -> tuple[dict[str, Tensor], list[str]]:
    tensors, halved = {}, []
    for key, value in module.state_dict().items():
        name, tensor = f"field.{key}", value.detach().cpu().contiguous()
        if key in halves and tensor.dtype == torch.float32:
            tensor = tensor.to(torch.float16)
            halved.append(name)
        tensors[name] = tensor
    return tensors, halved


def _quantise(path: Path, forms: dict[str, Form], tensors: dict[str, Tensor]) -> dict[str, Quantised]:
    """Replaces the tensors of an 8-bit file by their codes; returns how each is decoded."""
    found = {}
    for key, form in sorted(forms.items()):
        if form != "half":
            name = f"field.{key}"
            _require_finite(str(path), name, tensors[name])
            codes, shape = encode(tensors[name], form == "channels"), list(tensors[name].shape)
            tensors[name], found[name] = codes.stored, Quantised(shape, codes.low, codes.step, codes.coding)
    return found


def _dequantise(path: Path, name: str, stored: Tensor, form: Quantised) -> Tensor:
    try:
        tensor = decode(Codes(stored, form.low, form.step, form.coding), form.shape)
    except InputError as error:
        raise InputError(f"{path}: tensor {name}: {error}; restore a backup") from None
    _require_finite(str(path), name, tensor)
    return tensor


def _grid_keys(module: Field) -> set[str]:
    """Names of the parameters whose role is `grid`."""
    grids = {id(parameter) for group in module.groups() if group.role == "grid" for parameter in group.parameters}
    return {name for name, parameter in module.named_parameters() if id(parameter) in grids}


def _require_finite(where: str, name: str, tensor: Tensor) -> None:
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        bad = int((~torch.isfinite(tensor)).sum())
        raise InputError(
            f"{where}: tensor {name} holds {bad} of {tensor.numel()} values that are not finite (NaN, infinite or too "
            "large for its type); such a model is neither saved nor loaded, go back to the last checkpoint"
        )


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(_bytes(tensor)).hexdigest()


def camera_tensors(cameras: Sequence[Camera], held_out: Sequence[int]) -> dict[str, Tensor]:
    """The tensors of cameras, and which of them are held out."""
    count = len(cameras)
    poses = np.zeros((count, 4, 4))
    numbers = np.zeros((count, 14))
    kept = torch.zeros(count, dtype=torch.uint8)
    for index, camera in enumerate(cameras):
        poses[index] = camera.world_from_camera
        numbers[index, :6] = camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy
        numbers[index, 6:] = camera.distortion
    kept[list(held_out)] = 1
    models = torch.tensor([CAMERA_MODELS.index(camera.model) for camera in cameras], dtype=torch.uint8)
    return {
        "cameras.world_from_camera": torch.from_numpy(poses),
        "cameras.intrinsics": torch.from_numpy(numbers),
        "cameras.model": models,
        "cameras.held_out": kept,
    }


def load(path: Path, device: torch.device | str = "cpu") -> Model:
    """Reads a `.nf` file, bit for bit as `save` wrote it (grids stored as float16 come back as float32).

    Before the whole file is validated nothing larger than the file is allocated; nothing in it is ever run.
    Raises InputError: not a .nf file, cut short, changed, of a newer version, or not fitting its field.
    """
    path = Path(path)
    with open_model(path) as file:
        header, entries, begin = read_header(path, file)
        make = field_maker(path, header)
        _check_field(path, header, entries, make)
        tensors = _read_tensors(path, file, header, entries, begin)
    with torch.random.fork_rng(devices=[]):  # the first values are overwritten: the caller's random numbers stay
        module = make()
    for name, form in header.quantised.items():
        tensors[name] = _dequantise(path, name, tensors[name], form)
    state = {name.removeprefix("field."): value for name, value in tensors.items() if name.startswith("field.")}
    module.load_state_dict(state)
    layers = header.bounds.cascades * module.domain.segments
    occupancy = _occupancy(path, tensors.get("occupancy"), layers)
    cameras, held_out = cameras_of(path, tensors), torch.nonzero(tensors["cameras.held_out"]).flatten().tolist()
    occupancy = None if occupancy is None else occupancy.to(device)
    return model_of(path, header, module.to(device), occupancy, cameras, tuple(held_out))


def model_of(
    path: Path,
    header: Header,
    field: Field,
    occupancy: Tensor | None,
    cameras: tuple[Camera, ...],
    held_out: tuple[int, ...],
) -> Model:
    """The model of a header and what the rest of a file at `path` holds."""
    if header.camera_times:
        timed = zip(cameras, header.camera_times, strict=True)
        cameras = tuple(dataclasses.replace(camera, time=time) for camera, time in timed)
    return Model(
        field=field,
        bounds=Bounds(**msgspec.structs.asdict(header.bounds) | {"origin": header.bounds.origin or (0.0, 0.0, 0.0)}),
        occupancy=occupancy,
        cameras=cameras,
        held_out=held_out,
        camera_names=tuple(header.camera_names),
        background=header.background,
        made=located(header.made, Path(os.path.realpath(path)).parent),
        metrics=header.metrics,
        lineage=header.lineage,
        signal=header.signal,
    )


def _occupancy(path: Path, stored: Tensor | None, layers: int) -> Tensor | None:
    if stored is None or stored.dtype == torch.int64:
        return stored
    try:
        return unpack_words(stored, [layers, CASCADE_WORDS])
    except InputError as error:
        raise InputError(f"{path}: tensor occupancy: {error}; restore a backup") from None


def field_maker(path: Path, header: Header) -> Callable[[], Field]:
    """Makes the field from the header's plain values."""
    known = fields.stored_names()
    if header.field not in known:
        near = did_you_mean(header.field, known)
        raise InputError(f"{path}: field {header.field[:60]!r} is unknown{near}; known: {', '.join(known)}")
    field_class = fields.field_class(header.field)
    names = [item.name for item in dataclasses.fields(field_class.Config)]
    for key in header.config:
        if key not in names:
            near = did_you_mean(key, names)
            raise InputError(f"{path}: config.{key[:60]} is unknown to field {header.field}{near}; update neuralfields")
    try:
        domain = Domain(**msgspec.to_builtins(header.domain))
    except ValueError as error:
        raise InputError(f"{path}: domain: {first_line(error)}; restore a backup") from None
    if domain.kind not in field_class.DOMAINS:
        raise InputError(f"{path}: field {header.field} serves {', '.join(field_class.DOMAINS)}, not {domain.kind}")
    try:
        config = field_class.FORMER | header.config
        return partial(field_class, msgspec.convert(config, field_class.Config), domain)
    except (msgspec.ValidationError, NeuralfieldsError, ValueError) as error:
        raise InputError(f"{path}: config of field {header.field}: {first_line(error)}; restore a backup") from None


def expected_shapes(path: Path, header: Header, make: Callable[[], Field]) -> dict[str, Tensor]:
    """The state of a header's field, built on the meta device where nothing is allocated.

    There an op that makes a new tensor by arithmetic (mul, normal_) loads torch's compiler, two seconds: constructors
    work in place (mul_). Raises InputError where no such field can be made.
    """
    try:
        with torch.device("meta"):
            return make().state_dict()
    except Exception as error:  # the config is untrusted: any error of a constructor is the file's
        raise InputError(f"{path}: field {header.field} cannot be made of its config ({first_line(error)})") from None


def _check_field(path: Path, header: Header, entries: dict[str, TensorEntry], make: Callable) -> None:
    """Compares the file's tensors with those of the field."""
    expected = {f"field.{key}": value for key, value in expected_shapes(path, header, make).items()}
    for name in expected:
        if name not in entries:
            raise InputError(f"{path}: tensor {name} of field {header.field} is missing; restore a backup")
    for name, entry in entries.items():
        if not name.startswith("field."):
            continue
        if name not in expected:
            near = did_you_mean(name, expected)
            raise InputError(f"{path}: tensor {name[:80]} does not belong to field {header.field}{near}")
        shape, dtype = list(expected[name].shape), DTYPE_NAMES[expected[name].dtype]
        stored, form = "F16" if name in header.half and dtype == "F32" else dtype, header.quantised.get(name)
        if form is not None and (form.shape != shape or dtype != "F32"):
            raise InputError(f"{path}: tensor {name} holds codes of {form.shape}, its config needs {dtype} {shape}")
        if form is None and (entry.shape, entry.dtype) != (shape, stored):
            raise InputError(f"{path}: tensor {name} is {entry.dtype} {entry.shape}, its config needs {stored} {shape}")


def _read_tensors(
    path: Path, file: BinaryIO, header: Header, entries: dict[str, TensorEntry], begin: int
) -> dict[str, Tensor]:
    tensors = {}
    file.seek(begin)
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        raw = torch.empty(entry.nbytes, dtype=torch.uint8)
        view = memoryview(raw.numpy())
        if file.readinto(view) != entry.nbytes:  # type: ignore[attr-defined]
            raise InputError(f"{path}: was cut short while it was read; copy it again")
        if hashlib.sha256(view).hexdigest() != header.sha256[name]:
            raise InputError(
                f"{path}: tensor {name} was changed after it was written (sha256 differs); restore a backup"
            )
        if entry.dtype == "BOOL" and bool((raw > 1).any()):
            raise InputError(f"{path}: tensor {name} is BOOL and holds bytes other than 0 and 1; restore a backup")
        tensor = raw.view(DTYPES[entry.dtype]).reshape(entry.shape)
        _require_finite(str(path), name, tensor)
        tensors[name] = tensor.to(torch.float32) if name in header.half else tensor
    return tensors


def cameras_of(path: Path, tensors: dict[str, Tensor]) -> tuple[Camera, ...]:
    """The cameras of a file's tensors. Raises InputError for those that cannot be."""
    poses = tensors["cameras.world_from_camera"].numpy()
    numbers = tensors["cameras.intrinsics"].tolist()
    kinds, kept = tensors["cameras.model"].tolist(), tensors["cameras.held_out"].tolist()
    cameras = []
    for index, (pose, values, kind, flag) in enumerate(zip(poses, numbers, kinds, kept, strict=True)):
        width, height, fx, fy, cx, cy, *distortion = values
        sides_ok = all(side == int(side) and 1 <= side <= 2**20 for side in (width, height))
        pose_ok = np.array_equal(pose[3], (0.0, 0.0, 0.0, 1.0)) and abs(np.linalg.det(pose[:3, :3]) - 1) < 1e-2
        if not (sides_ok and pose_ok and fx > 0 and fy > 0 and kind < len(CAMERA_MODELS) and flag < 2):
            raise InputError(
                f"{path}: camera {index}: its size, focal length, pose or model is impossible; restore a backup"
            )
        model = CAMERA_MODELS[kind]
        lens = (fx, fy, cx, cy)
        cameras.append(Camera(pose, int(width), int(height), *lens, model=model, distortion=tuple(distortion)))
    return tuple(cameras)
