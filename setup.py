"""Builds the native CPU core: one nanobind module, the kernels compiled once per instruction set.

Needs a C++17 compiler and nothing else: no torch, no CUDA. The kernels' namespace is named after the instruction set,
so that bodies of different builds can never be merged by the linker.
"""

import hashlib
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nanobind
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

CPU = Path("cuda/cpu")
X86_64 = platform.machine().lower() in ("x86_64", "amd64")
# name, bytes of a vector, compiler flags
INSTRUCTION_SETS = [("portable", 16, [])]
if X86_64:
    INSTRUCTION_SETS += [("x86_64_v3", 32, ["-march=x86-64-v3"]), ("x86_64_v4", 64, ["-march=x86-64-v4"])]
COMMON = ["-std=c++17", "-O3", "-g0", "-fPIC", "-fvisibility=hidden", "-fopenmp", "-Wall", "-Wextra", "-Wno-psabi"]
KERNEL = ["-fno-math-errno", "-fno-trapping-math"]
# Products of bfloat16, beside x86_64_v4 for CPUs that have them; left out where the compiler is older than they are.
BFLOAT16 = ["-march=x86-64-v4", "-mavx512bf16", "-mamx-tile", "-mamx-bf16"]
OBJECTS = Path("build/objects")  # kept: a second install of the same sources links in seconds instead of minutes


class BuildNative(build_ext):
    """Compiles each source with its own flags, in parallel, and links them into one module."""

    def build_extension(self, ext: Extension) -> None:
        """One object for each part of the binding, one for nanobind, those of kernels per instruction set."""
        nanobind_root = Path(nanobind.__file__).parent
        include = [nanobind.include_dir(), str(nanobind_root / "ext" / "robin_map" / "include")]
        if sys.platform == "win32":
            raise SystemExit("neuralfields builds with g++ or clang++; on Windows use WSL")
        bfloat16 = X86_64 and self.takes(BFLOAT16)
        binding = ["-Wno-missing-field-initializers", *(["-DNF_BFLOAT16"] if bfloat16 else [])]
        jobs: list[tuple[str, str, list[str]]] = [
            *((str(path), path.stem, binding) for path in sorted(CPU.glob("bind*.cpp"))),
            (f"{nanobind.source_dir()}/nb_combined.cpp", "nanobind", ["-fno-strict-aliasing", "-w", "-DNDEBUG"]),
        ]
        for name, width, flags in INSTRUCTION_SETS:
            flags = [*KERNEL, *flags, f"-DNF_ISA={name}", f"-DNF_VECTOR_BYTES={width}"]
            jobs += [(str(CPU / source), name, flags) for source in ("kernels.cpp", "splat.cpp")]
        if bfloat16:
            flags = [*KERNEL, *BFLOAT16, "-DNF_ISA=x86_64_bf16", "-DNF_VECTOR_BYTES=64"]
            jobs.append((str(CPU / "bfloat16.cpp"), "x86_64_bf16", flags))

        OBJECTS.mkdir(parents=True, exist_ok=True)
        made_of = self.made_of()

        def compile_one(job: tuple[str, str, list[str]]) -> Path:
            source, name, flags = job
            key = hashlib.sha256(made_of + repr((COMMON, flags)).encode()).hexdigest()[:16]
            target = OBJECTS / f"{Path(source).stem}-{name}-{key}.o"
            if not target.exists():
                unfinished = target.with_suffix(f".{os.getpid()}")
                command = [*self.compiler.compiler_cxx, "-c", source, "-o", str(unfinished), *COMMON, *flags]
                self.spawn([*command, *(f"-I{path}" for path in [*include, *self.compiler.include_dirs])])
                unfinished.replace(target)
            return target

        with ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
            objects = list(pool.map(compile_one, jobs))
        for old in {*OBJECTS.glob("*.o")} - {*objects}:
            old.unlink(missing_ok=True)
        target = self.get_ext_fullpath(ext.name)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        shared = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
        self.spawn([*self.compiler.compiler_cxx, *shared, "-fopenmp", *map(str, objects), "-o", target, "-s"])

    def takes(self, flags: list[str]) -> bool:
        """Whether the compiler knows these flags."""
        command = [*self.compiler.compiler_cxx, *flags, "-fsyntax-only", "-x", "c++", os.devnull]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def made_of(self) -> bytes:
        """A hash of all that an object file depends on but its flags: sources, compiler, nanobind, Python."""
        compiler = self.compiler.compiler_cxx
        told = subprocess.run([compiler[0], "--version"], capture_output=True, check=True).stdout
        hashed = hashlib.sha256(repr((compiler, told, nanobind.__version__, sys.version)).encode())
        for path in sorted(Path("cuda").rglob("*.*")):
            hashed.update(str(path).encode() + b"\0" + path.read_bytes() + b"\0")
        return hashed.digest()


setup(
    # The folders beside the package are installed as its data, under names that say so (package-dir in pyproject.toml).
    packages=[
        *find_packages(include=["neuralfields*"]),
        *(f"neuralfields._{name}" for name in ("scenes", "cuda", "viewer")),
    ],
    ext_modules=[
        Extension("neuralfields._native", [str(CPU / "bind.cpp")], depends=[str(p) for p in Path("cuda").rglob("*.*")])
    ],
    cmdclass={"build_ext": BuildNative},
)
