"""Configs of every field that are small enough to make, save and load in milliseconds, and large beside a header."""

from typing import Any

from neuralfields.fields import field_class

TABLE = {"table": 12, "finest": 256}
SMALL = {
    "hash": TABLE, "surface": TABLE, "rbf": TABLE, "voxels": {"resolution": 33, "colour_resolution": 21},
    "kplanes": {"resolutions": (16, 48), "moments": 8}, "triplane": {"resolution": 49},
    "lowrank": {"resolution": 49}, "im4d": {"joint": 10},
}  # fmt: skip


def small_config(name: str) -> Any:
    """The field's Config with small grids; what has none is as it is."""
    return field_class(name).Config(**SMALL.get(name, {}))
