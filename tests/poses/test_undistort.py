"""Photos without distortion: pixels come from where the lens says, and stay where it has nothing to say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuralfields.cameras import project
from neuralfields.errors import InputError
from neuralfields.pictures.undistort import lookup
from neuralfields.poses import undistort as flat_photos
from neuralfields.poses.photos import read_photos
from tests.support.make_captures import photo

BENT = {"model": "SIMPLE_RADIAL", "width": 160, "height": 120, "parameters": [150.0, 80.0, 60.0, -0.08]}
PINHOLE = {"model": "PINHOLE", "width": 152, "height": 112, "parameters": [150.0, 150.0, 76.0, 56.0]}


def test_a_flat_pixel_is_the_photos_where_the_lens_puts_it():
    before, after = flat_photos.camera_of(BENT), flat_photos.camera_of(PINHOLE)
    places = lookup(before, after)
    point = np.array([0.31, -0.22, 1.0])  # the same ray through both lenses
    bent, _ = project(before, point)
    (u, v), _ = project(after, point)
    assert np.abs(places[int(v), int(u)] - bent).max() < 1.0
    x, y = np.meshgrid(np.arange(160) + 0.5, np.arange(120) + 0.5)
    ramp = np.stack([x, 2 * y, 0 * x], axis=-1).astype(np.uint8)
    seen = flat_photos.flat(ramp, places).astype(float)
    # uint8 cuts the half pixel of the ramp off.
    inner = (slice(4, -4), slice(4, -4))
    assert np.abs(seen[..., 0] + 0.5 - places[..., 0])[inner].max() <= 1.0
    assert np.abs(seen[..., 1] - 2 * places[..., 1])[inner].max() <= 1.6
    assert np.abs(places - lookup(after, after))[56, 76].max() < 5


def result_for(names: list[str], before: dict, after: dict) -> dict:
    return {"lenses": {"1": {"before": before, "after": after}}, "photos": {name: {"lens": "1"} for name in names}}


def test_photos_are_written_at_the_flat_size_and_kept_where_nothing_bends(tmp_path):
    for index in range(3):
        photo(tmp_path / "in" / f"{index}.png", size=(160, 120), seed=index)
    photos = read_photos(tmp_path / "in").photos
    names, told = [entry.name for entry in photos], []
    bent = result_for(names[:2], BENT, PINHOLE)
    flat_photos.write_flat(bent, photos, tmp_path / "bent", lambda *progress: told.append(progress))
    assert sorted(path.name for path in (tmp_path / "bent").iterdir()) == names[:2] and told == [(1, 2), (2, 2)]
    with Image.open(tmp_path / "bent" / names[0]) as picture:
        assert picture.size == (152, 112)
    straight = BENT | {"parameters": [150.0, 80.0, 60.0, 0.0]}
    same = {"model": "PINHOLE", "width": 160, "height": 120, "parameters": [150.0, 150.0, 80.0, 60.0]}
    flat_photos.write_flat(result_for(names, straight, same), photos, tmp_path / "same", lambda *progress: None)
    for entry in photos:
        assert (tmp_path / "same" / entry.name).read_bytes() == entry.path.read_bytes()


def test_a_photo_that_changed_meanwhile_is_told(tmp_path):
    for index in range(3):
        photo(tmp_path / f"{index}.png", size=(160, 120), seed=index)
    photos = [replace(entry, width=90) for entry in read_photos(tmp_path).photos]
    with pytest.raises(InputError, match="changed during the run"):
        flat_photos.write_flat(result_for(["0.png"], BENT, PINHOLE), photos, Path(tmp_path / "out"), lambda *p: None)
