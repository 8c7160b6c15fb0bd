"""Packs a hash field for the page, which marches it in the visitor's own GPU (viewer/field.js).

Layout, little endian; L levels, F features, E entries of the table, C cascades; parts begin at multiples of 8 bytes
  header     16 bytes: "NFHF", then uint32 layout (1), bytes of the JSON, 0
  JSON       version; levels [L][scale, resolution, size, offset, dense]; features; ranges [L][F]; density and colour
             (widths of the networks, input to output); degree; axes; contraction, extent, cascades; steps (shortest,
             longest, cone, near); centre, side; floor (weight under which a sample gets no colour)
  weights    float32, every layer of the density network, then of the colour network, each [out, in] row by row
  table      int8 [E, F]: entry = code / 127 * range, the largest |entry| of that level and feature
  occupancy  uint64 [C, 32768], as ops/occupancy_bits.py describes

A byte a number: on three fits (fox, chair, sample scene) pictures differ from those of the float32 table by 0.03 to
0.07 of 255 on average and 2.4 at most (float16: 0.002 and 0.1, of twice the bytes). 3.4 MB for the default field.

A shared page holds a .nfz instead, which viewer/field_decoder.js decodes. What that would have to derive from a
configuration is told beside it: all of the JSON but its version, and where the whole numbers of each part belong,
`parts` [{layer, begin, rows, columns, step}]; layer: index of a weight matrix, None for the table.
"""

import json
import struct
from typing import Any

import numpy as np
import torch

from neuralfields.compression import field_file
from neuralfields.errors import UsageError
from neuralfields.fields import field_name
from neuralfields.fields.hash import HashField
from neuralfields.rendering.splat import Splats
from neuralfields.rendering.volume import WEIGHT_FLOOR, OfVolume, Volume

MAGIC, LAYOUT, HEADER = b"NFHF", 1, 16
MOST_BYTES = 200_000_000
# A layer's weights, split into code and harmonics at the colour network's first, are one uniform block. WebGL2 promises
# blocks of 16 KiB, which hold 64 x 64 weights, and 12 of them.
WIDEST, MOST_BLOCKS = 64, 12


def refusal(volume: Volume | OfVolume | Splats) -> str:
    """Reason why the page's shader cannot draw a scene; empty where it can, and for Gaussians, which have their own."""
    if isinstance(volume, Splats):
        return ""
    field = volume.field
    if field.domain.dimensions == 4:
        return "the page has no shader for a field that moves"
    if not isinstance(field, HashField):
        return f"the page has no shader for a field of kind {field_name(field)!r}"
    density, colour = _widths(field)
    inputs = colour[0] - field.config.degree**2
    if max(*density, inputs, *colour[1:]) > WIDEST:
        return f"the page draws networks of width {WIDEST} at most, these have {max(*density, inputs, *colour[1:])}"
    if len(density) + len(colour) - 1 > MOST_BLOCKS:
        return f"the page draws networks of {MOST_BLOCKS - 3} hidden layers at most"
    if field.table.numel() > MOST_BYTES:
        return f"the table has {field.table.numel() / 1e6:.0f} MB, the page takes {MOST_BYTES / 1e6:.0f} MB at most"
    return ""


def pack(volume: Volume, version: int = 0) -> bytes:
    """Packs a hash field with its occupancy in the layout above. Raises UsageError where `refusal` has a reason."""
    reason = refusal(volume)
    if reason:
        raise UsageError(f"{reason}; the server draws it")
    codes, ranges = _codes(volume.field)
    header = {"version": version} | header_of(volume, ranges)
    text = json.dumps(header, separators=(",", ":")).encode()
    weights = [w.detach().cpu().float().numpy().astype("<f4").tobytes() for w in layers_of(volume.field)]
    occupancy = volume.occupancy.cpu().numpy().astype("<i8").tobytes()
    parts = [struct.pack("<4s3I", MAGIC, LAYOUT, len(text), 0), text, b"".join(weights), codes.tobytes(), occupancy]
    return b"".join(part.ljust(-(-len(part) // 8) * 8, b" " if part is text else b"\0") for part in parts)


def field_description(volume: Volume, data: bytes) -> dict[str, Any]:
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


def header_of(volume: Volume, ranges: np.ndarray | None = None) -> dict[str, Any]:
    """The JSON of a hash field, but for its version; `ranges` [L, F] of its table, where they are known."""
    field, bounds = volume.field, volume.bounds
    steps, contraction, (density, colour) = volume.settings(), volume.contraction, _widths(field)
    ranges = _codes(field)[1] if ranges is None else ranges
    return {
        "levels": [[s, *level] for s, level in zip(field.layout.scales.tolist(), _levels(field), strict=True)],
        "features": field.config.features,
        "ranges": ranges.tolist(),
        "density": density,
        "colour": colour,
        "degree": field.config.degree,
        "axes": field.config.axes,
        "contraction": contraction.kind,
        "extent": contraction.extent,
        "cascades": bounds.cascades,
        "steps": [steps.min_step, steps.max_step, steps.cone, steps.near],
        "centre": list(bounds.centre),
        "side": bounds.side,
        "floor": WEIGHT_FLOOR,
    }


def layers_of(field: HashField) -> list[torch.Tensor]:
    """Weights of the density network, then of the colour network."""
    return [*field.heads.density, *field.heads.colour]


def _widths(field: HashField) -> tuple[list[int], list[int]]:
    """Widths of both networks from input to output."""
    density, colour = ([w[0].shape[1], *(one.shape[0] for one in w)] for w in (field.heads.density, field.heads.colour))
    return density, colour


def _levels(field: HashField) -> list[list[int]]:
    return field.layout.levels.tolist()


@torch.no_grad()
def _codes(field: HashField) -> tuple[np.ndarray, np.ndarray]:
    """Codes int8 [E, F] and ranges float32 [L, F] of a table."""
    table = field.table.detach().cpu().float()
    codes, ranges = np.empty(tuple(table.shape), np.int8), []
    for _, size, offset, _ in _levels(field):
        part = table[offset : offset + size].nan_to_num()
        largest = part.abs().amax(0).clamp(min=1e-30)
        scale = torch.full_like(largest, 127) / largest  # one rounding, as viewer/field_decoder.js has it
        codes[offset : offset + size] = (part * scale).round_().numpy()
        ranges.append(largest.numpy())
    return codes, np.stack(ranges)
