"""How an op is told to torch: one custom op for the forward, one for the backward, each with its fake.

Both directions are ops of their own, so that autograd, torch.compile and torch.library.opcheck see whole ops and never
look into the native code. An op allocates its outputs by a function that is its fake at the same time: what tracing
believes about shapes and strides is what the kernel gets. On CUDA tensors an op runs its schedule of
ops/cuda_schedules.py, which is loaded when the first one comes.
"""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import torch

NAMESPACE = "neuralfields"


def native_op(name: str, allocate: Callable[..., Any], mutates: tuple[str, ...] = ()) -> Callable[[Callable], Any]:
    """Decorator: an annotated function on CPU tensors becomes the op `neuralfields::name`.

    `allocate` takes the op's arguments and gives empty outputs; `mutates` names the arguments written in place.
    """

    def decorate(run: Callable) -> Any:
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
    """The same kernel; autograd is told that it has written into these arguments."""

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
    """The fake of an op that only writes in place."""
