"""Plots held-out PSNR over time on the fox, ours against other programs: benchmarks/fox.png.

    python benchmarks/plot_fox.py fox.log.jsonl [other.log.jsonl ...] [--out benchmarks/fox.png]

Each log is what `nf fit` writes beside its output; a line is named by its file. Run the fit with
`--downscale 4 --eval-every 10`, on two quiet cores.
"""

import argparse
import json
import sys
from pathlib import Path

from neuralfields.errors import InputError, NeuralfieldsError
from neuralfields.pictures.charts import Chart, Series, plot_lines
from neuralfields.pictures.panels import save_image

# Held-out PSNR in dB by seconds of wall time. Same machine class, data (ngp_fox at 270x480, 43 training photos) and
# split (every 8th of the 50 files that exist), two quiet cores, measured by us before this project began.
PEERS = (
    Series("OpenSplat", (60, 120, 300, 900), (18.6, 21.7, 25.0, 25.1)),
    Series("nerfacto (torch)", (60,), (15.8,)),
    Series("HashNeRF-pytorch", (211,), (13.1,)),
)
SUFFIX = ".log.jsonl"


def read_log(path: Path) -> Series:
    """Points (seconds, held-out PSNR) of a fit's log; lines of other kinds are passed over. Raises InputError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise InputError(f"{path}: cannot be read ({reason}); give the log that nf fit wrote") from None
    points: list[tuple[float, float]] = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            raise InputError(f"{path}:{number}: is not a line of JSON; give the log that nf fit wrote") from None
        if entry.get("held_out_psnr") is not None and entry.get("seconds", 0) > 0:
            points.append((float(entry["seconds"]), float(entry["held_out_psnr"])))
    if not points:
        raise InputError(f"{path}: has no validation on held-out views; run nf fit with --eval-every 10")
    name = path.name.removesuffix(SUFFIX)
    return Series(f"neuralfields {name}", *(tuple(column) for column in zip(*points, strict=True)), strong=True)


def main(words: list[str]) -> int:
    """Reads the logs and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="+", type=Path, help=f"logs of fits, <name>{SUFFIX}")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("fox.png"), help="the picture")
    given = parser.parse_args(words)
    chart = Chart(
        title="Fox, held-out PSNR over wall time",
        subtitle="270x480, 43 photos to train on, 7 held out; two CPU cores, no GPU",
        x_label="seconds",
        y_label="dB",
        log_x=True,
    )
    try:
        ours = [read_log(path) for path in given.logs]
        save_image(given.out, plot_lines([*ours, *PEERS], chart))
    except NeuralfieldsError as error:
        sys.stderr.write(f"plot_fox: error: {error}\n")
        return error.exit_code
    sys.stdout.write(f"wrote {given.out}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
