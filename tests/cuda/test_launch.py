"""What a launch asks of cuda-core, with one that only writes down: contexts, streams, arguments. No GPU is needed."""

import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from neuralfields.gpu import launch as cuda_launch
from neuralfields.gpu.compile import Built, Module

MODULE = Module("elements", (("NF_SCALAR", "float"),))


class OnGpu(Tensor):
    """A CPU tensor that says it is on GPU 1."""

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", 1)


class Recorder:
    """Stands in for the module cuda.core; like the driver, it launches only where a context is current."""

    def __init__(self) -> None:
        self.local, self.made, self.launched = threading.local(), [], []
        self.ObjectCode = SimpleNamespace(from_cubin=self._from_cubin)
        self.Stream = SimpleNamespace(from_handle=lambda handle: self._made("stream", handle))

    def _made(self, *what: object) -> tuple[object, ...]:
        self.made.append(what)
        return what

    def _from_cubin(self, cubin: bytes, name: str) -> SimpleNamespace:
        assert cubin == b"code" and name == MODULE.source
        return SimpleNamespace(get_kernel=lambda kernel: self._made("kernel", kernel))

    def Device(self, number: int) -> SimpleNamespace:
        return SimpleNamespace(set_current=lambda: setattr(self.local, "context", self._made("context", number)[1]))

    def LaunchConfig(self, grid: tuple[int, int], block: int) -> tuple[object, ...]:
        return self._made("configuration", grid, block)

    def launch(self, stream: object, configuration: object, kernel: object, *arguments: object) -> None:
        assert getattr(self.local, "context", None) == 1, "no context in this thread"
        self.launched.append((stream[1], configuration[1:], kernel[1], arguments))


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch):
    recorder, stream = Recorder(), SimpleNamespace(cuda_stream=77)

    @contextmanager
    def device(number: int):
        assert number == 1
        yield

    monkeypatch.setattr(cuda_launch, "compiler", lambda: recorder)
    monkeypatch.setattr(cuda_launch, "build", lambda module, arch: Built(b"code", "", 0.0))
    monkeypatch.setattr(cuda_launch, "arch", lambda device: "sm_90")
    monkeypatch.setattr(cuda_launch, "_thread", threading.local())
    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda number: stream)
    recorder.stream = stream
    caches = cuda_launch._loaded, cuda_launch._kernel, cuda_launch._stream, cuda_launch._configuration
    for cache in caches:
        cache.cache_clear()
    yield recorder
    for cache in caches:
        cache.cache_clear()


def tensor() -> Tensor:
    return torch.zeros(3).as_subclass(OnGpu)


def test_arguments_have_one_size_each(core: Recorder):
    x = tensor()
    cuda_launch.launch(MODULE, "adam_step", (5, 2), 256, x, None, 3, 0.5, True)
    ((stream, configuration, kernel, arguments),) = core.launched
    assert (stream, configuration, kernel) == (77, ((5, 2), 256), "adam_step")
    assert arguments == (x.data_ptr(), 0, 3, 0.5, 1)
    assert all(isinstance(a, int | float) for a in arguments) and isinstance(arguments[3], float)
    with pytest.raises(ValueError, match="contiguous"):
        cuda_launch.launch(MODULE, "adam_step", 1, 256, torch.zeros(4, 4).T.as_subclass(OnGpu))


def test_a_thread_that_has_called_nothing_of_cuda_gets_a_context(core: Recorder):
    """autograd runs the backward pass in a thread of its own, where torch may not have made one yet."""
    x = tensor()
    for _ in range(3):
        cuda_launch.launch(MODULE, "adam_step", 1, 256, x)
    faults = []

    def backward() -> None:
        try:
            cuda_launch.launch(MODULE, "adam_step", 1, 256, x)
        except AssertionError as fault:
            faults.append(fault)

    thread = threading.Thread(target=backward)
    thread.start()
    thread.join()
    assert not faults and len(core.launched) == 4
    assert core.made.count(("context", 1)) == 2  # one a thread, not one a launch


def test_what_a_launch_needs_is_made_once(core: Recorder):
    x = tensor()
    for _ in range(4):
        cuda_launch.launch(MODULE, "adam_step", 1, 256, x)
    assert sorted(what[0] for what in core.made) == ["configuration", "context", "kernel", "stream"]
    core.stream.cuda_stream = 78
    cuda_launch.launch(MODULE, "adam_step", 1, 128, x)
    assert core.launched[-1][:2] == (78, ((1, 1), 128))
    cuda_launch.launch(MODULE, "adam_step", 0, 128, x)
    cuda_launch.launch(MODULE, "adam_step", (3, 0), 128, x)
    assert len(core.launched) == 5
