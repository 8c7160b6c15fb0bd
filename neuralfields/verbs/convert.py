"""`nf convert`: converts a model to another architecture by distillation (distillation/convert.py)."""

from typing import Any

from neuralfields.distillation.convert import convert_to_file, report_text
from neuralfields.options.models import ConvertOptions


def run(options: ConvertOptions) -> dict[str, Any]:
    """Loads a teacher, distils it, compares both, saves the student; see `convert_to_file`."""
    return convert_to_file(options)


def text(result: dict[str, Any]) -> str:
    """Formats the report for people."""
    return report_text(result)
