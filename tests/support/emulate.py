"""The GPU's kernels on the CPU: their sources compiled by g++ against emulator.h, and a `launch` that runs them.

What runs is what runs on a GPU down to shuffles and tensor-core products, with the Python side that starts it: grid
sizes, arguments and their order. What cannot be seen here is the machine itself: its atomics, its caches, its timing.
"""

import ctypes
import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from unittest import mock

import torch

from neuralfields.gpu import launch as cuda_launch
from neuralfields.gpu.compile import Module, source_folder, sources_digest
from tests.support.side_by_side import made_once

HERE = Path(__file__).parent
FLAGS = ["-std=c++17", "-O1", "-fPIC", "-shared", "-w"]
KERNEL = re.compile(r"^NF_KERNEL (?:__launch_bounds__\(\w+\) )?(\w+)\(", re.MULTILINE)


def kernels_of(source: str) -> list[str]:
    """Names of the kernels in a file of cuda/gpu."""
    return KERNEL.findall((source_folder() / "gpu" / f"{source}.cu").read_text())


def program(module: Module) -> str:
    """A C++ file that holds a module's kernels and a door to each."""
    lines = [f"#define {name} {value}" for name, value in module.defines]
    lines += [f'#define NF_EMULATOR "{HERE / "emulator.h"}"', f'#include "{module.source}.cu"']
    for name in kernels_of(module.source):
        lines.append(
            f'extern "C" const char* run_{name}(void** a, unsigned x, unsigned y, int threads, int reverse) '
            f"{{ return nf::emulator::launch({name}, a, {{x, y, 1}}, threads, reverse); }}"
        )
        lines.append(f'extern "C" const char* signature_{name}() {{ return nf::emulator::signature({name}); }}')
    return "\n".join(lines)


class Emulator:
    """Compiles modules as they are needed, each once, and runs their kernels on CPU tensors.

    `kept`: the folder for what is compiled. `launched`: the kernels that ran; `ops`: the ops that were tried.
    """

    def __init__(self, kept: Path) -> None:
        self.kept = kept
        self.reverse = False
        self.launched: list[str] = []
        self.ops: set[str] = set()
        self.library = lru_cache(maxsize=None)(self._library)

    def _library(self, module: Module) -> ctypes.CDLL:
        text = program(module)
        depends = text, (HERE / "emulator.h").read_text(), sources_digest(source_folder()), *FLAGS, compiler_version()
        name = hashlib.sha256("\0".join(depends).encode()).hexdigest()[:16]

        def compiled(target: Path) -> None:
            command = ["g++", *FLAGS, f"-I{source_folder() / 'gpu'}", "-x", "c++", "-", "-o", str(target)]
            done = subprocess.run(command, input=text, text=True, capture_output=True)
            assert done.returncode == 0, done.stderr[:4000]

        return ctypes.CDLL(str(made_once(f"{module.source}-{name}.so", compiled, self.kept)))

    def launch(self, module: Module, name: str, blocks, threads: int, *arguments) -> None:
        """Stands in for cuda_launch.launch."""
        grid = blocks if isinstance(blocks, tuple) else (blocks, 1)
        if not grid[0] or not grid[1]:
            return
        library = self.library(module)
        signature, run = getattr(library, f"signature_{name}"), getattr(library, f"run_{name}")
        signature.restype = run.restype = ctypes.c_char_p
        given = "".join(map(_letter, arguments))
        assert given == signature().decode(), f"{name} takes {signature().decode()}, it was given {given}"
        cells = [_cell(a) for a in arguments]
        pointers = (ctypes.c_void_p * len(cells))(*(ctypes.addressof(cell) for cell in cells))
        fault = run(pointers, grid[0], grid[1], threads, int(self.reverse))
        assert fault is None, f"{name}: {fault.decode()}"
        self.launched.append(name)

    @contextmanager
    def running(self, reverse: bool = False, processors: int = 2) -> Iterator[None]:
        """Every launch goes to the emulator; `reverse` runs blocks and threads from the last to the first."""
        self.reverse = reverse
        with (
            mock.patch.object(cuda_launch, "launch", self.launch),
            mock.patch.object(cuda_launch, "processors", lambda device: processors),
        ):
            yield


def _letter(argument) -> str:
    if argument is None or isinstance(argument, torch.Tensor):
        return "p"
    return "i" if isinstance(argument, int) else "d"


def _cell(argument):
    if argument is None:
        return ctypes.c_void_p(0)
    if isinstance(argument, torch.Tensor):
        assert argument.is_contiguous() and argument.device.type == "cpu"
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_longlong(argument) if isinstance(argument, int) else ctypes.c_double(argument)


@lru_cache(maxsize=1)
def compiler_version() -> str:
    """Version of g++ with the machine that it compiles for."""
    return subprocess.run(["g++", "--version", "-dumpmachine"], capture_output=True, text=True, check=True).stdout


def missing() -> str | None:
    """Why kernels cannot be emulated here, or None."""
    if not shutil.which("g++"):
        return "no g++ on this machine"
    check = subprocess.run(
        ["g++", "-std=c++17", "-fsyntax-only", "-x", "c++", "-"], input="_Float16 h;", text=True, capture_output=True
    )
    return None if check.returncode == 0 else "this g++ has no _Float16"
