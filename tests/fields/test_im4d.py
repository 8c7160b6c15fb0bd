"""Im4D: which photos a point's colour is read from, what is read there, and what the field makes of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.cameras import Camera, look_at, project
from neuralfields.captures.images import LoadedFrames
from neuralfields.captures.readers import read_scene
from neuralfields.cli import main
from neuralfields.domain import MOVING
from neuralfields.errors import InputError, UsageError
from neuralfields.evaluation.evaluate import evaluate
from neuralfields.fields.im4d import Config, Im4DField
from neuralfields.layers.source_photos import SourcePhotos, _candidates, _nearest, _taps
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load, save
from neuralfields.options.fit import FitOptions
from neuralfields.scene import Bounds
from neuralfields.splatting.photos import source_photos
from neuralfields.training.fit import fit_scene
from tests.support.moving import moving_scene
from tests.support.settings import training_settings

BOUNDS = Bounds((1.0, 2.0, 3.0), 4.0, times=(0.0, 1.0))
SIDE = 48


def cameras(instants: int = 1) -> list[Camera]:
    """Six eyes on a ring about the middle of the bounds, at each instant."""
    found = []
    for instant in range(instants):
        for k in range(6):
            angle = 2 * np.pi * k / 6
            eye = np.add(BOUNDS.centre, 6 * np.array([np.cos(angle), np.sin(angle), 0.3]))
            pose = look_at(eye, np.array(BOUNDS.centre), np.array([0.0, 0.0, 1.0]))
            time = instant / max(1, instants - 1)
            found.append(Camera(pose, SIDE, SIDE, 60.0, 60.0, SIDE / 2, SIDE / 2, time=time))
    return found


def ramp(camera: int, instant: int) -> np.ndarray:
    """Red grows to the right, green downwards; blue tells the camera and the instant."""
    v, u = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    blue = np.full_like(u, 30 + 30 * camera + 15 * instant)
    return np.round(np.stack([40 + 3 * u, 40 + 3 * v, blue], axis=2)).astype(np.uint8)


def ring(instants: int = 1) -> SourcePhotos:
    images = [ramp(k, instant) for instant in range(instants) for k in range(6)]
    return SourcePhotos.of(images, cameras(instants), BOUNDS)


def inner(points: np.ndarray) -> torch.Tensor:
    """World points in the frame of the inner cube."""
    return torch.from_numpy(((points - np.array(BOUNDS.centre)) / BOUNDS.side + 0.5).astype(np.float32))


def rays_to(points: np.ndarray, eye: np.ndarray) -> torch.Tensor:
    away = points - eye
    return torch.from_numpy((away / np.linalg.norm(away, axis=1, keepdims=True)).astype(np.float32))


def test_colours_are_those_of_the_pixels_that_the_points_project_to() -> None:
    """Of the photos with the smallest angles to the ray, at the instant that is nearest.

    5 of 255 at most are the film's, 1 on average.
    """
    off = []
    photos, every, chance = ring(2), cameras(2), np.random.default_rng(0)
    points = np.add(BOUNDS.centre, chance.uniform(-0.6, 0.6, (40, 3)))
    eye = np.add(BOUNDS.centre, [5.0, 2.0, 2.5])
    moments = torch.tensor([0.2, 0.9]).repeat(20)
    with torch.no_grad():
        seen = photos(inner(points), moments, rays_to(points, eye), 2)
    assert bool(seen.valid.all())
    for row, point in enumerate(points):
        instant = row % 2
        here = every[6 * instant : 6 * instant + 6]
        rays = [(point - c.centre) / np.linalg.norm(point - c.centre) for c in here]
        away = (point - eye) / np.linalg.norm(point - eye)
        for place, k in enumerate(np.argsort([-(ray @ away) for ray in rays])[:2]):
            (u, v), _ = project(here[k], point)
            wanted = np.array([40 + 3 * u, 40 + 3 * v, 30 + 30 * k + 15 * instant])
            off.append(np.abs(seen.rgb[row, place].numpy() * 255 - wanted))
            assert off[-1].max() < 5, (row, k)
            assert float(seen.turned[row, place, 0]) == pytest.approx(rays[k] @ away, abs=1e-5)
            assert seen.turned[row, place, 1:].numpy() == pytest.approx(away - rays[k], abs=1e-5)
    assert np.mean(off) < 1


def test_taps_are_bilinear_a_pixel_apart_and_clamped_at_the_border() -> None:
    values = np.concatenate([ramp(0, 0), np.full((SIDE, SIDE, 1), 255, np.uint8)], axis=2)
    packed = torch.from_numpy(values).view(torch.int32).squeeze(2)[None]
    at = torch.tensor([[[20.25, 30.75]], [[0.5, 0.5]]])
    taps = _taps(packed, torch.zeros(2, 1, dtype=torch.int64), at).view(2, 3, 3, 4) * 255
    for row in range(3):
        for column in range(3):
            wanted = [40 + 3 * (20.25 + column - 1), 40 + 3 * (30.75 + row - 1), 30, 255]
            assert taps[0, row, column].tolist() == pytest.approx(wanted, abs=0.6)
    assert torch.equal(taps[1, 0, 0], taps[1, 1, 1])  # what lies outside repeats the border


def test_what_no_photo_shows_is_not_valid() -> None:
    photos = ring()
    outside = np.add(BOUNDS.centre, [[0.0, 0.0, 4.0], [0.0, 0.0, 0.0]])
    with torch.no_grad():
        seen = photos(inner(outside), torch.zeros(2), rays_to(outside, np.add(BOUNDS.centre, [6.0, 1.0, 0.0])), 3)
    assert seen.valid.tolist() == [[False] * 3, [True] * 3]


def test_a_ray_that_is_learned_does_not_read_its_own_photo() -> None:
    photos, every = ring(), cameras()
    point = np.array([np.add(BOUNDS.centre, [0.2, 0.1, 0.0])])
    ray, zero = rays_to(point, every[2].centre), torch.zeros(1)
    with torch.no_grad():
        told = photos(inner(point), zero, ray, 1)
    assert float(told.turned[0, 0, 0]) == pytest.approx(1, abs=1e-6)
    learned = photos(inner(point), zero, ray, 1)
    assert float(learned.turned[0, 0, 0]) < 0.9 and bool(learned.valid.all())


def test_instants_and_who_serves_them() -> None:
    """Cameras that film together are each other's candidates; a single one borrows its neighbours in time."""
    table, instants = _candidates(np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
    assert instants.tolist() == [0, 1] and [sorted(row) for row in table.tolist()] == [[*range(5)], [*range(5, 10)]]
    table, instants = _candidates(np.linspace(0, 1, 9))
    assert table.shape == (9, 4) and sorted(table[4].tolist()) in ([2, 3, 4, 5], [3, 4, 5, 6]) and table.min() >= 0
    assert sorted(table[0].tolist()) == [0, 1, 2, 3]
    uneven, _ = _candidates(np.array([0.0] * 6 + [1.0]))
    assert uneven.shape == (2, 6) and (uneven[1] == -1).sum() == 2 and 6 in uneven[1]
    moments = torch.tensor([0.0, 0.24, 0.26, 0.9, 1.0])
    assert _nearest(torch.tensor([0.0, 0.5, 1.0]), moments).tolist() == [0, 0, 1, 2, 2]


def test_what_is_transparent_or_masked_is_not_read() -> None:
    """Colours at an edge are straight: half a pixel of alpha does not darken them."""
    every, images, masks = cameras(), [ramp(k, 0) for k in range(6)], [None] * 6
    alpha = np.full((SIDE, SIDE, 1), 255, np.uint8)
    alpha[:, : SIDE // 2] = 0
    images[0] = np.concatenate([images[0], alpha], axis=2)
    masks[1] = np.zeros((SIDE, SIDE), bool)
    shown, straight = source_photos(LoadedFrames(images, every, masks, list(range(6)), []))
    assert shown[1].shape[2] == 4 and not shown[1][..., 3].any()
    photos = SourcePhotos.of(shown, straight, BOUNDS)
    point = np.array([BOUNDS.centre])
    right, down = every[0].world_from_camera[:3, 0], every[0].world_from_camera[:3, 1]
    points = point + 0.5 * np.stack([-right, right]) + 0 * down
    with torch.no_grad():
        seen = photos(inner(points), torch.zeros(2), rays_to(points, every[0].centre), 1)
        masked = photos(inner(point), torch.zeros(1), rays_to(point, every[1].centre), 1)
    assert seen.valid.tolist() == [[False], [True]] and not masked.valid.any()
    assert float(seen.rgb[1, 0, 2]) * 255 == pytest.approx(30, abs=4)


def test_photos_of_several_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match="its photos must be of one size"):
        SourcePhotos.of([ramp(0, 0), ramp(1, 0)[:40]], cameras()[:2], BOUNDS)


def looking() -> Im4DField:
    torch.manual_seed(0)
    field = Im4DField(Im4DField.placed(Config(resolutions=(8, 16), features=8, hidden=16, code=8), BOUNDS), MOVING)
    field.looking_at([ramp(k, i) for i in range(2) for k in range(6)], cameras(2), BOUNDS)
    return field


def test_after_the_joint_steps_gradients_reach_the_convolution_seldom() -> None:
    field = looking()
    field.config = replace(field.config, joint=2, seldom=3)
    x, directions = torch.rand(30, 4), torch.nn.functional.normalize(torch.rand(30, 3) - 0.5, dim=1)
    reached = []
    for _ in range(7):
        field.zero_grad()
        field.decode(field.features(x), directions)[1].sum().backward()
        reached.append(field.convolutions[0].grad is not None)
        assert field.blend[0].grad is not None and field.own[0].grad is not None
    assert reached == [True, True, True, False, False, True, False]
    with torch.no_grad():
        field.decode(field.features(x), directions)
    assert int(field.count) == 7  # a render is no step


def test_a_file_keeps_the_film(tmp_path: Path) -> None:
    field = looking()
    model = Model(field, BOUNDS, torch.full((8, 32768), -1, dtype=torch.int64), cameras=tuple(cameras(2)))
    save(model, tmp_path / "a.nf")
    again = load(tmp_path / "a.nf")
    assert again.field.config == field.config and len(again.field.config.sources) == 7
    x, directions = torch.rand(50, 4), torch.nn.functional.normalize(torch.rand(50, 3) - 0.5, dim=1)
    with torch.no_grad():
        one, other = (f.decode(f.features(x), directions) for f in (field, again.field))
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    film = sum(image.size for image in (ramp(0, 0),)) * 12
    assert field.config.sources[-1] < film / 10
    again.field.photos.coded[100:] = 7
    again.field.photos._pixels.clear()
    with pytest.raises(InputError, match="film of its photos is damaged"), torch.no_grad():
        again.field.decode(again.field.features(x), directions)
    for wrong in ((1, 2), (0, 1, 1, 8, 8, 3, 9), (1 << 30, 1, 1, 1 << 14, 1 << 14, 3, 9), (1, 1, 1, 8, 8, 2, 9)):
        with pytest.raises(ValueError, match="sources"):
            Config(sources=wrong)


def test_a_model_has_no_photos_to_give(small_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(small_file), "--to", "im4d", "-o", str(tmp_path / "b.nf")]) == 2
    assert "--to im4d: its colours are read from photos, which a model has not" in capsys.readouterr().err


@pytest.mark.slow
def test_photos_teach_a_held_out_camera(tmp_path: Path) -> None:
    """At equal steps a decibel better than the planes alone; as benchmarks/im4d.py, where it is 1.5."""
    moving_scene().write(tmp_path, cameras=9, frames=10, size=64)
    scene, found = read_scene(tmp_path), {}
    planes = ("resolutions=16,32,64,128", "features=16", "moments=16")
    for views in (0, 3):
        options = FitOptions(
            scene=tmp_path,
            field="im4d",
            steps=300,
            eval_every=0,
            quiet=True,
            threads=2,
            set=(*planes, f"views={views}"),
        )
        with training_settings(samples=1 << 13):
            found[views] = evaluate(fit_scene(scene, options)).psnr
    assert found[3] > found[0] + 1
