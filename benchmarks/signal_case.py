"""Runs one `nf fit` in its own process, as one row: shared by the benchmarks of images, shapes, video and sound."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from table import FOLDER, row, write

NF = str(Path(sys.executable).with_name("nf"))  # as it is installed, not the sources beside this script


def arguments(description: str | None) -> argparse.Namespace:
    """--quick, --data and --seeds of a benchmark; `data` is the folder of the signals."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few steps of everything, into a table of its own")
    parser.add_argument("--seeds", type=int, default=3)
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    chosen = parser.parse_args()
    chosen.data = chosen.data.resolve() / "signals"
    return chosen


def measure(source: Path, words: list[str], data: Path, **labels: Any) -> dict[str, Any]:
    """Fits, and gives the row: labels, the figures of the kind, parameters, bytes, seconds."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "a.nf"
        begin = time.perf_counter()
        run = ["fit", str(source), *words, "--out", str(out), "--json", "--quiet", "--eval-every", "0"]
        report = _json(run)
        wall = time.perf_counter() - begin
        about = _json(["info", str(out), "--json"])
    figures = {name: round(report[name], 6) for name in FIGURES if name in report}
    return row(
        command_of(source, words, data),
        **labels,
        **figures,
        parameters=about["parameters"],
        file_kB=round(about["bytes"] / 1000, 1),
        steps=report["steps"],
        train_seconds=round(report["seconds"], 1),
        wall_seconds=round(wall, 1),
    )


FIGURES = ("psnr", "ssim", "worst_frame_psnr", "iou", "chamfer", "snr")


def command_of(source: Path, words: list[str], data: Path) -> str:
    """Command of a fit, as its row shows it."""
    return " ".join(["nf fit", f"$DATA/signals/{source.relative_to(data)}", *words])


def _json(words: list[str]) -> dict[str, Any]:
    done = subprocess.run([NF, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"nf {' '.join(words)}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


Case = tuple[Path, list[str], dict[str, Any]]


def run(
    claim: str, title: str, chosen: argparse.Namespace, cases: Iterable[Case], extra: Callable | None = None
) -> None:
    """Runs every case and writes each to the table `claim`; cases whose rows are there already are skipped.

    `extra` adds figures to a row.
    """
    claim, rows = claim + ("-quick" if chosen.quick else ""), []
    path = FOLDER / f"{claim}.json"
    todo = {command_of(source, words, chosen.data): (source, words, labels) for source, words, labels in cases}
    before = {r["command"]: r for r in json.loads(path.read_text())} if path.is_file() else {}
    before = {shown: r for shown, r in before.items() if shown in todo}
    for shown, (source, words, labels) in todo.items():
        made = before.pop(shown, None) or measure(source, words, chosen.data, **labels)
        rows.append({**made, **extra(made)} if extra else made)
        print({name: value for name, value in rows[-1].items() if name not in ("command", "machine")}, flush=True)
        write(claim, title, [*rows, *before.values()])  # what stands behind it is not lost where the call ends early
