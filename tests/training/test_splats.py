"""Gaussians learn a capture, repeat themselves bit for bit, resume in the same bits, keep their budget and file."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import imageio.v3
import numpy as np
import pytest
import torch

from neuralfields.captures.images import load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.errors import InterruptedFit, UsageError
from neuralfields.evaluation.evaluate import evaluate
from neuralfields.fields.gaussians import GaussianField
from neuralfields.gaussians import PARAMETERS
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load, save
from neuralfields.options.fit import FitOptions
from neuralfields.splatting import photos
from neuralfields.trainers import splats
from neuralfields.trainers.moving_splats import budget_in_time
from neuralfields.trainers.splats import budget
from neuralfields.training import splat_fit
from neuralfields.training.fit import fit_scene
from tests.support.disturbed import disturbed, off_in_pixels
from tests.support.fit_runs import Interrupting
from tests.support.small_splat_training import small_splat_training

STEPS = 240


def options_for(capture: Path, **more: object) -> FitOptions:
    chosen = {"steps": STEPS, "threads": 1, "quiet": True, "eval_every": 0, "set": ("most=3000", "degree=1")}
    return FitOptions(capture, field="gaussians", **chosen | more)


@pytest.fixture(scope="module")
def fitted() -> Model:
    from tests.support.small_fit import small_capture_folder

    capture = small_capture_folder()
    return fit_scene(read_scene(capture), options_for(capture))


def same(a: Model, b: Model) -> None:
    for name in PARAMETERS:
        assert torch.equal(getattr(a.field, name), getattr(b.field, name)), name


def test_they_learn_the_capture(fitted: Model):
    assert isinstance(fitted.field, GaussianField)
    assert fitted.metrics["psnr"] > 22.0
    assert 1500 <= len(fitted.field.gaussians()) <= 3000


def test_what_shows_nothing_is_not_kept(fitted: Model, small_capture: Path, monkeypatch: pytest.MonkeyPatch):
    """Hidden and unseen ones: without them every photo is as it was, to what an eye sees."""
    monkeypatch.setattr(splats, "UNSEEN", 0.0)
    whole = fit_scene(read_scene(small_capture), options_for(small_capture))
    counts = [len(model.field.gaussians()) for model in (fitted, whole)]
    cameras = [camera for index, camera in enumerate(whole.cameras) if index not in whole.held_out]
    unseen = [float((model.renderable().importance(cameras) < 0.02).float().mean()) for model in (fitted, whole)]
    assert counts[0] < 0.99 * counts[1] and unseen[0] < 0.3 * unseen[1], (counts, unseen)
    for camera in cameras[::6]:
        pictures = [model.renderable().render(camera, (1, 1, 1)).rgb for model in (fitted, whole)]
        assert float((pictures[0] - pictures[1]).abs().max()) < 0.02


@pytest.mark.parametrize(("timed", "until"), [(False, 0.5), (True, 0.25)])
def test_photos_are_small_at_first(small_capture: Path, timed: bool, until: float, monkeypatch: pytest.MonkeyPatch):
    """By steps for half of a fit, by the clock for a quarter, in which small ones make half of the steps."""
    monkeypatch.setattr(photos, "SMALLEST", 8)  # these are small already
    training = small_splat_training(small_capture)
    training.timed = timed
    stages = [training.step(progress).stage for progress in (until - 0.01, until)]
    assert stages == ["1/2", ""]


def test_more_time_pays_for_more_gaussians():
    many = 10**9  # pixels
    assert [budget(many, seconds) for seconds in (20, 60, 180)] == [43_541, 68_094, 110_623]
    assert budget(many, 1e9) == budget(many, None) == 400_000 and budget(60_000, 1e9) == budget(60_000, None) == 21_000


def test_where_things_move_the_number_of_photos_bounds_that_of_gaussians():
    assert [budget_in_time(108, 108 * side**2) for side in (100, 200, 400)] == [6480, 9164, 12960]
    assert budget_in_time(216, 216 * 100**2) == 2 * budget_in_time(108, 108 * 100**2)
    assert budget_in_time(3, 300) == 1000


def test_held_out_views_keep_their_size_while_a_fit_runs(
    fitted: Model, small_capture: Path, monkeypatch: pytest.MonkeyPatch
):
    scene = read_scene(small_capture)
    held_out = load_frames(scene, scene.test)
    each = {name: found.psnr for name, found in zip(scene.test, evaluate(fitted).views, strict=True)}
    monkeypatch.setattr(splat_fit, "VALIDATION_PIXELS", 1)  # not even one view
    monkeypatch.setattr(splat_fit, "LEAST_VALIDATED", 1)
    training = SimpleNamespace(volume=fitted.renderable(), device=torch.device("cpu"))
    found = splat_fit._validation(training, held_out, fitted.background)()
    assert found == pytest.approx(each[scene.test[0]], abs=0.05)  # that of 8 bits


def test_antialiased_ones_are_shown_as_they_were_fitted(fitted: Model, small_capture: Path):
    chosen = options_for(small_capture, set=("most=3000", "degree=1", "antialiased=true"))
    model = fit_scene(read_scene(small_capture), chosen)
    assert model.field.gaussians().antialiased and not fitted.field.gaussians().antialiased
    assert model.metrics["psnr"] > fitted.metrics["psnr"] - 0.7


@pytest.mark.parametrize("step", [100, 229])  # while photos are small and it grows; in the mean of the last tenth
def test_a_resumed_fit_ends_in_the_bits_of_an_unbroken_one(
    fitted: Model, small_capture: Path, tmp_path: Path, step: int
):
    """Which holds of no fit that does not repeat itself bit for bit."""
    scene, out = read_scene(small_capture), tmp_path / "a.nf"
    with pytest.raises(InterruptedFit):
        fit_scene(scene, options_for(small_capture, out=out), Interrupting(step))
    same(fit_scene(scene, options_for(small_capture, out=out, resume=True)), fitted)


def test_their_file_gives_them_back(fitted: Model, tmp_path: Path):
    save(fitted, tmp_path / "a.nf")
    again = load(tmp_path / "a.nf")
    same(again, fitted)
    camera = fitted.cameras[0]
    assert torch.equal(
        again.renderable().render(camera, (1, 1, 1)).rgb, fitted.renderable().render(camera, (1, 1, 1)).rgb
    )


@pytest.mark.parametrize("name", ["sparse_depth", "half"])
def test_what_is_not_there_is_said(small_capture: Path, name: str):
    with pytest.raises(UsageError, match="is not there for --field gaussians"):
        fit_scene(read_scene(small_capture), replace(options_for(small_capture), **{name: True}))


def test_a_resumed_fit_leaves_out_the_same(small_capture: Path, tmp_path: Path):
    scene, out = read_scene(small_capture), tmp_path / "a.nf"
    words = {"robust": True, "steps": 60, "recipe": ("robust_warmup=20",)}
    whole = fit_scene(scene, options_for(small_capture, **words))
    with pytest.raises(InterruptedFit):
        fit_scene(scene, options_for(small_capture, out=out, **words), Interrupting(40))
    again = fit_scene(scene, options_for(small_capture, out=out, resume=True, **words))
    same(again, whole)
    assert again.made["left_out"] == whole.made["left_out"]


@pytest.mark.slow
def test_a_resumed_refinement_of_poses_ends_in_the_same_bits(small_capture: Path, tmp_path: Path):
    scene, out = read_scene(small_capture), tmp_path / "a.nf"
    words = {"refine_poses": True, "steps": 120, "recipe": ("pose_warmup=20",)}
    whole = fit_scene(scene, options_for(small_capture, **words))
    with pytest.raises(InterruptedFit):
        fit_scene(scene, options_for(small_capture, out=out, **words), Interrupting(70))
    with pytest.raises(UsageError, match="refine_poses"):
        fit_scene(scene, options_for(small_capture, out=out, resume=True, **words | {"refine_poses": False}))
    again = fit_scene(scene, options_for(small_capture, out=out, resume=True, **words))
    same(again, whole)
    assert again.metrics == whole.metrics | {"samples_per_second": again.metrics["samples_per_second"]}
    poses, given = ([c.world_from_camera for c in m.cameras] for m in (again, whole))
    assert np.array_equal(poses, given)
    assert not np.array_equal(poses[0], scene.frames[scene.train[0]].camera.world_from_camera)


@pytest.mark.slow
def test_disturbed_cameras_are_found(small_capture: Path):
    """A third of the training cameras is wrong; refined, they are nearer to where they were."""
    scene = read_scene(small_capture)
    chosen, frames = scene.train[::3], list(scene.frames)
    for index, camera in zip(chosen, disturbed([frames[i].camera for i in chosen], 1.0, 0.03), strict=True):
        frames[index] = replace(frames[index], camera=camera)
    wrong = replace(scene, frames=tuple(frames))
    model = fit_scene(wrong, options_for(small_capture, refine_poses=True, steps=400, recipe=("pose_warmup=60",)))
    places = [scene.train.index(i) for i in chosen]
    true = [scene.frames[i].camera for i in chosen]
    before = off_in_pixels([frames[i].camera for i in chosen], true)
    now = off_in_pixels([model.cameras[i] for i in places], true)
    assert now < 0.7 * before, (now, before)


def test_points_are_refused(fitted: Model):
    with pytest.raises(UsageError, match="no function of a point"):
        fitted.field.features(torch.zeros(3, 3))


def test_exposure_is_learned(small_capture: Path, tmp_path: Path):
    """Photos of a copy are darkened by known factors; the gains between them come back, and the held-out views gain."""
    folder = tmp_path / "dark"
    shutil.copytree(small_capture, folder)
    factors = {}
    for place, path in enumerate(sorted(folder.rglob("*.png"))):
        factors[path.name] = (1.0, 0.6)[place % 2]
        values = imageio.v3.imread(path)
        values[..., :3] = (values[..., :3] * factors[path.name]).round()
        imageio.v3.imwrite(path, values)
    scene = read_scene(folder)
    plain = fit_scene(scene, options_for(folder, steps=120))
    learned = fit_scene(scene, options_for(folder, steps=120, exposure=True))
    assert learned.metrics["psnr"] > plain.metrics["psnr"] + 2
    gains = learned.made["exposure_gains"]
    means = {factor: [sum(gains[n]) for n in gains if factors[Path(n).name] == factor] for factor in (1.0, 0.6)}
    ratio = sum(means[0.6]) / len(means[0.6]) / (sum(means[1.0]) / len(means[1.0]))
    assert ratio == pytest.approx(0.6, rel=0.1)
