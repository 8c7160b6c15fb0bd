"""Launches kernels on torch's current stream: tensors in and out by their pointers, compiled modules loaded once.

A kernel's arguments are tensors (a pointer), None (no pointer), int (64 bits) and float (double): nothing else, so that
no size can be mistaken. Memory is torch's; the stream's order keeps a kernel's buffers alive.
"""

import threading
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from neuralfields.errors import ResourceError, UsageError
from neuralfields.gpu.compile import Built, Module, build, compiler

THREADS = 256
Argument = Tensor | int | float | None
_thread = threading.local()  # devices: those whose context this thread has made current


def require_gpu() -> torch.device:
    """The current CUDA device; UsageError names what is missing."""
    missing = missing_for_cuda()
    if missing:
        raise UsageError(f"--device cuda: {missing}, or use --device cpu")
    return torch.device("cuda", torch.cuda.current_device())


def missing_for_cuda() -> str | None:
    """The missing requirement of the CUDA path on this machine and how to get it, or None."""
    if torch.version.cuda is None:
        return "this torch was built without CUDA; install a CUDA build of torch (see pytorch.org)"
    if not torch.cuda.is_available():
        return "torch finds no CUDA GPU; check nvidia-smi, the driver and CUDA_VISIBLE_DEVICES"
    major, minor = torch.cuda.get_device_capability()
    if major < 8:
        name = torch.cuda.get_device_name()
        return f"{name} is of compute capability {major}.{minor} and 8.0 (Ampere) is needed; use a newer GPU"
    try:
        compiler()
    except UsageError as error:
        return str(error)
    return None


def arch(device: int) -> str:
    """The architecture of a GPU, as sm_90."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


@lru_cache(maxsize=16)
def processors(device: int) -> int:
    """Number of multiprocessors of a GPU."""
    return torch.cuda.get_device_properties(device).multi_processor_count


@lru_cache(maxsize=256)
def _loaded(module: Module, device: int) -> Any:
    """Machine code on the device."""
    built: Built = build(module, arch(device))
    return compiler().ObjectCode.from_cubin(built.cubin, name=module.source)


@lru_cache(maxsize=1024)
def _kernel(module: Module, name: str, device: int) -> Any:
    return _loaded(module, device).get_kernel(name)


@lru_cache(maxsize=256)
def _stream(handle: int) -> Any:
    """torch's stream in cuda-core's type, cached because cuda-core defines a class for each that it makes."""
    return compiler().Stream.from_handle(handle)


@lru_cache(maxsize=1024)
def _configuration(grid: tuple[int, int], threads: int) -> Any:
    return compiler().LaunchConfig(grid=grid, block=threads)


def _make_current(device: int) -> None:
    """Makes the device's context current before this thread's first kernel on it.

    torch makes one when it calls CUDA itself: an autograd thread whose memory came from torch's cache has none.
    """
    devices = _thread.__dict__.setdefault("devices", set())
    if device not in devices:
        compiler().Device(device).set_current()
        devices.add(device)


def launch(module: Module, name: str, blocks: int | tuple[int, int], threads: int, *arguments: Argument) -> None:
    """Launches kernel `name` with that many blocks of threads, asynchronously. No blocks: nothing happens."""
    grid = blocks if isinstance(blocks, tuple) else (blocks, 1)
    if not grid[0] or not grid[1]:
        return
    device = next(a.device.index for a in arguments if isinstance(a, Tensor))
    with torch.cuda.device(device):
        _make_current(device)
        kernel = _kernel(module, name, device)
        stream = _stream(torch.cuda.current_stream(device).cuda_stream)
        compiler().launch(stream, _configuration(grid, threads), kernel, *map(_plain, arguments))


def _plain(argument: Argument) -> int | float:
    if isinstance(argument, Tensor):
        if not argument.is_contiguous():
            raise ValueError(f"a kernel needs contiguous tensors, got strides {list(argument.stride())}")
        return argument.data_ptr()
    return 0 if argument is None else argument


def blocks_for(count: int, threads: int = THREADS) -> int:
    """Number of blocks for one thread an element."""
    return -(-count // threads)


def scalar(dtype: torch.dtype) -> str:
    """The C++ name of a tensor's type; TypeError for an unsupported one."""
    names = {torch.float32: "float", torch.float64: "double"}
    if dtype not in names:
        raise TypeError(f"CUDA kernels take float32 or float64, not {dtype}")
    return names[dtype]


def inputs(*tensors: Tensor) -> list[Tensor]:
    """Prepares tensors for kernels: detached, contiguous, on one device, their floats of one type."""
    devices = {tensor.device for tensor in tensors}
    if len(devices) > 1:
        raise ValueError(f"tensors on different devices: {', '.join(sorted(map(str, devices)))}; move them to one")
    floats = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    if len(floats) > 1:
        raise TypeError(f"tensors of different types: {', '.join(sorted(map(str, floats)))}; convert them to one")
    return [tensor.detach().contiguous() for tensor in tensors]


def expect(**shapes: tuple[Tensor, tuple[int, ...]]) -> None:
    """Checks tensors' shapes by name; -1 leaves a side free. A kernel would read past a smaller one's end."""
    for name, (tensor, shape) in shapes.items():
        if len(tensor.shape) != len(shape) or any(b >= 0 and a != b for a, b in zip(tensor.shape, shape, strict=True)):
            wanted = ", ".join("*" if side < 0 else str(side) for side in shape)
            raise ValueError(f"{name} has shape {list(tensor.shape)}, expected [{wanted}]")


def out_of_memory(error: torch.cuda.OutOfMemoryError, knob: str) -> ResourceError:
    """The error as a ResourceError that names the option to change."""
    return ResourceError(f"the GPU's memory is full ({str(error).splitlines()[0][:160]}); {knob}")
