"""Fields at a budget of bytes: dB that quantised weights lose, beside splats at as many bytes.

python benchmarks/compressed_fields.py CAPTURE NAME=FILE.nf ... [--bytes 580kB 300kB] [--steps 0 400] [--views 4]

Writes compressed_fields.md and .json, and pictures/compressed_SCENE.png: held-out PSNR over bytes, a line for each
fit of the largest photos.

FILE.nf: fits of the capture, for example `nf fit CAPTURE --field hash --minutes 1`, or students, `nf convert hash.nf
lowrank.nf --field lowrank`. `pixels`: width of the photos; `fitted`: seconds and steps of FILE.nf's fit or conversion;
`original`: bytes of FILE.nf. `before`, `photos`: PSNR in dB against held-out photos, the fit's and the file's; `psnr`
against renderings of the fit by cameras that chose nothing. `seconds`: processor time of one thread. `tuned`: steps of
quantisation-aware training by renderings of the fit; 0: weights are rounded as they are.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from table import FOLDER, kept, row, write

from neuralfields.captures.images import load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.codecs import load_any
from neuralfields.compression.compress import Goal, compress
from neuralfields.compression.fields import compress_field
from neuralfields.distillation.rounded import field_tuner
from neuralfields.errors import InputError
from neuralfields.evaluation.evaluate import measure
from neuralfields.fields import field_name
from neuralfields.fields.gaussians import GaussianField
from neuralfields.files import parse_size
from neuralfields.models.loops import Loops
from neuralfields.models.model import Model
from neuralfields.pictures.charts import Chart, Series, plot_lines
from neuralfields.pictures.panels import save_image
from neuralfields.verbs.compress import cameras_of, fitted_of, photos_of

TITLE = "Fields at a budget of bytes: dB over bytes"


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capture", type=Path)
    parser.add_argument("fits", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--bytes", nargs="*", default=["580kB", "300kB"])
    parser.add_argument("--steps", type=int, nargs="*", default=[0], help="of quantisation-aware training of fields")
    parser.add_argument("--views", type=int, default=4, help="held-out photos that are looked at")
    options = parser.parse_args()
    torch.set_num_threads(1)
    command = "python benchmarks/compressed_fields.py"
    rows = kept("compressed_fields", command)
    scene = read_scene(options.capture)
    done = {(r["fit"], r["most"], r["tuned"]) for r in rows if r["scene"] == scene.name}
    for name, path in (fit.split("=", 1) for fit in options.fits):
        model = load_any(Path(path), options.capture)
        photos = load_frames(scene, scene.test[: options.views], model.made.get("downscale"))

        def shown(found: Model, photos=photos) -> float:  # noqa: ANN001
            pairs = zip(photos.images, photos.cameras, strict=True)
            look, back = found.renderable(), found.background
            return fmean(measure(look, image, camera, back, structure=False).psnr for image, camera in pairs)

        each = [(most, steps) for most in options.bytes for steps in options.steps]
        wanted = [(most, steps) for most, steps in each if (name, most, steps) not in done]
        before = shown(model) if wanted else 0.0
        for most, steps in wanted:
            begin = time.process_time()
            try:
                data, after, report = compressed(model, parse_size(most), steps, options.capture, shown)
            except InputError as error:
                print(f"{name}, {most}: {error}", flush=True)
                continue
            rows.append(
                row(
                    command,
                    scene=scene.name,
                    pixels=photos.cameras[0].width,
                    fit=name,
                    field=field_name(model.field),
                    fitted=f"{model.made['seconds']:.0f} s, {model.made['steps']} steps",
                    original=Path(path).stat().st_size,
                    most=most,
                    tuned=steps,
                    bytes=len(data),
                    psnr=round(report["psnr"], 2),
                    before=round(before, 2),
                    photos=round(after, 2),
                    lost=round(before - after, 2),
                    seconds=round(time.process_time() - begin, 1),
                )
            )
            print(rows[-1], flush=True)
            write("compressed_fields", TITLE, rows)
    here = [found for found in rows if found["scene"] == scene.name]
    here = [found for found in here if found["pixels"] == max(one["pixels"] for one in here)]
    save_image(FOLDER / "pictures" / f"compressed_{scene.name}.png", chart(here))


def chart(rows: list[dict]) -> np.ndarray:
    """Held-out PSNR over bytes [H, W, 3]: a line for each fit, splats strong."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for found in rows:
        name = found["fit"] + (", tuned" if found.get("tuned") else "")
        lines.setdefault(name, []).append((found["bytes"] / 1000, found["photos"]))
    drawn = [
        Series(name, *zip(*sorted(points), strict=True), strong="gaussians" in name) for name, points in lines.items()
    ]
    return plot_lines(drawn, Chart(TITLE, x_label="kB of the file", y_label="dB, held-out photos", log_x=True))


def compressed(model: Model, most: int, steps: int, capture: Path, shown) -> tuple[bytes, float, dict]:  # noqa: ANN001
    """Bytes, PSNR against photos and report of a model at so many bytes."""
    goal, cameras = Goal(most_bytes=most, steps=steps, fitted=fitted_of(model)), cameras_of(model, 0)
    if not isinstance(model.field, GaussianField):
        made = compress_field(model, goal, cameras, tune=field_tuner(model, cameras.training, 0, Loops()))
        return made.data, shown(made.model), made.report

    goal, cameras = replace(goal, steps=400), replace(cameras, photos=photos_of(model, capture))
    made = compress(model.field.gaussians(), model.bounds, goal, model.background, cameras)
    field = GaussianField.of(made.gaussians)
    return made.data, shown(replace(model, field=field)), made.report


if __name__ == "__main__":
    main()
