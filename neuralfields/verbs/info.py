"""`nf info`: describes a `.nf` file from its header alone, or a model file of another program."""

from typing import Any

from neuralfields.files import size_text
from neuralfields.models.nf_header import describe
from neuralfields.options.models import InfoOptions


def run(options: InfoOptions) -> dict[str, Any]:
    """Describes the file by `nf_header.describe` or `codecs.describe_any`; raises InputError for any other file."""
    if options.model.suffix.lower() != ".nf":  # a .nf is described without torch
        from neuralfields.codecs import describe_any, is_foreign

        if is_foreign(options.model):
            return describe_any(options.model)
    return describe(options.model)


def text(result: dict[str, Any]) -> str:
    """Formats the result as a table for people."""
    if "format_version" not in result:
        rows = [_row(name, str(value)) for name, value in result.items() if name not in ("path", "bytes", "kind")]
        return "\n".join([f"{result['path']}  {size_text(result['bytes'])}, {result['kind']}", *rows])
    bounds, made = result["bounds"], result["made"]
    half = ", stored in 8 bits" if result["bits"] == 8 else ", grids in half precision" if result["half"] else ""
    lines = [
        f"{result['path']}  {size_text(result['bytes'])}, format {result['format_version']}",
        _row("field", f"{result['field']}, {result['parameters']:,} parameters{half}"),
        _row("config", _pairs(result["config"])),
        _row("bytes", _pairs({name: size_text(size) for name, size in result["parts"].items()})),
        *([] if result["domain"]["kind"] == "radiance" else [_row("signal", _signal(result))]),
        _row(
            "bounds",
            f"cube of side {bounds['side']:.4g} around ({', '.join(f'{x:.4g}' for x in bounds['centre'])}), "
            f"{bounds['cascades']} cascade{'s' * (bounds['cascades'] > 1)}, contraction {bounds['contraction']}, "
            f"near {bounds['near']:.4g}",
        ),
        *([_row("time", "from {:g} to {:g}".format(*bounds["times"]))] if bounds.get("times") else []),
        _row("background", " ".join(f"{x:.3g}" for x in result["background"])),
        _row("cameras", str(result["cameras"])),
    ]
    lines += [_row("made", _pairs(made))] if made else []
    lines += [_row("metrics", _pairs(result["metrics"]))] if result["metrics"] else []
    lines += [_row("lineage", " <- ".join(map(str, result["lineage"])))] if result["lineage"] else []
    return "\n".join(lines)


def _signal(result: dict[str, Any]) -> str:
    return f"{result['domain']['kind']}, {_pairs({'channels': result['domain']['channels'], **result['signal']})}"


def _row(name: str, value: str) -> str:
    return f"  {name:<12}{value}"


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in values.items())


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | dict) and len(value) > 8:
        return f"({len(value)} entries)"
    return str(value)
