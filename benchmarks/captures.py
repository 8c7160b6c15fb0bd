"""Real captures by default settings on this machine: held-out PSNR, memory, time of a view, bytes, pictures.

python benchmarks/captures.py [name ...] [--data FOLDER]     names as in CASES; without any, all of them

Each row is one `nf fit` in a process of its own, then `nf eval` of what it wrote; `cores` is its processor time over
`wall_seconds`, `worst` the PSNR of its worst view. Run it on a quiet machine: the load stands in the row.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from table import FOLDER, row, write

CASES = {
    "fox-60": ("ngp_fox", ["--downscale", "4", "--minutes", "1"]),
    "fox-180": ("ngp_fox", ["--downscale", "4", "--minutes", "3"]),
    "fox-300": ("ngp_fox", ["--downscale", "4", "--minutes", "5"]),
    "chair-60": ("synthetic_chair", ["--minutes", "1"]),
    "chair-180": ("synthetic_chair", ["--minutes", "3"]),
    "saharov-180": ("saharov_statue_32", ["--downscale", "2", "--minutes", "3"]),
    "fern-120": ("llff_fern", ["--minutes", "2"]),
    "sceaux-120": ("sceaux_castle_11", ["--downscale", "6", "--minutes", "2"]),
    "materials-60": ("synthetic_materials", ["--minutes", "1"]),
}
NF = str(Path(sys.executable).with_name("nf"))  # as it is installed, not the sources beside this script
PICTURES = FOLDER / "pictures"
TITLE = "Held-out PSNR of real captures, fitted on this machine"


def measure(name: str, data: Path, folder: Path) -> dict:
    """One case."""
    capture, options = CASES[name]
    measured = fit_and_eval(name, capture, options, data, folder)
    if capture == "ngp_fox":  # for plot_fox.py
        shutil.copy(folder / f"{name}.nf.log.jsonl", PICTURES / f"{name}.log.jsonl")
    return measured


def fit_and_eval(name: str, capture: str, options: list[str], data: Path, folder: Path, keep: bool = True) -> dict:
    """One fit in a process of its own, its evaluation in another; `name` names the row and, if kept, the picture."""
    out = folder / f"{name}.nf"
    words = ["fit", str(data / capture), *options, "--out", str(out), "--json", "--eval-every", "5"]
    start = time.perf_counter()
    process = subprocess.Popen([NF, *words], stdout=subprocess.PIPE, text=True, cwd=folder)
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)  # this process's own peak, not that of all before it
    process.returncode = os.waitstatus_to_exitcode(status)
    report, wall, peak = json.loads(printed), time.perf_counter() - start, usage.ru_maxrss * 1024
    pictures = folder / f"{name}-pictures"
    words_eval = ["eval", str(out), "--json", "--pictures", str(pictures), "--overwrite", "--quiet"]
    measured = json.loads(
        subprocess.run([NF, *words_eval], capture_output=True, text=True, check=True, cwd=folder).stdout
    )
    PICTURES.mkdir(exist_ok=True)
    for picture in sorted(pictures.glob("*.png"))[:keep]:
        _shrink(picture, PICTURES / f"{name}.jpg")
    return row(
        "nf " + " ".join(["fit", f"$DATA/{capture}", *options]),
        case=name,
        psnr=round(measured["psnr"], 2),
        worst=round(min(view["psnr"] for view in measured["images"]), 2),
        ssim=round(measured["ssim"], 4),
        train_seconds=round(report["seconds"], 1),
        wall_seconds=round(wall, 1),
        cores=round((usage.ru_utime + usage.ru_stime) / wall, 2),
        steps=report["steps"],
        peak_MB=round(peak / 1e6),
        file_MB=round(out.stat().st_size / 1e6, 2),
        view_ms=round(measured["ms_per_view"]),
    )


def _shrink(source: Path, target: Path) -> None:
    """Keeps our render and its error of best and worst view; the photos, the first panel, are not ours to publish."""
    from PIL import Image

    with Image.open(source) as picture:
        picture = picture.crop((round(picture.width * 0.338), 0, picture.width, picture.height))
        picture.thumbnail((1200, 1200))
        picture.convert("RGB").save(target, quality=82)


def main() -> None:
    """Measures the cases that were named, keeps the other rows of the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=", ".join(CASES))
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    chosen = parser.parse_args()
    names = chosen.names or list(CASES)
    table = FOLDER / "captures.json"
    rows = {r["case"]: r for r in json.loads(table.read_text())} if table.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            rows[name] = measure(name, chosen.data.resolve() / "captures", Path(folder))
            print(name, {k: rows[name][k] for k in ("psnr", "ssim", "steps", "peak_MB", "view_ms")}, flush=True)
            write("captures", TITLE, [rows[case] for case in CASES if case in rows])


if __name__ == "__main__":
    main()
