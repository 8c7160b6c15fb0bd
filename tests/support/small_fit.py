"""The sample scene in small, and a field that is fitted to it in seconds: once a run, for every test that asks."""

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from neuralfields.captures.images import downscale, read_image
from neuralfields.captures.readers import read_scene
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load, save
from neuralfields.options.fit import FitOptions
from neuralfields.pictures.panels import save_image
from neuralfields.training.fit import fit_scene
from tests.support.settings import set_training, training_settings
from tests.support.side_by_side import made_once

SAMPLE = Path(__file__).resolve().parents[2] / "scenes" / "sample"
SMALL = ("levels=6", "table=12", "finest=128", "hidden=32")
STEPS = 300


def make_capture(folder: Path, shrink: int, train: int, test: int) -> Path:
    """Copies the sample scene, of 256 pixels a side, with smaller photos; of each split every so many views."""
    for split, every in (("train", train), ("test", test)):
        (folder / split).mkdir(parents=True)
        for path in sorted((SAMPLE / split).glob("*.png"))[::every]:
            save_image(folder / split / path.name, downscale(read_image(path), shrink))
        shutil.copy(SAMPLE / f"transforms_{split}.json", folder)
    return folder


def _fitted(folder: Path) -> Model:
    options = FitOptions(scene=folder, steps=STEPS, eval_every=0, quiet=True, threads=1, field="hash", set=SMALL)
    before = torch.get_num_threads()
    with training_settings(samples=1 << 12):
        model = fit_scene(read_scene(folder), options)
    model.field._renderer = None  # the memory of its native passes cannot be pickled
    torch.set_num_threads(before)
    return model


@cache
def fitted_model() -> Model:
    """A hash field fitted to the small capture."""
    capture = small_capture_folder()
    return load(made_once("small-model.nf", lambda path: save(_fitted(capture), path)))


def small_capture_folder() -> Path:
    """The small capture, made once a run."""
    return made_once("small", lambda folder: make_capture(folder, shrink=4, train=2, test=2))


def tiny_capture_folder() -> Path:
    """The tiny capture, made once a run.

    For fits of so few steps that all is fog still: its held-out views are measured in a tenth of a second, those of the
    small capture in two.
    """
    return made_once("tiny", lambda folder: make_capture(folder, shrink=8, train=5, test=6))


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 2^12 samples: for tests of arithmetic, not of speed."""
    set_training(monkeypatch, samples=1 << 12)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread in the test, as many as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small_capture() -> Path:
    """A folder with 30 training and 6 held-out views of 64 x 64, RGBA. Not to be changed."""
    return small_capture_folder()


@pytest.fixture
def tiny_capture() -> Path:
    """A folder with 12 training and 2 held-out views of 32 x 32, RGBA. Not to be changed."""
    return tiny_capture_folder()


@pytest.fixture
def small_model(small_capture: Path) -> Iterator[Model]:
    """A hash field fitted to the small capture, and the thread count put back after the test."""
    before = torch.get_num_threads()
    yield fitted_model()
    torch.set_num_threads(before)


@pytest.fixture
def small_file(small_model: Model, tmp_path: Path) -> Path:
    """The same model in a file of the test's own."""
    path = tmp_path / "small.nf"
    save(small_model, path)
    return path
