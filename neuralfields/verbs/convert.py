"""`nf convert`: converts a model to another architecture by distillation (distillation/convert.py), or splats."""

import time
from typing import Any

from neuralfields.codecs.splats import SPLAT_FORMATS, is_splat_file, read_gaussians, write_gaussians
from neuralfields.distillation.convert import convert_to_file
from neuralfields.distillation.report import report_text
from neuralfields.files import check_writable, size_text
from neuralfields.options.models import ConvertOptions


def run(options: ConvertOptions) -> dict[str, Any]:
    """Loads a teacher, distils it, compares both, saves the student; see `convert_to_file`.

    A file of splats is rewritten where `out` is named as one: keys path, kind, gaussians, bytes, seconds.
    """
    if (
        options.to is None
        and options.out is not None
        and options.out.name.lower().endswith(tuple(SPLAT_FORMATS))
        and is_splat_file(options.model)
    ):
        check_writable(options.out, options.overwrite)
        begin = time.perf_counter()
        gaussians = read_gaussians(options.model)
        write_gaussians(gaussians, options.out)
        size = options.out.stat().st_size
        found = {"path": str(options.out), "kind": "gaussians", "gaussians": len(gaussians), "bytes": size}
        return found | {"notes": list(gaussians.notes), "seconds": time.perf_counter() - begin}
    return convert_to_file(options)


def text(result: dict[str, Any]) -> str:
    """Formats the report for people."""
    if result.get("kind") == "gaussians":
        count, size = result["gaussians"], size_text(result["bytes"])
        return "\n".join([f"{result['path']}: {count:,} Gaussians, {size}", *result["notes"]])
    return report_text(result)
