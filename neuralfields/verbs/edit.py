"""`nf edit`: erases boxes of a scene, inserts another (distillation/edit.py), or empties floaters (clean.py)."""

from typing import Any

from neuralfields.codecs.splats import is_splat_file
from neuralfields.distillation.clean import clean_text, clean_to_file
from neuralfields.distillation.edit import edit_to_file
from neuralfields.distillation.report import report_text
from neuralfields.fields import GAUSSIANS
from neuralfields.files import size_text
from neuralfields.models.nf_header import describe
from neuralfields.options.models import EditOptions


def run(options: EditOptions) -> dict[str, Any]:
    """Edits a model, compares and saves it; see `edit_to_file` and `clean_to_file`."""
    if options.clean and not _of_gaussians(options):
        return clean_to_file(options)
    return edit_to_file(options)


def _of_gaussians(options: EditOptions) -> bool:
    """Whether the model is made of Gaussians, of which floaters are dropped one by one."""
    if is_splat_file(options.model):
        return True
    return options.model.suffix.lower() == ".nf" and describe(options.model)["field"] == GAUSSIANS


def text(result: dict[str, Any]) -> str:
    """Formats the report for people."""
    if "cleaned" in result:
        return clean_text(result)
    if "inserted" in result and "psnr_against_teacher" not in result:
        size = size_text(result["bytes_after"])
        made = f"wrote {result['path']}: {result['inserted']} in it, {size}, {result['seconds']:.1f} s"
        return f"{made}\nmake one field of it with: nf convert {result['path']} --to hash"
    return report_text(result)
