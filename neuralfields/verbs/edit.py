"""`nf edit`: erases a box of a scene, or keeps a box alone (distillation/edit.py)."""

from typing import Any

from neuralfields.distillation.convert import report_text
from neuralfields.distillation.edit import edit_to_file
from neuralfields.options.models import EditOptions


def run(options: EditOptions) -> dict[str, Any]:
    """Edits, compares, saves; see `edit_to_file`."""
    return edit_to_file(options)


def text(result: dict[str, Any]) -> str:
    """What the verb prints."""
    return report_text(result)
