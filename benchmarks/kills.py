"""Kills real fits at random instants, takes them up again, and compares the end with an unbroken fit, to the bit.

python benchmarks/kills.py [hash] [mlp] [gaussians] [photos] [--kills 50] [--seed 0]

`photos`: photos -> poses -> fit, of a rendered cube, which needs COLMAP; killed in any of these. Every fit is killed up
to five times and then let end. Lost at a kill: the seconds since the last checkpoint, which is written each 0.3 s here
(30 s by default), or since the start of that process where it has written none; steps by what an unbroken process
takes, its start among it.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
from pathlib import Path

from table import FOLDER, row, write

sys.path.insert(0, str(FOLDER.parent))
from neuralfields.models.nf_file import load
from tests.support.cube_photos import Shoot
from tests.support.kills import Fit, killed_fit, same_bits
from tests.support.small_fit import make_capture

SHARED = ("--threads", "1", "--checkpoint-every", "0.3", "--eval-every", "0", "--quiet")
SMALL = ("--set", "levels=4", "table=12", "finest=64", "hidden=32")
KINDS = {
    "hash": ("--steps", "300", "--recipe", "samples=4096", *SMALL),
    "mlp": ("--field", "mlp", "--steps", "80", "--recipe", "samples=1024", "--set", "width=32", "layers=2"),
    "gaussians": ("--field", "gaussians", "--steps", "200", "--max-gaussians", "3000"),
    "photos": ("--steps", "60", "--downscale", "4", "--recipe", "samples=4096", "--accept-doubtful-poses", *SMALL),
}
EACH = 5  # kills of one fit at most
TITLE = "Fits killed at random instants and taken up again"


def measure(name: str, kills: int, seed: int, folder: Path) -> dict:
    """Fits of one kind until there were so many kills."""
    rng = random.Random(f"{seed} {name}")
    if name == "photos":
        source = Shoot(count=12, arc=120.0, size=(240, 180), ground=True).write(folder / "photos")
    else:
        source = make_capture(folder / "tiny", shrink=8, train=5, test=6)
    fit, whole = Fit(source, (*KINDS[name], *SHARED)), folder / "unbroken" / "a.nf"
    seconds = fit.unbroken(whole)
    made = load(whole).made
    done = fits = same = before = 0
    lost: list[float] = []
    said: list[str] = []
    while done < kills:
        out = folder / f"killed{fits}" / "a.nf"
        found = killed_fit(fit, out, seconds, min(EACH, kills - done), rng)
        fits, done, before = fits + 1, done + found.kills, before + found.before_checkpoint
        lost += found.lost
        said += [found.said] if found.said else []
        same += not found.said and same_bits(whole, out)
        print(f"{name}: {done} kills, {fits} fits, {same} the same {found.said}", flush=True)
    return {
        "fit": name, "seconds unbroken": seconds, "steps": made["steps"], "kills": done,
        "before the first checkpoint": before, "fits": fits, "in the same bits": same, "failed": len(said),
        "median seconds lost": statistics.median(lost),
        "median steps lost, about": round(statistics.median(lost) * made["steps"] / seconds),
    }  # fmt: skip


def main() -> None:
    """Measures the kinds that are named, or all; keeps the other rows of the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *KINDS])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    table = FOLDER / "kills.json"
    for name in options.names or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(name, options.kills, options.seed, Path(folder))
        command = f"python benchmarks/kills.py {name} --kills {options.kills} --seed {options.seed}"
        rows = json.loads(table.read_text()) if table.is_file() else []
        write("kills", TITLE, [*(r for r in rows if r["fit"] != name), row(command, **figures)])


if __name__ == "__main__":
    main()
