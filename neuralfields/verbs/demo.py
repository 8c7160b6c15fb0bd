"""`nf demo`: fits the bundled sample scene, evaluates it on held-out views, renders a turntable and writes a page.

sample.nf        the fitted field
comparison.png   worst and best held-out view: photo, render, error
turntable.mp4    an orbit; .webp where the package av is missing
sample.html      the field in one page, for any browser
"""

import importlib.util
import time
from pathlib import Path
from typing import Any

from neuralfields.errors import InputError, UsageError
from neuralfields.files import check_writable
from neuralfields.options.fit import FitOptions
from neuralfields.options.machine import DemoOptions
from neuralfields.options.models import RenderOptions, ShareOptions

TURNTABLE_FRAMES, TURNTABLE_FPS = 72, 24.0
PAGE = {"max_bytes": "600kB", "title": "The sample scene", "licence": "Apache-2.0"}


def sample_scene() -> Path:
    """Path of the bundled sample scene, in the package or the repository. Raises InputError where it is missing."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_scenes" / "sample", package.parent / "scenes" / "sample"):
        if (folder / "transforms_train.json").is_file():
            return folder
    raise InputError(f"{package}: the bundled scene is not there; install neuralfields again, or give a capture")


def run(options: DemoOptions) -> dict[str, Any]:
    """Fits, evaluates and renders the sample scene.

    Keys: model, psnr, ssim, steps, seconds, files, notes, next (commands to try).
    Raises UsageError where an output exists without `overwrite`, InputError where the folder cannot be made.
    """
    from neuralfields.evaluation.evaluate import best_and_worst, evaluate
    from neuralfields.models.nf_file import load
    from neuralfields.pictures.panels import save_image
    from neuralfields.verbs import fit
    from neuralfields.verbs.render import run as render
    from neuralfields.verbs.share import run as share

    begin = time.perf_counter()
    scene = sample_scene()
    outputs, notes = _outputs(options)
    target, comparison, turntable, page = outputs
    fitted = fit.run(
        FitOptions(
            scene=scene, out=target, minutes=options.minutes, threads=options.threads, overwrite=options.overwrite,
            eval_every=10.0, quiet=options.quiet, field="hash")
    )  # fmt: skip
    report = evaluate(load(target), scene, quiet=options.quiet)
    save_image(comparison, best_and_worst(report))
    video = render(
        RenderOptions(
            model=target, out=turntable, path="orbit", frames=TURNTABLE_FRAMES, fps=TURNTABLE_FPS,
            overwrite=options.overwrite, quiet=options.quiet,
        )
    )  # fmt: skip
    shared = share(
        ShareOptions(
            (target,), out=page, threads=options.threads, overwrite=options.overwrite, quiet=options.quiet, **PAGE
        )
    )
    return {
        "model": str(target),
        "psnr": report.psnr,
        "ssim": report.ssim,
        "views": len(report.views),
        "steps": fitted["steps"],
        "fit_seconds": fitted["seconds"],
        "ms_per_frame": video["ms_per_frame"],
        "page_bytes": shared["bytes"],
        "seconds": time.perf_counter() - begin,
        "files": [str(path) for path in outputs],
        "notes": notes,
        "next": [
            f"nf render {target} {target.with_name('depth.png')} --path orbit --frames 1 --what rgb,depth",
            f"nf info {target}",
            "nf fit FOLDER --minutes 2     (your own photos with their poses; check them first with nf check FOLDER)",
        ],
    }


def _outputs(options: DemoOptions) -> tuple[list[Path], list[str]]:
    """Checks that the four outputs are writable, and makes their folder; also notes for the user."""
    out, notes, video = options.out, [], "turntable.mp4"
    if importlib.util.find_spec("av") is None:
        video = "turntable.webp"
        notes.append("the package av is missing, so the turntable is a .webp; pip install 'neuralfields[video]' has it")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; give a folder with --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be made ({(error.strerror or '').lower()}); choose another --out") from None
    paths = [out / name for name in ("sample.nf", "comparison.png", video, "sample.html")]
    for path in paths:
        check_writable(path, options.overwrite)
    return paths, notes


def text(result: dict[str, Any]) -> str:
    """Formats the result for people: quality, files, next commands."""
    lines = [
        f"fitted the sample scene in {result['fit_seconds']:.0f} s ({result['steps']} steps): {result['psnr']:.2f} dB"
        f" PSNR, {result['ssim']:.3f} SSIM on {result['views']} held-out views",
        *(f"  wrote {path}" for path in result["files"]),
        *(f"  note: {note}" for note in result["notes"]),
        "next",
        *(f"  {command}" for command in result["next"]),
    ]
    return "\n".join(lines)
