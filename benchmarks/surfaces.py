"""Surfaces from photos: Chamfer distance of meshes after some time against a long fit's, and depth of several fields.

python benchmarks/surfaces.py --case mesh [--minutes 2 5 15] [--long STEPS] [--reference long.nf]
python benchmarks/surfaces.py --case depth [--steps 300] [--fields hash gaussians surface] [--data FOLDER]

mesh   dtu_scan65, photos at half size, masked: the official points are not here, so the reference is the mesh of a fit
       of the same field of many steps (--long, or --reference, a file of such a fit), and only points
       count that at least three photos see, and nearly all of these in their mask: the unseen back is anything. In
       units of the capture, whose object is about 1.3 wide. On two threads; `cores` is processor time by time.
depth  saharov_statue_32: relative error of depth at the measured pixels of held-out photos, median.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from depth_maps import depth_errors, with_names
from scipy.spatial import cKDTree
from table import FOLDER, kept, row, write

import neuralfields
from neuralfields.cameras import project
from neuralfields.captures.images import load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.evaluation.export import surface_mesh
from neuralfields.mesh.clean import without_floaters
from neuralfields.mesh.mesh import SurfaceSampler
from neuralfields.models.nf_file import load, save

TITLE = "Surfaces from photos"
POINTS, AGREE, SEEN, NEAR = 40_000, 0.9, 3, 0.01


def on_object(model: neuralfields.Model, capture: Path) -> np.ndarray:
    """Points of the model's mesh that photos see, by its own depth, and see in their masks, [S, 3]."""
    mesh = without_floaters(surface_mesh(model, 256), 0.01)[0]
    scene = read_scene(capture)
    loaded = load_frames(scene, tuple(range(len(scene.frames))), 2)
    points = SurfaceSampler(mesh).draw(POINTS, torch.Generator().manual_seed(0)).points.numpy().astype(np.float64)
    held, seen = np.zeros(len(points)), np.zeros(len(points))
    for camera, mask in zip(loaded.cameras, loaded.masks, strict=True):
        pixel, depth = project(camera, points)
        x, y = np.floor(pixel).astype(int).T
        there = (depth > 0) & (x >= 0) & (y >= 0) & (x < camera.width) & (y < camera.height)
        depths = model.renderable().render(camera, (0.0, 0.0, 0.0)).depth.numpy()[y[there], x[there]]
        away = np.linalg.norm(points[there] - camera.world_from_camera[:3, 3], axis=1)
        there[there] = np.abs(away - depths) < NEAR * away
        seen += there
        held[there] += np.asarray(mask)[y[there], x[there]] > 0
    return points[(seen >= SEEN) & (held >= AGREE * seen)]


def chamfer(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Mean distances from points of one to the other, and back."""
    return float(cKDTree(other).query(one)[0].mean()), float(cKDTree(one).query(other)[0].mean())


def meshes(given: argparse.Namespace) -> None:
    """The mesh after each time against that of a long fit."""
    capture = given.data / "dtu_scan65" / "transforms_masks.json"

    def fitted(minutes: float | None, steps: int | None = None) -> neuralfields.Model:
        length = {"minutes": minutes} if steps is None else {"steps": steps}
        return neuralfields.fit(capture, field="surface", **length, downscale=2, eval_every=0, threads=2)

    long = load(given.reference) if given.reference else fitted(None, given.long)
    if not given.reference:
        save(long, FOLDER / "surfaces-long.nf")
    reference = on_object(long, capture)
    command = f"python benchmarks/surfaces.py --case mesh --long {long.made['steps']}"
    rows = [r for r in kept("surfaces", command) if r["minutes"] not in given.minutes]
    for minutes in given.minutes:
        wall, busy = time.perf_counter(), time.process_time()
        model = fitted(minutes)
        cores = (time.process_time() - busy) / (time.perf_counter() - wall)
        there, back = chamfer(on_object(model, capture), reference)
        figures = {"minutes": minutes, "cores": cores, "steps": model.made["steps"], "psnr": model.metrics["psnr"]}
        figures |= {"accuracy": there, "completeness": back}
        print(figures, flush=True)
        rows.append(row(command, **figures))
        write("surfaces", TITLE, rows)


def depths(given: argparse.Namespace) -> None:
    """Depth of each field at held-out photos."""
    command = f"python benchmarks/surfaces.py --case depth --steps {given.steps} --downscale {given.downscale}"
    rows = [r for r in kept("surfaces_depth", command) if r["field"] not in given.fields]
    with tempfile.TemporaryDirectory() as folder:
        capture = with_names(given.data / "saharov_statue_32", Path(folder) / "statue")
        for field in given.fields:
            shared = {"steps": given.steps, "downscale": given.downscale, "threads": 1, "eval_every": 0}
            model = neuralfields.fit(capture, field=field, **shared)
            off = depth_errors(model, capture)
            figures = {"field": field, "steps": given.steps, "psnr": model.metrics["psnr"]}
            figures |= {"median depth error": float(np.median(off)), "within 5 %": float(np.mean(off < 0.05))}
            figures |= {"seconds": model.made["seconds"]}
            print(figures, flush=True)
            rows.append(row(command, **figures))
            write("surfaces_depth", "Depth of held-out photos by field", rows)


def main() -> None:
    """Runs the case that was named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=("mesh", "depth"), required=True)
    parser.add_argument("--data", type=Path, default=FOLDER.parent.parent / "shared" / "data" / "captures")
    parser.add_argument("--minutes", type=float, nargs="+", default=[2.0, 5.0, 15.0])
    parser.add_argument("--long", type=int, default=20_000, help="steps of the reference")
    parser.add_argument("--reference", type=Path, default=None)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--downscale", type=int, default=6)
    parser.add_argument("--fields", nargs="+", default=["hash", "gaussians", "surface"])
    given = parser.parse_args()
    torch.set_num_threads(2 if given.case == "mesh" else 1)
    (meshes if given.case == "mesh" else depths)(given)


if __name__ == "__main__":
    main()
