"""Speed of the coordinate networks, in training and rendering, beside that of another checkout.

python benchmarks/coordinate_networks.py [--against FOLDER] [--data FOLDER] [--steps 300] [--seeds 0] [--isa NAME]

Each row is one fit in a process of its own, on one thread, measured by the processor time of its steps (the second half
of them) and of one held-out view, best of three; then its held-out PSNR. `--against`: a checkout, built in place, whose
rows stand beside; either layout of the package is understood. `--isa`: x86_64_v3 keeps this package's kernels, torch's
and its libraries' to AVX2.
"""

import argparse
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

from table import FOLDER, kept, row, write

SCENES = {"chair": ("synthetic_chair", 2), "fox": ("ngp_fox", 4)}
FIELDS = ("mlp", "cam")
TITLE = "Coordinate networks on one thread: steps, samples a second of processor time, and a view"
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
# Runs in the measured checkout: nothing of this one is imported there.
CHILD = """
import json, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
capture, downscale, field, steps, seed = json.loads(sys.argv[1])
try:
    from neuralfields.options.fit import FitOptions
    from neuralfields.rendering.volume import Volume
    from neuralfields.training.fit import run_plan
    from neuralfields.training.plan import plan_fit
    try:
        from neuralfields.trainers.radiance import RadianceTrainer
    except ImportError:
        from neuralfields.training.radiance import RadianceTrainer
    fit = lambda options: run_plan(plan_fit(options))
    render = lambda volume, camera, colour: volume.render(camera, colour)
except ImportError:
    from neuralfields.fit import fit_scene, read_input
    from neuralfields.options import FitOptions
    from neuralfields.training import Training as RadianceTrainer
    from neuralfields.volume import Volume, render_camera as render
    fit = lambda options: fit_scene(read_input(options), options)
taken, step = [], RadianceTrainer.step
def timed(self, progress):
    start = time.process_time()
    report = step(self, progress)
    taken.append((time.process_time() - start, report.samples))
    return report
RadianceTrainer.step = timed
options = FitOptions(Path(capture), downscale=downscale, field=field, steps=steps, seed=seed, threads=1, eval_every=0)
model = fit(options)
half = taken[len(taken) // 2 :]
seconds, samples = sum(t for t, _ in half), sum(n for _, n in half)
volume, views = Volume(model.field, model.bounds, model.occupancy), []
for _ in range(3):
    start = time.process_time()
    render(volume, model.cameras[model.held_out[0]], model.background)
    views.append(time.process_time() - start)
figures = {"step_ms": 1e3 * seconds / len(half), "samples_per_second": round(samples / seconds)}
print(json.dumps(figures | {"view_ms": round(1e3 * min(views), 1), "psnr": model.metrics["psnr"]}))
"""


def measured(checkout: Path, case: list, isa: str | None) -> dict:
    """Fits and renders in a process that imports the package of `checkout`."""
    environment = dict(os.environ, PYTHONPATH=str(checkout), OMP_NUM_THREADS="1")
    if isa is not None:
        environment |= {"NEURALFIELDS_ISA": isa} | (AVX2 if isa == "x86_64_v3" else {})
    command = [sys.executable, "-c", CHILD, json.dumps(case)]
    done = subprocess.run(command, cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def commit_of(checkout: Path) -> str:
    """The commit that a checkout is at."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Measures what has no row yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser.add_argument("--against", type=Path, default=None)
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--isa", default=None)
    given = parser.parse_args()
    rows = kept("coordinate_networks", None)
    checkouts = [FOLDER.parent, *([given.against.resolve()] if given.against else [])]
    for seed, scene, field, checkout in product(given.seeds, SCENES, FIELDS, checkouts):
        capture, downscale = SCENES[scene]
        case = {"case": f"{scene}-{field}", "seed": seed, "steps": given.steps, "isa": given.isa or "best"}
        case["package"] = "this" if checkout == FOLDER.parent else commit_of(checkout)
        if any(all(r.get(key) == value for key, value in case.items()) for r in rows):
            continue
        folder = given.data.resolve() / "captures" / capture
        figures = measured(checkout, [str(folder), downscale, field, given.steps, seed], given.isa)
        words = ["--against CHECKOUT"] if given.against else []
        words += [f"--steps {given.steps}", f"--seeds {seed}", *([f"--isa {given.isa}"] if given.isa else [])]
        rows.append(row(" ".join(["python benchmarks/coordinate_networks.py", *words]), **case, **figures))
        print(case, figures, flush=True)
        rows.sort(key=lambda r: (r["isa"], r["case"], r["seed"], r["package"]))
        write("coordinate_networks", TITLE, rows)


if __name__ == "__main__":
    main()
