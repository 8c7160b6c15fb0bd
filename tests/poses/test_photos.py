"""Photos of every kind in a folder: what is read, what is named and skipped, what their EXIF says."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuralfields.captures.images import EXIF_FOLDER
from neuralfields.errors import InputError
from neuralfields.poses import photos
from tests.support.make_captures import photo, transforms


def folder_of(path: Path, count: int = 6) -> Path:
    for index in range(count):
        photo(path / f"{index}.jpg", seed=index)
    return path


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_photos_are_refused_with_how_many_are_needed(tmp_path, count):
    folder = folder_of(tmp_path, count)
    with pytest.raises(InputError, match="at least 3"):
        photos.read_photos(folder)


def test_unreadable_photos_are_named_and_skipped(tmp_path):
    folder = folder_of(tmp_path, 12)
    (folder / "text.jpg").write_text("this is no photo")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)).save(folder / "torn.png")
    (folder / "torn.png").write_bytes((folder / "torn.png").read_bytes()[:-3000])
    (folder / "empty.jpg").write_bytes(b"")
    found = photos.read_photos(folder)
    assert len(found.photos) == 12
    told = " ".join(found.notes)
    for name in ("text.jpg", "torn.png", "empty.jpg"):
        assert name in told
    with pytest.raises(InputError, match=r"empty\.jpg.*--strict"):
        photos.read_photos(folder, strict=True)


def test_many_unreadable_photos_are_refused(tmp_path):
    folder = folder_of(tmp_path, 6)
    for index in range(2):
        (folder / f"bad{index}.jpg").write_text("no photo")
    with pytest.raises(InputError, match="2 of 8 photos cannot be read"):
        photos.read_photos(folder)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    folder = folder_of(tmp_path, 12)
    header = b"IHDR" + struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data, b"IEND")
    )
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    found = photos.read_photos(folder)
    assert len(found.photos) == 12
    assert "bomb.png" in found.unreadable[0] and "million pixels" in found.unreadable[0]


def test_photos_of_every_kind_become_upright_rgb_copies(tmp_path):
    source = np.zeros((24, 32, 3), np.uint8)
    source[:, :16] = (200, 40, 40)
    picture = Image.fromarray(source)
    folder = tmp_path / "in"
    folder.mkdir()
    picture.convert("L").save(folder / "grey.png")
    picture.convert("RGBA").save(folder / "alpha.png")
    picture.convert("P").save(folder / "palette.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    Image.fromarray(source[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    picture.save(folder / "turned.jpg", exif=exif, quality=95)
    exif[0x0112] = 3  # upside down: the size says nothing
    picture.save(folder / "upside.jpg", exif=exif, quality=95)
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    found = photos.read_photos(folder)
    assert "HEIC" in found.unreadable[0] and "JPEG" in found.unreadable[0]
    assert any("alpha" in note for note in found.notes)
    photos.write_copies(found.photos, tmp_path / "copies", 1000)
    for entry in found.photos:
        with Image.open(tmp_path / "copies" / entry.name) as copy:
            assert copy.size == (entry.width, entry.height) and copy.mode in ("RGB", "L")
            pixels = np.asarray(copy.convert("RGB")).astype(int)
        quarter = pixels[:6].mean((0, 1)) if entry.path.name == "turned.jpg" else pixels[:, :6].mean((0, 1))
        other = pixels[-6:].mean((0, 1)) if entry.path.name == "turned.jpg" else pixels[:, -6:].mean((0, 1))
        bright, dark = (other, quarter) if entry.path.name == "upside.jpg" else (quarter, other)
        assert bright[0] > 70 and dark.max() < 30, entry.path.name


def test_mixed_sizes_are_lenses_of_their_own(tmp_path):
    folder = folder_of(tmp_path, 4)
    for index in range(3):
        photo(folder / f"wide{index}.jpg", size=(48, 24), seed=index)
    found = photos.read_photos(folder)
    lenses = photos.lens_groups(found.photos)
    assert [(len(lens.names), lens.width, lens.height) for lens in lenses] == [(4, 32, 24), (3, 48, 24)]
    assert "2 lenses" in found.notes[0]


@pytest.mark.parametrize(
    ("fields", "size", "focal"),
    [
        ({photos.FOCAL_35: 28}, (4000, 3000), 28 / 43.267 * 5000),
        ({photos.FOCAL_35: 28}, (400, 300), 28 / 43.267 * 500),
        # 5 mm on a sensor of 100 px/mm, stored at half its pixels
        ({photos.FOCAL_LENGTH: 5.0, photos.PLANE_RESOLUTION: 2540.0, photos.PLANE_UNIT: 2, photos.STORED_WIDTH: 800},
         (400, 300), 250.0),
        ({photos.FOCAL_LENGTH: 5.0}, (400, 300), None),
        ({photos.FOCAL_35: 0}, (400, 300), None),
        ({photos.FOCAL_35: 40000}, (400, 300), None),
        ({photos.FOCAL_35: "wide"}, (400, 300), None),
    ],
)  # fmt: skip
def test_focal_length_from_exif(fields, size, focal):
    assert photos.focal_pixels(fields, size) == (None if focal is None else pytest.approx(focal))


def test_focal_lengths_of_files_group_photos(tmp_path):
    for index, focal in enumerate((28, 28, 50)):
        exif = Image.Exif()
        exif[photos.CAMERA] = "a phone"
        exif.get_ifd(EXIF_FOLDER)[photos.FOCAL_35] = focal
        Image.new("RGB", (400, 300), (index, 80, 80)).save(tmp_path / f"{index}.jpg", exif=exif)
    lenses = photos.lens_groups(photos.read_photos(tmp_path).photos)
    assert [lens.names for lens in lenses] == [("0.jpg", "1.jpg"), ("2.jpg",)]
    assert lenses[1].focal == pytest.approx(50 / 43.267 * 500)


def test_any_name_becomes_one_that_colmap_can_list(tmp_path):
    names = ["a b.jpg", "a%b.jpg", "ä.jpg", "line\nbreak.jpg", "A.jpg", "a.png", "x" * 250 + ".jpg", "...dots.png"]
    for name in names:
        photo(tmp_path / name)
    (tmp_path / ".hidden.jpg").write_text("no photo")
    (tmp_path / "...dots.png").rename(tmp_path / "dots...png")
    found = photos.read_photos(tmp_path)
    made = [entry.name for entry in found.photos]
    assert len(made) == len(names) == len({Path(name).stem.casefold() for name in made})
    assert not any(set(name) & set(" \n%/\\") for name in made)
    assert max(len(name.encode()) for name in made) < 100
    photos.write_copies(found.photos, tmp_path / "copies", 1000)
    assert {path.name for path in (tmp_path / "copies").iterdir()} == set(made)
    assert json.loads(json.dumps(made)) == made


def test_a_folder_of_photos_is_told_from_a_posed_capture(tmp_path):
    folder_of(tmp_path / "plain")
    folder_of(tmp_path / "inside" / "images")
    transforms(tmp_path / "posed")
    (tmp_path / "empty").mkdir()
    assert photos.photo_folder(tmp_path / "plain") == tmp_path / "plain" / "."
    assert photos.photo_folder(tmp_path / "inside") == tmp_path / "inside" / "images"
    assert photos.photo_folder(tmp_path / "posed") is None
    assert photos.photo_folder(tmp_path / "empty") is None
    assert photos.photo_folder(tmp_path / "plain" / "0.jpg") is None


def test_a_changed_photo_changes_the_fingerprint(tmp_path):
    files = photos.photo_files(folder_of(tmp_path))
    before = photos.fingerprint(files)
    assert photos.fingerprint(files) == before
    photo(tmp_path / "3.jpg", seed=77)
    assert photos.fingerprint(files) != before


@pytest.mark.parametrize("below", ["", "images/"])
def test_photos_in_a_folder_for_each_camera(tmp_path, below):
    for camera in ("cam0", "cam1"):
        folder_of(tmp_path / below / camera, 4)
    folder_of(tmp_path / below / "masks", 4)
    found = photos.photo_folder(tmp_path)
    assert found == tmp_path / below
    read = photos.read_photos(found)
    assert [p.name for p in read.photos] == [f"cam{c}_{i}.jpg" for c in (0, 1) for i in range(4)]
    assert [len(lens.names) for lens in photos.lens_groups(read.photos)] == [4, 4]  # one lens a folder
    assert not any("renamed" in note for note in read.notes)


def test_a_folder_of_captures_is_not_one_of_photos(tmp_path):
    transforms(tmp_path / "a")
    folder_of(tmp_path / "b", 4)
    assert photos.photo_folder(tmp_path) is None
