"""`nf export`: writes a field as a mesh, splat, image, video or sound file (evaluation/export.py)."""

from typing import Any

from neuralfields.codecs import load_any
from neuralfields.errors import UsageError
from neuralfields.evaluation.export import MeshForm, export
from neuralfields.evaluation.export_sequence import export_sequence
from neuralfields.files import size_text
from neuralfields.gpu.device import use_machine
from neuralfields.options.models import ExportOptions
from neuralfields.settings import parse_box
from neuralfields.signals.writers import OutputSize, signal_text


def run(options: ExportOptions) -> dict[str, Any]:
    """Exports the model; keys: see `export`.

    Raises UsageError for a suffix that does not suit the kind of field, InputError where there is no surface.
    """
    model = load_any(options.model, device=use_machine(options.device, options.threads))
    if options.time is not None and model.bounds.times is None:
        raise UsageError(f"--time {options.time:g}: {options.model} stands still; leave --time out")
    if model.bounds.times is not None and options.frames is None:
        model = model.at(model.bounds.times[0] if options.time is None else options.time)
    size = OutputSize(options.width, options.height, None, options.frames, options.fps, options.rate)
    box = None if options.box is None else parse_box(options.box, "--box")
    form = MeshForm(
        options.resolution, options.threshold, box, options.surface, options.mesh, options.faces, options.texture,
        options.least_part,
    )  # fmt: skip
    if model.bounds.times is not None:
        if options.time is not None:
            raise UsageError("--frames with --time: a sequence is of all times; leave one of them out")
        return export_sequence(model, options.out, options.frames, form, options.overwrite)
    return export(model, options.out, size, form, options.overwrite)


def text(result: dict[str, Any]) -> str:
    """Formats the result as one line for people."""
    if "files_of" in result:
        first, last = result["times"]
        size = size_text(result["bytes"])
        span = f"{result['files_of']} files from time {first:g} to {last:g}"
        return f"{result['path']}: {span}, {size}, {result['seconds']:.1f} s"
    if "gaussians" in result:
        count, size = result["gaussians"], size_text(result["bytes"])
        moved = ""
        if "origin" in result:
            place = ", ".join(f"{value:.12g}" for value in result["origin"])
            moved = f"; its (0, 0, 0) is ({place}) of the capture, which float32 cannot hold"
        return f"{result['path']}: {count:,} Gaussians, {size}, {result['seconds']:.1f} s{moved}"
    if "faces" not in result:
        return signal_text(result)
    colours = ", coloured" if result["coloured"] else ""
    if result["texture"]:
        colours = f", texture of {result['texture']} x {result['texture']}"
    closed = ", watertight" if result["watertight"] else f", not watertight ({result['border']:,} open edges)"
    dropped = f", {result['dropped']} floaters dropped" if result["dropped"] else ""
    counts = f"{result['faces']:,} triangles, {result['vertices']:,} vertices{colours}{closed}{dropped}"
    beyond = ""
    if "left_out" in result:
        beyond = f"; only the inner cube of side {result['left_out']:.4g}, the scene reaches further: --box for more"
    return f"{result['path']}: {counts}, {result['seconds']:.1f} s{beyond}"
