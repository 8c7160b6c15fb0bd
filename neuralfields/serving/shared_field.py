"""Describes the .nfz of a hash field for the page that holds it (viewer/field_decoder.js, which decodes it).

What the page would have to derive from a configuration is told instead: everything that the header of serving/field.py
says, and of each coded part where its whole numbers belong:

    parts  [{layer, begin, rows, columns, step}]; layer: index of a weight matrix, None for the table
"""

from typing import Any

from neuralfields.compression import field_file
from neuralfields.errors import UsageError
from neuralfields.rendering.volume import Volume
from neuralfields.serving.field import header_of, layers_of, refusal


def described_field(volume: Volume, data: bytes) -> dict[str, Any]:
    """Plain data for the page: a hash field as it is decoded from `data`. Raises UsageError where it draws none."""
    reason = refusal(volume)
    if reason:
        raise UsageError(f"{reason}; make Gaussians of it first: nf convert --to gaussians")
    field, layers = volume.field, layers_of(volume.field)
    places = {name: i for name, one in field.named_parameters() for i, layer in enumerate(layers) if one is layer}
    parts = []
    for part in field_file.parts_in(data, "the file just made"):
        columns = field_file.rows_of(tuple(field.get_parameter(part.name).shape))[1]
        parts.append(
            {
                "layer": places.get(part.name),
                "begin": part.begin,
                "rows": part.end - part.begin,
                "columns": columns,
                "step": part.step,
            }
        )
    lacking = set(range(len(layers))) - {part["layer"] for part in parts}
    if lacking or all(part["layer"] is not None for part in parts):
        raise UsageError("its weights are not all quantised, which the page decodes; make the file anew: nf compress")
    return header_of(volume) | {"parts": parts}
