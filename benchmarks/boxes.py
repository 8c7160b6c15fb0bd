"""The box: captures of scenes/make_siblings.py and real ones by default settings, and by a hand-made tight box.

python benchmarks/boxes.py [--field hash] [--siblings FOLDER] [--steps 600] [--only NAME ...] [--seed 0]

Steps are fixed and few: what is compared is the box, not the time. Writes boxes.md, or boxes_gaussians.md with
`--field gaussians`. Boxes:
  found     as `nf fit` takes it
  tight     the cube of the capture's truth.json, by hand (siblings alone)
  cameras   as the cameras and points say, random colours behind: how it was before photos were looked at
  common    the cube that the cameras see together (half side = tangent of half the field of view x distance)
  uncarved  as found, but nothing is carved by silhouettes
  hull      the visual hull also where the capture's dialect has a box of its own (Blender)

`psnr_closed` is of the same fit with the occupancy's edges not opened at its end; seconds of a view are of the
processor.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from table import FOLDER, row, write

from neuralfields.captures import bounds as bounds_module
from neuralfields.captures import hull as hull_module
from neuralfields.captures import readers
from neuralfields.captures.readers import read_scene
from neuralfields.evaluation.evaluate import best_and_worst, evaluate
from neuralfields.options.fit import FitOptions
from neuralfields.pictures.panels import save_image
from neuralfields.rendering.occupancy import Occupancy
from neuralfields.rendering.volume import Volume
from neuralfields.scene import Bounds, Scene
from neuralfields.training import photos, splat_fit
from neuralfields.training.fit import fit_scene

SIBLINGS = ("ring_on_black", "masked_llff", "room", "far_background")
MASKED = {"masked_llff": {"mask_means": "keep"}}
OBJECTS, WIDE = {"synthetic_chair": 2, "dtu_scan65": 3}, {"saharov_statue_32": 4, "tanks_train": 4}
CAPTURES = {**OBJECTS, **WIDE, "ngp_fox": 8, "llff_fern": 2}  # and their --downscale
NOTHING_OUTSIDE = ("ring_on_black", "masked_llff", "room")
Framed = tuple[Scene, list[str]]


def tight(scene: Scene, folder: Path) -> Bounds:
    """The cube of truth.json: a box, or with a far background the inner cube."""
    known = json.loads((folder / "truth.json").read_text())
    cameras = [frame.camera for frame in scene.frames]
    cube = bounds_module.around_cube(cameras, np.array(known["centre"]), known["side"] / 2)
    return replace(cube, contraction="box", cascades=1) if folder.name in NOTHING_OUTSIDE else cube


def of_common(scene: Scene) -> Bounds:
    """The cube of what the cameras see together, with all else contracted around it."""
    if scene.bounds.contraction == "box":
        return scene.bounds
    cameras = [frame.camera for frame in scene.frames]
    return bounds_module.around_cube(cameras, *bounds_module.common_cube(cameras))


class Edges:
    """Measures each finished fit twice: with the edges of its occupancy opened, and as the fit left them."""

    def __init__(self) -> None:
        self.bits, self.figures = torch.zeros(0), {}
        self.originals = Occupancy.edges_open, photos.measured

    def open_(self, occupancy: Occupancy, least: int) -> torch.Tensor:
        """Takes the place of `Occupancy.edges_open`, as a function of the class."""
        self.bits = occupancy.bits.clone()
        return self.originals[0](occupancy, least)

    def measured(self, volume: Volume, *rest: object) -> tuple:
        """Takes the place of `photos.measured`."""
        results, views = [], len(rest[-1].images)
        for bits in (volume.occupancy, self.bits):
            begin = time.process_time()
            results.append(self.originals[1](replace(volume, occupancy=bits), *rest))
            results.append((time.process_time() - begin) / views)
        self.figures = {
            "psnr_closed": round(results[2][1]["psnr"], 2),
            "view_s": round(results[1], 3),
            "view_s_closed": round(results[3], 3),
        }
        return results[0]


def measure(folder: Path, box: str, field: str, steps: int, seed: int, pictures: Path | None) -> dict:
    """Fits a capture within one of the boxes."""
    scene, name = read_scene(folder), folder.name
    options = FitOptions(
        scene=folder,
        steps=steps,
        seed=seed,
        quiet=True,
        eval_every=0,
        downscale=CAPTURES.get(name),
        recipe=("open_edges=9",) if field == "hash" else (),
        **MASKED.get(name, {}),
        field=field,
    )
    found: list[Bounds] = []

    def framed(scene: Scene, *rest: object) -> Framed:
        ours, lines = original(scene, *rest)
        if box == "tight":
            ours = replace(ours, bounds=tight(scene, folder))
        if box == "hull":
            shapes, cameras = readers.silhouettes(rest[0], ours.backdrop), [frame.camera for frame in ours.frames]
            ours = replace(ours, bounds=hull_module.object_bounds(shapes, cameras))
        if box == "common":
            ours = replace(ours, bounds=of_common(scene))
        if box == "cameras":
            ours = replace(ours, bounds=scene.bounds, backdrop=None)
        found.append(ours.bounds)
        return ours, lines

    original, start, edges = photos.framed, time.process_time(), Edges()
    with ExitStack() as stack:
        stack.enter_context(patch.object(splat_fit if field == "gaussians" else photos, "framed", framed))
        if field == "hash":
            stack.enter_context(patch.object(Occupancy, "edges_open", lambda *given: edges.open_(*given)))
            stack.enter_context(patch.object(photos, "measured", edges.measured))
        if box == "uncarved":
            stack.enter_context(patch.object(Occupancy, "hide_background", lambda *_: None))
        model = fit_scene(scene, options)
    wall, bounds = time.process_time() - start, found[0]
    figures = {"psnr": round(model.metrics["psnr"], 2), **edges.figures}
    print(name, box, figures, bounds, f"{wall:.0f} s", flush=True)
    for line in model.made.get("warnings", []):
        print("   ", line, flush=True)
    if pictures is not None:
        report = evaluate(model, photos.prepare_scene(scene, options))
        save_image(pictures / f"{name}-{box}.png", best_and_worst(report))
    words = f"python benchmarks/boxes.py --field {field} --steps {steps} --seed {seed} --only {name}"
    cube = {"side": f"{bounds.side:.3g}", "cascades": bounds.cascades, "contraction": bounds.contraction}
    return row(words, case=name, box=box, **figures, **cube, cpu_seconds=round(wall))


def main() -> None:
    """Runs all cases, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--field", choices=("hash", "gaussians"), default="hash")
    parser.add_argument("--siblings", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[*SIBLINGS, *CAPTURES])
    parser.add_argument("--boxes", nargs="*", default=["found", "tight", "cameras"])
    parser.add_argument("--pictures", type=Path, help="folder for the worst and the best view of each")
    parser.add_argument("--dry", action="store_true", help="write no table")
    given = parser.parse_args()
    made = given.siblings or Path(tempfile.mkdtemp())
    if given.siblings is None:
        script = FOLDER.parent / "scenes" / "make_siblings.py"
        subprocess.run([sys.executable, str(script), str(made)], check=True)
    rows = []
    for name in given.only:
        folder = made / name if name in SIBLINGS else given.data / "captures" / name
        for box in given.boxes:
            if box == "tight" and name not in SIBLINGS:
                continue
            rows.append(measure(folder, box, given.field, given.steps, given.seed, given.pictures))
            if not given.dry:
                claim = "boxes" if given.field == "hash" else f"boxes_{given.field}"
                write(claim, f"Boxes after {given.steps} steps of `{given.field}` (one seed)", rows)


if __name__ == "__main__":
    main()
