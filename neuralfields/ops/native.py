"""Loads the native CPU core and dispatches its kernels by dtype.

The core takes contiguous CPU tensors of float32 or float64 by DLPack, without a copy. The instruction set is chosen
once at load; the environment variable NEURALFIELDS_ISA names another, and NEURALFIELDS_BFLOAT16 what multiplies
bfloat16 (amx, avx512_bf16, or none: products of float32).
"""

import os
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from neuralfields.errors import UsageError

BUILD_COMMAND = "pip install ."


@lru_cache(maxsize=1)
def library() -> ModuleType:
    """The compiled module; an error names the command that builds it."""
    try:
        from neuralfields import _native
    except ImportError as error:
        raise UsageError(f"the native core is not built ({error}); build it with: {BUILD_COMMAND}") from None
    wanted = os.environ.get("NEURALFIELDS_ISA")
    if wanted:
        try:
            _native.choose(wanted)
        except ValueError:
            names = ", ".join(_native.instruction_sets())
            raise UsageError(f"NEURALFIELDS_ISA={wanted} is not available here; this machine runs {names}") from None
    products = os.environ.get("NEURALFIELDS_BFLOAT16")
    if products:
        try:
            _native.choose_bfloat16("" if products == "none" else products)
        except ValueError:
            names = ", ".join([*_native.bfloat16_products(), "none"])
            raise UsageError(
                f"NEURALFIELDS_BFLOAT16={products} is not available here; this machine has {names}"
            ) from None
    return _native


def kernel(name: str, dtype: torch.dtype) -> Any:
    """The native function (overloaded by dtype) or class (one per dtype) of that name."""
    if dtype not in _SUFFIX:
        raise TypeError(f"{name} takes float32 or float64, not {dtype}")
    core = library()
    return getattr(core, name) if hasattr(core, name) else getattr(core, name + _SUFFIX[dtype])


_SUFFIX = {torch.float32: "32", torch.float64: "64"}


def array(tensor: Tensor) -> Tensor:
    """The tensor in the form that the core takes: detached and contiguous, on the CPU."""
    if tensor.device.type != "cpu":
        raise TypeError(f"this op runs on cpu tensors, got one on {tensor.device}")
    return tensor.detach().contiguous()


def threads() -> int:
    """Number of threads of native loops: torch's own setting."""
    return torch.get_num_threads()


def status() -> dict[str, Any]:
    """Build and instruction set of the core, for `nf doctor`."""
    core = library()
    return {
        "built": True,
        "instruction_sets": list(core.instruction_sets()),
        "instruction_set": core.instruction_set(),
        "bfloat16": core.bfloat16_product() or "none",
        "threads": threads(),
        "path": core.__file__,
    }
