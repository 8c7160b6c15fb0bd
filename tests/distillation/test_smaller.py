"""A smaller field in place of one that loses much at the bytes that there are; held to the original."""

from dataclasses import replace

import pytest

from neuralfields import fields
from neuralfields.compression import field_file
from neuralfields.compression.compress import Goal
from neuralfields.distillation import smaller
from neuralfields.distillation.smaller import compress_tuned, distilled, sizes_for
from neuralfields.errors import InputError
from neuralfields.models.loops import Loops
from neuralfields.models.model import Model
from neuralfields.options import training
from tests.compression.test_fields import CAMERAS, a_model

SMALLER = {"levels": 2, "table": 6, "finest": 32}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rays a step, few and small pictures."""
    monkeypatch.setattr(training, "DEFAULT", replace(training.DEFAULT, samples=1 << 14, fewest_rays=64))
    for name, value in (("SIDE", 16), ("PROBES", 1), ("VIEWS", 2), ("REPORT", 2)):
        monkeypatch.setattr(f"neuralfields.compression.fields.{name}", value)


def test_sizes_that_are_tried_have_some_bits_a_number_and_are_smaller() -> None:
    kind = fields.field_class("hash")
    model = Model(kind(kind.Config()), a_model().bounds)
    found = sizes_for(model, 150_000)
    assert [size["table"] for size in found] == [14, 13]
    assert sizes_for(model, 10**8) == [] == sizes_for(model, 100)


def test_a_student_learns_the_original() -> None:
    model = a_model()
    losses = []

    class Watched(smaller.RoundedTrainer):
        def step(self, progress: float):
            report = super().step(progress)
            losses.append(report.loss)
            return report

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(smaller, "RoundedTrainer", Watched)
        student = distilled(model, SMALLER, CAMERAS.training, Goal(steps=25), Loops())
    assert student.field.config.table == 6 and student.field.config.features == model.field.config.features
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_a_smaller_one_is_taken_where_the_own_size_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    model = replace(a_model(occupancy=None), cameras=(), held_out=(), camera_names=())
    monkeypatch.setattr(smaller, "sizes_for", lambda *_: [SMALLER])
    made = compress_tuned(model, Goal(most_bytes=1100, steps=3), CAMERAS)
    assert len(made.data) <= 1100 and made.model.field.config.table == 6
    assert field_file.decode(made.data, "a").field.config == made.model.field.config
    monkeypatch.setattr(smaller, "sizes_for", lambda *_: [])
    with pytest.raises(InputError, match="nf convert"):
        compress_tuned(model, Goal(most_bytes=400, steps=1), CAMERAS)


def test_no_size_is_tried_where_little_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smaller, "sizes_for", lambda *_: pytest.fail("tried"))
    made = compress_tuned(a_model(), Goal(most_bytes=5000, steps=2), CAMERAS)
    assert made.model.field.config == a_model().field.config
