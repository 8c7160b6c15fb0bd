"""Compiles the package's GPU sources to machine code: NVRTC through `cuda-core`, and a cache on disk.

Vocabulary
  module    one file of cuda/gpu compiled for one set of #defines (`Module`): a field's Config becomes constants
  arch      sm_80, sm_90, ...: one generation of GPUs          cubin    machine code for one of them
  key       sha256 over all that the machine code depends on: sources, defines, options, arch, NVRTC's version

No nvcc, no host compiler, no torch header and no GPU is needed to compile. A cache entry is written atomically; a
damaged one is detected by its digest and compiled anew.
"""

import hashlib
import io
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from neuralfields.errors import NeuralfieldsError, UsageError
from neuralfields.files import atomic_write_bytes, cache_folder

INSTALL = "pip install 'neuralfields[cuda]'"
MAGIC = b"neuralfields cubin 1\n"
# Warnings are errors: a kernel that warns on one generation of GPUs is not shipped for it.
# Device by default: NVRTC has no host, and takes a generic lambda in a device function for a host one otherwise.
OPTIONS = {"std": "c++17", "ptxas_options": ["-v"], "device_as_default_execution_space": True}


@dataclass(frozen=True)
class Module:
    """A source of cuda/gpu by its name without suffix, and its #defines in order."""

    source: str
    defines: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Built:
    """Machine code, the log of ptxas (registers, spills), seconds of compiling (0: it came from the cache)."""

    cubin: bytes
    log: str
    seconds: float


def source_folder() -> Path:
    """The folder cuda/ of the installed package or of the repository."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_cuda", package.parent / "cuda"):
        if (folder / "gpu" / "machine.h").is_file():
            return folder
    raise NeuralfieldsError(f"the CUDA sources are missing beside {package}; install neuralfields again")


@lru_cache(maxsize=1)
def compiler() -> Any:
    """The module cuda.core; a missing package is a UsageError with its install line."""
    try:
        from cuda.bindings import nvrtc  # noqa: F401  what core compiles with

        from cuda import core
    except ImportError as error:
        raise UsageError(f"the CUDA path needs cuda-core and NVRTC ({error}); install them: {INSTALL}") from None
    return core


@lru_cache(maxsize=1)
def compiler_version() -> str:
    """NVRTC's version, as 13.0."""
    compiler()
    from cuda.bindings import nvrtc

    try:
        status, major, minor = nvrtc.nvrtcVersion()
    except RuntimeError as error:  # the library itself is not there
        raise UsageError(f"NVRTC does not load ({_first_line(error)}); install it: {INSTALL}") from None
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise UsageError(f"NVRTC does not answer ({status}); reinstall it: {INSTALL}")
    return f"{major}.{minor}"


@lru_cache(maxsize=8)
def sources_digest(folder: Path) -> str:
    """sha256 over all headers and GPU sources: a change of any of them compiles everything anew."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.h"), *folder.glob("gpu/*")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def key(module: Module, arch: str) -> str:
    """The name of a cache entry without its suffix."""
    parts = [sources_digest(source_folder()), repr(module), repr(sorted(OPTIONS.items())), arch, compiler_version()]
    return f"{module.source}-{arch}-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:32]}"


def build(module: Module, arch: str, say: Callable[[str], None] | None = None) -> Built:
    """Machine code from the cache, or compiled and cached; `say` is called with a line before a compile starts.

    Raises NeuralfieldsError with the compiler's own message, UsageError if NVRTC is missing.
    """
    path = cache_folder() / f"{key(module, arch)}.bin"
    found = _read(path)
    if found is not None:
        return found
    (say or _print_line)(f"compiling {module.source} for {arch} (once; kept in {path.parent})")
    built = compile_module(module, arch)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(path, _entry(built))
    except (OSError, NeuralfieldsError) as error:  # a cache that cannot be written costs time, nothing else
        (say or _print_line)(f"not kept: {_first_line(error)}; set NEURALFIELDS_CACHE to a folder that can be written")
    return built


def compile_module(module: Module, arch: str) -> Built:
    """Compiles a module, without the cache."""
    core, folder = compiler(), source_folder() / "gpu"
    path, log, start = folder / f"{module.source}.cu", io.StringIO(), time.perf_counter()
    options = core.ProgramOptions(
        name=str(path), arch=arch, include_path=[str(folder)], define_macro=list(module.defines), **OPTIONS
    )
    try:
        code = core.Program(path.read_text(encoding="utf-8"), "c++", options).compile("cubin", logs=log)
    except Exception as error:  # of several types, by version; its text holds the compiler's log
        named = " ".join(f"-D{name}='{value}'" for name, value in module.defines)
        raise NeuralfieldsError(
            f"cuda/gpu/{module.source}.cu does not compile for {arch} with NVRTC {compiler_version()} ({named}):\n"
            f"{error}"
        ) from None
    text = "".join(letter for letter in log.getvalue() if letter.isprintable() or letter == "\n")
    return Built(bytes(code.code), text, time.perf_counter() - start)


def _entry(built: Built) -> bytes:
    log = built.log.encode()
    payload = len(log).to_bytes(8, "little") + log + built.cubin
    return MAGIC + hashlib.sha256(payload).digest() + payload


def _read(path: Path) -> Built | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, payload = data[len(MAGIC) : len(MAGIC) + 32], data[len(MAGIC) + 32 :]
    if not data.startswith(MAGIC) or hashlib.sha256(payload).digest() != digest:
        return None
    size = int.from_bytes(payload[:8], "little")
    return Built(payload[8 + size :], payload[8 : 8 + size].decode(), 0.0)


def _print_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
