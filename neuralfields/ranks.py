"""Data-parallel training: torchrun starts the processes, each draws its own rays, and the gradients are averaged.

  torchrun --nproc-per-node 4 -m neuralfields fit CAPTURE        one process a GPU; without GPUs they meet through gloo

Every process holds the whole field and takes the same steps, so parameters stay equal without being sent. The first
process alone writes and reports. DistributedDataParallel's own wrapper is not used: it looks for gradients that
autograd made, and the fused renderer adds the table's gradient in place.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed


def started() -> int:
    """Number of processes that torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def count() -> int:
    """World size: the number of processes of this fit."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Rank of this process; 0 is the first."""
    return distributed.get_rank() if count() > 1 else 0


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Joins the process group of torchrun, if there is one; `device` as in --device.

    With GPUs each process takes the one of its local rank.
    """
    if started() < 2 or count() > 1:
        yield
        return
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def average(parameters: Iterable[Tensor], finite: bool) -> bool:
    """All-reduces every `.grad` to the mean over all processes; returns whether the loss was finite in all of them.

    A process without a gradient counts as zeros.
    """
    if count() == 1:
        return finite
    parameters = list(parameters)
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flag = torch.tensor(float(finite), device=parameters[0].device)
    waits = [distributed.all_reduce(p.grad, async_op=True) for p in parameters]
    waits.append(distributed.all_reduce(flag, distributed.ReduceOp.MIN, async_op=True))
    for wait in waits:
        wait.wait()
    for parameter in parameters:
        parameter.grad /= count()
    return bool(flag)


def mean(tensor: Tensor) -> Tensor:
    """All-reduce of a tensor to its mean over all processes."""
    if count() > 1:
        distributed.all_reduce(tensor)
        tensor /= count()
    return tensor


def total(number: float) -> float:
    """All-reduce of a number to its sum over all processes."""
    if count() == 1:
        return number
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    tensor = torch.tensor(number, dtype=torch.float64, device=device)
    distributed.all_reduce(tensor)
    return float(tensor)


def most(*values: float) -> list[float]:
    """All-reduce of each value to its maximum over all processes, so that all decide alike."""
    if count() == 1:
        return list(values)
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
    return tensor.tolist()
