"""Alternative backends: kernels of tiny-cuda-nn and nerfacc in place of ours, to compare on a CUDA GPU.

  backend   native, or tcnn: tiny-cuda-nn's hash encoding and its fused networks (gpu/tcnn.py)
  marcher   native, or nerfacc: its ray marching through the occupancy grid (gpu/nerfacc.py)

Parameters, their layout and files stay ours: one backend renders the fits of the other. Shapes that theirs cannot take
(other widths, one or two coordinates) stay with ours, op by op; the path that fuses a whole step is ours alone and off.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from neuralfields.errors import UsageError

# Option, the module with its native part (nerfacc builds its own there), how to get it, our module that wraps it.
OTHERS = {
    "tcnn": (
        "--backend tcnn", "tinycudann", "build tiny-cuda-nn's PyTorch bindings (they need nvcc and a C++ compiler)",
        "neuralfields.gpu.tcnn",
    ),
    "nerfacc": (
        "--marcher nerfacc", "nerfacc.cuda._backend", "pip install nerfacc (it needs nvcc and ninja at its first use)",
        "neuralfields.gpu.nerfacc",
    ),
}  # fmt: skip
DEVICE = "cuda"  # the device of the alternatives
_chosen: list[tuple[str, str]] = [("native", "native")]


@contextmanager
def using(backend: str = "native", marcher: str = "native", device: str = "cuda") -> Iterator[None]:
    """Context in which these backends compute; `device`: cpu or cuda, where the code will run.

    Raises UsageError for unknown names, on a CPU, and if a package is missing.
    """
    for name, of in ((backend, "tcnn"), (marcher, "nerfacc")):
        if name == "native":
            continue
        if name != of:
            raise UsageError(f"{OTHERS[of][0].split()[0]} {name}: must be native or {of}")
        _require(*OTHERS[of][:3], device)
    _chosen.append((backend, marcher))
    try:
        yield
    finally:
        _chosen.pop()


def uses(name: str, tensor: Tensor) -> bool:
    """Whether tcnn or nerfacc is in use for that tensor; tensors on the CPU stay with ours."""
    return name in _chosen[-1] and tensor.device.type == DEVICE


def ours_alone() -> bool:
    """Whether all backends are native, so that a field's fused path may be taken."""
    return _chosen[-1] == ("native", "native")


def other(name: str) -> Any:
    """Our wrapper module of tcnn or nerfacc."""
    return importlib.import_module(OTHERS[name][3])


def _require(option: str, module: str, how: str, device: str) -> None:
    if device != "cuda":
        raise UsageError(f"{option}: computes on a CUDA GPU alone, and this runs on the {device}; leave {option} out")
    try:
        missing = None if getattr(importlib.import_module(module), "_C", module) else "its kernels are not built"
    except (ImportError, OSError, RuntimeError) as error:  # not installed, built for another GPU, or its build failed
        missing = str(error).splitlines()[0]
    if missing:
        package = module.partition(".")[0]
        raise UsageError(f"{option}: {package} cannot be used here ({missing}); {how}, or leave {option} out")
