"""Masks by the names that other programs write, with what their colours mean; folders of masks that nothing uses."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuralfields.captures.check import check_scene
from neuralfields.captures.images import read_mask
from neuralfields.captures.readers import read_scene
from neuralfields.options.fit import FitOptions
from neuralfields.poses.photos import photo_files
from neuralfields.verbs import fit
from neuralfields.verbs.check import text
from tests.support import make_captures

NAMES = {
    "masks/{name}.png": False,  # COLMAP
    "masks/{stem}.png": False,
    "masks/images/{name}.png": False,
    "masks/{name}.mask.png": False,  # RealityScan
    "images/{name}.mask.png": False,
    "images/{stem}_mask.png": False,  # Metashape
    "masks/{stem}_mask.png": False,
    "images/dynamic_mask_{stem}.png": True,  # instant-ngp: what is white moves, and is ignored
}


def left_half(path: Path, mode: str = "L") -> None:
    """A mask that is white in its left quarter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((24, 32), np.uint8)
    values[:, :8] = 255
    Image.fromarray(values).convert(mode).save(path)


def with_masks(folder: Path, pattern: str, colmap: bool = False) -> Path:
    if colmap:
        make_captures.colmap(folder)
    else:
        make_captures.transforms(folder, make_captures.ring(16))
    for photo in photo_files(folder / "images"):
        left_half(folder / pattern.format(name=photo.name, stem=photo.stem))
    return folder


@pytest.mark.parametrize("colmap", [False, True])
@pytest.mark.parametrize("pattern", NAMES)
def test_masks_of_other_programs_are_used_with_their_meaning(tmp_path: Path, pattern: str, colmap: bool) -> None:
    scene = read_scene(with_masks(tmp_path, pattern, colmap))
    for frame in scene.frames:
        assert frame.mask_path is not None and frame.mask_path.is_file()
        keep = read_mask(frame.mask_path, (32, 24), frame.mask_ignores)
        assert keep[:, :8].all() == (not NAMES[pattern]) and keep[:, 8:].all() == NAMES[pattern]
    assert len(photo_files(tmp_path / "images")) == len(scene.frames)  # a mask beside a photo is no photo


def test_check_says_how_masks_are_read(tmp_path: Path) -> None:
    report = check_scene(with_masks(tmp_path, "images/dynamic_mask_{stem}.png"))
    assert report.masks == 16 and report.kept == pytest.approx((0.75, 0.75, 0.75))
    assert "masks: 16, white is ignored, 75% of the pixels are kept" in text(report.as_dict())
    plan = fit.run(FitOptions(scene=tmp_path, dry_run=True))
    assert plan["masks"] == "16, white is ignored"


def test_a_folder_of_masks_that_no_photo_has_is_named(tmp_path: Path) -> None:
    with_masks(tmp_path, "masks/other-{stem}.png")
    report = check_scene(tmp_path)
    assert report.masks == 0
    (line,) = (p.message for p in report.problems if "masks/" in p.message)
    assert "16 images (other-0000.png, ...), none named like a photo" in line and "--mask-means" in line


def test_a_mask_in_the_alpha_of_its_file(tmp_path: Path) -> None:
    values = np.full((24, 32, 4), 255, np.uint8)
    values[:, 8:, 3] = 0
    Image.fromarray(values).save(tmp_path / "a.png")
    keep = read_mask(tmp_path / "a.png", (32, 24))
    assert keep[:, :8].all() and not keep[:, 8:].any()


def test_a_mask_that_is_a_link_out_of_the_folder_is_not_read(tmp_path: Path) -> None:
    with_masks(tmp_path / "capture", "masks/{name}.png")
    shutil.move(tmp_path / "capture/masks/0000.png.png", tmp_path / "elsewhere.png")
    (tmp_path / "capture/masks/0000.png.png").symlink_to(tmp_path / "elsewhere.png")
    frames = read_scene(tmp_path / "capture").frames
    assert [frame.mask_path is None for frame in frames] == [True] + [False] * 15
    assert all(frame.mask_path for frame in read_scene(tmp_path / "capture", allow_outside=True).frames)
