"""Gaussians on real captures: held-out PSNR over time, beside the hash field, on this machine.

python benchmarks/gaussians.py [name ...] [--seconds 10 20 30 60] [--fields gaussians hash] [--seeds 0] [--data FOLDER]

Each row is one `nf fit` in a process of its own that ends after so many seconds of training (the beginning of the
Gaussians counts), then `nf eval` of what it wrote. `wall_seconds` is the whole process with reading and measuring,
`cores` its processor time over that, `core_ms` how fast a core was just then (3.6 on a
quiet day), `worst` the PSNR of its worst view. Run it on a quiet machine. `gaussians, before`: of commits before
f154ad3, which began only where two other photos confirm a depth. `hash, before`: of commits before fields began with
the depth that photos agree on. `mlp, alone`: from the photos, without the hash field that teaches it.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from itertools import product
from pathlib import Path

import torch
from captures import NF
from table import FOLDER, row, write

from neuralfields.ops.image_loss import image_loss

CASES = {
    "fox": ("ngp_fox", ["--downscale", "4"]),
    "chair": ("synthetic_chair", []),
    "tanks": ("tanks_train", ["--downscale", "2"]),
    "desk": ("desk_colmap", ["--downscale", "2"]),
    "fern": ("llff_fern", []),
    "statue": ("saharov_statue_32", ["--downscale", "2"]),
    "materials": ("synthetic_materials", []),
    "dtu": ("dtu_scan65", []),
    "sceaux": ("sceaux_castle_11", ["--downscale", "6"]),
}
RECIPES = {  # names in --fields
    "hash, unswept": ("hash", ["--recipe", "swept_depth_weight=0"]),
    "mlp, alone": ("mlp", ["--recipe", "teacher_share=0"]),
    "cam, alone": ("cam", ["--recipe", "teacher_share=0"]),
}
TITLE = "Gaussians fitted to real captures: held-out PSNR over time"


def core_ms() -> float:
    """How fast a core is now: milliseconds of processor time of one thread for the loss of a picture of 270x480."""
    generator, taken = torch.Generator().manual_seed(0), []
    torch.set_num_threads(1)
    a, b = (torch.rand(480, 270, 3, generator=generator) for _ in range(2))
    for _ in range(20):
        start = time.process_time()
        image_loss(a, b)
        taken.append(1000 * (time.process_time() - start))
    return round(min(taken), 2)


def measure(name: str, field: str, seconds: float, seed: int, data: Path, folder: Path) -> dict:
    """One fit of so many seconds, and its evaluation."""
    capture, options = CASES[name]
    label, (field, more) = field, RECIPES.get(field, (field, []))
    options = [*options, *more]
    out = folder / f"{name}-{field}-{seconds:g}.nf"
    words = ["fit", str(data / capture), "--field", field, *options, "--minutes", f"{seconds / 60:.6g}"]
    words += ["--seed", str(seed), "--out", str(out), "--json", "--eval-every", "0", "--quiet", "--overwrite"]
    start = time.perf_counter()
    process = subprocess.Popen([NF, *words], stdout=subprocess.PIPE, text=True, cwd=folder)
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall, report = time.perf_counter() - start, json.loads(printed)
    words = [NF, "eval", str(out), "--json", "--quiet"]
    measured = json.loads(subprocess.run(words, capture_output=True, text=True, check=True, cwd=folder).stdout)
    shown = ["fit", f"$DATA/{capture}", "--field", field, *options, "--minutes", f"{seconds / 60:.3g}"]
    shown += ["--seed", str(seed)] if seed else []
    return row(
        "nf " + " ".join(shown),
        case=name,
        field=label,
        seconds=seconds,
        seed=seed,
        psnr=round(measured["psnr"], 2),
        worst=round(min(view["psnr"] for view in measured["images"]), 2),
        ssim=round(measured["ssim"], 4),
        steps=report["steps"],
        wall_seconds=round(wall, 1),
        cores=round((usage.ru_utime + usage.ru_stime) / wall, 2),
        peak_MB=round(usage.ru_maxrss * 1024 / 1e6),
        file_MB=round(out.stat().st_size / 1e6, 2),
        view_ms=round(measured["ms_per_view"], 1),
        core_ms=core_ms(),
    )


def main() -> None:
    """Measures every case, field and time asked for, and writes the table after each row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(CASES))
    parser.add_argument("--seconds", nargs="*", type=float, default=[10, 20, 30, 60])
    parser.add_argument("--fields", nargs="*", default=["gaussians", "hash"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("NEURALFIELDS_DATA"))
    given = parser.parse_args()
    known = FOLDER / "gaussians.json"  # rows of other cases, fields and times stay
    rows = json.loads(known.read_text()) if known.is_file() else []
    with tempfile.TemporaryDirectory() as folder:
        for name, field, seed, seconds in product(given.names or CASES, given.fields, given.seeds, given.seconds):
            made = measure(name, field, seconds, seed, Path(given.data) / "captures", Path(folder))
            print(made, flush=True)
            rows = [r for r in rows if any(r[key] != made[key] for key in ("case", "field", "seconds", "seed"))]
            write("gaussians", TITLE, rows := [*rows, made])


if __name__ == "__main__":
    main()
