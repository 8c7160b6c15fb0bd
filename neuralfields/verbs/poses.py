"""`nf poses`: finds camera poses for photos or a video, and writes a posed capture (poses/find.py)."""

import shutil
from pathlib import Path
from typing import Any

from neuralfields.errors import InterruptedFit, PosesNotFoundError, UsageError
from neuralfields.options.captures import PosesOptions
from neuralfields.poses.find import _is_ours, default_capture, find_poses
from neuralfields.progress import StageDisplay

DOUBTFUL_EXIT = PosesNotFoundError.exit_code


def run(options: PosesOptions) -> dict[str, Any]:
    """Finds poses; returns the report of poses.json."""
    if options.refine == "surface":
        return _refine(options)
    out = options.out or default_capture(options.photos)
    display = StageDisplay(options.quiet)
    if (out / "transforms.json").exists() and not (options.overwrite or options.resume):
        raise UsageError(f"{out}: holds a capture; add --overwrite to replace it, or choose another folder with --out")
    if options.overwrite and _is_ours(out):
        shutil.rmtree(out / "work", ignore_errors=True)
    try:
        return find_poses(options.photos, out, options, display)
    except KeyboardInterrupt:
        raise InterruptedFit(
            f"interrupted; finished stages are kept, go on with: nf poses {options.photos} --out {out} --resume"
        ) from None


def _refine(options: PosesOptions) -> dict[str, Any]:
    """Refines the poses of a capture; returns the report of poses/surface_capture.py."""
    from neuralfields.gpu.device import use_machine
    from neuralfields.poses.surface_capture import refine_capture

    use_machine("cpu", options.threads)
    out = options.out or Path(f"{options.photos.resolve().name}-refined")
    return refine_capture(options.photos, out, options.seed, StageDisplay(options.quiet), options.overwrite)


def text(report: dict[str, Any]) -> str:
    """Formats the report for people."""
    lines = [f"wrote {report['path']}: {report['line']}"]
    if "refined" in report:
        return f"{lines[0]}\nfit it with: nf fit {report['path']}"
    lines += [f"  {reason}" for reason in report["reasons"]]
    missing = report["missing"]
    lines += [f"  without a pose: {name}: {reason}" for name, reason in list(missing.items())[:10]]
    if len(missing) > 10:
        lines.append(f"  and {len(missing) - 10} more, see poses.json")
    if report["level"] == "doubtful":
        lines.append(f"inspect it with: nf view {report['path']}     fit it all the same: --accept-doubtful-poses")
    else:
        lines.append(f"fit it with: nf fit {report['path']}     check it with: nf check {report['path']}")
    return "\n".join(lines)


def exit_code(report: dict[str, Any]) -> int:
    """Exit code: 4 for doubtful poses, although they are written, else 0."""
    return DOUBTFUL_EXIT if report.get("level") == "doubtful" else 0
