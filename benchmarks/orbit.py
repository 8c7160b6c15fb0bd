"""An orbit around a fitted mesh: traced view by view, and drawn by triangles that the field corrects.

python benchmarks/orbit.py [--mesh spot] [--steps 300] [--views 60] [--traced 12] [--data FOLDER]

Seconds are of one thread's processor. `traced`: views of the orbit, evenly spaced, that are traced; their mean time is
taken for all. Against those: PSNR of the colours, pixels of the shape in one and not in the other, and depth in cells
of the lattice of 192 (rendering/meshed.py), the mean and all but a hundredth.
"""

import argparse
import time
from pathlib import Path

import torch
from table import FOLDER, row, write

from neuralfields.options.fit import FitOptions
from neuralfields.pictures.camera_paths import orbit
from neuralfields.rendering.meshed import COARSE, FINER, MeshedSurface
from neuralfields.training.fit import fit_scene
from neuralfields.training.plan import read_input

WHITE = (1.0, 1.0, 1.0)
TITLE = "An orbit around a fitted mesh"


def main() -> None:
    """Fits, draws every view, traces some."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mesh", default="spot")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--views", type=int, default=60)
    parser.add_argument("--traced", type=int, default=12)
    parser.add_argument("--data", type=Path, default=FOLDER.parents[1] / "shared/data/signals")
    options = parser.parse_args()
    given = FitOptions(options.data / "meshes" / f"{options.mesh}.obj", steps=options.steps, threads=1, quiet=True)
    model = fit_scene(read_input(given), given)
    cameras = orbit(list(model.cameras), model.bounds, options.views, (512, 512))
    shape, begin = model.renderable(), time.process_time()
    drawn = MeshedSurface(shape)
    pictures = [drawn.render(camera, WHITE) for camera in cameras]
    after, begin = time.process_time() - begin, time.process_time()
    chosen = range(0, len(cameras), max(1, len(cameras) // options.traced))
    traced = {index: shape.render(cameras[index], WHITE) for index in chosen}
    before = (time.process_time() - begin) * len(cameras) / len(traced)
    error, flipped, pixels, depths = 0.0, 0, 0, []
    for index, truth in traced.items():
        seen = pictures[index]
        one, other = seen.opacity > 0, truth.opacity > 0
        error += float((seen.rgb - truth.rgb).square().mean()) / len(traced)
        flipped, pixels = flipped + int((one != other).sum()), pixels + int(other.sum())
        depths.append((seen.depth - truth.depth)[one & other].abs() / model.bounds.side * COARSE * FINER)
    depth = torch.cat(depths)
    depth = depth[torch.randperm(len(depth), generator=torch.Generator().manual_seed(0))[: 1 << 20]]
    figures = {
        "mesh": options.mesh, "views": len(cameras), "size": f"{cameras[0].width}x{cameras[0].height}",
        "seconds traced": before, "seconds drawn": after, "times faster": before / after,
        "PSNR dB": -10 * torch.tensor(error).log10().item(), "share on another side of the outline": flipped / pixels,
        "depth cells, mean": float(depth.mean()), "depth cells, 99 %": float(depth.quantile(0.99)),
    }  # fmt: skip
    print(figures)
    command = f"python benchmarks/orbit.py --mesh {options.mesh} --steps {options.steps} --views {options.views}"
    write("orbit", TITLE, [row(f"{command} --traced {options.traced}", **figures)])


if __name__ == "__main__":
    main()
