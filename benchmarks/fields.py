"""Compares all radiance fields on the same captures after the same time.

python benchmarks/fields.py [field ...] [--data FOLDER] [--minutes 1] [--scene fox|chair] [--seeds 0 1 2]

Each row is one `nf fit --field` in a process of its own, then `nf eval` of what it wrote. Run it on a quiet machine.
The pictures are of seed 0. Rows of `mlp` and `cam` of commits before 2181622 are of before a hash field taught them
(trainers/taught.py).
"""

import argparse
import json
import os
import tempfile
from itertools import product
from pathlib import Path

from captures import fit_and_eval
from table import FOLDER, write

from neuralfields.fields import field_class, field_names

SCENES = {"fox": ("ngp_fox", ["--downscale", "4"]), "chair": ("synthetic_chair", ["--downscale", "2"])}
TITLE = "Radiance fields after the same time of training, held-out views"
VARIANTS = {"lowrank cp": ("lowrank", ["--set", "decomposition=cp"])}


def main() -> None:
    """Measures the fields that were named on the scenes that were named, keeps the other rows of the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    fields = [name for name in field_names() if "radiance" in field_class(name).DOMAINS] + list(VARIANTS)
    parser.add_argument("fields", nargs="*", help=", ".join(fields))
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--scene", choices=list(SCENES), default=None)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    given = parser.parse_args()
    table = FOLDER / "fields.json"
    rows = {(r["case"], r["seed"]): r for r in json.loads(table.read_text())} if table.is_file() else {}
    scenes = [scene for scene in SCENES if given.scene in (None, scene)]
    with tempfile.TemporaryDirectory() as folder:
        for seed, scene, name in product(given.seeds, scenes, given.fields or fields):
            capture, options = SCENES[scene]
            field, settings = VARIANTS.get(name, (name, []))
            words = [*options, "--field", field, "--minutes", f"{given.minutes:g}", *settings]
            words += ["--seed", str(seed)] if seed else []
            case = f"{scene}-{name}".replace(" ", "-")
            data = given.data.resolve() / "captures"
            measured = {"case": case, "seed": seed} | fit_and_eval(case, capture, words, data, Path(folder), not seed)
            rows[case, seed] = measured
            print(case, {k: measured[k] for k in ("psnr", "file_MB", "samples_per_second", "view_ms")}, flush=True)
            write("fields", TITLE, [rows[key] for key in sorted(rows)])
            (Path(folder) / f"{case}.nf").unlink()


if __name__ == "__main__":
    main()
