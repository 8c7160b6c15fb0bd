"""Evaluates a field of an image, shape, video or sound against its source, by the metrics of its kind."""

from pathlib import Path
from typing import Any

from neuralfields.errors import InputError
from neuralfields.models.model import Model
from neuralfields.signals.readers import read_signal


def evaluate_signal(
    model: Model, root: Path, format: str | None = None, downscale: int | None = None
) -> dict[str, Any]:
    """Evaluates a model of a signal against its source at `root`; keys: scene, kind, and the metrics by name.

    `downscale`: Default: as in the fit. Raises InputError where the source is of another kind or size.
    """
    signal = read_signal(root, format, model.made.get("downscale") if downscale is None else downscale)
    if signal.domain != model.field.domain:
        mine, theirs = model.field.domain, signal.domain
        raise InputError(
            f"{root}: is {theirs.kind} of {theirs.channels} channels, {theirs.lengths or 'any'} samples; the model is "
            f"{mine.kind} of {mine.channels}, {mine.lengths or 'any'}; give the source that it was fitted to"
        )
    return {"scene": str(root), "kind": signal.domain.kind} | signal.measure(model.field)
