"""`nf convert`: one architecture in, another out, without the photos (distillation/convert.py)."""

from typing import Any

from neuralfields.distillation.convert import convert_to_file, report_text
from neuralfields.options.models import ConvertOptions


def run(options: ConvertOptions) -> dict[str, Any]:
    """Loads, distils, compares, saves; see `convert_to_file`."""
    return convert_to_file(options)


def text(result: dict[str, Any]) -> str:
    """What the verb prints."""
    return report_text(result)
