"""The line with which a fit begins: what was read, what is fitted to it, for how long, and on what."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuralfields.captures.readers import read_scene
from neuralfields.options.fit import FitOptions
from neuralfields.training.plan import plan_fit, usual_field
from tests.support.small_fit import tiny_capture_folder


def test_it_says_what_was_read(tmp_path: Path) -> None:
    scene = read_scene(tiny_capture_folder())
    line = plan_fit(FitOptions(scene.root, steps=30, minutes=0.5, threads=1), scene).summary()
    width, height = scene.frames[0].camera.width, scene.frames[0].camera.height
    counts = f"{len(scene.train)} photos of {width} x {height} to train on, {len(scene.test)} held out"
    assert line == f"{scene.name}: {counts}; field gaussians, 30 steps or 30 seconds, 1 thread"
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(tmp_path / "some.png")
    line = plan_fit(FitOptions(tmp_path / "some.png", steps=30, field="mlp", threads=2)).summary()
    assert line == "some: image; field mlp, 30 steps, 2 threads"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({}, "gaussians"),
        ({"set": ("degree=1", "most=100")}, "gaussians"),
        ({"refine_poses": True, "exposure": True}, "gaussians"),
        ({"set": ("table=12",)}, "hash"),
        ({"robust": True}, "gaussians"),
        ({"sparse_depth": True}, "hash"),
        ({"half": True}, "hash"),
        ({"bits": 8}, "hash"),
        ({"backend": "tcnn"}, "hash"),
        ({"set": ("table=12",), "field": "rbf"}, "rbf"),
    ],
)
def test_a_capture_is_fitted_by_what_has_what_is_asked_for(
    more: dict, field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = read_scene(tiny_capture_folder())
    options = FitOptions(scene.root, **more)
    assert (options.field or usual_field(options, scene)) == (options.field or usual_field(options)) == field
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(tmp_path / "some.png")
    assert usual_field(FitOptions(tmp_path / "some.png")) == "hash"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert usual_field(options, scene) == "hash"
