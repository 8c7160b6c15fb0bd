"""`nf eval`: evaluates a model, PSNR and SSIM on held-out views (evaluation/evaluate.py)."""

from pathlib import Path
from typing import Any

from neuralfields.captures.readers import read_scene
from neuralfields.codecs import load_any
from neuralfields.errors import InputError, UsageError
from neuralfields.evaluation.evaluate import best_and_worst, evaluate, recorded_scene
from neuralfields.evaluation.report_page import fit_log, panel, report_page
from neuralfields.evaluation.signals import evaluate_signal
from neuralfields.files import atomic_write_bytes, check_writable
from neuralfields.gpu.device import use_machine
from neuralfields.options.models import EvalOptions
from neuralfields.pictures.panels import save_image

PICTURE = "best_and_worst.png"


def run(options: EvalOptions) -> dict[str, Any]:
    """Evaluates the model; `Report.as_dict` with `model`, `scene` and, if asked for, `pictures` and `report`."""
    model = load_any(options.model, device=use_machine(options.device, options.threads))
    root = options.scene or recorded_scene(model)
    format = options.format if options.scene or options.format else model.made.get("format")
    if not model.is_scene:
        if options.report is not None:
            raise UsageError(f"--report: is for scenes; {options.model} is a field of kind {model.field.domain.kind}")
        return {"model": str(options.model)} | evaluate_signal(model, root, format, options.downscale)
    scene = read_scene(root, format, options.allow_outside)
    picture = _picture_path(options)
    if options.report is not None:
        check_writable(options.report, options.overwrite)
    panels: list[str] = []
    each = None if options.report is None else lambda view: panels.append(panel(view))
    report = evaluate(model, scene, options.split, options.downscale, options.background, options.quiet, each)
    result = {"model": str(options.model), "scene": str(root), "pictures": None, "report": None}
    if picture is not None:
        save_image(picture, best_and_worst(report))
        result["pictures"] = str(picture)
    if options.report is not None:
        page = report_page(model, options.model.name, report, panels, fit_log(options.model))
        atomic_write_bytes(options.report, page.encode())
        result["report"] = str(options.report)
    return report.as_dict() | result


def _picture_path(options: EvalOptions) -> Path | None:
    """Path of the comparison; makes the folder and checks that the file is writable, before any work."""
    if options.pictures is None:
        return None
    if options.pictures.exists() and not options.pictures.is_dir():
        raise UsageError(f"--pictures {options.pictures}: is a file; give a folder")
    try:
        options.pictures.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise InputError(f"--pictures {options.pictures}: cannot be made ({reason}); choose another folder") from None
    check_writable(options.pictures / PICTURE, options.overwrite)
    return options.pictures / PICTURE


def text(result: dict[str, Any]) -> str:
    """Formats the result for people: a row per view, the means last."""
    if "kind" in result:
        figures = ", ".join(f"{key} {value:.4g}" for key, value in result.items() if isinstance(value, float))
        return f"{result['model']}: {result['kind']} against {result['scene']}: {figures}"
    width = max(len(image["name"]) for image in result["images"])
    lines = [f"warning: {warning}" for warning in result["warnings"]]
    lines.append(f"{'view':<{width}}   psnr    ssim")
    lines += [f"{i['name']:<{width}}  {i['psnr']:5.2f}  {i['ssim']:.4f}" for i in result["images"]]
    lines.append(f"{'mean':<{width}}  {result['psnr']:5.2f}  {result['ssim']:.4f}")
    scale = f"downscale {result['downscale']}, " if result["downscale"] else ""
    lines.append(f"{result['views']} views ({result['split']}), {scale}{result['ms_per_view']:.0f} ms a view")
    if result.get("convention"):
        lines.append(f"{result['convention']}; without that {result['psnr_given']:.2f} dB")
    lines += [f"{name}: {result[name]}" for name in ("pictures", "report") if result[name]]
    return "\n".join(lines)
