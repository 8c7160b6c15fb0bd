"""Depth maps: distances along rays from depth along the axis, the unit they are in, and a fit that follows them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.captures.images import load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.evaluation.render import render
from neuralfields.options.fit import FitOptions
from neuralfields.scene import Scene
from neuralfields.supervision.depth_maps import depth_map_rays
from neuralfields.training.fit import fit_scene
from tests.support import make_captures
from tests.support.settings import set_training
from tests.support.small_fit import SMALL

PLANE = 3.0  # the plane z = -3 before cameras that look along -z
K1 = {"fl_x": 40.0, "w": 32, "h": 24, "k1": 0.05, "camera_model": "OPENCV"}


def plane(folder: Path, stored: float = PLANE, kind: type = np.float32, **top: object) -> Scene:
    """A row of cameras before a plane, with maps of half the photos' size that say how far it is along the axis."""
    document = make_captures.transforms(folder, make_captures.row(8), **(K1 | top))
    (folder / "depth").mkdir(exist_ok=True)
    for i, frame in enumerate(document["frames"]):
        depth = np.full((12, 16), stored).astype(kind)
        depth[:2] = 0
        np.save(folder / f"depth/{i}.npy", depth)
        frame["depth_path" if "integer_depth_scale" in top else "depth_file_path"] = f"depth/{i}.npy"
    make_captures.save(folder, document)
    return read_scene(folder)


def test_rays_end_on_the_plane_in_every_pixel(tmp_path: Path) -> None:
    scene = plane(tmp_path)
    found = depth_map_rays(scene, load_frames(scene, scene.train))
    assert found.rays is not None and len(found.rays) == len(scene.train) * 10 * 16
    batch = found.rays.batch(torch.Generator().manual_seed(0))
    ends = batch.rays.origins + batch.rays.directions * batch.distance[:, None]
    assert float((ends[:, 2] + PLANE).abs().max()) < 1e-4
    assert float(found.rays.pixel[:, 1].min()) == pytest.approx(2.5 * 2)  # a map's pixel is two of the photo's
    assert "7 depth maps teach the depth, in units of the capture by its size" in found.line


@pytest.mark.parametrize(
    ("stored", "kind", "top", "unit"),
    [
        (3000, np.uint16, {}, "thousandths of its units"),
        (3, np.float32, {}, "in units of the capture by its size"),
        (3000.0, np.float32, {}, "thousandths of its units"),
        (30000, np.uint16, {"integer_depth_scale": 0.0001}, "in units of 0.0001 as the capture states"),
    ],
)
def test_the_unit_is_found_and_said(tmp_path: Path, stored: float, kind: type, top: dict, unit: str) -> None:
    scene = plane(tmp_path, stored, kind, **top)
    found = depth_map_rays(scene, load_frames(scene, scene.train))
    assert unit in found.line
    batch = found.rays.batch(torch.Generator().manual_seed(0))
    depth = batch.distance * -batch.rays.directions[:, 2]
    assert torch.allclose(depth, torch.tensor(PLANE), atol=1e-3)


def test_sparse_points_tell_a_unit_that_no_size_would(tmp_path: Path) -> None:
    scene = plane(tmp_path, 1.7)
    places = np.random.default_rng(0).uniform(-0.5, 0.5, (500, 3)) * (1, 0.4, 0) + (0, 0, -PLANE)
    found = depth_map_rays(replace(scene, points=places.astype(np.float32)), load_frames(scene, scene.train))
    assert f"in units of {PLANE / 1.7:.4g} by the sparse points" in found.line


def test_maps_that_cannot_be_of_the_scene_are_left_out(tmp_path: Path) -> None:
    scene = plane(tmp_path, 5e8)
    found = depth_map_rays(scene, load_frames(scene, scene.train))
    assert found.rays is None and "is no distance of this scene" in found.line
    scene = plane(tmp_path, 0)
    assert "nothing in them is measured" in depth_map_rays(scene, load_frames(scene, scene.train)).line
    make_captures.transforms(tmp_path, make_captures.row(8), **K1)
    scene = read_scene(tmp_path)
    assert depth_map_rays(scene, load_frames(scene, scene.train)) is None


def test_a_fit_follows_the_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    """Photos of noise say nothing of depth; with the maps the render's depth is the plane's."""
    scene = plane(tmp_path)
    set_training(monkeypatch, samples=1 << 14)  # of fewer, early rays would take all
    off = []
    for weight in (0.0, 1.0):
        options = FitOptions(
            scene=tmp_path, steps=50, eval_every=0, quiet=True, threads=1, field="hash", set=SMALL, depth_weight=weight
        )
        model = fit_scene(scene, options)
        camera = model.cameras[0]
        depth = render(model, camera).depth[4:].numpy()
        off.append(float(np.median(np.abs(depth / PLANE - 1))))
    assert off[1] < 0.25 and off[1] < 0.1 * off[0]
