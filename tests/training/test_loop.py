"""The loop of a fit: how often it looks."""

import time
from pathlib import Path

import pytest

from neuralfields.captures.readers import read_scene
from neuralfields.options.fit import FitOptions
from neuralfields.training import photos as fit_photos
from neuralfields.verbs import fit
from tests.support.small_fit import SMALL


def test_slow_looks_are_rare(small_capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes half a second is not repeated within ten, however often it is asked for."""
    looks = []
    monkeypatch.setattr(fit_photos.Look, "__call__", lambda self: looks.append(time.sleep(0.5)) or 20.0)
    options = FitOptions(scene=small_capture, steps=12, set=SMALL, threads=1, quiet=True, eval_every=0.001)
    fit.fit_scene(read_scene(small_capture), options)
    assert len(looks) == 1
