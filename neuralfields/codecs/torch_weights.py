"""Reads checkpoints of torch as plain tensors: a checkpoint is a pickle, and a pickle can run code when it is read.

Only torch's reader of weights is used: it knows tensors, numbers, texts and containers, and stops at anything else.
There is no other way in. A zip archive is looked at first: its members must lie in it uncompressed, as torch writes
them, so that nothing larger than the file is ever made of it.
"""

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neuralfields.errors import InputError
from neuralfields.files import size_text

LARGEST = 8 * 2**30  # bytes of a checkpoint; optimisers' states are in it too
ZIP, LEGACY = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
MEMBERS = 100_000


def is_checkpoint(head: bytes) -> bool:
    """Whether a file that begins so was written by torch.save: as a zip, or in its form before version 1.6."""
    return head.startswith((ZIP, LEGACY))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint's entries; nothing in it is ever run. Raises InputError for what holds more than plain data."""
    size = path.stat().st_size
    if size > LARGEST:
        raise InputError(f"{path}: {size_text(size)}; checkpoints of at most {size_text(LARGEST)} are read")
    _check_archive(path, size)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old torch versions' habits, which nobody can change in a file
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: {_reason(error)}; it was not loaded and nothing in it was run") from None
    except Exception as error:  # whatever a damaged pickle makes of the reader is about the file
        raise InputError(f"{path}: is damaged ({_line(error)}); copy it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not named weights; give a checkpoint")
    _check_sizes(path, content, size)
    return content


def state(path: Path, value: object, name: str) -> dict[str, Tensor]:
    """A state_dict of finite float32 tensors from a checkpoint's entry; InputError for anything else."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{path}: {name} is no state_dict; give a checkpoint")
    found = {}
    for key, tensor in value.items():
        if not isinstance(tensor, Tensor):
            raise InputError(f"{path}: {name}.{key[:80]} is a {type(tensor).__name__}, a tensor is needed")
        if tensor.is_floating_point():
            tensor = tensor.to(torch.float32)
            if not bool(torch.isfinite(tensor).all()):
                raise InputError(f"{path}: {name}.{key[:80]} holds values that are not finite; take another checkpoint")
        found[key] = tensor
    return found


def _check_archive(path: Path, size: int) -> None:
    """Refuses archives that would grow when they are read; what torch wrote is stored as it is."""
    with path.open("rb") as file:
        if not file.read(4).startswith(ZIP):
            return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        raise InputError(f"{path}: is a damaged archive ({_line(error)}); copy it again") from None
    if not any(member.filename.endswith("data.pkl") for member in members):
        raise InputError(f"{path}: is a zip archive, but no checkpoint of torch (it has no data.pkl)")
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if packed or len(members) > MEMBERS or sum(member.file_size for member in members) > size:
        raise InputError(f"{path}: its members are compressed or overlap, torch stores them plainly; save it again")


def _check_sizes(path: Path, content: object, size: int) -> None:
    """Tensors that claim more bytes than the file has were never in it."""
    storages = {}
    pending, looked = [content], 0
    while pending:
        item = pending.pop()
        looked += 1
        if looked > 1_000_000:
            raise InputError(f"{path}: holds more than a million entries; it is no checkpoint of a field")
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            pending.extend(item)
        elif isinstance(item, Tensor):
            storages[item.untyped_storage().data_ptr()] = item.untyped_storage().nbytes()
    if sum(storages.values()) > size:
        raise InputError(f"{path}: its tensors are larger than the file; it is damaged, copy it again")


def _reason(error: Exception) -> str:
    """What the reader of weights stopped at."""
    text = str(error)
    found = re.search(r"(?:GLOBAL|class|function|type) ([\w.]+)", text)
    name = f" ({found.group(1)[:80]})" if found and "." in found.group(1) else ""
    if "global" in text.lower() or "unsupported" in text.lower():
        return f"holds more than weights{name}, such as code or objects of other programs"
    return f"is no readable checkpoint ({_line(error)})"


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:120]
