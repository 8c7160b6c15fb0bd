"""A scene that moves, from its photos to a file, a film and a measure."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.cameras import Camera
from neuralfields.captures.images import read_image
from neuralfields.captures.readers import read_scene
from neuralfields.errors import UsageError
from neuralfields.evaluation.evaluate import photo_over
from neuralfields.models.nf_file import load, save
from neuralfields.models.nf_header import describe
from neuralfields.options.models import EvalOptions, RenderOptions
from neuralfields.pictures.camera_paths import in_time
from neuralfields.pictures.metrics import psnr
from neuralfields.scene import Bounds
from neuralfields.verbs import info
from neuralfields.verbs.evaluate import run as measure
from neuralfields.verbs.render import run as render
from tests.support.moving import moving_capture, moving_file_path

SPACE = Bounds((0.0, 0.0, 0.0), 1.0, times=(2.0, 6.0))


@pytest.fixture(scope="module")
def moving_file() -> Path:
    """A small field of the moving scene, fitted once a run."""
    return moving_file_path()


def test_what_moves_is_where_it_was_at_each_time(moving_file):
    """A photo is nearer to the render of its own time than to those of the other half of the film."""
    model, scene = load(moving_file), read_scene(moving_capture())
    gains = []
    for index in scene.train[::4]:
        camera, photo = scene.frames[index].camera, photo_over(read_image(scene.frames[index].path), (1, 1, 1))
        times = camera.time, (camera.time + 0.5) % 1
        renders = [model.renderable().render(replace(camera, time=time), (1, 1, 1)).rgb for time in times]
        own, other = (psnr(seen.numpy(), photo) for seen in renders)
        gains.append(own - other)
    assert min(gains) > 0 and sum(gains) / len(gains) > 0.2  # a field blind to time: 0 exactly


def test_the_file_keeps_the_times(moving_file, tmp_path):
    model = load(moving_file)
    assert model.bounds.times == (0.0, 1.0) and model.field.domain.dimensions == 4
    assert len({camera.time for camera in model.cameras}) == 24
    assert model.occupancy.shape == (8 * model.bounds.cascades, 32768)
    save(model, tmp_path / "small.nf", bits=8)
    small = load(tmp_path / "small.nf")
    assert torch.equal(small.occupancy, model.occupancy) and small.cameras[5].time == model.cameras[5].time
    found = describe(moving_file)
    assert len(found["camera_times"]) == 24 and "from 0 to 1" in info.text(found)


def test_a_model_at_one_time_is_the_render_of_that_time(moving_file):
    model = load(moving_file)
    camera = model.cameras[3]
    seen = model.renderable().render(camera, (1, 1, 1)).rgb
    assert torch.equal(model.at(camera.time).renderable().render(camera, (1, 1, 1)).rgb, seen)


def test_eval_takes_each_view_at_its_time(moving_file):
    model = load(moving_file)
    report = measure(EvalOptions(model=moving_file, scene=moving_capture(), quiet=True))
    assert report["psnr"] == pytest.approx(model.metrics["psnr"], abs=1e-3)


def test_films_of_time(moving_file, tmp_path):
    """A fixed camera while time passes, one moment from all around, and the views at their own times."""
    options = RenderOptions(model=moving_file, out=tmp_path / "film", path="fixed", frames=3, width=16, quiet=True)
    assert render(options)["frames"] == 3
    pictures = [p.read_bytes() for p in sorted((tmp_path / "film").glob("*.png"))]
    assert len(set(pictures)) == 3
    render(replace(options, out=tmp_path / "still", time="0.5"))
    assert len({p.read_bytes() for p in (tmp_path / "still").glob("*.png")}) == 1
    render(replace(options, out=tmp_path / "back", time="1..0"))
    back = [p.read_bytes() for p in sorted((tmp_path / "back").glob("*.png"))]
    assert back == pictures[::-1]


def test_times_along_a_path():
    path = [Camera(np.eye(4), 8, 8, 8.0, 8.0, 4.0, 4.0) for _ in range(5)]
    assert [c.time for c in in_time(path, None, SPACE)] == [2, 3, 4, 5, 6]
    assert [c.time for c in in_time(path, "3.5", SPACE)] == [3.5] * 5
    assert [c.time for c in in_time(path, "6..4", SPACE)] == [6, 5.5, 5, 4.5, 4]
    own = [replace(c, time=float(i)) for i, c in enumerate(path)]
    assert in_time(own, None, SPACE) == own
    assert in_time(path, None, replace(SPACE, times=None)) == path
    for wrong, bounds in (("noon", SPACE), ("0..", SPACE), ("nan", SPACE), ("1", replace(SPACE, times=None))):
        with pytest.raises(UsageError, match="--time"):
            in_time(path, wrong, bounds)
