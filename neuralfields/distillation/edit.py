"""Edits a scene: erases boxes, or everything outside them, by distillation from a masked teacher; or inserts another.

  masked teacher (boxes.py) -> distillation into the target (convert.py)

A target of the teacher's architecture starts as a copy of it: only the neighbourhood of the cut is learned again. An
insertion (insert.py) needs no training.
"""

import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from neuralfields.codecs import load_any
from neuralfields.distillation.boxes import Edit
from neuralfields.distillation.convert import Precision, convert_model, convert_to_file, write_model
from neuralfields.distillation.insert import insert_model
from neuralfields.errors import InputError, UsageError
from neuralfields.fields import field_name
from neuralfields.files import OutputLock, check_writable
from neuralfields.gpu.device import use_machine
from neuralfields.models.model import Model
from neuralfields.models.nf_header import open_model, read_header
from neuralfields.options.models import ConvertOptions, EditOptions
from neuralfields.settings import parse_box

EDIT_STEPS = 500


def edit_to_file(options: EditOptions) -> dict[str, Any]:
    """Edits a model file and writes the result; reports as `convert_to_file`, against the edited teacher.

    An insertion without --to is no distillation: keys path, from, to, inserted, bytes_before, bytes_after, seconds.
    """
    if options.insert is not None:
        return _insert_to_file(options)
    chosen, edit = _as_conversion(options, _origin_of(options.model))
    if chosen.out is None:
        chosen = replace(chosen, out=Path(f"{chosen.model.stem}-edited.nf"))
    return convert_to_file(chosen, edit)


def edit_model(options: EditOptions, teacher: Model | None = None) -> Model:
    """Edits the file `options.model`, or a loaded model; returns as `convert_model`, against the edited teacher."""
    if options.insert is not None:
        device = use_machine(options.device, options.threads)
        if options.out is not None:
            check_writable(options.out, options.overwrite)
        blended = insert_model(teacher or load_any(options.model, device=device), options, device)
        if options.to is not None:
            return convert_model(_shared(options), blended)
        if options.out is not None:
            write_model(blended, options.out, Precision(options.half, options.bits))
        return blended
    origin = _origin_of(options.model) if teacher is None else teacher.bounds.origin
    chosen, edit = _as_conversion(options, origin)
    return convert_model(chosen, teacher, edit)


def _insert_to_file(options: EditOptions) -> dict[str, Any]:
    """Writes the model with another scene in it, as a blend of both or distilled into one field."""
    if options.out is None:
        options = replace(options, out=Path(f"{options.model.stem}-edited.nf"))
    device, begun = use_machine(options.device, options.threads), time.perf_counter()
    check_writable(options.out, options.overwrite)
    teacher = load_any(options.model, device=device)
    blended = insert_model(teacher, options, device)
    if options.to is not None:
        return convert_to_file(_shared(options), teacher=blended)
    with OutputLock(options.out):
        write_model(blended, options.out, Precision(options.half, options.bits))
    return {
        "path": str(options.out),
        "from": field_name(teacher.field),
        "to": field_name(blended.field),
        "inserted": str(options.insert),
        "bytes_before": options.model.stat().st_size,
        "bytes_after": options.out.stat().st_size,
        "seconds": time.perf_counter() - begun,
    }


def _shared(options: EditOptions) -> ConvertOptions:
    """The options of a conversion that an edit has too."""
    names = [item.name for item in fields(ConvertOptions) if hasattr(options, item.name)]
    return ConvertOptions(**{name: getattr(options, name) for name in names})


def _origin_of(path: Path) -> tuple[float, float, float]:
    """Origin of a model file's world; zero for those of other programs."""
    try:
        with open_model(path) as file:
            return read_header(path, file)[0].bounds.origin or (0.0, 0.0, 0.0)
    except InputError:  # a model of another program, or none: what reads it says so
        return (0.0, 0.0, 0.0)


def _as_conversion(options: EditOptions, origin: tuple[float, float, float]) -> tuple[ConvertOptions, Edit]:
    """Options of the conversion that an edit is, and its boxes, in the capture's world, about the model's `origin`.

    Raises UsageError where there are none.
    """

    def about(text: str, option: str) -> tuple[float, ...]:
        return tuple(value - origin[i % 3] for i, value in enumerate(parse_box(text, option)))

    erase = tuple(about(text, "--erase-box") for text in options.erase_box)
    keep = tuple(about(text, "--keep-box") for text in options.keep_box)
    edit = Edit(erase, keep, options.drop_floaters or options.clean, options.drop_largest)
    if edit == Edit():
        raise UsageError("nothing to edit: give --erase-box or --keep-box x0,y0,z0,x1,y1,z1, or --clean")
    chosen = _shared(options)
    if chosen.steps is None and chosen.minutes is None and options.to is None:
        chosen = replace(chosen, steps=EDIT_STEPS)
    return chosen, edit
