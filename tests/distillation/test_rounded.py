"""Quantisation-aware training: what is shown is what a file holds, and pictures come nearer at the same bytes."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralfields.compression import field_file
from neuralfields.compression.compress import Goal
from neuralfields.compression.fields import FieldJudge, FieldQuantiser, compress_field
from neuralfields.compression.original import drawn
from neuralfields.distillation.rounded import RoundedTrainer, field_tuner
from neuralfields.models.loops import Loops
from neuralfields.models.model import Model, volume_of
from neuralfields.options import training
from neuralfields.trainers.hard_examples import CameraPool
from neuralfields.trainers.sampled_cameras import Viewpoints
from tests.compression.test_fields import BOUNDS, CAMERAS, a_model

VIEWS = drawn(BOUNDS, 8, 24, 1)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rays a step, few and small pictures; so few steps gain less."""
    monkeypatch.setattr("neuralfields.compression.fields.GAINED", 1.0)
    monkeypatch.setattr(training, "DEFAULT", replace(training.DEFAULT, samples=1 << 14, fewest_rays=64))
    for name, value in (("SIDE", 16), ("PROBES", 1), ("VIEWS", 2), ("REPORT", 2)):
        monkeypatch.setattr(f"neuralfields.compression.fields.{name}", value)


def coarse(model: Model, share: float = 2.0) -> dict[int, float]:
    """Steps that are seen."""
    return {i: share * size for i, size in enumerate(FieldQuantiser(model).sizes)}


def test_what_is_shown_is_what_the_file_holds() -> None:
    model = a_model()
    quantiser, steps = FieldQuantiser(model), coarse(model)
    pool = CameraPool(Viewpoints(VIEWS, BOUNDS), VIEWS, 0, False)
    trainer = RoundedTrainer(copy.deepcopy(model.field), steps, volume_of(model), pool, 0)
    trainer.show()
    shown = quantiser.shown(steps).field.state_dict()
    for name, value in trainer.field.state_dict().items():
        assert (value - shown[name]).abs().max() < 1e-6 or (value != shown[name]).float().mean() < 1e-3, name
    assert len(torch.unique(trainer.field.table[-64:])) < 8
    trainer.settle()
    assert all(torch.equal(v, model.field.state_dict()[name]) for name, v in trainer.field.state_dict().items())


def test_latent_weights_bring_pictures_nearer_at_the_same_bytes() -> None:
    model = a_model()
    judge, quantiser, steps = FieldJudge(model, VIEWS[:2]), FieldQuantiser(model), coarse(model)
    latent = field_tuner(model, VIEWS, 0, Loops())(model, steps, 20)
    tuned = FieldQuantiser(latent)
    assert judge.psnr(tuned.shown(steps)) > judge.psnr(quantiser.shown(steps)) + 1
    sizes = [len(field_file.encode(one.quantised(steps))) for one in (quantiser, tuned)]
    assert sizes[1] < 1.1 * sizes[0]
    copy.deepcopy(latent.field)  # nothing of rendering is left in it


@pytest.mark.parametrize("most", [None, 2800])
def test_tuned_files_meet_their_goal_and_are_better(most: int | None) -> None:
    model = a_model()
    goal = Goal(1.0, most_bytes=most, steps=20)
    plain = compress_field(model, goal, CAMERAS)
    made = compress_field(model, goal, CAMERAS, tune=field_tuner(model, CAMERAS.training, 0, Loops()))
    assert made.report["steps"] == 20 and plain.report["steps"] == 0
    if most is None:
        assert len(made.data) < len(plain.data)
    else:
        assert 0.8 * most < len(made.data) <= most
    found = field_file.decode(made.data, "a").field.state_dict()
    assert all(torch.equal(found[name], value) for name, value in made.model.field.state_dict().items())


def test_tuning_that_spoils_a_field_is_not_taken() -> None:
    model = a_model()

    def spoils(latent: Model, steps: dict[int, float], count: int) -> Model:
        field = copy.deepcopy(latent.field)
        with torch.no_grad():
            field.table.copy_(torch.from_numpy(np.random.default_rng(0).normal(size=field.table.shape)))
        return replace(latent, field=field)

    plain = compress_field(model, Goal(most_bytes=3000, steps=1), CAMERAS)
    assert compress_field(model, Goal(most_bytes=3000, steps=1), CAMERAS, tune=spoils).data == plain.data
