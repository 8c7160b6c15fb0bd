"""The file of a checkpoint: what a fit's next step depends on, and the model as it stands, in one safetensors file.

Tensors of the file
  field.<name>, values.core, values.rest   parameters: of a field at its coarse-to-fine stage, or of Gaussians
  model.occupancy, model.cameras.*         the occupancy and the cameras of the model, as in a .nf file
  all others                               moments, averages, statistics: of the trainer alone (training/)

The JSON text is `State`. Its first key is `version`, by which the file is told from a .nf file.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from neuralfields import memory
from neuralfields.domain import CASCADE_WORDS
from neuralfields.errors import InputError, NeuralfieldsError
from neuralfields.fields import GAUSSIANS
from neuralfields.fields.field import Field
from neuralfields.fields.gaussians import GaussianField
from neuralfields.gaussians import Gaussians
from neuralfields.models.model import Model
from neuralfields.models.nf_file import camera_tensors, cameras_of, expected_shapes, field_maker, header_of, model_of
from neuralfields.models.nf_header import CONVENTIONS, ZERO_DIGEST, Header, first_line
from neuralfields.models.record import portable
from neuralfields.ops.splat_pass import CORE, Packed
from neuralfields.rendering.moving_splats import WIDE, unpacked

VERSION = 2
HEAD = b'{"__metadata__":{"neuralfields":"{\\"version\\":'
CAMERAS = "model."  # before the names of a .nf file's camera tensors
REMEDY = "go on with its fit (nf fit ... --resume), or start anew with --overwrite"


class State(msgspec.Struct, forbid_unknown_fields=True):
    """JSON header of a checkpoint: plain numbers, the description of its fit, and the header of the model."""

    version: int
    counters: dict[str, int]
    seconds: float
    fit: dict[str, Any]
    sha256: str
    model: Header | None = None

    @property
    def step(self) -> int:
        """Steps that were taken; trainers of Gaussians count them under another name."""
        return self.counters.get("step", self.counters.get("step_count", 0))

    @property
    def kind(self) -> str:
        """What is not finished: a fit, or a compression."""
        return str(self.fit.get("kind", "fit"))[:20]

    @property
    def progress(self) -> str:
        """In words: at step 200 of 2000."""
        planned = self.fit.get("steps")
        return f"at step {self.step}" + (f" of {planned}" if isinstance(planned, int) else "")


def is_fit_checkpoint(head: bytes) -> bool:
    """Whether a file that begins so is a checkpoint of `nf fit`."""
    return head[8:].startswith(HEAD)


def standing(model: Model, folder: Path) -> tuple[Header, dict[str, Tensor]]:
    """The header and the cameras of the model as it stands, for a checkpoint in `folder`; its parameters are there."""
    header = header_of(model, {})
    header.digest, header.made = ZERO_DIGEST.decode(), portable(header.made, folder)
    tensors = camera_tensors(model.cameras, model.held_out)
    if model.occupancy is not None:
        tensors["occupancy"] = model.occupancy.detach().cpu().contiguous()
    return header, {CAMERAS + name: tensor for name, tensor in tensors.items()}


def read_state(path: Path, tensors: dict[str, Tensor] | None = None) -> State:
    """Reads a checkpoint's JSON header, and its tensors into `tensors` if given. Raises InputError for other files."""
    from safetensors import SafetensorError, safe_open

    try:
        if not path.is_file():
            raise OSError
        with safe_open(path, framework="pt") as file:
            state = msgspec.json.decode((file.metadata() or {}).get("neuralfields", ""), type=State)
            if tensors is not None:
                tensors |= {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, msgspec.MsgspecError, OSError, RecursionError):
        raise InputError(f"{path}: not a readable checkpoint; remove it and run without --resume") from None
    if state.version > VERSION:
        raise InputError(f"{path}: checkpoint format {state.version}, this version reads up to {VERSION}")
    if tensors is not None and state.sha256 != hash_of(tensors, state):
        raise InputError(f"{path}: checkpoint is damaged; remove it and run without --resume")
    return state


def hash_of(tensors: dict[str, Tensor], state: State) -> str:
    """SHA-256 of everything: the tensors and the numbers beside them."""
    plain = [state.version, state.counters, state.seconds, state.fit, msgspec.to_builtins(state.model)]
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint is, as plain data, from its header alone. Raises InputError for one without a model."""
    state = read_state(path)
    header = _header(path, state)
    return {
        "path": str(path),
        "bytes": path.stat().st_size,
        "kind": f"checkpoint of a fit, {state.progress}",
        "field": header.field,
        "config": header.config,
        "domain": header.domain.kind,
        "signal": header.signal,
        "steps": state.step,
        "seconds": round(state.seconds, 3),
        "cameras": len(header.camera_names),
        "made": header.made,
    }


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> tuple[Model, str]:
    """The field as it stood when the checkpoint was written, and a line that says so; its fit is not touched.

    A field that is still to grow has been resampled to its last stage. Raises InputError for a file that is damaged,
    holds values that are not finite, or whose tensors do not fit its header.
    """
    tensors: dict[str, Tensor] = {}
    state = read_state(path, tensors)
    header = _header(path, state)
    for name, tensor in tensors.items():
        if name.startswith(("field.", "values.")) and not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{path}: tensor {name[:80]} holds values that are not finite; {REMEDY}")
    field = _gaussians(path, header, tensors) if header.field == GAUSSIANS else _field(path, header, tensors, state)
    occupancy, cameras = _occupancy(path, header, field, tensors), _cameras(path, header, tensors)
    held_out = torch.nonzero(tensors[f"{CAMERAS}cameras.held_out"]).flatten().tolist()
    if occupancy is not None:
        occupancy = occupancy.to(device)
    model = model_of(path, header, field.to(device), occupancy, cameras, tuple(held_out))
    return model, f"{path}: the checkpoint of a fit that is not finished; shown {state.progress}"


def _header(path: Path, state: State) -> Header:
    header = state.model
    if header is None and state.kind != "fit":
        raise InputError(f"{path}: is the checkpoint of a {state.kind}, {state.progress}; go on with it by --resume")
    if header is None:
        raise InputError(f"{path}: is a checkpoint without a model, of an older version; {REMEDY}")
    if any(CONVENTIONS.get(key) != value for key, value in header.conventions.items()):
        raise InputError(f"{path}: checkpoint of other conventions; update neuralfields")
    return header


def _field(path: Path, header: Header, tensors: dict[str, Tensor], state: State) -> Field:
    """A field at its last stage; where the file holds an earlier one, resampled from that."""
    make = field_maker(path, header)
    parameters = {name.removeprefix("field."): t for name, t in tensors.items() if name.startswith("field.")}
    final = expected_shapes(path, header, make)
    grown = all(name in parameters and t.shape == parameters[name].shape for name, t in final.items())
    needed = sum(t.numel() * t.element_size() for t in final.values())
    if not grown:
        memory.require(2 * needed, f"{path}: its field", "take another checkpoint")
    try:
        with torch.random.fork_rng(devices=[]):  # the first values are overwritten: the caller's random numbers stay
            if grown:
                field = make()
                field.load_state_dict(parameters)
                return field
            if needed > _bytes(parameters) << 3 * len(stages := _stages(make)):  # a stage doubles three axes at most
                raise InputError(f"{path}: its tensors do not fit its field; {REMEDY}")
            field = make()
            field.grow(min(max(state.counters.get("stage", 0), 0), len(stages)))
            field.load_state_dict(parameters)
            field.grow(len(stages))
            return field
    except (RuntimeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its tensors do not fit its field ({first_line(error)}); {REMEDY}") from None


def _stages(make: Any) -> tuple[float, ...]:
    with torch.device("meta"):
        return make().stages()


def _bytes(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _gaussians(path: Path, header: Header, tensors: dict[str, Tensor]) -> GaussianField:
    core, rest = tensors.get("values.core"), tensors.get("values.rest")
    fits = core is not None and rest is not None and core.dtype == rest.dtype == torch.float32
    moves = header.bounds.times is not None
    width = WIDE if moves else CORE
    if not (fits and core.shape == (len(core), width) and rest.shape in [(len(core), n) for n in (0, 16, 32, 48)]):
        raise InputError(f"{path}: holds no Gaussians; {REMEDY}")
    config = header.config
    try:
        antialiased, values = bool(config.get("antialiased")), Packed(core, rest)
        gaussians = unpacked(values, antialiased) if moves else Gaussians(*values.unpacked(), antialiased=antialiased)
        return GaussianField.of(gaussians, int(config.get("most", 0)))
    except (NeuralfieldsError, ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{path}: its Gaussians cannot be ({first_line(error)}); {REMEDY}") from None


def _occupancy(path: Path, header: Header, field: Field, tensors: dict[str, Tensor]) -> Tensor | None:
    bits, layers = tensors.get(f"{CAMERAS}occupancy"), header.bounds.cascades * field.domain.segments
    if bits is not None and (bits.dtype != torch.int64 or bits.shape != (layers, CASCADE_WORDS)):
        raise InputError(f"{path}: its occupancy grid does not fit its bounds; {REMEDY}")
    return bits


def _cameras(path: Path, header: Header, tensors: dict[str, Tensor]) -> tuple[Any, ...]:
    count = len(header.camera_names)
    expected = {
        "cameras.world_from_camera": (torch.float64, (count, 4, 4)),
        "cameras.intrinsics": (torch.float64, (count, 14)),
        "cameras.model": (torch.uint8, (count,)),
        "cameras.held_out": (torch.uint8, (count,)),
    }
    found = {name: tensors.get(CAMERAS + name) for name in expected}
    for name, (dtype, shape) in expected.items():
        tensor = found[name]
        if tensor is None or tensor.dtype != dtype or tensor.shape != shape:
            raise InputError(f"{path}: tensor {name} is missing or does not fit {count} cameras; {REMEDY}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{path}: tensor {name} holds values that are not finite; {REMEDY}")
    return cameras_of(path, found)
