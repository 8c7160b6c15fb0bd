"""What one photo alone shows is left out, and comes back when it is no longer denied."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.cameras import Camera
from neuralfields.captures.images import read_image
from neuralfields.captures.readers import read_scene
from neuralfields.options.fit import FitOptions
from neuralfields.pictures.panels import save_image
from neuralfields.scene import Scene
from neuralfields.supervision import robust
from neuralfields.supervision.pixels import Pixels
from neuralfields.supervision.robust import Robust
from neuralfields.training.fit import fit_scene
from tests.support.settings import set_training
from tests.support.small_fit import SMALL, small_capture_folder


def three_photos() -> Pixels:
    camera = Camera(np.eye(4), 96, 48, 90.0, 90.0, 48.0, 24.0)
    return Pixels([np.zeros((48, 96, 3), np.uint8)] * 3, [camera] * 3)


def look(what: Robust, pixels: Pixels, steps: range, denied: bool) -> None:
    """Errors of 0.05 everywhere, and of 0.5 in a part of the second photo."""
    for step in steps:
        batch = pixels.batch(2000, torch.Generator().manual_seed(step))
        u, v = batch.uv.unbind(1)
        there = (batch.camera == 1) & (u >= 40) & (u < 60) & (v >= 10) & (v < 30) & denied
        error = torch.where(there, 0.5, 0.05)[:, None].expand(-1, 3)
        what.follow(step, batch, error, torch.ones(2000, dtype=torch.bool))


def test_a_denied_part_is_left_out_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    set_training(monkeypatch, robust_warmup=50)
    set_training(monkeypatch, robust_memory=0.9)
    pixels = three_photos()
    what = Robust(pixels.widths, pixels.heights)
    look(what, pixels, range(49), True)
    assert what.share == 0
    look(what, pixels, range(49, 101), True)
    every = pixels.every(10**6)
    kept = what.weight(every).reshape(3, 48, 96)
    assert kept[0].min() == kept[2].min() == 1
    assert float(kept[1, 12:28, 42:58].max()) == 0
    outside = kept[1].clone()
    outside[6:34, 36:64] = 1
    assert float(outside.min()) == 1
    look(what, pixels, range(101, 201), False)
    assert what.share == 0


def test_no_more_than_a_share_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    set_training(monkeypatch, robust_warmup=0)
    pixels = three_photos()
    what = Robust(pixels.widths, pixels.heights)
    for step in range(1, 51):
        batch = pixels.batch(2000, torch.Generator().manual_seed(step))
        error = torch.where(batch.camera == 1, 0.5, 0.01)[:, None].expand(-1, 3)
        what.follow(step, batch, error, torch.ones(2000, dtype=torch.bool))
    assert what.share <= robust.MOST


def test_whole_photos_of_any_size_are_judged_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    set_training(monkeypatch, robust_warmup=50)
    what = Robust(torch.tensor([96, 96, 48]), torch.tensor([48, 48, 96]))
    for step in range(101):
        index, smaller = step % 3, 2 if step < 60 else 1
        size = (48, 96) if index == 2 else (96, 48)
        width, height = (side // smaller for side in size)
        error = torch.full((height, width, 3), 0.05)
        if index == 1:
            error[10 // smaller : 30 // smaller, 40 // smaller : 60 // smaller] = 0.5
        mask = torch.ones(height, width)
        what.follow_photo(step, index, error, mask if step % 2 else None, smaller)
        if step == 49:
            assert what.share == 0
    for smaller in (1, 2):
        kept = [
            what.photo_weight(i, (s[0] // smaller, s[1] // smaller), smaller)
            for i, s in enumerate(((96, 48), (96, 48), (48, 96)))
        ]
        assert kept[0].min() == kept[2].min() == 1 and kept[2].shape == (96 // smaller, 48 // smaller)
        assert float(kept[1][12 // smaller : 28 // smaller, 42 // smaller : 58 // smaller].max()) == 0
        kept[1][6 // smaller : 34 // smaller, 36 // smaller : 64 // smaller] = 1
        assert float(kept[1].min()) == 1


def test_what_a_mask_leaves_out_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    set_training(monkeypatch, robust_warmup=0)
    what, error, mask = (
        Robust(torch.tensor([96]), torch.tensor([48])),
        torch.full((48, 96, 3), 0.05),
        torch.ones(48, 96),
    )
    error[10:30, 40:60], mask[10:30, 40:60] = 0.5, 0
    for step in range(0, 101, 25):
        what.follow_photo(step, 0, error, mask)
    assert what.share == 0


def walked_through(folder: Path) -> Scene:
    """The small capture with a block of one colour, somewhere else in each training photo, a ninth of its area."""
    scene = read_scene(small_capture_folder())
    random, frames = np.random.default_rng(0), list(scene.frames)
    for index in scene.train:
        image = read_image(frames[index].path)
        row, column = random.integers(8, 35, 2)
        image[row : row + 21, column : column + 21] = (230, 20, 200, 255)
        save_image(folder / f"{index}.png", image)
        frames[index] = replace(frames[index], path=folder / f"{index}.png")
    return replace(scene, frames=tuple(frames))


@pytest.mark.slow
def test_a_fit_leaves_out_what_walks_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_training(monkeypatch, samples=1 << 12)
    before = torch.get_num_threads()
    scene = walked_through(tmp_path)
    options = FitOptions(scene=scene.root, steps=400, threads=1, field="hash", set=SMALL, quiet=True, eval_every=0)
    plain, kept = (fit_scene(scene, replace(options, robust=on)) for on in (False, True))
    torch.set_num_threads(before)
    assert kept.metrics["psnr"] > plain.metrics["psnr"] + 0.5
    assert 0.03 < kept.made["left_out"] < 0.3


def test_gaussians_leave_out_what_walks_through(tmp_path: Path) -> None:
    before, scene = torch.get_num_threads(), walked_through(tmp_path)
    options = FitOptions(
        scene=scene.root,
        steps=400,
        threads=1,
        field="gaussians",
        set=("most=3000", "degree=1"),
        quiet=True,
        eval_every=0,
    )
    plain, kept = (fit_scene(scene, replace(options, robust=on)) for on in (False, True))
    torch.set_num_threads(before)
    assert kept.metrics["psnr"] > plain.metrics["psnr"] + 0.5
    assert 0.03 < kept.made["left_out"] < 0.3
