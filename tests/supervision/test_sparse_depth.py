"""Sparse points: seen by the photos that the model says, at their distances, and a loss that pulls depth to them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.captures.colmap_files import read_tracks_bin, read_tracks_txt
from neuralfields.captures.readers import read_scene
from neuralfields.captures.sightings import with_sightings
from neuralfields.errors import InputError
from neuralfields.options.fit import FitOptions
from neuralfields.rays import Rays, RaySums
from neuralfields.rendering.volume import camera_rays
from neuralfields.scene import Sightings
from neuralfields.supervision.sparse_depth import DepthBatch, SparseDepth, depth_loss
from neuralfields.training.fit import fit_scene
from tests.support.make_captures import colmap, transforms
from tests.support.settings import set_training
from tests.support.small_fit import SMALL, small_capture_folder


def test_tracks_in_both_encodings(tmp_path: Path) -> None:
    binary = read_tracks_bin(colmap(tmp_path) / "points3D.bin")
    assert binary.count == 6 and binary.image.tolist() == [1, 2] * 6
    assert binary.point.tolist() == [k for k in range(6) for _ in (0, 1)] and binary.error.tolist() == [0.5] * 6
    lines = ["# comment", "1 0 0 5 1 2 3 0.25 1 0 2 7", "2 0 0 5 1 2 3 nan 3 0", "3 1 0 5 1 2 3 nan 2 0 4 1"]
    (tmp_path / "points3D.txt").write_text("\n".join(lines) + "\n")
    text = read_tracks_txt(tmp_path / "points3D.txt")
    assert (text.count, text.image.tolist(), text.point.tolist()) == (2, [1, 2, 2, 4], [0, 0, 1, 1])
    assert text.error.tolist() == [0.25, 1.0]  # an unknown error counts as a large one
    (tmp_path / "points3D.txt").write_text("1 0 0 5 1 2 3 x 1 0 2 7\n")
    with pytest.raises(InputError, match="line 1: not a number"):
        read_tracks_txt(tmp_path / "points3D.txt")


def test_each_photo_knows_its_points(tmp_path: Path) -> None:
    colmap(tmp_path)
    scene = with_sightings(read_scene(tmp_path))
    assert [None if f.sightings is None else f.sightings.points.tolist() for f in scene.frames] == [
        list(range(6)), list(range(6)), None, None,
    ]  # fmt: skip
    first = [frame.camera for frame in scene.frames]
    depth = SparseDepth([frame.sightings for frame in scene.frames], scene.points, first)
    assert len(depth) == 12
    batch = depth.batch(torch.Generator().manual_seed(0))
    ends = batch.rays.origins + batch.rays.directions * batch.distance[:, None]
    nearest = (ends[:, None] - torch.from_numpy(scene.points)).norm(dim=2).amin(1)
    assert float(nearest.max()) < 1e-4
    assert torch.allclose(batch.weight, torch.tensor(np.exp(-0.25), dtype=torch.float32))


def test_a_capture_without_a_model_is_refused(tmp_path: Path) -> None:
    transforms(tmp_path)
    with pytest.raises(InputError, match="has no sparse points in the world frame of its cameras; --sparse-depth"):
        with_sightings(read_scene(tmp_path))


def test_real_points_lie_where_the_field_would_be(shared_data: Path) -> None:
    scene = with_sightings(read_scene(shared_data / "captures" / "sceaux_castle_11"))
    cameras = [frame.camera for frame in scene.frames]
    assert all(frame.sightings is not None for frame in scene.frames)
    depth = SparseDepth([frame.sightings for frame in scene.frames], scene.points, cameras)
    assert len(depth) > 5_000 and float(depth.distance.min()) > scene.bounds.near


def test_the_loss_by_hand_and_its_gradient() -> None:
    values = torch.zeros(3, 7)
    values[:, 4] = torch.tensor([1.0, 1.01, 1.5])
    values.requires_grad_()
    rays = Rays(torch.zeros(3, 3), torch.zeros(3, 3))
    batch = DepthBatch(rays, torch.zeros(3, dtype=torch.int64), torch.full((3,), 2.0), torch.tensor([1.0, 1.0, 2.0]))
    loss = depth_loss(RaySums(values, torch.ones(3, dtype=torch.uint8), 0), batch, 2.0, 0.1)
    by_hand = (0 + 0.01**2 / 0.04 + 2 * (0.5 - 0.01)) / 4
    assert float(loss.detach()) == pytest.approx(0.1 * by_hand, rel=1e-4)
    loss.backward()
    assert values.grad[0, 4] == 0 and values.grad[2, 4] > values.grad[1, 4] > 0
    assert float(values.grad[:, :4].abs().max()) == 0


def test_a_fit_learns_depth_from_points(small_model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points off the fitted surface by a tenth pull the new field's depth with them."""
    from neuralfields.models.model import volume_of
    from neuralfields.rendering.volume import finish

    set_training(monkeypatch, samples=1 << 12)
    set_training(monkeypatch, sparse_depth_weight=1.0)
    before = torch.get_num_threads()
    scene = read_scene(small_capture_folder())
    volume, frames, points = volume_of(small_model), list(scene.frames), []
    for index in scene.train:
        rays = camera_rays(frames[index].camera)[::37]
        seen = finish(volume.sums(rays), torch.ones(3), volume.bounds.side)
        solid = seen.opacity > 0.99
        ends = rays.origins + rays.directions * (0.9 * seen.depth)[:, None]
        own = np.arange(int(solid.sum())) + sum(map(len, points))
        points.append(ends[solid].numpy())
        frames[index] = replace(frames[index], sightings=Sightings(own, np.ones(len(own))))
    scene = replace(scene, frames=tuple(frames), points=np.concatenate(points), test=())
    monkeypatch.setattr("neuralfields.training.photos.with_sightings", lambda scene: scene)
    options = FitOptions(scene=scene.root, steps=50, threads=1, field="hash", set=SMALL, quiet=True, eval_every=0)
    off = []
    for on in (False, True):
        model = fit_scene(scene, replace(options, sparse_depth=on))
        depth = SparseDepth([f.sightings for f in frames], scene.points, [f.camera for f in frames])
        batch = depth.batch(torch.Generator().manual_seed(1))
        sums = volume_of(model).sums(batch.rays)
        off.append(float((sums.depth * model.bounds.side / batch.distance - 1).abs().mean()))
    torch.set_num_threads(before)
    assert off[1] < 0.75 * off[0]
