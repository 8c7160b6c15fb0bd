"""The kernels through NVRTC and nvcc, and the cache: with the compiler alone, without a GPU."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from neuralfields.errors import NeuralfieldsError, UsageError
from neuralfields.files import cache_folder
from neuralfields.gpu import compile as cuda_compile
from neuralfields.gpu import launch as cuda_launch
from neuralfields.gpu.compile import Built, Module, build, compile_module, key, source_folder
from neuralfields.gpu.grid import grid_module
from neuralfields.gpu.rbf import KINDS, rbf_module
from neuralfields.gpu.splat import CHANNELS, blend_module
from neuralfields.verbs import doctor_cuda as cuda_doctor
from tests.support.emulate import kernels_of

QUICK = Module("elements", (("NF_SCALAR", "float"),))
USUAL = sorted(path.stem for path in (source_folder() / "gpu").glob("*.cu"))
PTXAS = re.compile(r"ptxas info|^ptxas\s+\.\s|^\s*$|bytes gmem|Compile time|Function properties")


def complaints(log: str) -> list[str]:
    """What a compiler says beyond its figures."""
    return [line for line in log.splitlines() if not PTXAS.search(line)]


def modules(precision: str) -> dict[str, Module]:
    return {name.split(" ")[0]: module for name, module in cuda_doctor.usual_modules(precision).items()}


def doubled(module: Module) -> Module:
    return Module(module.source, tuple((n, "double" if n == "NF_SCALAR" else v) for n, v in module.defines))


def check_nvrtc(module: Module, arch: str) -> None:
    check_built(module, compile_module(module, arch))


def check_built(module: Module, built: Built) -> None:
    assert built.cubin[:4] == b"\x7fELF"
    assert complaints(built.log) == []
    names = re.findall(r"Compiling entry function '(\w+)'", built.log)
    assert sorted(names) == sorted(kernels_of(module.source))


def test_the_list_of_modules_is_whole():
    assert set(modules("half")) == set(USUAL)
    assert {"rays", "elements", "composite", "grid", "rbf", "hash_grid", "network", "hash_render"} <= set(USUAL)
    assert {"splat_project", "splat_lists", "splat_blend", "image_loss"} <= set(USUAL)


@pytest.mark.parametrize("name", [name for name in USUAL if name != "hash_render"])
def test_nvrtc(nvrtc: str, name: str, kept: Path, monkeypatch: pytest.MonkeyPatch):
    """The same sources, options and compiler give the same log: where an earlier run kept it, that one is read."""
    monkeypatch.setenv("NEURALFIELDS_CACHE", str(kept))
    module = modules("half")[name]
    check_built(module, build(module, "sm_90", lambda line: None))


@pytest.mark.slow
@pytest.mark.parametrize("arch", cuda_doctor.ARCHS)
@pytest.mark.parametrize("precision", ["half", "float"])
@pytest.mark.parametrize("name", USUAL)
def test_nvrtc_everywhere(nvrtc: str, name: str, precision: str, arch: str):
    check_nvrtc(modules(precision)[name], arch)


@pytest.mark.slow
@pytest.mark.parametrize("arch", cuda_doctor.ARCHS)
@pytest.mark.parametrize("name", [name for name in USUAL if name not in ("network", "hash_render")])
def test_nvrtc_of_float64(nvrtc: str, name: str, arch: str):
    check_nvrtc(doubled(modules("half")[name]), arch)


@pytest.mark.slow
@pytest.mark.parametrize("arch", cuda_doctor.ARCHS)
def test_nvrtc_of_all_axes_and_kernels(nvrtc: str, arch: str):
    for axes in range(1, 5):
        check_nvrtc(grid_module(torch.empty(0, axes)), arch)
    for kind in range(len(KINDS)):
        check_nvrtc(rbf_module(torch.empty(0, 2), kind), arch)
    for channels in CHANNELS:
        check_nvrtc(blend_module(torch.float32, channels), arch)


@pytest.mark.slow
@pytest.mark.parametrize("arch", cuda_doctor.ARCHS)
@pytest.mark.parametrize("precision", ["half", "float"])
@pytest.mark.parametrize("name", USUAL)
def test_nvcc(tmp_path: Path, name: str, precision: str, arch: str):
    if not shutil.which("nvcc"):
        pytest.skip("no nvcc on this machine")
    module = modules(precision)[name]
    source = tmp_path / "all.cu"
    lines = [f"#define {key} {value}" for key, value in module.defines]
    source.write_text("\n".join([*lines, f'#include "{name}.cu"']))
    command = ["nvcc", "-std=c++17", f"-arch={arch}", "-cubin", "-Werror", "all-warnings", "-o", "all.cubin", "all.cu"]
    done = subprocess.run(
        [*command, f"-I{source_folder() / 'gpu'}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and complaints(done.stderr) == [], done.stderr[:4000]


def test_hits_and_misses(nvrtc: str, cache: Path, monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    first = build(QUICK, "sm_90", said.append)
    assert first.seconds > 0 and len(said) == 1 and "compiling elements for sm_90" in said[0]
    assert [path.suffix for path in cache.iterdir()] == [".bin"]
    second = build(QUICK, "sm_90", said.append)
    assert (second.cubin, second.log, second.seconds, len(said)) == (first.cubin, first.log, 0.0, 1)
    build(QUICK, "sm_80", said.append)
    build(doubled(QUICK), "sm_90", said.append)
    assert len(said) == 3 and len(list(cache.iterdir())) == 3
    names = {key(QUICK, "sm_90"), key(QUICK, "sm_80"), key(doubled(QUICK), "sm_90")}
    monkeypatch.setattr(cuda_compile, "compiler_version", lambda: "99.0")
    names.add(key(QUICK, "sm_90"))
    monkeypatch.setattr(cuda_compile, "sources_digest", lambda folder: "other sources")
    names.add(key(QUICK, "sm_90"))
    assert len(names) == 5


def test_sources_digest_sees_every_file(tmp_path: Path):
    shutil.copytree(source_folder(), tmp_path / "cuda", ignore=shutil.ignore_patterns("cpu"))
    digests = set()
    for name in ("hash_grid.h", "gpu/machine.h", "gpu/rays.cu"):
        path = tmp_path / "cuda" / name
        path.write_text(path.read_text() + "\n// changed\n")
        cuda_compile.sources_digest.cache_clear()
        digests.add(cuda_compile.sources_digest(tmp_path / "cuda"))
    cuda_compile.sources_digest.cache_clear()
    assert len(digests | {cuda_compile.sources_digest(source_folder())}) == 4


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_damaged_entries_are_compiled_anew(cache: Path, damage: str, monkeypatch: pytest.MonkeyPatch):
    good = Built(b"\x7fELF" + bytes(range(256)) * 8, "ptxas info\n", 0.5)
    monkeypatch.setattr(cuda_compile, "compiler_version", lambda: "12.0")
    monkeypatch.setattr(cuda_compile, "compile_module", lambda module, arch: good)
    build(QUICK, "sm_90", lambda line: None)
    (path,) = cache.iterdir()
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    path.write_bytes({"cut": data[:-7], "flipped": data, "empty": b"", "foreign": b"\x7fELF" + data}[damage])
    said: list[str] = []
    again = build(QUICK, "sm_90", said.append)
    assert again.cubin == good.cubin and len(said) == 1
    assert build(QUICK, "sm_90", said.append).seconds == 0.0


def test_a_cache_that_cannot_be_written_costs_time_alone(nvrtc: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEURALFIELDS_CACHE", str(tmp_path / "file" / "below"))
    said: list[str] = []
    assert build(QUICK, "sm_90", said.append).cubin
    assert "not kept" in said[1] and "set NEURALFIELDS_CACHE" in said[1]


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("NEURALFIELDS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "neuralfields"


def test_the_compilers_own_message_is_shown(nvrtc: str, cache: Path):
    with pytest.raises(NeuralfieldsError) as caught:
        build(Module("elements", (("NF_SCALAR", "flaot"),)), "sm_90", lambda line: None)
    text = str(caught.value)
    assert "cuda/gpu/elements.cu does not compile for sm_90 with NVRTC" in text
    assert "-DNF_SCALAR='flaot'" in text and 'identifier "flaot" is undefined' in text
    assert not cache.exists() or not list(cache.iterdir())


def test_without_the_compiler(monkeypatch: pytest.MonkeyPatch):
    cuda_compile.compiler.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "cuda", None)
    with pytest.raises(
        UsageError, match=r"needs cuda-core and NVRTC .*; install them: pip install 'neuralfields\[cuda"
    ):
        cuda_compile.compiler()
    cuda_compile.compiler.cache_clear()


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(UsageError, match=r"--device cuda: this torch was built without CUDA; .*, or use --device cpu"):
        cuda_launch.require_gpu()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="torch finds no CUDA GPU; check nvidia-smi, the driver and CUDA_VISIBLE_DEV"):
        cuda_launch.require_gpu()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Old GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    with pytest.raises(UsageError, match=r"Old GPU is of compute capability 7.5 and 8.0 \(Ampere\) is needed"):
        cuda_launch.require_gpu()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(cuda_launch, "compiler", lambda: None)
    assert cuda_launch.missing_for_cuda() is None

    def no_compiler():
        raise UsageError("needs cuda-core")

    monkeypatch.setattr(cuda_launch, "compiler", no_compiler)
    assert cuda_launch.missing_for_cuda() == "needs cuda-core"


def test_what_kernels_take():
    assert [cuda_launch._plain(a) for a in (None, 3, 0.5)] == [0, 3, 0.5]
    with pytest.raises(ValueError, match=r"contiguous tensors, got strides \[1, 3\]"):
        cuda_launch._plain(torch.zeros(2, 3).T)
    with pytest.raises(TypeError, match=r"CUDA kernels take float32 or float64, not torch\.float16"):
        cuda_launch.scalar(torch.float16)
    with pytest.raises(ValueError, match="different devices: cpu, meta"):
        cuda_launch.inputs(torch.zeros(1), torch.zeros(1, device="meta"))
    with pytest.raises(TypeError, match=r"different types: torch\.float32, torch\.float64"):
        cuda_launch.inputs(torch.zeros(1), torch.zeros(1).double(), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"pixel has shape \[2, 3\], expected \[\*, 2\]"):
        cuda_launch.expect(pixel=(torch.zeros(2, 3), (-1, 2)))


def test_a_full_gpu_names_the_knob():
    error = cuda_launch.out_of_memory(
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried 2 GiB"), "use a smaller table="
    )
    assert error.exit_code == 6 and "Tried 2 GiB" in str(error) and "use a smaller table=" in str(error)
