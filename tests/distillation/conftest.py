"""What tests of distillation share."""

import pytest

from neuralfields.distillation import convert
from neuralfields.trainers import distil


@pytest.fixture
def small_distillation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few points are pooled, and teacher and student compared on few pixels: fog takes long after so few steps."""
    monkeypatch.setattr(convert, "PICTURE_SIDE", 32)
    monkeypatch.setattr(convert, "VIEW_PIXELS", 16 * 16)
    monkeypatch.setattr(distil, "POOL_STEPS", 8)
    monkeypatch.setattr(distil, "RAYS", 1024)
