"""Puts one scene into another: `nf edit A --insert B`, blended in a box (fields/blend.py) without any training.

  base, insert -> placement (a similarity and a box) -> blend of both fields, or both sets of Gaussians as one

The result holds both fields whole: a reference to two files would break when one of them moves. It renders and is
measured as any scene; `nf convert` distils it into one field.
"""

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from neuralfields.codecs import load_any
from neuralfields.errors import InputError, UsageError
from neuralfields.fields import field_name
from neuralfields.fields.blend import BlendField, Config, Part
from neuralfields.fields.gaussians import GaussianField
from neuralfields.gaussians import Gaussians, moved
from neuralfields.models.model import Model, volume_of
from neuralfields.models.record import provenance
from neuralfields.options.models import EditOptions
from neuralfields.rendering.blend import blended_occupancy
from neuralfields.scene import Bounds
from neuralfields.settings import parse_box


def insert_model(base: Model, options: EditOptions, device: torch.device) -> Model:
    """The base with the scene of `options.insert` in it. Raises UsageError for what cannot be blended."""
    insert = load_any(options.insert, device=device)
    for path, model in ((options.model, base), (options.insert, insert)):
        if not model.is_scene:
            raise UsageError(f"{path}: is a field of kind {model.field.domain.kind}; only scenes are inserted")
    kinds = [isinstance(model.field, GaussianField) for model in (base, insert)]
    if any(kinds) and not all(kinds):
        raise UsageError(
            f"{options.insert}: Gaussians and a field do not blend; make both the same first, with nf convert --to"
        )
    placement = placed(base, insert, options)
    return _joined(base, insert, placement) if all(kinds) else blend(base, insert, placement)


def placed(base: Model, insert: Model, options: EditOptions) -> Config:
    """Where the insert goes: the middle of its box to --at, in the capture's world, turned and scaled about it."""
    bounds, origin = insert.bounds, np.asarray(insert.bounds.origin)
    low, high = (np.asarray(bounds.centre) + sign * bounds.side / 2 for sign in (-1, 1))
    if options.insert_box is not None:
        box = parse_box(options.insert_box, "--insert-box")
        low, high = np.asarray(box[:3]) - origin, np.asarray(box[3:]) - origin
    goal = base.bounds.centre if options.at is None else np.subtract(options.at, base.bounds.origin)
    turn = rotation(options.rotate)
    at = np.asarray(goal) - options.scale * turn @ ((low + high) / 2)
    return Config(
        base=part_of(base),
        insert=part_of(insert),
        turn=tuple(tuple(row) for row in turn.tolist()),
        scale=options.scale,
        at=tuple(at.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        mode=options.mode,
    )


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    """The rotation [3, 3] by these degrees about x, then y, then z."""
    turn = np.eye(3)
    for axis, angle in enumerate(degrees):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        one = np.eye(3)
        one[a, a] = one[b, b] = math.cos(math.radians(angle))
        one[b, a] = math.sin(math.radians(angle))
        one[a, b] = -one[b, a]
        turn = one @ turn
    return turn


def part_of(model: Model) -> Part:
    """A model's field as part of a blend."""
    bounds: Bounds = model.bounds
    place = (tuple(float(v) for v in bounds.centre), float(bounds.side), bounds.cascades, bounds.contraction)
    return Part(field_name(model.field), asdict(model.field.config), *place)


@torch.no_grad()
def blend(base: Model, insert: Model, config: Config) -> Model:
    """The blend of two radiance fields as a model, with the base's cameras and bounds."""
    if max(base.field.domain.dimensions, insert.field.domain.dimensions) > 3:
        raise UsageError("a scene that moves cannot be blended yet; convert it at one time first: nf convert --time")
    first, second = volume_of(base), volume_of(insert)
    with torch.random.fork_rng(devices=[]):
        field = BlendField(config, base.field.domain)
    field.base.load_state_dict(base.field.state_dict())
    field.insert.load_state_dict(insert.field.state_dict())
    field.base_occupancy = first.occupancy.clone()
    return replace(
        base, field=field.to(first.device), occupancy=blended_occupancy(config, first, second), **_record(base, insert)
    )


def _record(base: Model, insert: Model) -> dict[str, Any]:
    """Provenance of what is made of two models."""
    parents = [
        {"field": field_name(model.field), "config": asdict(model.field.config), "made": model.made}
        | {"metrics": model.metrics}
        for model in (base, insert)
    ]
    made = base.made | provenance("blend", 0, 0.0, 0)
    return {"made": made, "metrics": {}, "lineage": [*parents, *base.lineage]}


def _joined(base: Model, insert: Model, config: Config) -> Model:
    """Two sets of Gaussians as one; raises UsageError for modes that only fields have."""
    if config.mode not in ("replace", "add"):
        raise UsageError(f"--mode {config.mode}: is of fields; Gaussians are added, or replace those in the box")
    ours, theirs = base.field.gaussians(), insert.field.gaussians()
    local = theirs.means
    theirs = theirs.take(config.inside(local))
    if not len(theirs):
        raise InputError("no Gaussian of the insert lies in its box; choose another --insert-box")
    to_from = torch.eye(4, dtype=torch.float64)
    to_from[:3, :3] = config.scale * torch.tensor(config.turn, dtype=torch.float64)
    to_from[:3, 3] = torch.tensor(config.at, dtype=torch.float64)
    if config.mode == "replace":
        ours = ours.take(~config.inside(config.local(ours.means)))
    if theirs.motion is not None and base.bounds.times is None:
        raise UsageError(f"{insert.made.get('scene')}: the insert moves, the base stands still; see nf convert --time")
    joined = Gaussians.cat([ours, moved(theirs, to_from)])
    record = _record(base, insert)
    record["made"]["field"] = "gaussians"
    return replace(base, field=GaussianField.of(joined), **record)
