"""Other defaults of training for a test: small steps, short warm-ups."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch

from neuralfields.options import training
from neuralfields.options.fit import FitOptions
from neuralfields.scene import Scene
from neuralfields.training.loop import Budget
from neuralfields.training.plan import FitPlan


def set_training(monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    """Changes the defaults of TrainingSettings until the test ends."""
    monkeypatch.setattr(training, "DEFAULT", replace(training.DEFAULT, **values))


@contextmanager
def training_settings(**values: Any) -> Iterator[None]:
    """The same for a block."""
    with mock.patch.object(training, "DEFAULT", replace(training.DEFAULT, **values)):
        yield


def plan_of(scene: Scene, options: FitOptions, config: Any, device: str = "cpu") -> FitPlan:
    """The plan of a fit of a field of that very Config."""
    return FitPlan(scene, options, config, training.DEFAULT, torch.device(device), Budget.of(options))
