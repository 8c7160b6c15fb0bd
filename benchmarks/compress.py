"""Compressed Gaussians: PSNR over bytes of .nfz and of the other formats, by the same drawn cameras.

python benchmarks/compress.py [--quick] [--data FOLDER] [--scenes NAME ...] [--fits NAME=FILE.nf ...]

The original is the file on disk. `psnr` and `ssim` are means over 12 pictures of 200 x 200 that were not looked at when
steps were chosen, over black; 100 dB are pictures without a difference in 8 bits. `seconds` are of this processor's one
thread (processor time), the writing alone. Rows `tuned` went by --steps of nf compress, others are as with --fast.
--fits: models of captures (`nf fit --field gaussians`), with what every second held-out photo shows before and after,
whose camera chose nothing; there `psnr` is by the same cameras.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean

import torch
from table import FOLDER, kept, row, write

from neuralfields.captures.images import load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.codecs import load_any, sog, spz
from neuralfields.codecs.splats import read_gaussians, splat_model, write_gaussians
from neuralfields.compression.compress import Goal, compress
from neuralfields.compression.original import REPORT_VIEWS, SEEDS, SIDE, drawn
from neuralfields.compression.tune import Judge
from neuralfields.evaluation.evaluate import measure as measured
from neuralfields.gaussians import Gaussians
from neuralfields.rendering.splat import Splats
from neuralfields.verbs.compress import cameras_of, fitted_of

SCENES = {
    "playbot": "splat_playbot/playbot_lod3_sh2.ply",
    "guitar": "splat_small/guitar.compressed.ply",
    "fruit_drops": "splat_small/fruit_drops_4721_sh3.ply",
}
TITLE = "Compressed Gaussians: PSNR against the original over bytes"
STEPS, TUNED = 400, (0.6, 0.3)
QUALITIES = (0.005, 0.02, 0.05, 0.1, 0.3, 0.6, 1.2, 2.5)
Writer = Callable[[Gaussians, Path], None]


def others(count: int, degree: int) -> Iterator[tuple[str, str, Writer]]:
    """Name, suffix and writer of each competitor at its settings."""
    yield "ply", ".ply", write_gaussians
    yield "compressed.ply", ".compressed.ply", write_gaussians
    yield "splat", ".splat", write_gaussians
    for bits in ((8, 8), (5, 4), (3, 2)) if degree else ((5, 4),):
        yield f"spz {bits[0]}, {bits[1]} bits", ".spz", lambda g, path, b=bits: spz.write(g, path, bits=b)
    yield "sog", ".sog", write_gaussians
    for share in (4, 16, 64) if degree else ():
        words = max(count // share, 1)
        yield f"sog, N/{share} words", ".sog", lambda g, path, w=words: sog.write(g, path, words=w)


def measure(scene: str, path: Path, command: str, done: set[tuple[str, str]], quick: bool) -> Iterator[dict]:
    """A row for every format and quality that is not done."""
    gaussians, bounds = read_gaussians(path), splat_model(path).bounds
    judge = Judge(gaussians, bounds, drawn(bounds, REPORT_VIEWS, SIDE, SEEDS["report"]), (0.0, 0.0, 0.0))
    count, raw = len(gaussians), len(gaussians) * 4 * (14 + 3 * gaussians.harmonics.shape[1])

    def described(name: str, size: int, seconds: float, figures: dict[str, float], sections: str = "") -> dict:
        return row(
            command, scene=scene, gaussians=count, degree=gaussians.degree, format=name, bytes=size,
            bytes_each=round(size / count, 2), ratio=round(raw / size, 1), psnr=round(figures["psnr"], 2),
            ssim=round(figures["ssim"], 4), seconds=round(seconds, 2), bytes_each_by_section=sections,
        )  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        for name, suffix, writer in others(count, gaussians.degree):
            if (scene, name) not in done:
                file, begin = Path(folder) / f"a{suffix}", time.process_time()
                writer(gaussians, file)
                seconds = time.process_time() - begin
                yield described(name, file.stat().st_size, seconds, judge.report(read_gaussians(file)))
    goals = [(lost, 0) for lost in QUALITIES] + [(lost, STEPS) for lost in TUNED]
    for lost, steps in goals[3:5] if quick else goals:
        if (scene, name := named(lost, steps)) not in done:
            begin = time.process_time()
            made = compress(gaussians, bounds, Goal(lost, steps=steps)).report
            seconds = time.process_time() - begin
            sections = ", ".join(f"{key} {size / count:.2f}" for key, size in made["sections"].items())
            yield described(name, made["bytes"], seconds, made, sections)


def named(lost: float, steps: int) -> str:
    """What a row calls a goal."""
    return f"nfz, {lost:g} dB" + (f", tuned {steps}" if steps else "")


def measure_fit(scene: str, path: Path, command: str, done: set[tuple[str, str]], data: Path) -> Iterator[dict]:
    """A row for every quality of a fit of a capture, tuned and not, beside what its held-out photos show."""
    model = load_any(path, None)
    gaussians, count = model.field.gaussians(), len(model.field.gaussians())
    capture = read_scene(data / "captures" / scene)
    photos = load_frames(capture, capture.test[1::2], model.made["downscale"])  # the others choose steps

    def shown(found: Gaussians) -> float:
        renderable = Splats(found, model.bounds)
        pairs = zip(photos.images, photos.cameras, strict=True)
        return fmean(measured(renderable, i, c, model.background, None, structure=False).psnr for i, c in pairs)

    before, raw = shown(gaussians), count * 4 * (14 + 3 * gaussians.harmonics.shape[1])
    for lost, steps in [*((lost, STEPS) for lost in TUNED), (0.6, 0)]:
        if (scene, name := named(lost, steps)) in done:
            continue
        begin = time.process_time()
        goal, cameras = Goal(lost, steps=steps, fitted=fitted_of(model)), cameras_of(model, 0)
        made = compress(gaussians, model.bounds, goal, model.background, cameras)
        seconds, report = time.process_time() - begin, made.report
        after = shown(made.gaussians)
        sections = ", ".join(f"{key} {size / count:.2f}" for key, size in report["sections"].items())
        yield row(
            command, scene=scene, gaussians=count, degree=gaussians.degree, format=name, bytes=report["bytes"],
            bytes_each=round(report["bytes"] / count, 2), ratio=round(raw / report["bytes"], 1),
            psnr=round(report["psnr"], 2), ssim=round(report["ssim"], 4), seconds=round(seconds, 2),
            bytes_each_by_section=sections, photos_before=round(before, 2), photos_after=round(after, 2),
        )  # fmt: skip


def main() -> None:
    """Writes the table, or shows the rows of a quick run."""
    default = os.environ.get("NEURALFIELDS_DATA", FOLDER.parent.parent / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the smallest scene, nothing is written")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--scenes", nargs="*", default=list(SCENES))
    parser.add_argument("--fits", nargs="*", default=[], metavar="NAME=FILE", help="only these models of captures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    command = "python benchmarks/compress.py"
    rows = [] if options.quick else kept("compression", command)
    done = {(r["scene"], r["format"]) for r in rows}
    plain = [] if options.fits else ["fruit_drops"] if options.quick else options.scenes
    fits = [fit.split("=", 1) for fit in options.fits]
    for parts in (
        *(measure(scene, options.data / "splats" / SCENES[scene], command, done, options.quick) for scene in plain),
        *(measure_fit(scene, Path(path), command, done, options.data) for scene, path in fits),
    ):
        for found in parts:
            rows.append(found)
            print({key: value for key, value in found.items() if key not in ("machine", "command")}, flush=True)
            if not options.quick:
                write("compression", TITLE, rows)


if __name__ == "__main__":
    main()
