"""Cameras that were moved come back: on a field that stands still, and in a fit; nothing else moves with them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields import cli
from neuralfields.cameras import Camera
from neuralfields.captures.images import LoadedFrames, load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.evaluation import held_out
from neuralfields.evaluation.evaluate import evaluate, measure
from neuralfields.evaluation.held_out import HeldOut, align_cameras, transfer_cameras
from neuralfields.evaluation.protocol import viewing
from neuralfields.fields.hash import Config, HashField
from neuralfields.models.model import Model, volume_of
from neuralfields.models.nf_file import load
from neuralfields.options.fit import FitOptions
from neuralfields.pictures.panels import to_uint8
from neuralfields.rendering.volume import finish
from neuralfields.supervision import alignment
from neuralfields.supervision.adjustments import Adjustments
from neuralfields.supervision.alignment import Alignment, rotations
from neuralfields.supervision.image_gradients import Slopes, scales
from neuralfields.supervision.pixels import Pixels
from neuralfields.supervision.pose_refinement import PoseRefinement, Similarity, apply_motion
from neuralfields.trainers.radiance import Background, RadianceTrainer
from neuralfields.verbs import fit
from tests.support.disturbed import disturbed, off_in_pixels
from tests.support.settings import set_training
from tests.support.small_fit import SMALL, small_capture_folder

WHITE = (1.0, 1.0, 1.0)


pytestmark = pytest.mark.usefixtures("one_thread", "small_steps")


def own_pictures(model: Model, cameras: Sequence[Camera]) -> LoadedFrames:
    """What the model itself shows: photos that its field explains exactly."""
    images = [to_uint8(volume_of(model).render(camera, WHITE).rgb.numpy()) for camera in cameras]
    return LoadedFrames(images, list(cameras), [None] * len(images), list(range(len(images))), [])


def test_cameras_are_found_again_on_the_field(small_model: Model) -> None:
    true = [small_model.cameras[k] for k in small_model.held_out]
    pictures = own_pictures(small_model, true)
    starts, volume = disturbed(true, 2.0, 0.1), volume_of(small_model)
    again = align_cameras(volume, pictures, starts, WHITE)

    def psnr(cameras: Sequence[Camera]) -> float:
        views = zip(pictures.images, cameras, strict=True)
        return float(np.mean([measure(volume, image, camera, WHITE, structure=False).psnr for image, camera in views]))

    assert psnr(starts) < 17 and psnr(again) > 35
    assert (
        align_cameras(volume, pictures, starts, WHITE)[0].world_from_camera.tolist()
        == again[0].world_from_camera.tolist()
    )


def test_turns_and_shifts_are_told_apart_in_time(small_model: Model) -> None:
    """To a small thing far away they look nearly alike; with more steps the cameras are where they were."""
    true = [small_model.cameras[k] for k in small_model.held_out[:2]]
    pictures = own_pictures(small_model, true)
    starts = disturbed(true, 2.0, 0.1)
    moving = HeldOut(Pixels(pictures.images, starts), WHITE, starts)
    moving.align(volume_of(small_model), 40)
    for camera, other in zip(apply_motion(starts, moving.motion), true, strict=True):
        assert np.abs(camera.world_from_camera - other.world_from_camera).max() < 0.02


def test_the_change_of_a_picture_is_what_moving_the_camera_makes(small_model: Model) -> None:
    """J motion against the field's own pictures before and after a small motion, where those differ."""
    camera = small_model.cameras[small_model.held_out[0]]
    pictures = own_pictures(small_model, [camera])
    pixels = Pixels(pictures.images, [camera])
    one = Alignment(pixels)
    one.set_scale(1)
    batch, volume = pixels.every(64 * 64), volume_of(small_model)
    before = finish(volume.sums(batch.rays), torch.ones(3), volume.bounds.side)
    solid = before.opacity > 0.5
    change = one._change(batch, before.depth.clamp(min=1e-3), torch.ones(3))
    for axis in range(6):
        step = torch.zeros(1, 6)
        step[0, axis] = 0.01 if axis < 3 else 0.03
        one.motion = step
        moved = finish(volume.sums(one.moved(batch.rays, batch.camera)), torch.ones(3), volume.bounds.side)
        seen, said = (moved.rgb - before.rgb)[solid].flatten(), (change @ step[0])[solid].flatten()
        assert float(seen @ said / seen.norm() / said.norm()) > 0.7, axis
        assert 0.5 < float(seen @ said / said.square().sum()) < 1.5, axis


def test_slopes_of_a_ramp_at_every_scale() -> None:
    u, v = np.meshgrid(np.arange(64), np.arange(48))
    ramp = np.stack([2 * u, 3 * v, 255 - u - v], 2).astype(np.uint8)
    camera = Camera(np.eye(4), 64, 48, 60.0, 60.0, 32.0, 24.0)
    pixels = Pixels([ramp[:, :32], ramp], [camera.resized(32, 48), camera])
    inner = torch.tensor([[20.5, 20.5], [31.5, 24.5]])
    assert scales(pixels) == (2, 1)
    for scale in (1, 2, 4):
        slope = Slopes(pixels, scale).at(torch.tensor([1, 1]), inner, torch.zeros(3)) * 255
        expected = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, -1.0]])
        torch.testing.assert_close(slope, expected.expand(2, 3, 2), atol=0.3 / scale, rtol=0)


def test_slopes_of_alpha_follow_the_background() -> None:
    """A white disc's edge on white is no edge; on black it is one."""
    photo = np.full((8, 8, 4), 255, np.uint8)
    photo[:, :4, 3] = 0
    pixels = Pixels([photo], [Camera(np.eye(4), 8, 8, 8.0, 8.0, 4.0, 4.0)])
    place = torch.zeros(1, dtype=torch.int64), torch.tensor([[4.5, 4.5]])
    slopes = Slopes(pixels, 1)
    assert float(slopes.at(*place, torch.ones(3)).abs().max()) == 0
    assert slopes.at(*place, torch.zeros(3))[0, :, 0].tolist() == [0.5] * 3


def test_a_similarity_is_found_and_undone() -> None:
    scene = read_scene(small_capture_folder())
    cameras = [frame.camera for frame in scene.frames]
    turn = rotations(torch.tensor([[0.3, -0.2, 0.5]], dtype=torch.float64))[0].numpy()
    given = Similarity(1.7, turn, np.array([1.0, -2.0, 0.5]))
    moved = [given.moved(camera) for camera in cameras]
    seen = Similarity.between(cameras, moved)
    assert seen.scale == pytest.approx(1.7)
    np.testing.assert_allclose(seen.rotation, turn, atol=1e-9)
    for one, other in zip(transfer_cameras(cameras, moved, cameras), cameras, strict=True):
        shown = Similarity.between(moved, cameras).moved(one)
        assert np.isfinite(shown.world_from_camera).all() and other.width == one.width
    back = transfer_cameras(moved, moved, cameras)
    np.testing.assert_allclose(back[3].world_from_camera, cameras[3].world_from_camera, atol=1e-9)


def loaded() -> LoadedFrames:
    scene = read_scene(small_capture_folder())
    return load_frames(scene, scene.train)


def refining(cameras: list[Camera], images: list[np.ndarray], seed: int = 0) -> RadianceTrainer:
    """A training on photos with these cameras, which it refines."""
    scene = read_scene(small_capture_folder())
    torch.manual_seed(seed)
    pixels = Pixels(images, cameras)
    adjustments = Adjustments(poses=PoseRefinement(pixels, cameras))
    field = HashField(Config(levels=6, table=12, finest=128))
    return RadianceTrainer(field, scene.bounds, pixels, Background(WHITE, random=True), seed, adjustments)


def test_what_all_cameras_could_do_together_is_taken_out() -> None:
    photos = loaded()
    poses = PoseRefinement(Pixels(photos.images, photos.cameras), photos.cameras)
    turn = rotations(torch.tensor([[0.001, 0.002, -0.001]], dtype=torch.float64))[0].numpy()
    given = Similarity(1.002, turn, np.array([0.004, 0.0, -0.003]))
    shifts = np.stack([given.moved(c).centre - c.centre for c in photos.cameras])
    turned = torch.tensor([[0.001, 0.002, -0.001]]).expand(len(shifts), 3)
    poses.motion = torch.cat([turned, torch.from_numpy(shifts).float()], 1)
    size = float(poses.motion.norm())
    poses._keep_frame()
    assert float(poses.motion.norm()) < 1e-2 * size
    poses.motion = torch.zeros_like(poses.motion)
    poses.motion[3, 0] = 0.01
    poses._keep_frame()
    assert float(poses.motion[3, 0]) > 0.008


@pytest.mark.slow  # the default has fields that stand still, and a few steps of a fit
def test_a_fit_finds_disturbed_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of all cameras is wrong; what the others agree on shows where they belong."""
    set_training(monkeypatch, pose_warmup=60)
    set_training(monkeypatch, pose_rate=0.2)  # there is little time, and little noise
    set_training(monkeypatch, pose_last_rate=0.05)
    set_training(monkeypatch, samples=1 << 14)
    photos = loaded()
    wrong, true = disturbed(photos.cameras, 2.0, 0.1), photos.cameras
    cameras = [wrong[k] if k % 3 == 0 else camera for k, camera in enumerate(true)]
    what = refining(cameras, photos.images)
    for step in range(160):
        what.step(step / 160)
    refined = what.adjustments.poses.refined()
    before, now = (off_in_pixels(align_cameras[::3], true[::3]) for align_cameras in (cameras, refined))
    assert now < 0.87 * before


def test_a_resumed_refinement_ends_in_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    set_training(monkeypatch, pose_warmup=5)
    monkeypatch.setattr(alignment, "FEWEST_RAYS", 10)
    photos = loaded()
    cameras = disturbed(photos.cameras, 1.0, 0.05)
    whole = refining(cameras, photos.images)
    for step in range(16):
        whole.step(step / 40)
    half = refining(cameras, photos.images)
    for step in range(9):
        half.step(step / 40)
    kept, counters = {name: t.clone() for name, t in half.tensors().items()}, half.counters()
    again = refining(cameras, photos.images, seed=0)
    again.restore(kept, counters)
    for step in range(9, 16):
        again.step(step / 40)
    assert whole.counters() == again.counters()
    other = again.tensors()
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, other[name]), name
    assert float(whole.adjustments.poses.motion.abs().max()) > 0


def test_a_step_that_fails_moves_no_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    set_training(monkeypatch, pose_warmup=0)
    photos = loaded()
    what = refining(photos.cameras, photos.images)
    draw = what.pixels.batch

    def spoiled(rays: int, generator: torch.Generator) -> object:
        batch = draw(rays, generator)
        batch.rgb[0], batch.alpha[0] = float("nan"), 1.0
        return batch

    what.pixels.batch = spoiled  # type: ignore[method-assign]
    what.step(0.0)
    assert what.bad_steps == 1 and float(what.adjustments.poses.motion.abs().max()) == 0


@pytest.mark.slow
def test_the_file_holds_the_refined_cameras_and_is_measured_by_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_training(monkeypatch, pose_warmup=10)
    monkeypatch.setattr(alignment, "FEWEST_RAYS", 10)
    monkeypatch.setattr(held_out, "PIXELS", 128)
    folder, out = small_capture_folder(), tmp_path / "a.nf"
    options = FitOptions(
        scene=folder, out=out, steps=60, threads=1, field="hash", set=SMALL, quiet=True, refine_poses=True, eval_every=0
    )
    result = fit.run(options)
    model, scene = load(out), read_scene(folder)
    given = {frame.name: frame.camera for frame in scene.frames}
    trained = [k for k in range(len(model.cameras)) if k not in model.held_out]
    pairs = [(model.cameras[k], given[model.camera_names[k]]) for k in trained]
    changed = [np.abs(one.world_from_camera - other.world_from_camera).max() for one, other in pairs]
    assert min(changed) > 0 and model.made["refine_poses"] is True
    report = evaluate(model)
    assert report.psnr == pytest.approx(result["psnr"], abs=1e-6) and report.psnr_given is not None
    assert report.psnr_given == pytest.approx(result["psnr_given"], abs=1e-6)
    assert "aligned" in report.convention
    how = viewing(model, scene, load_frames(scene, scene.train), WHITE)
    assert how.convention == ""  # refined cameras are taken as they are
    for camera, k in zip(how.cameras, trained, strict=True):
        np.testing.assert_array_equal(camera.world_from_camera, model.cameras[k].world_from_camera)


def test_without_it_a_file_is_measured_as_before(small_model: Model) -> None:
    report = evaluate(small_model)
    assert report.convention == "" and report.psnr_given is None and "psnr_given" not in report.as_dict()
    assert report.psnr == small_model.metrics["psnr"]


def test_held_out_views_keep_their_file_cameras_in_other_captures(small_model: Model) -> None:
    """A model that was refined elsewhere: no photo of this scene is known to it, and its own cameras are used."""
    scene = read_scene(small_capture_folder())
    frames = tuple(replace(frame, name=f"other/{frame.name}") for frame in scene.frames)
    model = replace(small_model, made=small_model.made | {"refine_poses": True})
    report = evaluate(model, replace(scene, frames=frames))
    assert report.psnr_given == pytest.approx(small_model.metrics["psnr"])


def test_what_is_for_photos_is_refused_for_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = next(small_capture_folder().glob("train/*.png"))
    assert cli.main(["fit", str(image), "--refine-poses", "--out", str(tmp_path / "a.nf"), "--quiet"]) == 2
    assert "--refine-poses is for photos" in capsys.readouterr().err
