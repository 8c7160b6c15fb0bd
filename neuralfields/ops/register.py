"""Registers a native op with `torch.library`: a forward and a backward op, each with a fake.

Both directions are ops of their own, so that autograd, torch.compile and torch.library.opcheck see whole ops and never
trace the native code. An op allocates its outputs by a function that is its fake at the same time: tracing assumes the
shapes and strides that the kernel gets. On CUDA tensors an op runs its one kernel (`OneKernel`), or its schedule of
neuralfields/gpu/schedules.py, which is loaded at the first such call.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

NAMESPACE = "neuralfields"


@dataclass(frozen=True)
class OneKernel:
    """An op that is one kernel on a GPU: cuda/gpu/<source>.cu, compiled for a scalar type, one thread a row of outputs.

    The kernel takes the op's tensors, the number of rows, the op's numbers, and the outputs. `shapes` are the tensors'
    by their names; sides of one name are equal.
    """

    source: str
    name: str
    shapes: dict[str, tuple[int | str, ...]]


@dataclass(frozen=True)
class Op:
    """A registered op: `parameters` are its arguments' names, `module` is its Python module."""

    allocate: Callable[..., Any]
    parameters: tuple[str, ...]
    module: str
    gpu: OneKernel | None


OPS: dict[str, Op] = {}  # registered ops of the loaded modules, by name


def every_op() -> dict[str, Op]:
    """Loads all modules of neuralfields.ops and returns the package's ops by name."""
    package = importlib.import_module("neuralfields.ops")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return OPS


def native_op(
    name: str, allocate: Callable[..., Any], mutates: tuple[str, ...] = (), gpu: OneKernel | None = None
) -> Callable[[Callable], Any]:
    """Decorator that registers an annotated function on CPU tensors as the op `neuralfields::name`.

    `allocate` takes the op's arguments and gives empty outputs; `mutates` names the arguments written in place; `gpu`
    is the op's kernel on CUDA tensors, if it is a single one.
    """

    def decorate(run: Callable) -> Any:
        OPS[name] = Op(allocate, tuple(inspect.signature(run).parameters), run.__module__, gpu)
        # Not torch.library.custom_op: its first call imports torch._dynamo, seconds of every process.
        whole = f"{NAMESPACE}::{name}"
        torch.library.define(whole, torch.library.infer_schema(run, mutates_args=mutates))
        written = [place for place, argument in enumerate(inspect.signature(run).parameters) if argument in mutates]
        for device, kernel in (("cpu", run), ("cuda", _on_cuda(name, allocate))):
            torch.library.impl(whole, device, _bump_versions(kernel, written) if written else kernel)
        torch.library.register_fake(whole, allocate)
        return getattr(getattr(torch.ops, NAMESPACE), name).default

    return decorate


def _bump_versions(run: Callable[..., Any], written: list[int]) -> Callable[..., Any]:
    """Wraps a kernel that writes into these arguments: bumps their version counters for autograd."""

    def counted(*args: Any) -> Any:
        result = run(*args)
        torch.autograd.graph.increment_version([args[place] for place in written])
        return result

    return counted


def _on_cuda(name: str, allocate: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        schedules = importlib.import_module("neuralfields.gpu.schedules")
        return schedules.schedule(name)(allocate, *args)

    return run


def nothing(*args: object) -> None:
    """Fake of an op that only writes in place."""
