"""What depth maps teach: held-out PSNR and depth of a capture with measured depth, fitted with and without them.

python benchmarks/depth_maps.py [--data FOLDER] [--steps 600] [--downscale 6] [--weights 0 0.02 0.1 0.5] [--seeds 0]

Statue of a street (saharov_statue_32: 32 photos, reference depth maps), by fixed steps; errors of depth are relative,
along the rays of held-out photos' measured pixels. The maps of held-out photos are not trained on.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from table import FOLDER, row, write

import neuralfields
from neuralfields.captures.depth_files import read_depth
from neuralfields.captures.readers import read_scene
from neuralfields.evaluation.render import render

TITLE = "Depth maps as supervision"


def with_names(source: Path, folder: Path) -> Path:
    """A copy of the capture whose transforms.json names the depth maps."""
    shutil.copytree(source, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)
    text = json.loads((folder / "transforms.json").read_text())
    for frame in text["frames"]:
        frame["depth_file_path"] = f"depthmaps_downscale4/{Path(frame['file_path']).stem}.exr"
    (folder / "transforms.json").write_text(json.dumps(text))
    return folder


def depth_errors(model: neuralfields.Model, capture: Path) -> np.ndarray:
    """Relative errors of depth along the axis at the measured pixels of held-out photos."""
    scene, found = read_scene(capture), []
    by_name = {frame.name: frame for frame in scene.frames}
    for index in model.held_out:
        stored, _ = read_depth(by_name[model.camera_names[index]].depth_path)
        camera = model.cameras[index].resized(stored.shape[1], stored.shape[0])
        seen = render(model, camera)
        x, y = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
        ray = np.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones_like(x)], -1)
        along = seen.depth.numpy() / np.linalg.norm(ray, axis=-1)
        known = stored > 0
        found.append(np.abs(along[known] / stored[known] - 1))
    return np.concatenate(found)


def main() -> None:
    """Fits with each weight and seed; one row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=FOLDER.parent.parent / "shared" / "data" / "captures")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--downscale", type=int, default=6)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 0.02, 0.1, 0.5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        capture = with_names(options.data / "saharov_statue_32", Path(folder) / "statue")
        for seed in options.seeds:
            for weight in options.weights:
                shared = {"steps": options.steps, "downscale": options.downscale, "seed": seed, "threads": 1}
                model = neuralfields.fit(capture, depth_weight=weight, eval_every=0, **shared)
                off = depth_errors(model, capture)
                figures = {
                    "weight": weight, "seed": seed, "steps": options.steps, "psnr": model.metrics["psnr"],
                    "median depth error": float(np.median(off)), "within 5 %": float(np.mean(off < 0.05)),
                    "seconds": model.made["seconds"],
                }  # fmt: skip
                print(figures, flush=True)
                command = f"python benchmarks/depth_maps.py --steps {options.steps} --downscale {options.downscale}"
                rows.append(row(command, **figures))
                write("depth_maps", TITLE, rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
