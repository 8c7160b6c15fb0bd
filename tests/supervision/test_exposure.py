"""Gains: found where they are known, applied to their photos, and no pixel helps itself in a measurement."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.captures.images import read_image
from neuralfields.captures.readers import read_scene
from neuralfields.evaluation.evaluate import evaluate
from neuralfields.options.fit import FitOptions
from neuralfields.options.training import DEFAULT
from neuralfields.pictures.panels import save_image
from neuralfields.rays import Rays, RaySums
from neuralfields.scene import Scene
from neuralfields.supervision.exposure import Exposure, by_other_half
from neuralfields.supervision.pixels import Batch
from neuralfields.training.fit import fit_scene
from tests.support.settings import set_training
from tests.support.small_fit import SMALL, small_capture_folder

pytestmark = pytest.mark.usefixtures("one_thread", "small_steps")


def seen(gain: torch.Tensor, rays: int, seed: int) -> tuple[Batch, RaySums]:
    """A batch whose opaque pixels are exactly what the field says times their photo's gain."""
    generator = torch.Generator().manual_seed(seed)
    camera = torch.randint(0, len(gain), (rays,), generator=generator)
    own = torch.rand(rays, 3, generator=generator) * 0.5
    values = torch.cat([own, torch.ones(rays, 1), torch.zeros(rays, 3)], 1)
    nothing = Rays(torch.zeros(rays, 3), torch.zeros(rays, 3))
    return Batch(nothing, own * gain[camera], None, camera, torch.zeros(rays, 2)), RaySums(
        values, torch.ones(rays, dtype=torch.uint8), rays
    )


def test_known_gains_are_found_but_for_their_mean() -> None:
    true = torch.exp(torch.linspace(-0.5, 0.5, 7))[:, None] * torch.tensor([1.0, 1.1, 0.9])
    what = Exposure(7)
    for step in range(120):
        batch, sums = seen(true, 500, step)
        what.follow(step, batch, sums, torch.zeros(3), torch.ones(500))
        if step < DEFAULT.exposure_warmup:
            assert float(what.gain.abs().max()) == 0
    wanted = torch.log(true) - torch.log(true).mean(0)
    torch.testing.assert_close(what.gain, wanted, atol=2e-3, rtol=0)
    assert float(what.gain.mean(0).abs().max()) < 1e-6


def test_gains_that_were_found_beforehand_hold_from_the_first_step() -> None:
    """And steps that agree with them leave them."""
    true = torch.exp(torch.linspace(-0.5, 0.5, 7))[:, None] * torch.ones(3)
    what, gain = Exposure(7), torch.log(true)
    what.begin(gain - gain.mean(0), 1 / 7)
    torch.testing.assert_close(what.gain, gain - gain.mean(0))
    for step in range(60):
        batch, sums = seen(true, 500, step)
        what.follow(step, batch, sums, torch.zeros(3), torch.ones(500))
        torch.testing.assert_close(what.gain, gain - gain.mean(0), atol=1e-3, rtol=0)


def test_what_is_saturated_or_left_out_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    set_training(monkeypatch, exposure_warmup=0)
    true = torch.tensor([[0.8] * 3, [1.25] * 3])
    batch, sums = seen(true, 1000, 0)
    batch.rgb[:300] = 1.0
    weight = torch.ones(1000)
    batch.rgb[300:400], weight[300:400] = 0.0, 0.0
    set_training(monkeypatch, exposure_start=0)
    what = Exposure(2)
    what.follow(0, batch, sums, torch.zeros(3), weight)
    torch.testing.assert_close(torch.exp(what.gain), true, atol=5e-3, rtol=0)


def test_gains_apply_to_their_photos_and_stop_at_white() -> None:
    what = Exposure(2)
    what.gain = torch.log(torch.tensor([[2.0, 1.0, 1.0], [0.5, 1.0, 4.0]]))
    sums = RaySums(torch.tensor([[0.4, 0.4, 0.4, 1.0, 2.0, 0.0, 0.0]] * 2), torch.ones(2, dtype=torch.uint8), 2)
    found = what.applied(sums, torch.tensor([0, 1])).values
    torch.testing.assert_close(found[:, :3], torch.tensor([[0.8, 0.4, 0.4], [0.2, 0.4, 1.0]]))
    assert torch.equal(found[:, 3:], sums.values[:, 3:])


def test_each_half_has_the_gain_of_the_other() -> None:
    picture = np.random.default_rng(0).random((20, 30, 3)) * 0.4
    photo = picture * [1.5, 0.7, 1.0]
    photo[:, 15:] *= 1.2  # so each half is off by what the other does not have
    left, right = np.split(by_other_half(picture, 0 * picture, photo), 2, axis=1)
    np.testing.assert_allclose(left, photo[:, :15] * 1.2, rtol=1e-6)
    np.testing.assert_allclose(right, photo[:, 15:] / 1.2, rtol=1e-6)
    keep = np.zeros((20, 30), bool)
    keep[:, :15] = True
    np.testing.assert_array_equal(by_other_half(picture, 0 * picture, photo, keep)[:, :15], picture[:, :15])


def test_the_background_has_no_exposure() -> None:
    own, photo = np.zeros((8, 8, 3)), np.ones((8, 8, 3))
    own[2:6, 2:6], photo[2:6, 2:6] = 0.6, 0.3
    behind = np.ones((8, 8, 3))
    behind[2:6, 2:6] = 0
    np.testing.assert_allclose(by_other_half(own, behind, photo), photo)


def darkened(folder: Path) -> tuple[Scene, np.ndarray]:
    """The small capture with photos times known gains, and those."""
    scene = read_scene(small_capture_folder())
    random = np.random.default_rng(0)
    count = len(scene.frames)
    gains = np.exp(random.uniform(-0.35, 0.0, (count, 1)) + random.uniform(-0.1, 0.0, (count, 3)))
    frames = []
    for index, frame in enumerate(scene.frames):
        image = read_image(frame.path)
        image[..., :3] = np.round(image[..., :3] * gains[index]).astype(np.uint8)
        save_image(folder / f"{index}.png", image)
        frames.append(replace(frame, path=folder / f"{index}.png"))
    return replace(scene, frames=tuple(frames)), gains


@pytest.mark.slow
def test_a_fit_learns_the_photos_gains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene, gains = darkened(tmp_path)
    set_training(monkeypatch, samples=1 << 14)
    options = FitOptions(scene=scene.root, steps=200, threads=1, field="hash", set=SMALL, quiet=True, eval_every=0)
    plain, learned = (fit_scene(scene, replace(options, exposure=on)) for on in (False, True))
    found = np.log([learned.made["exposure_gains"][scene.frames[k].name] for k in scene.train])
    true = np.log(gains[list(scene.train)])
    true -= true.mean(0)
    assert np.abs(found - true).mean() < 0.75 * np.abs(true).mean()  # more steps find more of it
    assert learned.metrics["psnr"] > plain.metrics["psnr"] + 1.0
    assert learned.metrics["psnr"] > learned.metrics["psnr_given"] + 0.8
    report = evaluate(learned, scene)
    assert report.psnr == pytest.approx(learned.metrics["psnr"]) and "exposure" in report.convention
