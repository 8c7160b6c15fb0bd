"""A fit beside a busy process: steps a second with OpenMP's own spinning at barriers, and with ours.

python benchmarks/busy.py [--quick] [--scene FOLDER] [--seconds 15] [--threads 2] [--rounds 3]

OpenMP's threads spin at a barrier before they sleep. While another process keeps one of them from its core, the others
spin in vain. The package sets GOMP_SPINCOUNT where nobody else did (neuralfields/__init__.py), which counts only if it
comes before torch. "own": torch is loaded first, and OpenMP keeps its default; "ours": the package's; "none": 0, and
threads sleep at once. A busy process computes for ever on one core and asks for nothing. Settings take turns within a
round; a figure is the median of the rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from table import FOLDER, row, write

TITLE = "Steps a second of a fit beside busy processes, by OpenMP's spinning"
SETTINGS = ("own", "ours", "none")
BUSY = "while True: pass"
FIT = "import sys; {first}; from neuralfields.cli import main; sys.exit(main(sys.argv[1:]))"
QUICK = ("--downscale", "16", "--set", "levels=4", "table=10", "finest=64", "hidden=16", "--recipe", "samples=1024")


@contextmanager
def company(count: int) -> Iterator[None]:
    """So many busy processes."""
    running = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def steps_a_second(setting: str, busy: int, options: argparse.Namespace) -> float:
    """One fit in a process of its own, its time as it counts it itself: without start and evaluation."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    environment |= {"GOMP_SPINCOUNT": "0"} if setting == "none" else {}
    code = FIT.format(first="import torch" if setting == "own" else "pass")
    with tempfile.TemporaryDirectory() as folder, company(busy):
        words = [
            "fit", str(options.scene), "--out", str(Path(folder) / "a.nf"), "--minutes", str(options.seconds / 60),
            "--threads", str(options.threads), "--device", "cpu", "--eval-every", "0", "--json", "--quiet",
            *(QUICK if options.quick else ()),
        ]  # fmt: skip
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    report = json.loads(done.stdout)
    return report["steps"] / report["seconds"]


def main() -> None:
    """Writes the table, or shows the rows of a quick run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a second each, nothing is written")
    parser.add_argument("--scene", type=Path, default=FOLDER.parent / "scenes" / "sample")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.rounds = 1.0, 1
    shown = f"--seconds {options.seconds:g} --threads {options.threads} --rounds {options.rounds}"
    command, rows = f"python benchmarks/busy.py {shown}", []
    for busy in (0, 1):
        found: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
        for _ in range(options.rounds):
            for setting, speeds in found.items():
                speeds.append(steps_a_second(setting, busy, options))
        for setting, speeds in found.items():
            low, high = (round(end, 2) for end in (min(speeds), max(speeds)))
            figures = {"steps_a_second": round(statistics.median(speeds), 2), "least": low, "most": high}
            scene = options.scene.resolve().name
            rows.append(row(command, scene=scene, threads=options.threads, busy=busy, spinning=setting, **figures))
            print({name: value for name, value in rows[-1].items() if name not in ("command", "machine")}, flush=True)
        if not options.quick:
            write("busy", TITLE, rows)


if __name__ == "__main__":
    main()
