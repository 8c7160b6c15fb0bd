"""Photos as supervision: they are tuned against, those that judge hold the quality, and what they say is reported."""

import json
from pathlib import Path

import numpy as np
import pytest

from neuralfields import cli
from neuralfields.codecs.splats import write_gaussians
from neuralfields.compression.compress import Goal, compress
from neuralfields.compression.original import CaptureCameras, drawn
from neuralfields.compression.photos import CapturePhotos, Photo, PhotoJudge
from neuralfields.compression.refine import Refiner
from neuralfields.compression.tune import Judge, lost_of
from neuralfields.errors import UsageError
from neuralfields.gaussians import Gaussians
from neuralfields.models.model import Model
from neuralfields.rendering.splat import Splats
from neuralfields.verbs.compress import photos_of
from tests.compression.test_compress import BOUNDS, ball

BLACK = (0.0, 0.0, 0.0)
BALL = ball(400)
VIEWS, OTHERS = drawn(BOUNDS, 12, 64, 1), drawn(BOUNDS, 6, 64, 2)


def photographed(gaussians: Gaussians, cameras) -> list[Photo]:
    """Photos with alpha of Gaussians, with noise that no fit shows."""
    splats, chance = Splats(gaussians, BOUNDS), np.random.default_rng(0)
    found = []
    for camera in cameras:
        seen = splats.render(camera, BLACK)
        alpha = seen.opacity.clamp(0, 1).numpy()[..., None]
        colour = np.clip(seen.rgb.numpy() / np.maximum(alpha, 1e-3), 0, 1) + chance.normal(0, 0.03, seen.rgb.shape)
        found.append(Photo(camera, np.round(np.concatenate([colour, alpha], 2).clip(0, 1) * 255).astype(np.uint8)))
    return found


def brighter() -> Gaussians:
    spoilt = ball(400)
    spoilt.harmonics[:, 0] += 0.2
    return spoilt


def test_photos_and_not_the_original_are_come_near_to():
    truth, original = PhotoJudge(Judge(BALL, BOUNDS, OTHERS, BLACK), BALL, photographed(BALL, OTHERS)), brighter()
    refined = Refiner(original, BOUNDS, [], BLACK, photos=photographed(BALL, VIEWS)).free(original, 40)
    assert truth.lost(refined) < truth.lost(original) - 1  # the first original is wrong, its photos are right
    assert abs(truth.lost(BALL)) < 1e-9


def test_the_stricter_of_photos_and_renderings_judges():
    plain = Judge(BALL, BOUNDS, OTHERS, BLACK)
    judge = PhotoJudge(plain, BALL, photographed(BALL, OTHERS))
    spoilt = brighter()
    assert judge.psnr(spoilt) == pytest.approx(min(plain.psnr(spoilt), judge.psnr(spoilt)))
    assert lost_of(judge.psnr(spoilt), judge.fitted) >= judge.lost(spoilt) - 1e-6
    masked = [Photo(p.camera, p.image, np.arange(64)[:, None] + np.zeros((64, 64)) < 8) for p in judge.photos]
    assert PhotoJudge(plain, BALL, masked).original["psnr"] != judge.original["psnr"]


def test_the_quality_holds_on_photos_that_judge():
    photos = CapturePhotos(photographed(BALL, VIEWS), photographed(BALL, OTHERS))
    cameras = CaptureCameras(VIEWS, OTHERS, drawn(BOUNDS, 8, 64, 3), photos)
    found = compress(BALL, BOUNDS, Goal(0.5, steps=30), BLACK, cameras).report
    assert found["photos"]["lost"] <= 0.5 and found["lost"] <= 0.55
    assert found["photos"]["photos"] == len(OTHERS) and 15 < found["fitted"] < 45


def test_a_smaller_photo_has_the_means_of_areas_and_keeps_whole_pixels_of_its_mask():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, ::2] = 200
    mask = np.ones((8, 8), bool)
    mask[0, 0] = False
    camera = drawn(BOUNDS, 1, 8)[0]
    small = Photo(camera, image, mask).smaller(camera.resized(4, 4))
    assert (small.image == 100).all() and small.mask.sum() == 15 and not small.mask[0, 0]


def test_the_command_tunes_against_the_photos_of_a_capture(tiny_capture: Path, tmp_path: Path, capsys):
    write_gaussians(ball(300), tmp_path / "a.ply")
    arguments = ["compress", str(tmp_path / "a.ply"), str(tmp_path / "a.nfz"), "--scene", str(tiny_capture)]
    assert cli.main([*arguments, "--steps", "6", "--quality", "2", "--quiet", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["photos"]
    assert found["photos"] > 0 and found["lost"] <= 2 and {"psnr", "ssim", "before", "held_out"} <= set(found)


def test_photos_of_a_fit_with_exposures_say_nothing(tmp_path: Path):
    with pytest.raises(UsageError, match="drop --scene"):
        photos_of(Model(field=None, bounds=BOUNDS, made={"exposure": True}), tmp_path)
