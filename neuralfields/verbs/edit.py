"""`nf edit`: erases a box of a scene or everything outside a box, or inserts another scene (distillation/edit.py)."""

from typing import Any

from neuralfields.distillation.convert import report_text
from neuralfields.distillation.edit import edit_to_file
from neuralfields.files import size_text
from neuralfields.options.models import EditOptions


def run(options: EditOptions) -> dict[str, Any]:
    """Edits a model, compares and saves it; see `edit_to_file`."""
    return edit_to_file(options)


def text(result: dict[str, Any]) -> str:
    """Formats the report for people."""
    if "inserted" in result and "psnr_against_teacher" not in result:
        size = size_text(result["bytes_after"])
        made = f"wrote {result['path']}: {result['inserted']} in it, {size}, {result['seconds']:.1f} s"
        return f"{made}\nmake one field of it with: nf convert {result['path']} --to hash"
    return report_text(result)
