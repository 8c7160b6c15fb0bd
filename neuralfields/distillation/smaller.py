"""A smaller field of the same architecture in place of one that is to have few bytes, where it shows the scene better.

Vocabulary
  size     settings of an architecture that say how many numbers it has (Field.SIZES)
  student  a field of a smaller size, distilled from renderings of the original

A large field at few bits a number is mostly zeros, a smaller one has more bits for each. Which shows more is measured.
Sizes are tried only where the field's own loses much: elsewhere they lose by far (benchmarks/compressed_fields.md).
"""

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from neuralfields.cameras import Camera
from neuralfields.compression.compress import Goal
from neuralfields.compression.fields import CompressedField, compress_field
from neuralfields.compression.original import CaptureCameras, views_of
from neuralfields.distillation.rounded import RoundedTrainer, field_tuner
from neuralfields.errors import InputError
from neuralfields.fields import make_field
from neuralfields.models.loops import Loops
from neuralfields.models.model import Model, volume_of
from neuralfields.trainers.hard_examples import CameraPool
from neuralfields.trainers.sampled_cameras import Viewpoints

FEWEST_BITS, MOST_BITS, USUAL_BITS = 1.5, 6.0, 3.0  # a number, of a size that is worth a trial
TRIALS = 2
MUCH = 6.0  # dB lost, from which smaller sizes are tried


def compress_tuned(
    model: Model,
    goal: Goal,
    cameras: CaptureCameras | None,
    stage: Callable[[str], None] = lambda _: None,
    loops: Loops | None = None,
) -> CompressedField:
    """The file of a field at a goal, quantisation-aware; of a smaller size where that shows more at the same bytes.

    `loops`: steps that are kept. Raises InputError for a goal that cannot be reached.
    """
    loops = loops or Loops()
    before, begin = loops.seconds, time.perf_counter()
    looked_at = views_of("refining", model.bounds, None) if cameras is None else cameras.training
    tune = field_tuner(model, looked_at, goal.seed, loops)
    found, refused = [], None
    try:
        found.append(compress_field(model, goal, cameras, stage, tune))
    except InputError as error:
        refused = error
    if goal.most_bytes is not None and (refused or found[0].report["lost"] > MUCH):
        for size in sizes_for(model, goal.most_bytes):
            stage("smaller")
            student = distilled(model, size, looked_at, goal, loops)
            with suppress(InputError):
                found.append(compress_field(student, goal, cameras, stage, tune, model))
    if not found:
        raise refused
    best = max(found, key=lambda one: one.report["psnr"])
    best.report["seconds"] = before + time.perf_counter() - begin
    return best


def sizes_for(model: Model, most_bytes: int) -> list[dict[str, Any]]:
    """Sizes of the model's architecture that are worth a trial at so many bytes, the likeliest first."""
    kind, config = type(model.field), model.field.config
    whole = sum(parameter.numel() for parameter in model.field.parameters())
    found = []
    for size in kind.SIZES:
        with torch.device("meta"):
            count = sum(p.numel() for p in kind(replace(config, **size), model.field.domain).parameters())
        bits = 8 * most_bytes / count
        if FEWEST_BITS <= bits <= MOST_BITS and count < whole:
            found.append((abs(bits - USUAL_BITS), size))
    return [size for _, size in sorted(found, key=lambda one: one[0])[:TRIALS]]


def distilled(model: Model, size: dict[str, Any], cameras: Sequence[Camera], goal: Goal, loops: Loops) -> Model:
    """A student of another size after the goal's steps on the model's renderings."""
    original, viewpoints = volume_of(model), Viewpoints(list(cameras), model.bounds)
    config = replace(model.field.config, **size)
    field = make_field(type(model.field), config, model.field.domain, goal.seed, [], True)
    result = copy.deepcopy(field)
    pool = CameraPool(viewpoints, list(cameras), goal.seed, False, original.device)
    trainer = RoundedTrainer(field, {}, original, pool, goal.seed, rate=1.0)
    for i in loops.run(range(goal.steps), trainer.state, trainer.restored):
        trainer.step(i / goal.steps)
    result.load_state_dict(field.state_dict())
    return replace(model, field=result)
