"""`nf convert`: one architecture in, another out, without the photos (distillation/convert.py)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from neuralfields.captures.readers import read_scene
from neuralfields.codecs import load_any
from neuralfields.distillation.boxes import Edit
from neuralfields.distillation.convert import DISTILL_STEPS, compare, convert
from neuralfields.distillation.distil import Recipe
from neuralfields.errors import InputError
from neuralfields.fields import field_name
from neuralfields.files import OutputLock, check_writable, parse_size, size_text
from neuralfields.gpu.device import use_machine
from neuralfields.models.model import Model
from neuralfields.models.nf_file import save
from neuralfields.options.models import ConvertOptions
from neuralfields.progress import Progress
from neuralfields.scene import Scene
from neuralfields.settings import parse_settings
from neuralfields.training.loop import Budget

FLOOR = 20.0  # dB against the teacher below which nothing is written without --force


def run(options: ConvertOptions) -> dict[str, Any]:
    """The verb: see `write`."""
    return write(options)


def write(options: ConvertOptions, edit: Edit | None = None) -> dict[str, Any]:
    """Loads, distils, compares, saves; a report as plain data (see `text`)."""
    if options.out is None:
        options = replace(options, out=Path(f"{options.model.stem}-{options.to or 'again'}.nf"))
    device = use_machine(options.device, options.threads)
    recipe = parse_settings(options.recipe, Recipe, "--recipe")
    check_writable(options.out, options.overwrite)
    picture = options.out.with_suffix(".png")
    check_writable(picture, options.overwrite)
    scene = None if options.scene is None else read_scene(options.scene, options.format, options.allow_outside)
    teacher = load_any(options.model, device=device)
    budget = Budget.of(options, DISTILL_STEPS)
    progress = Progress(budget.steps, budget.seconds, options.out.with_suffix(".log.jsonl"), options.quiet)
    with OutputLock(options.out), progress:
        student, precision = convert(teacher, options, recipe, budget, progress, scene, edit)
        result = compare(teacher, student, picture, edit)
        if not result["psnr_against_teacher"] >= FLOOR and not options.force:
            raise InputError(
                f"{options.out}: not written, its pictures are only {result['psnr_against_teacher']:.1f} dB from the"
                f" teacher's; give it more --minutes, a larger --set ..., or write it all the same with --force"
            )
        student.metrics["psnr_against_teacher"] = result["psnr_against_teacher"]
        if scene is not None:
            result |= _against_photos(teacher, student, scene)
        save(student, options.out, half=precision.half, bits=precision.bits)
    before, after = options.model.stat().st_size, options.out.stat().st_size
    if options.max_bytes is not None and after > parse_size(options.max_bytes):
        progress.note(f"{options.out} has {size_text(after)}, more than --max-bytes {options.max_bytes}")
    return {
        "path": str(options.out),
        "from": field_name(teacher.field),
        "to": field_name(student.field),
        "seconds": student.made["seconds"],
        "steps": student.made["steps"],
        "bytes_before": before,
        "bytes_after": after,
        **result,
        "picture": str(picture),
    }


def _against_photos(teacher: Model, student: Model, scene: Scene) -> dict[str, float]:
    from neuralfields.evaluation.evaluate import evaluate

    return {
        "teacher_psnr": evaluate(teacher, scene).psnr,
        "student_psnr": evaluate(student, scene).psnr,
    }


def text(result: dict[str, Any]) -> str:
    """What the verb prints."""
    ratio = result["bytes_before"] / max(result["bytes_after"], 1)
    smaller = f" ({ratio:.3g} times smaller)" if ratio > 1 else ""
    lines = [
        f"wrote {result['path']}: {result['from']} -> {result['to']} in {result['seconds']:.1f} s,"
        f" {size_text(result['bytes_before'])} -> {size_text(result['bytes_after'])}{smaller}",
        f"against the teacher {result['psnr_against_teacher']:.2f} dB, worst of {result['views']} views"
        f" {result['worst_view_against_teacher']:.2f} dB; side by side: {result['picture']}",
    ]
    if "student_psnr" in result:
        lost = result["student_psnr"] - result["teacher_psnr"]
        lines.append(
            f"against the photos {result['student_psnr']:.2f} dB,"
            f" the teacher {result['teacher_psnr']:.2f} dB ({lost:+.2f})"
        )
    return "\n".join(lines)
