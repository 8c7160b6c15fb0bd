"""The training loop: how often it validates."""

import time
from pathlib import Path

import pytest

from neuralfields.captures.readers import read_scene
from neuralfields.evaluation.quick import PhotoValidation
from neuralfields.options.fit import FitOptions
from neuralfields.training.fit import fit_scene
from tests.support.small_fit import SMALL


def test_slow_validations_are_rare(tiny_capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes half a second is not repeated within ten, however often it is asked for."""
    validations = []
    monkeypatch.setattr(PhotoValidation, "__call__", lambda self: validations.append(time.sleep(0.5)) or 20.0)
    options = FitOptions(scene=tiny_capture, steps=12, field="hash", set=SMALL, threads=1, quiet=True, eval_every=0.001)
    fit_scene(read_scene(tiny_capture), options)
    assert len(validations) == 1
