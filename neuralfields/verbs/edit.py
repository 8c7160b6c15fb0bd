"""`nf edit`: erases a box of a scene, or everything outside a box (distillation/edit.py)."""

from typing import Any

from neuralfields.distillation.convert import report_text
from neuralfields.distillation.edit import edit_to_file
from neuralfields.options.models import EditOptions


def run(options: EditOptions) -> dict[str, Any]:
    """Edits a model, compares and saves it; see `edit_to_file`."""
    return edit_to_file(options)


def text(result: dict[str, Any]) -> str:
    """Formats the report for people."""
    return report_text(result)
