"""Registers, spills and shared memory of every CUDA kernel, as ptxas counts them. No GPU is needed.

python benchmarks/cuda_resources.py [--archs sm_80 sm_90 sm_120] [--only splat image_loss]

`--only` compiles the modules whose names begin so, and keeps the rows of the others.
"""

import argparse
import json
import re
from typing import Any

from table import FOLDER, row, write

from neuralfields.gpu.compile import compile_module, compiler_version
from neuralfields.verbs.doctor_cuda import ARCHS, usual_modules

ENTRY = re.compile(r"Compiling entry function '(\w+)'")
SPILL = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED, SHARED = re.compile(r"Used (\d+) registers"), re.compile(r"(\d+) bytes smem")


def kernels(log: str) -> list[dict[str, Any]]:
    """One row a kernel of a log of ptxas."""
    rows = []
    for part in re.split(r"(?=Compiling entry function)", log)[1:]:
        stack, stores, loads = map(int, SPILL.search(part).groups())
        used, shared = USED.search(part), SHARED.search(part)
        figures = {"kernel": ENTRY.search(part).group(1), "registers": int(used.group(1)), "stack": stack}
        rows.append(figures | {"spilled bytes": stores + loads, "shared bytes": int(shared.group(1)) if shared else 0})
    return rows


def main() -> None:
    """Compiles everything once, without the cache, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archs", nargs="+", default=list(ARCHS))
    parser.add_argument("--precisions", nargs="+", default=["half", "float"])
    parser.add_argument("--only", nargs="+", default=[], help="beginnings of modules' names")
    options = parser.parse_args()
    command, only = f"python benchmarks/cuda_resources.py --archs {' '.join(options.archs)}", tuple(options.only)
    rows, table = [], FOLDER / "cuda_resources.json"
    if only:
        command += f" --only {' '.join(only)}"
        rows = [r for r in json.loads(table.read_text()) if not r["module"].startswith(only)]
    for arch in options.archs:
        modules = {name: module for p in options.precisions for name, module in usual_modules(p).items()}
        for name, module in modules.items():
            if only and not name.startswith(only):
                continue
            built = compile_module(module, arch)
            rows += [row(command, module=name, arch=arch, **figures) for figures in kernels(built.log)]
            print(f"{name} {arch}: {built.seconds:.1f} s", flush=True)
            write("cuda_resources", f"Kernels as NVRTC {compiler_version()} compiles them", rows)


if __name__ == "__main__":
    main()
