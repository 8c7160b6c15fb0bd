"""Checkpoints of nerfstudio (`step-*.ckpt`): recognised and described, not read.

A checkpoint holds weights alone. What a picture needs besides them stands in two files that are not weights: the
config beside it (a tagged YAML that makes Python objects: contraction, initial density, appearance) and the poses,
which nerfstudio re-orients, re-centres and scales when it loads a capture. So a checkpoint by itself does not say where
its scene is.
"""

from pathlib import Path
from typing import Any

from neuralfields.codecs.placement import Placement
from neuralfields.errors import InputError
from neuralfields.models.model import Model

METHODS = {
    "field.mlp_base": "nerfacto",
    "gauss_params": "splatfacto",
    "means": "splatfacto",
    "field_fine": "vanilla-nerf",
    "field_coarse": "vanilla-nerf",
}


def layout_of(checkpoint: dict[str, Any]) -> str | None:
    """The method whose weights a nerfstudio checkpoint holds ("unknown" for others), None for no such checkpoint."""
    pipeline = checkpoint.get("pipeline")
    if not isinstance(pipeline, dict) or not any(str(key).startswith("_model.") for key in pipeline):
        return None
    names = [str(key).removeprefix("_model.").removeprefix("module.") for key in pipeline]
    found = (method for start, method in METHODS.items() if any(name.startswith(start) for name in names))
    return next(found, "unknown")


def describe(path: Path, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What the checkpoint is, as plain data."""
    steps = checkpoint.get("step")
    return {"method": layout_of(checkpoint), "steps": steps if isinstance(steps, int) else None}


def read(path: Path, checkpoint: dict[str, Any], place: Placement) -> Model:
    """Raises InputError, always: which checkpoint it is and what to do instead."""
    method = layout_of(checkpoint)
    remedy = (
        "export its Gaussians with `ns-export gaussian-splat`"
        if method == "splatfacto"
        else "fit the same capture with `nf fit`, or give a .nf file, a vanilla NeRF checkpoint (nerf-pytorch) or an "
        "Instant-NGP snapshot (.ingp, .msgpack)"
    )
    raise InputError(
        f"{path}: is a nerfstudio checkpoint ({method}), which holds neither cameras nor the scene's place and cannot "
        f"be read; {remedy}"
    )
