"""`nf doctor`: checks the installation: packages, native core, CUDA, disk; says which backend will run."""

import importlib
import os
import platform
import shutil
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from neuralfields.files import size_text
from neuralfields.options.machine import DoctorOptions
from neuralfields.version import VERSION

CORE = (
    "torch", "numpy", "scipy", "safetensors", "msgspec", "tyro", "rich", "pillow", "jaxtyping", "imageio", "tifffile",
    "zstandard",
)  # fmt: skip
# Extra: purpose, and packages of which one is enough.
EXTRAS = {
    "video": ("mp4 and webm", "av"),
    "photos": ("nf poses", "pycolmap"),
    "view": ("nf view", "aiohttp"),
    "mesh": ("nf fit of a mesh", "open3d", "open3d-cpu"),
    "cuda": ("CUDA GPUs", "cuda-core"),
}
LOAD_SECONDS = 0.3  # over which the load of other processes is measured
BUSY = 0.25  # fraction of the cores that other processes may use before a note
DISK_WANTED = 1_000_000_000  # bytes; a fit with its checkpoints and renders stays below


def run(options: DoctorOptions) -> dict[str, Any]:
    """Checks everything and never raises; `ready` and `verdict` sum it up, `problems` says what to do."""
    packages = {name: _version(name) for name in CORE}
    torch_state = _torch()
    native = _native()
    free = shutil.disk_usage(Path.cwd()).free
    result: dict[str, Any] = {
        "neuralfields": VERSION,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "cores": _cores(),
        "busy_cores": _busy_cores(),
        "packages": packages,
        "extras": {extra: _extra(extra, *use_and_names) for extra, use_and_names in EXTRAS.items()},
        "torch": torch_state,
        "native": native,
        "cuda": _cuda(options.compile),
        "disk_free_bytes": free,
    }
    problems = [f"{name} is not installed: pip install {name}" for name, version in packages.items() if version is None]
    if torch_state["error"]:
        problems.append(f"torch does not load ({torch_state['error']}): reinstall it")
    if not native["built"]:
        problems.append(native["error"])
    cuda = result["cuda"]
    if torch_state["cuda"] and (cuda["error"] or cuda["missing"]):
        problems.append(f"the GPU is not used: {cuda['error'] or cuda['missing']}")
    if cuda.get("works") is False:
        problems.append(f"the GPU computes otherwise than the CPU (by {cuda['difference']:.1e}): use --device cpu")
    if free < DISK_WANTED:
        problems.append(f"{size_text(free)} are free on the disk of this folder: {size_text(DISK_WANTED)} are wanted")
    busy, cores = result["busy_cores"], result["cores"]
    if busy is not None and busy > BUSY * cores:
        problems.append(
            f"other processes use {busy:.1f} of {cores} cores, so this machine is oversubscribed by a fit with {cores}"
            f" threads: wait for them, or give --threads {max(1, cores - round(busy))}"
        )
    missing = None in packages.values() or bool(torch_state["error"]) or not native["built"]
    return result | {"problems": problems, "ready": not missing, "verdict": _verdict(result, problems, missing)}


def _verdict(result: dict[str, Any], problems: list[str], missing: bool) -> str:
    if missing:
        return "not ready: " + problems[0]
    native = result["native"]
    if result["cuda"].get("works"):
        return f"ready: the CUDA kernels will run on {result['torch']['gpu']}"
    count = native["threads"]
    return f"ready: the native CPU core will run ({native['instruction_set']}, {count} thread{'s' * (count != 1)})"


def _cores() -> int:
    """Number of cores that this process may use, which a container may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _busy_cores() -> float | None:
    """Cores that other processes keep busy just now; None where the system does not say (no /proc/stat)."""

    def ticks() -> tuple[int, int]:
        with open("/proc/stat", encoding="ascii") as file:
            numbers = [int(word) for word in file.readline().split()[1:9]]
        return sum(numbers) - numbers[3] - numbers[4], sum(numbers)  # idle and waiting for the disk are not busy

    try:
        (busy, whole), mine = ticks(), time.process_time()
        begin = time.perf_counter()
        time.sleep(LOAD_SECONDS)
        (busy_after, whole_after), seconds = ticks(), time.perf_counter() - begin
    except (OSError, ValueError, IndexError):
        return None
    share = (busy_after - busy) / max(whole_after - whole, 1)
    return round(max(0.0, share * (os.cpu_count() or 1) - (time.process_time() - mine) / seconds), 2)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _extra(extra: str, use: str, *names: str) -> dict[str, Any]:
    name = next(filter(_version, names), names[0])
    state: dict[str, Any] = {"package": name, "version": _version(name), "for": use}
    return state if state["version"] else state | {"install": f"pip install 'neuralfields[{extra}]'"}


def _torch() -> dict[str, Any]:
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:  # OSError: a shared library of torch is missing
        return {"version": None, "cuda": False, "gpu": None, "threads": None, "error": _line(error)}
    cuda = bool(torch.cuda.is_available())
    gpu = torch.cuda.get_device_name(0) if cuda else None
    threads = torch.get_num_threads()
    return {"version": str(torch.__version__), "cuda": cuda, "gpu": gpu, "threads": threads, "error": None}


def _native() -> dict[str, Any]:
    """Status of the native core; `built` and `error` are always there."""
    try:
        status = importlib.import_module("neuralfields.ops.native").status()
    except Exception as error:  # also a core of another version, whose functions differ: a doctor reports
        return {"built": False, "error": _line(error)}
    return {"built": True, "error": None} | dict(status)


def _cuda(compile_ahead: bool) -> dict[str, Any]:
    """Status of CUDA, see doctor_cuda.state; `error` where even that fails."""
    try:
        kernels = importlib.import_module("neuralfields.verbs.doctor_cuda")
        if compile_ahead:
            kernels.compile_ahead(kernels.wanted_archs())
        return {"error": None} | kernels.state()
    except Exception as error:  # a doctor reports, even of a GPU, a driver or a compiler that fails
        return {"error": _line(error), "missing": None}


def _cuda_lines(cuda: dict[str, Any], gpu: str | None) -> list[str]:
    if cuda["error"]:
        return [f"cuda        fails: {cuda['error']}"]
    lines = [f"cuda        {gpu or 'no GPU'}: " + (f"not used: {cuda['missing']}" if cuda["missing"] else "ready")]
    if "difference" in cuda:
        verdict = "agrees with" if cuda["works"] else "DIFFERS from"
        lines.append(f"self-test   the GPU {verdict} the CPU: largest difference {cuda['difference']:.1e}")
    if cuda["nvrtc"] is None:
        return [*lines, f"kernels     cannot be compiled: {cuda['nvrtc_missing']}"]
    lines.append(f"kernels     NVRTC {cuda['nvrtc']}, kept in {cuda['cache']}")
    for name, archs in cuda["compiled"].items():
        lines.append(f"            {name}: {', '.join(archs) or 'not yet; nf doctor --compile does it now'}")
    return lines


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def text(result: dict[str, Any]) -> str:
    """Formats the result as lines for people."""
    native, torch_state = result["native"], result["torch"]
    lines = [
        f"neuralfields {result['neuralfields']}, python {result['python']}, {result['platform']}",
        "packages    " + ", ".join(f"{name} {version or 'MISSING'}" for name, version in result["packages"].items()),
    ]
    for extra, state in result["extras"].items():
        have = state["version"] or f"not installed (for {state['for']}): {state['install']}"
        lines.append(f"extra       [{extra}] {state['package']} {have}")
    details = ", ".join(f"{key} {_join(value)}" for key, value in native.items() if key not in ("built", "error"))
    lines.append("native core " + (f"built: {details}" if native["built"] else f"NOT built: {native['error']}"))
    lines += _cuda_lines(result["cuda"], torch_state["gpu"])
    busy = "" if result["busy_cores"] is None else f" ({result['busy_cores']:.1f} busy with other processes)"
    lines.append(f"machine     {result['cores']} cores{busy}, {size_text(result['disk_free_bytes'])} free on this disk")
    lines += [f"to do       {problem}" for problem in result["problems"]]
    return "\n".join([*lines, result["verdict"]])


def _join(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
