"""Depth that photos tell themselves: its rays, what is free before it, and what a fit does with both."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.captures.images import LoadedFrames
from neuralfields.captures.readers import read_scene
from neuralfields.ops.occupancy_bits import BRICKS
from neuralfields.ops.pixel_rays import pixel_rays
from neuralfields.options.fit import FitOptions
from neuralfields.progress import Progress
from neuralfields.rendering.occupancy import Occupancy
from neuralfields.splatting.swept_depth import FREE_UNTIL, UNTIL, SweptDepth, swept_depth
from neuralfields.trainers.radiance import RadianceTrainer
from neuralfields.training.checkpoint import Checkpoint
from neuralfields.training.field_beginning import swept_beginning
from neuralfields.training.loop import Budget
from neuralfields.training.plan import plan_fit
from tests.splatting.test_depth_maps import BOUNDS, ball, cameras
from tests.support.settings import set_training
from tests.support.small_training import same_bits, small_training, steps


def photos() -> LoadedFrames:
    """Eight photos of a patterned ball of radius 1 before grey."""
    lenses = cameras()
    images = [ball(camera)[0].numpy() for camera in lenses]
    return LoadedFrames(images, lenses, [None] * len(images), list(range(len(images))), [])


@pytest.fixture(scope="module")
def swept() -> SweptDepth:
    found = swept_depth(photos(), BOUNDS, 0.03)
    assert found is not None
    return found


def bricks() -> np.ndarray:
    """Middles of the bricks of the inner cube, [32768, 3]."""
    i = np.arange(BRICKS**3)
    return (
        np.stack([i % BRICKS, i // BRICKS % BRICKS, i // BRICKS**2], 1) + 0.5
    ) / BRICKS * BOUNDS.side - BOUNDS.side / 2


def test_its_rays_end_on_the_ball(swept: SweptDepth) -> None:
    rays = swept.rays
    origin, direction = pixel_rays(rays.cameras, rays.camera, rays.pixel)
    away = (origin + direction * rays.distance[:, None]).norm(dim=1)
    assert len(rays) > 5000 and f"of {len(rays)} pixels" in swept.line
    assert float((away - 1).abs().median()) < 0.02
    assert float(((away - 1).abs() < 0.1).float().mean()) > 0.85


def test_the_loss_fades(swept: SweptDepth) -> None:
    weights = [swept.rays.weight_at(progress, 1.0) for progress in (0.0, UNTIL / 2, UNTIL, 1.0)]
    assert weights == pytest.approx([0.03, 0.015, 0.0, 0.0])


def test_what_is_free_lies_before_the_ball_and_never_in_it(swept: SweptDepth) -> None:
    middle, free = bricks(), swept.free[0].numpy()
    away = np.linalg.norm(middle, axis=1)
    assert swept.free.shape == (1, BRICKS**3)
    assert not free[np.abs(away - 1) < BOUNDS.side / BRICKS].any()  # its surface is in none
    between = (away > 1.3) & (middle @ np.array([0.5, 0.05, 0.86]) > 0.95 * away)
    assert free[between].mean() > 0.6


def test_photos_that_agree_on_nothing_teach_nothing() -> None:
    random = np.random.default_rng(0)
    noise = replace(photos(), images=[random.integers(0, 255, (96, 96, 3), np.uint8) for _ in range(8)])
    assert swept_depth(noise, BOUNDS, 0.03) is None
    assert swept_depth(photos().some([0, 1]), BOUNDS, 0.03) is None  # a sweep takes three


def test_what_is_held_empty_opens_again() -> None:
    grid, free = Occupancy(1), torch.zeros(1, BRICKS**3, dtype=torch.bool)
    free[0, :1000] = True
    grid.density[0, 500] = -1.0  # what no camera sees
    grid._open_visible()
    grid.hold_empty(free)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        grid.update(lambda x: torch.full((len(x),), 50.0), generator, 1.0, coarse=True)
    assert bool((grid.bits[0, :1000] == 0).all()) and bool((grid.bits[0, 1000:] != 0).all())
    grid.release()
    assert bool((grid.bits[0, :1000] == 0).all())
    for _ in range(4):
        grid.update(lambda x: torch.full((len(x),), 50.0), generator, 1.0, coarse=True)
    opened = grid.bits[0] != 0
    assert int((~opened).sum()) == 1 and not bool(opened[500])
    kept = grid.density.clone()
    grid.release()  # once more changes nothing
    assert torch.equal(grid.density, kept)


def test_of_which_fits_it_is_the_beginning(sample_scene: Path) -> None:
    """Fits of some length to photos whose depth nothing else tells; the time that it takes is the fit's."""
    scene = replace(read_scene(sample_scene), bounds=BOUNDS)
    options = FitOptions(scene=scene.root, field="hash", minutes=1.0, quiet=True)
    plan, progress, loaded = plan_fit(options, scene), Progress(None, None, quiet=True), photos()
    some, rest = swept_beginning(scene, plan, loaded, False, progress)
    assert some is not None and 40.0 < rest.budget.seconds < 60.0
    assert swept_beginning(scene, plan, loaded, True, progress) == (None, plan)
    for changed in (
        replace(plan, budget=Budget(100, None)),
        replace(plan, budget=Budget(None, 5.0)),
        replace(plan, settings=replace(plan.settings, swept_depth_weight=0.0)),
        replace(plan, options=replace(options, refine_poses=True)),
    ):
        assert swept_beginning(scene, changed, loaded, False, progress) == (None, changed)
    moving = replace(scene, bounds=replace(scene.bounds, times=(0.0, 1.0)))
    assert swept_beginning(moving, plan, loaded, False, progress) == (None, plan)
    fisheye = replace(loaded, cameras=[replace(camera, model="fisheye") for camera in loaded.cameras])
    assert swept_beginning(scene, plan, fisheye, False, progress) == (None, plan)


def small_with(free: torch.Tensor) -> RadianceTrainer:
    """A small training of which some bricks are held empty."""
    training = small_training()
    training.occupancy.hold_empty(free)
    return training


@pytest.mark.usefixtures("one_thread", "small_steps")
@pytest.mark.parametrize("at", [14, 27])  # before bricks are released, and after
def test_a_broken_fit_ends_in_the_bits_of_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    set_training(monkeypatch, occupancy_every=4)
    set_training(monkeypatch, occupancy_warmup=10)
    free = torch.rand(1, BRICKS**3, generator=torch.Generator().manual_seed(1)) < 0.3
    whole, before = small_with(free), small_with(free)
    reports = steps(whole, 40, of=40)
    done = steps(before, at, of=40)
    assert (before.occupancy.held is None) == (at / 40 > FREE_UNTIL)
    checkpoint = Checkpoint(tmp_path / "a.checkpoint", {"field": "hash"})
    checkpoint.save(before, 1.0)
    after = small_with(free)
    with torch.no_grad():  # nothing of a fresh start may shine through
        for p in after.field.parameters():
            p.fill_(7)
    checkpoint.load(after)
    same_bits(before, after)
    assert done + steps(after, 40 - at, of=40) == reports
    same_bits(whole, after)
    assert whole.occupancy.held is None


def test_a_finished_model_that_is_taken_up_is_held_empty_nowhere() -> None:
    grid, bits = Occupancy(1), torch.full((1, BRICKS**3), -1, dtype=torch.int64)
    grid.hold_empty(torch.ones(1, BRICKS**3, dtype=torch.bool))
    grid.adopt(bits)
    assert grid.held is None and torch.equal(grid.bits, bits) and bool((grid.density > 0).all())
